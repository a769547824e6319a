"""Processes: regions travel by path, participants do not; fork children; exact counts under
signals."""

import atexit
import concurrent.futures
import multiprocessing
import os
import pickle
import signal
import threading

import pytest

import epoch

from conftest import LONG

ROUNDS = int(os.environ.get("EPOCH_PYTHON_STORM_ROUNDS", "25"))


def count_up(region, rounds):
    with region.join("counter") as me:
        for _ in range(rounds):
            me.update(lambda state, number: str(int(state or b"0") + 1).encode())
        return me.pin().epoch


def value_of(region):
    return int(region.read().state)


def test_a_region_is_pickled_by_its_path(region, name):
    again = pickle.loads(pickle.dumps(region))
    assert type(again) is epoch.Region
    assert again.path == region.path and again.incarnation == region.incarnation
    looks = epoch.open(name, read_only=True)
    assert pickle.loads(pickle.dumps(looks)).read_only
    epoch.unlink(name)
    with pytest.raises(epoch.NotFound):
        pickle.loads(pickle.dumps(region))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_each_start_method_count_exactly(region, method):
    context = multiprocessing.get_context(method)
    workers = [context.Process(target=count_up, args=(region, 50)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(LONG)
        assert worker.exitcode == 0
    assert value_of(region) == 100 and region.epoch == 100


def test_a_pool_of_processes_is_given_a_region(region):
    context = multiprocessing.get_context("forkserver")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        ended = list(pool.map(count_up, [region] * 4, [10] * 4))
    assert value_of(region) == 40 and max(ended) == 40


def test_a_participant_is_not_given_to_a_process(region):
    me = region.join("me")
    worker = multiprocessing.get_context("spawn").Process(target=print, args=(me,))
    with pytest.raises(TypeError, match="join in the child"):
        worker.start()


def test_errors_are_pickled(region):
    me = region.join("me")
    with pytest.raises(epoch.Conflict) as raised:
        me.commit(b"x", expected=3)
    again = pickle.loads(pickle.dumps(raised.value))
    assert type(again) is epoch.Conflict and str(again) == str(raised.value)
    assert (again.expected, again.actual, again.outcome) == (3, 0, "unchanged")
    with pytest.raises(epoch.NotFound) as missing:
        epoch.open("py-no-such-region", create=False)
    assert isinstance(pickle.loads(pickle.dumps(missing.value)), FileNotFoundError)


def in_fork_child(body):
    """Whether `body` holds in a fork child."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            body()
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1] == 0


def test_a_fork_child_is_told_and_may_rejoin(region):
    me = region.join("parent")
    me.commit(b"parent's")
    pin, draft = me.pin(), me.draft(4)
    view = memoryview(pin)

    def child():
        commits, writes = lambda: me.commit(b"x"), lambda: memoryview(draft)
        for refused in (me.check, me.pin, me.poll, commits, writes):
            with pytest.raises(epoch.Forked):
                refused()
        view.release()
        pin.release()
        draft.free()
        me.rejoin()
        assert me.commit(b"child's") == 2
        me.leave()

    assert in_fork_child(child)
    me.check()
    assert bytes(view) == b"parent's" and region.epoch == 2
    draft.view()[:] = b"mine"
    assert draft.commit() == 3


def test_a_fork_child_drops_what_it_inherited(region):
    me = region.join("parent", voter=True)
    me.set_validator(lambda proposal: epoch.accept())
    listener, pin = me.listen(), me.pin()

    def child():
        nonlocal me, listener, pin
        del pin, listener, me
        with region.join("child") as own:
            own.commit(b"x", agree=True)  # the parent's listener agrees

    assert in_fork_child(child)
    me.check()
    assert pin.epoch == 0 and listener.running and region.epoch == 1


def test_a_fork_in_an_update_of_a_thread_leaves_both_whole(region):
    """The child goes on from there, in the thread that is its main one now, and ends as usual."""
    children = []

    def fork(state, number):
        if not children:
            children.append(os.fork())
        return b"x"

    def work():
        me = region.join("me")
        try:
            me.update(fork)
        except epoch.Forked:
            atexit._run_exitfuncs()  # what the end of an interpreter does first
            os._exit(42)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 42
    assert region.epoch == 1


# --- under signals --------------------------------------------------------------------------------


def storm_worker(region, number, rounds, allowed):
    """Adds up to `rounds` of its own, as far as is allowed yet, whatever of it was done before it
    was killed."""
    while True:
        me = region.join(f"worker-{number}")
        mine = 0

        def add(counts, seen):
            nonlocal mine
            all_of_them = list(map(int, counts.split())) or [0] * 8
            mine = all_of_them[number]
            if mine >= min(rounds, allowed.value):
                return None
            all_of_them[number] += 1
            return " ".join(map(str, all_of_them)).encode()

        try:
            while mine < rounds:
                me.update(add)
                if mine >= allowed.value:
                    os.sched_yield()
            return
        except epoch.Expelled:
            continue  # stood still for too long


def test_eight_processes_under_signals_count_exactly(name):
    region = epoch.create(name, state_bytes=256, participants=32, versions=64)
    me = region.join("storm")
    context = multiprocessing.get_context("fork")
    allowed = context.RawValue("Q", 0)

    def start(number):
        worker = context.Process(target=storm_worker, args=(region, number, ROUNDS, allowed))
        worker.start()
        return worker

    workers = {number: start(number) for number in range(8)}
    # Which one is killed or stopped, and how far all are by then, is no matter of chance.
    for step in range(1, 17):
        before = region.epoch
        allowed.value = ROUNDS * step // 16
        number = step % 8
        me.await_(before + 1, timeout=LONG)  # they are in the middle of it
        if step % 2 == 0:
            workers[number].kill()
            workers[number].join()
            workers[number] = start(number)
        else:
            os.kill(workers[number].pid, signal.SIGSTOP)
            # The others go on meanwhile, as far as they may.
            me.await_(7 * allowed.value, timeout=LONG)
            os.kill(workers[number].pid, signal.SIGCONT)
        me.await_(8 * allowed.value, timeout=LONG)
    for number, worker in workers.items():
        worker.join(LONG)
        assert worker.exitcode == 0, number
    state = region.read()
    assert list(map(int, state.state.split())) == [ROUNDS] * 8
    assert state.epoch == 8 * ROUNDS  # each update is one epoch: none lost, none twice
    region.reap()
    assert [one.name for one in region.stragglers(state.epoch)] in ([], ["storm"])


def test_a_pickled_error_keeps_its_number():
    with pytest.raises(epoch.NotFound) as missing:
        epoch.open("py-no-such-region", create=False)
    error = missing.value
    error.errno = error.errno or 2
    error.add_note("noted")
    again = pickle.loads(pickle.dumps(error))
    assert (again.errno, again.__notes__, again.code) == (error.errno, ["noted"], "NOT_FOUND")


def test_a_region_of_a_relative_path_is_found_from_elsewhere(folder, monkeypatch):
    monkeypatch.chdir(folder)
    region = epoch.create("./region", state_bytes=64)
    monkeypatch.chdir("/")
    again = pickle.loads(pickle.dumps(region))
    assert again.incarnation == region.incarnation


def test_what_a_fork_child_inherits_is_void(region):
    me = region.join("parent")
    me.commit(b"x")
    pin, listener = me.pin(), me.listen()

    def child():
        assert not listener.running and me._running_listener() is None
        for refused in (listener.fileno, listener.drain, lambda: memoryview(pin), pin.view,
                        lambda: bytes(pin)):
            with pytest.raises(epoch.Forked):
                refused()

    assert in_fork_child(child)
    assert listener.running and bytes(pin) == b"x"
    listener.drain()
