"""Calls that wait: other threads run meanwhile, Ctrl-C and an Interrupt end them, timeouts too."""

import os
import signal
import threading

import pytest

import epoch
from epoch import _epoch

from conftest import LONG, SOON


class World:
    """A region with two participants; `me` waits for `other`."""

    def __init__(self, region, folder):
        self.region = region
        self.folder = folder
        self.me = region.join("me", voter=True)
        self.other = region.join("other", voter=True)

    def await_epoch(self, **wait):
        self.me.await_(99, **wait)

    def await_converged(self, **wait):
        self.me.commit(b"x")
        self.me.await_(1, "converged", **wait)

    def commit_agreed(self, **wait):
        self.me.commit(b"x", agree=True, **wait)

    def commit_fenced(self, **wait):
        pin = self.other.pin()
        try:
            self.me.commit(b"x", fence=True, **wait)
        finally:
            pin.release()

    def update_agreed(self, **wait):
        self.me.update(lambda state, number: b"x", agree=True, **wait)

    def propose_agreed(self, **wait):
        self.me.propose(b"x", agree=True, **wait)

    def propose_update_agreed(self, **wait):
        self.me.propose_update(lambda state, number: b"x", agree=True, **wait)

    def draft_agreed(self, **wait):
        with self.me.draft(1) as draft:
            draft.commit(agree=True, **wait)

    def collective(self, **wait):
        self.me.commit_collective(1, b"x", **wait)

    def serve(self, **wait):
        durable = epoch.create(
            os.path.join(self.folder, "region"),
            journal=os.path.join(self.folder, "journal"),
            state_bytes=64,
            versions=8,
        )
        durable.join("server").serve(**wait)
        if wait.get("timeout"):
            raise epoch.DeadlineExceeded("it is over")  # which is no error of serve
        if wait.get("interrupt"):
            raise epoch.Interrupted("it is over")

    def pin_while_a_fence_drains(self, **wait):
        """A third one pins, and a fenced commit in another thread waits for that."""
        late, fenced = self.region.join("late"), self.region.join("fenced")
        pin = self.other.pin()
        ends = epoch.Interrupt()

        def commit():
            with pytest.raises(epoch.Interrupted):
                fenced.commit(b"x", fence=True, interrupt=ends)

        thread = threading.Thread(target=commit)
        thread.start()
        try:
            while True:  # until the fence is up
                try:
                    late.try_pin().release()
                except epoch.Busy:
                    break
            late.pin() if not wait else late.try_pin(**wait)
        finally:
            ends.set()
            thread.join()
            pin.release()

    def changes(self, **wait):
        assert list(self.me.changes(**wait)) == []
        raise epoch.DeadlineExceeded("it is over")

    def restore(self, **wait):
        """Somebody holds the journal, whose region is gone."""
        path, journal = (os.path.join(self.folder, what) for what in ("region", "journal"))
        holder = epoch.create(path, journal=journal, state_bytes=64, versions=8).join("holder")
        epoch.unlink(path)
        try:
            epoch.restore(path, journal=journal, **wait)
        finally:
            holder.leave()

    def rank_begin(self, **wait):
        with epoch.Rank(os.path.join(self.folder, "run"), rank=0, world=2) as rank:
            rank.begin(1, **wait)


WAYS = [way for way in vars(World) if not way.startswith("_")]
NO_INTERRUPT = {"changes", "rank_begin", "pin_while_a_fence_drains", "restore"}


@pytest.fixture
def world(region, folder):
    return World(region, folder)


@pytest.mark.parametrize("way", WAYS)
def test_ctrl_c_ends_each_call_that_waits(world, way):
    """The signal is sent until it finds this thread inside of a call of the library."""
    main, asks = threading.main_thread().ident, threading.Event()
    over = threading.Event()

    def press():
        while not over.is_set():
            asks.clear()
            signal.pthread_kill(main, signal.SIGINT)
            asks.wait()

    def handler(number, frame):
        inside = _epoch._waiting()
        asks.set()
        if inside:
            over.set()
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, handler)
    presses = threading.Thread(target=press)
    try:
        with pytest.raises(KeyboardInterrupt):
            presses.start()
            getattr(world, way)()
    finally:
        over.set()
        asks.set()
        presses.join()
        signal.signal(signal.SIGINT, before)
    # Nothing is left of the call: all goes on.
    epoch_before = world.region.epoch
    assert world.me.commit(b"afterwards") == epoch_before + 1


@pytest.mark.parametrize("way", [way for way in WAYS if way not in NO_INTERRUPT])
def test_an_interrupt_ends_each_call_that_takes_one(world, way):
    interrupt = epoch.Interrupt()
    raised = []

    def wait():
        with pytest.raises(epoch.Interrupted) as error:
            getattr(world, way)(interrupt=interrupt)
        raised.append(error.value.outcome)

    thread = threading.Thread(target=wait)
    thread.start()
    interrupt.set()
    thread.join()
    assert raised == ["unchanged"]


@pytest.mark.parametrize("way", [way for way in WAYS if way != "restore"])  # which names the holder
def test_a_timeout_ends_each_call_that_waits(world, way):
    with pytest.raises(epoch.DeadlineExceeded) as error:
        getattr(world, way)(timeout=SOON)
    assert isinstance(error.value, TimeoutError) and error.value.outcome == "unchanged"


@pytest.mark.parametrize("way", ["await_epoch", "commit_agreed", "commit_fenced", "serve"])
def test_another_thread_runs_while_one_waits(world, way):
    """It counts as far as it likes; only then does it end the wait."""
    interrupt = epoch.Interrupt()
    ended = threading.Event()

    def wait():
        with pytest.raises(epoch.Interrupted):
            getattr(world, way)(interrupt=interrupt)
        ended.set()

    thread = threading.Thread(target=wait)
    thread.start()
    count = 0
    while count < 100_000:
        count += 1
    assert not ended.is_set()
    interrupt.set()
    thread.join()


def test_a_participant_in_a_call_is_busy_for_other_threads(world):
    seen = []

    @world.other.validator
    def check(proposal):
        with pytest.raises(epoch.Busy):
            world.me.pin()
        with pytest.raises(epoch.Busy):
            world.me.commit(b"y")
        seen.append(1)
        return epoch.accept()

    thread = threading.Thread(target=lambda: world.commit_agreed(timeout=LONG))
    thread.start()
    while not seen:
        world.other.poll()
    thread.join()
    assert world.region.epoch == 1


def test_a_signal_handler_may_use_other_participants(world):
    """It runs within the wait, and what it does wakes that up."""

    def handler(number, frame):
        if _epoch._waiting() and world.region.epoch == 0:
            world.other.commit(b"from the handler")

    before = signal.signal(signal.SIGUSR1, handler)
    main, over = threading.main_thread().ident, threading.Event()

    def send():
        while not over.is_set():
            signal.pthread_kill(main, signal.SIGUSR1)

    sends = threading.Thread(target=send)
    sends.start()
    try:
        assert world.me.await_(1, timeout=LONG) == 1
    finally:
        over.set()
        sends.join()
        signal.signal(signal.SIGUSR1, before)


def test_no_time_is_no_wait_and_none_is_the_default(world):
    with pytest.raises(epoch.DeadlineExceeded):
        world.me.await_(1, timeout=0)
    for wrong in (-1, float("nan")):
        with pytest.raises(epoch.Invalid):
            world.me.await_(1, timeout=wrong)
    with pytest.raises(TypeError):
        world.me.await_(1, timeout="1s")
    world.other.commit(b"x")
    assert world.me.await_(1, timeout=float("inf")) == 1


STALLED = """
    import ctypes, epoch, signal, sys, threading
    from epoch import _epoch
    name, journal, library = sys.argv[1:]
    no_room = ctypes.c_int.in_dll(ctypes.CDLL(library), "no_room")
    region = epoch.create(name, journal=journal, state_bytes=4096, segment_bytes=1 << 21)
    me = region.join("me")
    no_room.value = 1
    main, over = threading.main_thread().ident, threading.Event()

    def handler(number, frame):
        if _epoch._waiting():
            over.set()
            raise KeyboardInterrupt

    def press():
        while not over.is_set():
            signal.pthread_kill(main, signal.SIGINT)

    signal.signal(signal.SIGINT, handler)
    threading.Thread(target=press).start()
    try:
        while True:
            state = bytes([me.pin().epoch % 256]) * 4000
            me.commit(state)
    except KeyboardInterrupt as interrupt:
        (note,) = interrupt.__notes__
        error = interrupt.__context__
    no_room.value = 0
    assert type(error) is epoch.Interrupted and error.outcome == "pending", repr(error)
    assert note.startswith(f"epoch {error.epoch} is accepted, its outcome pending"), note
    assert me.await_(epoch.Ticket(error.epoch)) == error.epoch
    assert region.read().state == state
    print("good")
    """


@pytest.mark.skipif("EPOCH_NO_ROOM" not in os.environ, reason="run by ctest, which builds the shim")
def test_an_interrupt_behind_the_acceptance_carries_a_note(name, folder, child, monkeypatch):
    """The disk is full when the journal needs its next file: what is accepted waits for room."""
    library = os.environ["EPOCH_NO_ROOM"]
    monkeypatch.setenv("LD_PRELOAD", library)
    one = child(STALLED, name, os.path.join(folder, "journal"), library)
    assert one.hear() == "good"
    assert one.end() == (0, "")
