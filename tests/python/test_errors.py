"""One class for each cause: a table of situations, each of them played."""

import os
import threading

import pytest

import epoch
from epoch import errors

from conftest import LONG, SOON


class World:
    def __init__(self, name, folder):
        self.name = name
        self.folder = folder
        self.region = epoch.create(name, state_bytes=4096, participants=6, versions=8)
        self.me = self.region.join("me", voter=True)
        self.other = self.region.join("other")

    def voter(self, answer):
        self.third = self.region.join("voter", voter=True)
        self.third.set_validator(lambda proposal: answer)
        self.listener = self.third.listen()


def expected_differs(w):
    w.me.commit(b"x", expected=7)


def rejected(w):
    w.voter(epoch.reject("not this one"))
    w.other.commit(b"x", agree=True, timeout=LONG)


def too_few_voters(w):
    w.me.park()
    w.other.commit(b"x", agree=True)


def timed_out(w):
    w.other.commit(b"x", agree=True, timeout=SOON)


def interrupted(w):
    stop = epoch.Interrupt()
    stop.set()
    w.me.await_(1, interrupt=stop)


def expelled(w):
    w.region.expel(w.me.slot)
    w.me.commit(b"x")


def left(w):
    w.me.leave()
    w.me.commit(b"x")


def forked(w):
    pid = os.fork()
    if pid == 0:
        try:
            w.me.commit(b"x")
        except epoch.Forked as error:
            os._exit(42 if error.cause == "FORKED" else 1)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 42
    raise errors.of("FAILED_PRECONDITION", "FORKED", "told", "unchanged", None, None, None, 0, [])


def pin_held(w):
    pin = w.me.pin()
    w.me.commit(b"x", fence=True)
    assert pin


def busy(w):
    w.me.update(lambda state, number: w.me.poll())


def draining(w):
    pin, late = w.other.pin(), w.region.join("late")
    ends = epoch.Interrupt()

    def commit():
        with pytest.raises(epoch.Interrupted):
            w.me.commit(b"x", fence=True, interrupt=ends)

    fence = threading.Thread(target=commit)
    fence.start()
    try:
        while True:
            late.try_pin().release()
    finally:
        ends.set()
        fence.join()
        assert pin


def no_slot(w):
    everybody = []
    while True:
        everybody.append(w.region.join("crowd"))


def no_version(w):
    drafts = []
    while True:
        drafts.append(w.me.draft(1))


def too_large(w):
    w.me.commit(bytes(4097))


def repeated(w):
    w.me.commit_collective(1, b"x")
    w.me.commit_collective(1, b"x")


def other_tag(w):
    second = w.region.join("second", voter=True)

    def contribute():
        with pytest.raises(epoch.Conflict):
            second.commit_collective(2, b"x", timeout=LONG)

    its = threading.Thread(target=contribute)
    its.start()
    try:
        w.me.commit_collective(1, b"x", timeout=LONG)
    finally:
        its.join()


def gave_up(w):
    """A contributor that gives up ends it for all."""
    second = w.region.join("second", voter=True)
    raised = []

    def contribute():
        with pytest.raises(epoch.EpochError) as error:
            w.me.commit_collective(1, b"x", contributions=3, timeout=LONG)
        raised.append(error.value)

    its = threading.Thread(target=contribute)
    its.start()
    gives_up = epoch.Interrupt()
    gives_up.set()
    while not raised:
        with pytest.raises(epoch.EpochError):
            second.commit_collective(1, b"x", contributions=3, interrupt=gives_up)
    its.join()
    raise raised[0]


def read_only(w):
    epoch.open(w.name, read_only=True).join("me")


def name_too_long(w):
    w.region.join("n" * 64)


def not_there(w):
    epoch.open(w.name + "-not", create=False)


def there_already(w):
    epoch.create(w.name)


def not_permitted(w):
    os.chmod(w.region.path, 0o600)
    pid = os.fork()
    if pid == 0:
        try:
            os.setuid(65534)
            epoch.open(w.region.path, create=False)
        except epoch.Denied as error:
            os._exit(42 if isinstance(error, PermissionError) else 1)
        except OSError:
            os._exit(77)  # not root: this user may do everything here
        os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status == 77:
        pytest.skip("needs root")
    assert status == 42
    epoch.open(w.name, read_only=True).join("me")


def other_layout(w):
    copy = os.path.join(w.folder, "region")
    with open(w.region.path, "rb") as region, open(copy, "wb") as other:
        bytes_of = bytearray(region.read())
        bytes_of[8:10] = (99).to_bytes(2, "little")
        other.write(bytes_of)
    os.chmod(copy, 0o600)
    epoch.open(copy, create=False)


def damaged(w):
    path = os.path.join(w.folder, "region")
    with open(path, "wb") as region:
        region.write(b"no region at all" * 4096)
    os.chmod(path, 0o600)
    epoch.open(path, create=False)


def journal_gone(w):
    journal = os.path.join(w.folder, "journal")
    region = epoch.create(os.path.join(w.folder, "region"), journal=journal, state_bytes=64)
    me = region.join("me")
    me.commit(b"x")
    os.rename(journal, journal + ".away")
    while True:
        me.commit(b"x")


def not_kept(w):
    region = epoch.create(
        os.path.join(w.folder, "region"), journal=os.path.join(w.folder, "j"), state_bytes=64
    )
    region.join("me").commit(b"x")
    region.history.at(5)


def not_a_number(w):
    w.me.commit(b"x", token=-1)


def no_region(w):
    w.me.commit(b"x", on_straggler="wait")


# What is done, its class, the built-in class that it is as well, and C's name for the cause.
TABLE = [
    (expected_differs, epoch.Conflict, Exception, "EXPECTED_DIFFERS"),
    (other_tag, epoch.Conflict, Exception, "OTHER_TAG"),
    (rejected, epoch.Rejected, Exception, "REJECTED"),
    (too_few_voters, epoch.Rejected, Exception, "TOO_FEW_VOTERS"),
    (timed_out, epoch.DeadlineExceeded, TimeoutError, "TIMED_OUT"),
    (gave_up, epoch.PeerDied, Exception, "GAVE_UP"),
    (interrupted, epoch.Interrupted, Exception, "INTERRUPTED"),
    (expelled, epoch.Expelled, Exception, "EXPELLED"),
    (left, epoch.Left, Exception, "LEFT"),
    (forked, epoch.Forked, Exception, "FORKED"),
    (pin_held, epoch.PinHeld, BufferError, "PIN_HELD"),
    (busy, epoch.Busy, Exception, "BUSY"),
    (draining, epoch.Busy, Exception, "DRAINING"),
    (no_slot, epoch.Exhausted, Exception, "NO_SLOT"),
    (no_version, epoch.Exhausted, Exception, "NO_VERSION"),
    (too_large, epoch.TooLarge, ValueError, "TOO_LARGE"),
    (repeated, epoch.Exists, FileExistsError, "REPEATED"),
    (read_only, epoch.Denied, PermissionError, "READ_ONLY"),
    (name_too_long, epoch.Invalid, ValueError, "INVALID"),
    (not_there, epoch.NotFound, FileNotFoundError, None),
    (there_already, epoch.Exists, FileExistsError, None),
    (not_permitted, epoch.Denied, PermissionError, None),
    (other_layout, epoch.LayoutMismatch, Exception, None),
    (damaged, epoch.EpochError, Exception, None),
    (journal_gone, epoch.JournalUnavailable, Exception, "JOURNAL_AWAY"),
    (not_kept, epoch.Invalid, ValueError, None),
    (not_a_number, epoch.Invalid, ValueError, None),
    (no_region, epoch.Invalid, ValueError, None),
]


@pytest.mark.parametrize(
    "situation, kind, builtin, cause", TABLE, ids=[row[0].__name__ for row in TABLE]
)
def test_one_class_for_each_cause(name, folder, situation, kind, builtin, cause):
    world = World(name, folder)
    with pytest.raises(epoch.EpochError) as raised:
        situation(world)
    error = raised.value
    assert type(error) is kind or kind is epoch.EpochError, repr(error)
    assert isinstance(error, builtin)
    if cause is not None:
        assert error.cause == cause
    assert str(error) and str(error)[0] != "["
    assert (error.outcome == "unchanged") == (error.epoch is None)


def test_an_error_names_the_culprits(name, folder):
    world = World(name, folder)
    with pytest.raises(epoch.Rejected) as raised:
        rejected(world)
    (culprit,) = raised.value.culprits
    assert culprit == (world.third.slot, world.third.generation, os.getpid(), "voter",
                       "not this one", culprit.epoch)
    with pytest.raises(epoch.Conflict) as raised:
        expected_differs(world)
    assert (raised.value.expected, raised.value.actual) == (7, 0)


def test_every_cause_of_c_has_a_class():
    """Those that say no more than their code have the code's."""
    header = os.path.join(os.environ["EPOCH_SOURCE"], "include", "epoch", "c.h")
    with open(header) as lines:
        causes = {
            line.split()[0][len("EPOCH_CAUSE_"):]
            for line in lines
            if line.strip().startswith("EPOCH_CAUSE_") and "=" in line
        }
    assert len(causes) > 25
    assert causes - set(errors._BY_CAUSE) == {"NONE", "OTHER", "NO_CHANGE"}


def test_what_is_not_bytes_is_told_so(name, folder):
    world = World(name, folder)
    for call in (world.me.commit, world.me.propose):
        with pytest.raises(TypeError):
            call("text")
    with pytest.raises(TypeError):
        world.me.update(lambda state, number: "text")
    with pytest.raises(TypeError):
        world.me.update(b"no function")
    with pytest.raises(ZeroDivisionError):
        world.me.update(lambda state, number: b"x" * (1 // 0))
    with pytest.raises(epoch.TooLarge):
        world.me.update(lambda state, number: bytes(5000))
    assert world.region.epoch == 0


def test_none_is_no_number(name, folder):
    w = World(name, folder)
    w.me.commit(b"x")
    ballot = epoch.accept()
    run = os.path.join(folder, "run")
    with epoch.Rank(run, rank=0, world=1) as rank:
        for call in (
            lambda: w.region.expel(None),
            lambda: w.me.await_(None),
            lambda: w.me.await_(epoch.Ticket(None)),
            lambda: w.me.acknowledge(None),
            lambda: w.me.vote(None, ballot),
            lambda: w.me.commit_collective(None, b"x"),
            lambda: w.me.commit_collective(1, b"x", contributions=None),
            lambda: w.region.join("n", window=None),
            lambda: rank.begin(None),
            lambda: epoch.Rank(run, rank=None, world=1),
            lambda: epoch.Rank(run, rank=0, world=None),
            lambda: epoch.checkpoints(run).verify(None),
            lambda: epoch.checkpoints(run).prune(None),
            lambda: epoch.checkpoints(run).open_step(None),
        ):
            with pytest.raises(TypeError):
                call()
    durable = epoch.create(os.path.join(folder, "r"), journal=os.path.join(folder, "j"))
    for call in (durable.history.at, durable.history.read, lambda of: durable.history.read(1, of)):
        with pytest.raises(TypeError):
            call(None)
    w.me.check()  # slot 0 is still in
    # What has a default takes it.
    assert w.me.commit(b"x", expected=None, token=None, timeout=None, min_voters=None) == 2


def test_only_a_cause_says_that_it_is_the_journal():
    assert errors.class_of("UNAVAILABLE", "NONE") is epoch.EpochError
    assert errors.class_of("UNAVAILABLE", "POISONED") is epoch.JournalUnavailable


def test_a_note_tells_what_was_made():
    def of(code, cause, outcome, accepted):
        return errors.note(errors.of(code, cause, "m", outcome, None, None, accepted, 0, []))

    assert of("CANCELLED", "INTERRUPTED", "unchanged", None) is None
    assert "epoch 7 is accepted, its outcome pending" in of("CANCELLED", "INTERRUPTED", "pending", 7)
    assert "an epoch may be accepted" in of("DATA_LOSS", "POISONED", "unknown", None)
    assert errors.note(errors.accepted(7)) == of("CANCELLED", "INTERRUPTED", "pending", 7)
    assert errors.note(errors.committed(7)) == "epoch 7 is committed"
    assert errors.note(KeyError()) is None
