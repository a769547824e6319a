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
            while True:
                me.update(lambda state, number: begun.set() or b"x")
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
