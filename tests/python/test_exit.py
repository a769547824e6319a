"""The end of the interpreter, with anything alive, after any order of collection: no abort, nothing
said, and no slot or version leaked."""

import json
import os

import pytest
from hypothesis import HealthCheck, given, settings, strategies

import epoch

from conftest import Child

THINGS = [
    "region",
    "me",
    "pin",
    "second pin",
    "view",
    "part",
    "draft",
    "draft view",
    "listener",
    "document",
    "changes",
    "validator",
    "other",
    "thread",
    "collect",
]
EXAMPLES = int(os.environ.get("EPOCH_PYTHON_EXIT_ORDERS", "40"))


@pytest.fixture(scope="module")
def player():
    with open(os.path.join(os.path.dirname(__file__), "exit_orders.py")) as program:
        started = Child(program.read())
    yield started
    started.kill()


@pytest.fixture(scope="module")
def region():
    name = f"py-{os.getpid()}-exit"
    yield epoch.create(name, state_bytes=64, participants=4, versions=16)
    epoch.unlink(name)


# No chance in it: the same orders each time.
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    order=strategies.permutations(THINGS),
    dropped=strategies.integers(0, len(THINGS)),
    left=strategies.sampled_from(["globals", "cycle", "module", "threading"]),
)
def test_any_order_of_collection_and_exit(player, region, order, dropped, left):
    player.say(json.dumps({"region": region.path, "drop": order[:dropped], "left": left}))
    status, said = json.loads(player.hear())
    assert status == 0 and said == "", (status, said)
    region.reap()
    everybody = [region.join(f"p{i}") for i in range(4)]
    drafts = [everybody[0].draft(1) for _ in range(14)]
    assert len(drafts) == 14
    for one in drafts:
        one.free()
    for one in everybody:
        one.leave()


PROGRAMS = {
    "a listener that votes": """
        import epoch, sys
        region = epoch.open(sys.argv[1])
        me = region.join("me", voter=True)
        @me.validator
        def check(proposal):
            print("asked", flush=True)
            for _ in range(1000):
                pass
            return epoch.accept()
        listener = me.listen()
        print("ready", flush=True)
        sys.stdin.readline()
        """,
    "a daemon in an update": """
        import epoch, sys, threading
        region = epoch.open(sys.argv[1])
        me = region.join("me")
        begun = threading.Event()
        def work():
            try:
                while True:
                    me.update(lambda state, number: begun.set() or b"x")
            except epoch.Interrupted as error:
                assert "the interpreter is ending" in str(error)
        threading.Thread(target=work, daemon=True).start()
        begun.wait()
        print("asked", flush=True)
        print("ready", flush=True)
        sys.stdin.readline()
        """,
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_callbacks_under_way_end_before_the_interpreter_does(name, child, program):
    region = epoch.create(name, state_bytes=4096, participants=4, versions=64)
    me = region.join("proposer")
    one = child(PROGRAMS[program], name)
    assert {one.hear()} <= {"asked", "ready"}
    # Votes go on while it ends: each of them asks for its interpreter.
    one.say()
    while one.process.poll() is None:
        try:
            me.commit(b"x", agree=program == "a listener that votes", timeout=0.001)
        except epoch.EpochError as error:
            assert error.outcome == "unchanged"
    _, said = one.end()
    assert one.process.returncode == 0 and said == ""
    region.reap()
    assert len([region.join(str(i)) for i in range(3)]) == 3


ENDINGS = {
    # The validator calls others until the interpreter is known to be ending, and once more.
    "a callback within a callback": """
        import epoch, os, sys, threading
        region = epoch.open(sys.argv[1])
        voter, me = region.join("voter", voter=True), region.join("me")
        # In the same one a transition would wait for the very vote.
        second = epoch.create(sys.argv[1] + "-second")
        other, probe = second.join("other"), second.join("probe")
        epoch.unlink(sys.argv[1] + "-second")
        asked, ending = threading.Event(), threading.Event()

        @voter.validator
        def check(proposal):
            asked.set()
            while not ending.is_set():
                other.update(lambda state, number: None)
            other.update(lambda state, number: None)
            os.write(1, b"good\\n")
            return epoch.accept()

        def ask():
            try:
                while True:
                    probe.update(lambda state, number: None)
            except epoch.EpochError:
                ending.set()

        listener = voter.listen()
        threading.Thread(target=me.commit, args=(b"x",), kwargs={"agree": True}, daemon=True).start()
        asked.wait()
        threading.Thread(target=ask, daemon=True).start()
        """,
    # What was registered before epoch was imported runs after its hook.
    "a callback that comes too late": """
        import atexit, sys, threading
        goes_on, told, workers = threading.Event(), [], []

        @atexit.register
        def join():
            goes_on.set()
            workers[0].join()
            assert told == [("Interrupted", "unchanged")], told
            print("good", flush=True)

        import epoch
        region = epoch.open(sys.argv[1])
        me = region.join("me")

        def work():
            goes_on.wait()
            try:
                me.update(lambda state, number: b"x")
            except epoch.EpochError as error:
                assert "the interpreter is ending" in str(error), error
                told.append((type(error).__name__, error.outcome))

        workers.append(threading.Thread(target=work, daemon=True))
        workers[0].start()
        """,
}


@pytest.mark.parametrize("program", ENDINGS)
def test_callbacks_at_the_end_hold_nobody_up(name, child, program):
    region = epoch.create(name, state_bytes=4096, participants=5, versions=64)
    one = child(ENDINGS[program], name)
    assert one.hear() == "good"
    assert one.end() == (0, "")
    region.reap()
    assert len([region.join(str(i)) for i in range(5)]) == 5


def test_a_fork_within_a_callback_of_another_thread_leaves_the_gate_whole(name, child):
    """The child is told of its own thread only, and ends as any."""
    one = child(
        """
        import epoch, os, sys, threading
        region = epoch.create(sys.argv[1])
        me = region.join("me")

        def work():
            pids = []
            def fork(state, number):
                pids.append(os.fork())
                if pids[0] == 0:
                    with region.join("child") as own:
                        own.update(lambda state, number: b"of the child")
                return b"" if pids[0] == 0 else b"of the parent"
            try:
                me.update(fork)
            except epoch.Forked:
                pass
            if pids[0] == 0:
                import atexit
                atexit._run_exitfuncs()  # which nobody but this thread could hold up
                os._exit(0)
            assert os.waitpid(pids[0], 0)[1] == 0
            print("good", flush=True)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        """,
        name,
    )
    assert one.hear() == "good"
    assert one.end() == (0, "")


def test_one_interpreter_loads_it_once(child):
    one = child(
        """
        import sys, types
        # A load that fails is no obstacle to the next.
        package = types.ModuleType("epoch")
        import importlib.util
        package.__path__ = importlib.util.find_spec("epoch").submodule_search_locations
        sys.modules["epoch"] = package
        sys.modules["epoch.types"] = types.ModuleType("epoch.types")
        try:
            import epoch._epoch
        except (AttributeError, ImportError):
            print("failed", flush=True)
        for name in [name for name in sys.modules if name.split(".")[0] == "epoch"]:
            del sys.modules[name]
        import epoch
        kept = {name: sys.modules.pop(name) for name in list(sys.modules)
                if name.split(".")[0] == "epoch"}
        try:
            import epoch
        except ImportError as error:
            assert "loaded in this process already" in str(error), error
            print("refused", flush=True)
        import _xxsubinterpreters as others
        other = others.create()
        others.run_string(other, '''
        try:
            import epoch
        except ImportError as error:
            assert "subinterpreter" in str(error), error
        else:
            raise AssertionError
        ''')
        print("good", flush=True)
        """
    )
    assert [one.hear(), one.hear(), one.hear()] == ["failed", "refused", "good"]
    assert one.end()[0] == 0
