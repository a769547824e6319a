"""Votes: validators that accept, refuse, raise, lie, call back, and answer later."""

import sys
import threading

import pytest

import epoch

from conftest import LONG


@pytest.fixture
def pair(region):
    return region.join("proposer"), region.join("voter", voter=True)


def proposed_to(me, voter, state=b"step"):
    """What a vote came to; `voter` polls meanwhile, in this thread."""
    result = []

    def propose():
        try:
            result.append(me.commit(state, agree=True, timeout=LONG, token=9))
        except epoch.EpochError as error:
            result.append(error)

    thread = threading.Thread(target=propose)
    thread.start()
    try:
        while not result:
            voter.poll()
    finally:
        thread.join()
    return result[0]


def test_a_validator_sees_the_proposal_and_accepts(pair):
    me, voter = pair
    seen = []

    @voter.validator
    def check(proposal):
        seen.append(proposal)
        return epoch.accept() if b"step" in proposal.state else epoch.reject("no step")

    assert proposed_to(me, voter) == 1
    (proposal,) = seen
    assert proposal == (1, proposal.ballot, 9, "proposer", b"step", False)
    refused = proposed_to(me, voter, b"{}")
    assert type(refused) is epoch.Rejected and refused.culprits[0].reason == "no step"


LIES = {
    "True": lambda proposal: True,
    "None": lambda proposal: None,
    "text": lambda proposal: "accept",
    "a tuple": lambda proposal: (1, ""),
    "no verdict": lambda proposal: epoch.Answer("yes", ""),
    "a number beyond": lambda proposal: epoch.Answer(17, ""),
    "no reason": lambda proposal: epoch.Answer(1, None),
    "takes nothing": lambda: epoch.accept(),
    "raises": lambda proposal: 1 // 0,
}


@pytest.mark.parametrize("lie", LIES)
def test_whatever_is_no_answer_is_a_refusal(pair, lie, monkeypatch):
    me, voter = pair
    reported = []
    monkeypatch.setattr(sys, "unraisablehook", lambda of: reported.append(of.exc_type))
    voter.set_validator(LIES[lie])
    refused = proposed_to(me, voter)
    assert type(refused) is epoch.Rejected
    assert refused.culprits[0].reason != ""
    assert lie == "a number beyond" or len(reported) == 1
    if lie == "raises":
        assert "ZeroDivisionError: " in refused.culprits[0].reason


def test_a_validator_that_calls_its_participant_is_told(pair):
    me, voter = pair
    told = []

    @voter.validator
    def check(proposal):
        for call in (
            voter.pin,
            voter.poll,
            voter.leave,
            lambda: voter.commit(b"x"),
            lambda: voter.set_validator(None),
            lambda: voter.vote(proposal.ballot, epoch.accept()),
        ):
            with pytest.raises(epoch.Busy):
                call()
            told.append(1)
        return epoch.accept()

    assert proposed_to(me, voter) == 1 and len(told) == 6


def test_a_reason_is_cut_between_characters(pair):
    me, voter = pair
    voter.set_validator(lambda proposal: epoch.reject("\u00e4" * 500))
    reason = proposed_to(me, voter).culprits[0].reason
    assert set(reason) == {"\u00e4"} and len(reason) > 20


def test_what_ends_the_program_is_raised_by_the_call_that_polls(pair):
    me, voter = pair

    @voter.validator
    def check(proposal):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        proposed_to(me, voter)
    voter.set_validator(None)
    assert proposed_to(me, voter) >= 1


def test_a_listener_votes_in_its_thread(pair):
    me, voter = pair
    threads = []

    @voter.validator
    def check(proposal):
        threads.append(threading.get_ident())
        return epoch.accept()

    with voter.listen() as listener:
        assert listener.running and listener.fileno() >= 0
        with pytest.raises(epoch.Busy):
            voter.listen()
        for number in range(1, 20):
            assert me.commit(b"x", agree=True, timeout=LONG) == number
    assert not listener.running and threading.get_ident() not in threads and len(threads) == 19
    with pytest.raises(epoch.Invalid):
        listener.fileno()
    listener.stop()


def test_a_validator_may_stop_nothing_that_waits_for_it(pair):
    me, voter = pair
    told = []

    @voter.validator
    def check(proposal):
        with pytest.raises(epoch.Busy):
            listener.stop()
        told.append(1)
        return epoch.accept()

    listener = voter.listen()
    me.commit(b"x", agree=True, timeout=LONG)
    listener.stop()
    assert told == [1]


def test_an_answer_may_come_later(pair):
    me, voter = pair
    ballots = []

    @voter.validator
    def check(proposal):
        ballots.append(proposal.ballot)
        answers = threading.Thread(target=voter.vote, args=(proposal.ballot, epoch.accept()))
        answers.start()
        return epoch.later()

    result = []
    proposes = threading.Thread(
        target=lambda: result.append(me.commit(b"x", agree=True, timeout=LONG))
    )
    with voter.listen():
        proposes.start()
        proposes.join()
    assert result == [1]
    with pytest.raises(epoch.EpochError):
        voter.vote(ballots[0], epoch.accept())


def test_a_collective_commit_gathers_the_parts(region):
    parts = [region.join(f"p{i}", voter=True) for i in range(3)]
    made = []
    threads = [
        threading.Thread(
            target=lambda one=one, part=part: made.append(
                one.commit_collective(7, part, contributions=3, timeout=LONG)
            )
        )
        for one, part in zip(parts, (b"a", b"bb", b"ccc"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1, 1, 1]
    state = region.read()
    assert state.token == 7
    assert epoch.contributions(state.state) == [(0, b"a"), (1, b"bb"), (2, b"ccc")]
    with pytest.raises(epoch.DataLoss):
        epoch.contributions(b"no such state")


def test_min_voters_and_stragglers(region):
    me, idle = region.join("me"), region.join("idle", voter=True)
    assert me.commit(b"x", agree=False) == 1
    stragglers = region.stragglers()
    assert [(one.name, one.condition) for one in stragglers if one.name == "idle"] == [
        ("idle", "running")
    ]
    with pytest.raises(epoch.DeadlineExceeded) as late:
        me.commit(b"y", agree=True, timeout=0.01)
    assert late.value.culprits[0].name == "idle"
    assert me.commit(b"y", agree=True, min_voters=0, on_straggler="expel", timeout=0.01) == 2
    with pytest.raises(epoch.Expelled):
        idle.check()
    idle.rejoin()
    idle.park()
    assert me.commit(b"z", agree=True, min_voters=0) == 3


def test_one_thread_at_a_time_sets_a_validator(region):
    """All of them are let go of once, whatever the order."""
    me = region.join("me", voter=True)
    validators = [lambda proposal, n=n: epoch.accept() for n in range(4)]
    before = [sys.getrefcount(validator) for validator in validators]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def work(validator):
        for _ in range(5000):
            try:
                me.set_validator(validator)
            except epoch.Busy:
                pass

    try:
        threads = [threading.Thread(target=work, args=(validator,)) for validator in validators]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    me.set_validator(None)
    del threads
    assert [sys.getrefcount(validator) for validator in validators] == before


@pytest.mark.parametrize(
    "make, outcome",
    [
        (lambda me: me.propose(b"x"), "pending"),
        (lambda me: me.propose_update(lambda state, number: b"x"), "pending"),
        (lambda me: me.commit(b"x"), "committed"),
        (lambda me: me.update(lambda state, number: b"x"), "committed"),
    ],
)
def test_what_is_raised_over_an_acceptance_tells_of_it(region, make, outcome):
    """A call that makes a transition answers the vote of another one first, and goes on."""
    me, seer = region.join("me", voter=True), region.join("seer", voter=True)
    other = region.join("other")
    asked = []
    seer.set_validator(lambda proposal: asked.append(proposal) or epoch.later())

    @me.validator
    def check(proposal):
        raise KeyboardInterrupt

    def propose():
        with pytest.raises(epoch.EpochError):
            other.commit(b"never", agree=True, timeout=LONG)

    proposes = threading.Thread(target=propose)
    proposes.start()
    while not asked:
        seer.poll()  # until the vote is open
    with pytest.raises(KeyboardInterrupt) as raised:
        make(me)
    proposes.join()
    (note,) = raised.value.__notes__
    error = raised.value.__context__
    assert note.startswith("epoch 1 is ") and isinstance(error, epoch.EpochError)
    assert (error.epoch, error.outcome) == (1, outcome)
    assert region.read().state == b"x"
