"""JSON documents, patches, pickles; tickets; old epochs."""

import copy
import json
import os
import sys
import threading

import pytest

import epoch
from epoch.document import JSON, Codec


def test_a_document_is_read_and_changed(region):
    doc = region.join("me").json()
    assert doc.value is None and doc.read() == (None, 0)
    assert doc.set({"tasks": []}) == 1
    assert doc.update(lambda d: d["tasks"].append("new")) == 2
    assert doc.update(lambda d: {**d, "step": 1}) == 3
    assert doc.value == {"tasks": ["new"], "step": 1}
    value, at = doc.read()
    value["step"] = 2
    assert doc.set(value, expected=at) == 4
    with pytest.raises(epoch.Conflict):
        doc.set(value, expected=at)
    with pytest.raises(KeyError):
        doc.update(lambda d: d["none"].append(1))
    with pytest.raises(epoch.Invalid):
        doc.update(lambda d: d.pop("step"))  # which would replace the document
    with pytest.raises(ValueError):
        doc.set(float("nan"))
    assert doc.update(lambda d: epoch.NO_CHANGE) == 4
    assert region.epoch == 4


def test_patches_are_applied_whole_or_not_at_all(region):
    pytest.importorskip("jsonpatch")
    doc = region.join("me").json()
    doc.set({"tasks": ["a"], "owner": None})
    claim = [
        {"op": "test", "path": "/owner", "value": None},
        {"op": "replace", "path": "/owner", "value": "me"},
        {"op": "add", "path": "/tasks/-", "value": "b"},
    ]
    assert doc.patch(claim) == 2
    assert doc.value == {"tasks": ["a", "b"], "owner": "me"}
    with pytest.raises(epoch.Conflict) as failed:
        doc.patch(claim)
    assert failed.value.actual == 2
    for wrong in ({"op": "remove", "path": "/none"}, {"op": "add", "path": "tasks", "value": 1}):
        with pytest.raises(epoch.Invalid):
            doc.patch([wrong])
    assert region.epoch == 2


def test_without_jsonpatch_a_patch_says_what_to_install(region, monkeypatch):
    monkeypatch.setitem(sys.modules, "jsonpatch", None)
    with pytest.raises(epoch.EpochError, match="python3-jsonpatch"):
        region.join("me").json().patch([])


def test_concurrent_updates_of_a_document_are_all_there(region):
    def add(number):
        doc = region.join(f"t{number}").json()
        for _ in range(50):
            doc.update(lambda d: {**(d or {}), str(number): (d or {}).get(str(number), 0) + 1})

    threads = [threading.Thread(target=add, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert region.join("me").json().value == {"0": 50, "1": 50, "2": 50} and region.epoch == 150


def test_pickles_only_by_name(region):
    me = region.join("me")
    for refused in ({}, {"trust": False}, {"trust": 1}):
        with pytest.raises(epoch.Invalid, match="trust=True"):
            me.pickled(**refused)
    doc = me.pickled(trust=True)
    doc.set({1, 2})
    assert doc.update(lambda d: d | {3}) == 2 and doc.value == {1, 2, 3}


def test_a_codec_of_ones_own(region):
    text = region.join("me").document(Codec("text", bytes.decode, str.encode))
    text.set("h\u00e9")
    assert text.value == "h\u00e9" and region.read().state == "h\u00e9".encode()


# --- tickets, changes, old epochs -----------------------------------------------------------------


def test_proposals_are_awaited_by_their_tickets(durable):
    me = durable.join("me")
    tickets = [me.propose(bytes([number])) for number in range(5)]
    draft = me.draft(1)
    draft.view()[0] = 5
    tickets.append(me.propose(draft))
    tickets.append(me.propose_update(lambda state, number: state + b"!"))
    assert [ticket.epoch for ticket in tickets] == list(range(1, 8))
    assert me.await_(tickets[-1]) == 7
    assert all(me.await_(ticket) == ticket.epoch for ticket in tickets)
    assert durable.read() == (7, 0, b"\5!")
    assert me.await_(7, "converged") == 7
    with pytest.raises(epoch.Invalid):
        durable.join("other").propose(draft)


def test_an_update_that_returns_none_changes_nothing(region):
    me = region.join("me")
    me.commit(b"x")
    seen = []
    assert me.update(lambda state, number: seen.append((state, number))) == 1
    assert seen == [(b"x", 1)] and region.epoch == 1


def test_an_update_may_ask_who_it_is(region):
    me = region.join("me")
    assert me.update(lambda state, number: f"{me.name} in {me.slot}".encode()) == 1
    assert region.read().state == b"me in 0"


def test_an_update_is_called_again_after_a_conflict(region):
    me, other = region.join("me"), region.join("other")
    calls = []

    def add(state, number):
        calls.append(number)
        if len(calls) < 4:
            other.commit(b"faster")
        return state + b"!"

    assert me.update(add) == 4 and calls == [0, 1, 2, 3]
    assert region.read().state == b"faster!"


def test_changes_are_counted(region):
    me, other = region.join("me"), region.join("other")
    other.commit(b"before")
    changes = me.changes()
    other.commit(b"1")
    assert next(changes) == (2, 0)
    other.commit(b"2")
    other.commit(b"3")
    assert next(changes) == (4, 1)
    assert list(me.changes(timeout=0)) == []
    assert list(me.changes(timeout=0, since=0)) == [(4, 3)]


def test_old_epochs_are_read_back(durable):
    me = durable.join("me")
    for number in range(1, 6):
        me.commit(f"state {number}".encode(), token=number)
    history = durable.history
    assert history.oldest <= 1
    past = history.at(3)
    assert (past.epoch, past.token, past.state) == (3, 3, b"state 3")
    assert past.proposer_slot == me.slot and not past.forced
    assert [one.epoch for one in history.read(2, 4)] == [2, 3, 4]
    reader = history.read(4)
    assert [one.epoch for one in reader] == [4, 5]
    me.commit(b"more")
    assert [one.epoch for one in reader] == [6]


def test_a_volatile_region_has_no_history(region):
    with pytest.raises(epoch.EpochError):
        region.history


def test_a_region_says_what_it_is(durable, name, folder):
    assert durable.durable and durable.journal == os.path.realpath(os.path.join(folder, "journal"))
    assert durable.path == f"/dev/shm/epoch.{name}" and not durable.orphaned
    assert durable.state_bytes == 4096 and len(durable.incarnation) == 32
    assert not durable.read_only and name in repr(durable)
    me = durable.join("me")
    assert (me.name, me.slot, me.generation >= 0) == ("me", 0, True) and me.region is durable
    assert "me" in repr(me)
    epoch.unlink(name)
    assert durable.orphaned
    restored = epoch.open(name, journal=os.path.join(folder, "journal2"))
    assert restored.epoch == 0


def test_a_region_is_restored_from_its_journal(name, folder):
    journal = os.path.join(folder, "journal")
    region = epoch.create(name, journal=journal, state_bytes=4096)
    region.join("me").commit(b"kept", token=3)
    del region
    epoch.unlink(name)
    assert epoch.restore(name, journal=journal).read() == (1, 3, b"kept")


def test_by_hand_and_by_poll(region):
    me, by_hand = region.join("me"), region.join("by hand", acknowledges_by_hand=True)
    me.commit(b"x")
    assert by_hand.poll() == 1 == me.poll()
    assert [one.name for one in region.stragglers(1)] == ["by hand"]
    by_hand.acknowledge(1)
    assert me.await_(1, "converged") == 1
    with pytest.raises(epoch.Invalid):
        by_hand.acknowledge(5)


def test_a_patch_is_what_it_was_at_the_call_in_each_run(region):
    """Another transition comes first: what the first run put into its document is not in the
    second; and nothing of the caller's is changed."""
    pytest.importorskip("jsonpatch")
    me, other = region.join("me"), region.join("other")
    runs = []

    def decode(state):
        runs.append(1)
        if len(runs) == 1:
            other.commit(b'{"first": true}')
        return json.loads(state)

    me.json().set({})
    shared = {}
    patch = [
        {"op": "add", "path": "/a", "value": shared},
        {"op": "add", "path": "/b", "value": shared},
        {"op": "add", "path": "/c", "value": [shared, shared]},
        {"op": "add", "path": "/a/list", "value": []},
        {"op": "add", "path": "/a/list/-", "value": 1},
        {"op": "add", "path": "/c/0/x", "value": 1},
    ]
    before = copy.deepcopy(patch)
    doc = me.document(Codec("JSON", decode, JSON.encode))
    doc.patch(patch)
    assert len(runs) == 2
    assert me.json().value == {"first": True, "a": {"list": [1]}, "b": {}, "c": [{"x": 1}, {}]}
    assert patch == before


@pytest.mark.parametrize(
    "wrong",
    [
        [1],
        [{"op": "test", "path": 5, "value": 1}],
        [{"op": "test", "path": "/a"}],
        [{"op": "add", "path": "/a/b/c", "value": 1}],
        [{"op": "add", "path": "/l/x", "value": 1}],
        [{"path": "/a"}],
        [None],
        7,
    ],
)
def test_what_is_no_patch_is_invalid(region, wrong):
    pytest.importorskip("jsonpatch")
    doc = region.join("me").json()
    doc.set({"a": 1, "l": []})
    with pytest.raises(epoch.Invalid):
        doc.patch(wrong)
    assert region.epoch == 1


def test_a_test_compares_as_json_does(region):
    pytest.importorskip("jsonpatch")
    doc = region.join("me").json()
    doc.set({"off": False, "none": 0, "one": [1], "x": {"y": True}})
    for path, value in (("/off", 0), ("/none", False), ("/one", [True]), ("/x", {"y": 1}),
                        ("/away", None)):
        with pytest.raises(epoch.Conflict):
            doc.patch([{"op": "test", "path": path, "value": value}])
    same = [("/off", False), ("/none", 0.0), ("/one", [1]), ("/x", {"y": True})]
    assert doc.patch([{"op": "test", "path": path, "value": value} for path, value in same]) == 2


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], "\ud800", {"\udfff": 1}, {1: 2, "1": 3},
                                   [{"a": ({None: 1, "null": 2},)}]])
def test_what_json_cannot_hold_is_invalid(region, value):
    doc = region.join("me").json()
    with pytest.raises(epoch.Invalid, match="no JSON"):
        doc.set(value)
    assert doc.set({1: 2, "2": 3}) == 1 and doc.value == {"1": 2, "2": 3}


@pytest.mark.skipif(
    "EPOCH_TICKET_UNCHANGED"
    not in open(os.path.join(os.environ["EPOCH_SOURCE"], "include", "epoch", "c.h")).read(),
    reason="the library does not tell",
)
def test_a_ticket_tells_that_nothing_was_changed(region):
    me = region.join("me")
    me.commit(b"x")
    ticket = me.propose_update(lambda state, number: None)
    assert ticket == epoch.Ticket(1, True) and me.await_(ticket) == 1
