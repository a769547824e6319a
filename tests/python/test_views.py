"""Pins and drafts as buffers: a view never outlives what it shows, and shows it unchanged."""

import gc
import os
import pickle
import threading

import numpy as np
import pytest

import epoch

from conftest import LONG


def state_of(number):
    return number.to_bytes(8, "little") * 8


def test_a_view_stays_as_it_is_over_10000_commits(region):
    """Readers pin at different times, and hold different views; what they see never changes."""
    writer = region.join("writer")
    readers = [region.join(f"reader-{i}") for i in range(4)]
    held = {}
    for number in range(1, 10_001):
        assert writer.commit(state_of(number)) == number
        reader = readers[number % len(readers)]
        if reader in held and number % 3 == 0:
            pin, view = held.pop(reader)
            assert pin.epoch < number
            view.release() if isinstance(view, memoryview) else None
            del view
            pin.release()
        if reader not in held:
            pin = reader.pin()
            assert pin.epoch == number
            kinds = [memoryview, bytes, lambda p: np.frombuffer(p, "<u8"), lambda p: p.view()[8:16]]
            held[reader] = pin, kinds[number % 4](pin)
        for pin, view in held.values():
            assert bytes(view)[:8] == pin.epoch.to_bytes(8, "little")
    held.clear()
    # No version has leaked: all but the committed one can be drafted.
    drafts = [writer.draft(8) for _ in range(14)]
    assert len(drafts) == 14


def test_a_release_under_a_view_is_refused(region):
    me = region.join("me")
    me.commit(b"seen")
    pin = me.pin()
    view = memoryview(pin)
    part = view[1:3]
    view.release()
    with pytest.raises(epoch.PinHeld) as refused:
        pin.release()
    assert isinstance(refused.value, BufferError)
    assert bytes(part) == b"ee" and not pin.released
    part.release()
    pin.release()
    pin.release()
    assert pin.released and not pin and pin.epoch == 1
    with pytest.raises(BufferError):
        memoryview(pin)


def test_an_array_is_the_state_itself_and_cannot_be_written(region):
    me = region.join("me")
    me.commit(np.arange(8, dtype="<f4"))
    with me.pin() as pin:
        first = np.frombuffer(pin, "<f4")
        second = np.frombuffer(pin, "<f4")
        assert first.tolist() == list(range(8))
        assert first.ctypes.data == second.ctypes.data
        with pytest.raises(ValueError):
            first[0] = 1
        del first, second
    assert me.pins == 0


def test_the_array_keeps_the_state_when_nothing_else_does(region):
    me = region.join("me")
    me.commit(b"kept" * 4)
    array = np.frombuffer(me.pin(), "u1")
    assert me.pins == 1
    slot = me.slot
    del me
    gc.collect()
    other = region.join("other")
    assert other.slot != slot  # it is still in
    for _ in range(100):
        other.commit(b"x")
    assert bytes(array) == b"kept" * 4
    del array
    gc.collect()
    assert region.join("third").slot == slot


def test_leaving_a_block_does_not_hide_what_was_raised(region):
    me = region.join("me")
    me.commit(b"x")
    with pytest.raises(KeyError):
        with me.pin() as pin:
            view = memoryview(pin)
            raise KeyError("mine")
    assert not pin.released
    view.release()
    with pytest.raises(epoch.PinHeld):
        with me.pin() as other:
            view = memoryview(other)
    view.release()


def test_a_participant_with_a_view_does_not_leave(region):
    with pytest.raises(epoch.PinHeld):
        with region.join("me") as me:
            view = memoryview(me.pin())
    view.release()
    del view
    me.leave()
    with pytest.raises(epoch.Left):
        me.pin()
    me.rejoin()
    assert me.pin().epoch == 0


def test_a_draft_is_not_committed_under_a_view(region):
    me = region.join("me")
    with me.draft(16) as draft:
        array = np.frombuffer(draft, "u1")
        array[:] = 7
        resizes, proposes = lambda: draft.resize(8), lambda: me.propose(draft)
        for refused in (draft.commit, draft.free, resizes, proposes):
            with pytest.raises(epoch.PinHeld):
                refused()
        del array
        draft.resize(8)
        assert len(draft) == 8 and draft.capacity == 4096
        assert draft.commit(token=5) == 1
        assert len(draft) == 0
    with me.pin() as pin:
        assert bytes(pin) == bytes([7] * 8) and pin.token == 5
    assert pin.token == 5
    with pytest.raises(epoch.Invalid):
        memoryview(draft)


def test_no_view_begins_while_a_draft_is_being_committed(region):
    me, voter = region.join("me"), region.join("voter", voter=True)
    draft = me.draft(4)
    draft.view()[:] = b"next"
    seen = []

    @voter.validator
    def check(proposal):
        with pytest.raises(BufferError):
            memoryview(draft)
        seen.append(proposal.state)
        return epoch.accept()

    commits = threading.Thread(target=lambda: draft.commit(agree=True, timeout=LONG))
    commits.start()
    while not seen:
        voter.poll()
    commits.join()
    assert seen == [b"next"] and region.epoch == 1


def test_what_is_being_committed_cannot_be_resized(region):
    me, voter = region.join("me"), region.join("voter", voter=True)
    state = bytearray(b"fixed")
    seen = []

    @voter.validator
    def check(proposal):
        with pytest.raises(BufferError):
            state.append(1)
        seen.append(proposal.state)
        return epoch.accept()

    commits = threading.Thread(target=lambda: me.commit(state, agree=True, timeout=LONG))
    commits.start()
    while not seen:
        voter.poll()
    commits.join()
    state.append(1)
    assert seen == [b"fixed"]


def test_pins_of_one_participant_see_the_same_state(region):
    me, other = region.join("me"), region.join("other")
    other.commit(b"one")
    first = me.pin()
    other.commit(b"two")
    second = me.pin()
    assert bytes(second) == b"one" and second.epoch == 1 and me.pins == 2
    first.release()
    assert bytes(second) == b"one"
    second.release()
    assert bytes(me.pin()) == b"two"


def test_the_token_of_a_state_that_was_followed_comes_from_the_journal(durable):
    me, other = durable.join("me"), durable.join("other")
    other.commit(b"one", token=11)
    pin = me.pin()
    other.commit(b"two", token=22)
    assert pin.token == 11


def test_the_token_of_a_state_that_was_followed_is_lost_without_one(region):
    me, other = region.join("me"), region.join("other")
    other.commit(b"one", token=11)
    pin = me.pin()
    other.commit(b"two", token=22)
    with pytest.raises(epoch.NotFound):
        pin.token


@pytest.mark.parametrize("of", ["me", "pin", "draft", "listener", "interrupt"])
def test_what_belongs_to_this_process_is_not_pickled(region, of):
    me = region.join("me")
    things = {
        "me": me,
        "pin": me.pin(),
        "draft": me.draft(1),
        "interrupt": epoch.Interrupt(),
        "listener": me.listen(),
    }
    with pytest.raises(TypeError):
        pickle.dumps(things[of])


def test_a_cycle_through_a_validator_is_collected(region):
    me = region.join("me", voter=True)
    slot = me.slot
    pin = me.pin()

    @me.validator
    def check(proposal):
        return epoch.accept() if pin and me else epoch.reject()

    del me, pin, check
    gc.collect()
    assert region.join("next").slot == slot


def test_objects_of_pins_are_used_again(region):
    """Many pins at a time, more than are kept; each of them is its own."""
    me = region.join("me")
    me.commit(b"x")
    for _ in range(3):
        pins = [me.pin() for _ in range(100)]
        assert me.pins == 100 and len({id(pin) for pin in pins}) == 100
        assert all(bytes(pin) == b"x" for pin in pins)
        del pins
        assert me.pins == 0


def test_os_level_descriptors_do_not_leak(name):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        region = epoch.open(name, state_bytes=4096)
        me = region.join("me")
        me.listen()
        me.pin()
        del region, me
        gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before + 1
