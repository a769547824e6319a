"""Participants in an event loop: nothing is missed, nothing is left behind."""

import asyncio
import os
import threading

import pytest

import epoch

COMMITS = int(os.environ.get("EPOCH_PYTHON_ASYNC_COMMITS", "2000"))


def run(coroutine):
    return asyncio.run(coroutine)


WRITER = """
    import epoch, sys
    name, commits = sys.argv[1], int(sys.argv[2])
    with epoch.open(name).join("writer") as me:
        print("ready", flush=True)
        sys.stdin.readline()
        for _ in range(commits):
            me.commit(b"x")
    """


def test_async_for_misses_nothing_of_many_commits(region, name, child):
    me = region.join("me")
    writer = child(WRITER, name, COMMITS)
    writer.hear()

    async def follow(seen, changes):
        async for change in changes:
            seen.append(change)
            if change.epoch == COMMITS:
                return

    async def both():
        first, second = [], []
        changes = me.achanges(), me.achanges(since=0)
        writer.say()
        await asyncio.gather(follow(first, changes[0]), follow(second, changes[1]))
        return first, second

    for seen in run(both()):
        number = 0
        for change in seen:
            assert change.epoch == number + 1 + change.skipped  # each epoch is told of, or counted
            number = change.epoch
        assert number == COMMITS
    assert writer.end()[0] == 0
    me.leave()  # no listener is left


def test_a_cancelled_loop_leaves_nothing_behind(region):
    me = region.join("me")

    async def follow(begun):
        async for _ in me.achanges(since=-1):
            begun.set()

    async def cancelled():
        begun = asyncio.Event()
        task = asyncio.create_task(follow(begun))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    for _ in range(3):
        run(cancelled())
    with me.listen():
        run(cancelled())
    me.leave()


def test_a_loop_that_was_closed_in_the_middle_is_no_obstacle(region):
    me = region.join("me")
    loop = asyncio.new_event_loop()
    left = me.achanges(since=-1)
    assert loop.run_until_complete(left.__anext__()) == (0, 0)
    loop.close()
    assert run(me.achanges(since=-1).__anext__()) == (0, 0)
    del left
    me.commit(b"x")
    assert run(me.achanges(since=0).__anext__()) == (1, 0)
    me.close()


def test_two_loops_at_a_time_are_refused(region):
    me = region.join("me")
    refused = []

    async def outer():
        changes = me.achanges(since=-1)
        await changes.__anext__()

        def other():
            with pytest.raises(epoch.Busy):
                run(me.achanges(since=-1).__anext__())
            refused.append(1)

        thread = threading.Thread(target=other)
        thread.start()
        await asyncio.get_running_loop().run_in_executor(None, thread.join)
        await changes.aclose()

    run(outer())
    assert refused == [1]


def test_an_expulsion_ends_the_iteration(region):
    me = region.join("me")

    async def follow():
        async for change in me.achanges(since=-1):
            region.expel(me.slot)

    with pytest.raises(epoch.Expelled):
        run(follow())


def test_its_own_listener_may_be_stopped_meanwhile(region):
    me, other = region.join("me"), region.join("other")

    async def follow():
        listener = me.listen()
        changes = me.achanges(since=-1)
        await changes.__anext__()
        waits = asyncio.create_task(changes.__anext__())
        await asyncio.sleep(0)
        listener.stop()
        other.commit(b"x")
        assert await waits == (1, 0)
        await changes.aclose()

    run(follow())


def test_a_listener_goes_though_its_participant_is_busy_elsewhere(region):
    """Another thread is in a call when the loop has had enough."""
    me = region.join("me")
    ends = epoch.Interrupt()

    def wait():
        while not ends.is_set:
            with pytest.raises((epoch.Interrupted, epoch.Busy)):
                me.await_(99, interrupt=ends)

    thread = threading.Thread(target=wait)

    async def follow():
        changes = me.achanges(since=-1)
        await changes.__anext__()
        thread.start()
        while True:  # until it is inside
            try:
                me.check()
            except epoch.Busy:
                break
        await changes.aclose()

    run(follow())
    ends.set()
    thread.join()
    me.leave()


@pytest.mark.parametrize("options", [{}, {"fence": True}, {"token": 4}])
def test_acommit_commits(region, options):
    me = region.join("me")
    assert run(me.acommit(bytearray(b"x"), **options)) == 1
    assert region.read() == (1, options.get("token", 0), b"x")
    with pytest.raises(epoch.Conflict):
        run(me.acommit(b"y", expected=0))


def test_acommit_is_durable(durable):
    me = durable.join("me")

    async def many():
        return await asyncio.gather(*(me.acommit(bytes([i])) for i in range(10)))

    assert sorted(run(many())) == list(range(1, 11))
    assert durable.epoch == 10


def test_the_loop_goes_on_while_a_commit_waits(region):
    """A voter in the same loop answers; the participant itself is not busy."""
    me, voter = region.join("me"), region.join("voter", voter=True)
    seen = []

    @voter.validator
    def check(proposal):
        seen.append(me.pin().epoch)
        return epoch.accept()

    async def both():
        commits = asyncio.create_task(me.acommit(b"x", agree=True))
        while not commits.done():
            voter.poll()
            await asyncio.sleep(0)
        return await commits

    assert run(both()) == 1 and seen == [0]


def test_its_own_listener_answers_its_own_vote(region):
    me = region.join("me", voter=True)
    asked = []

    @me.validator
    def check(proposal):
        asked.append(proposal.proposer)
        return epoch.accept()

    assert run(me.acommit(b"x", agree=True)) == 1
    assert asked == ["me (commits)"]


def test_a_cancelled_acommit_ends_and_changes_nothing(region):
    me, voter = region.join("me"), region.join("voter", voter=True)
    proposed = []
    voter.set_validator(lambda proposal: proposed.append(1) or epoch.later())

    async def cancel():
        commits = asyncio.create_task(me.acommit(b"x", agree=True))
        while not proposed:
            voter.poll()
            await asyncio.sleep(0)
        commits.cancel()
        with pytest.raises(asyncio.CancelledError) as raised:
            await commits
        assert getattr(raised.value, "__notes__", []) == []

    run(cancel())
    assert region.epoch == 0
    assert me.commit(b"afterwards") == 1


def test_a_fence_would_wait_for_ones_own_pin(region):
    me = region.join("me")
    pin = me.pin()
    with pytest.raises(epoch.PinHeld):
        run(me.acommit(b"x", fence=True))
    pin.release()
    assert run(me.acommit(b"x", fence=True)) == 1
