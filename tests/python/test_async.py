"""Participants in an event loop: nothing is missed, nothing is left behind."""

import asyncio
import os
import threading

import pytest

import epoch

from conftest import LONG, SOON

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


def waits_for_a_vote(region):
    """`me`, `voter`, and whether the voter was asked: it never answers."""
    me, voter = region.join("me"), region.join("voter", voter=True)
    asked = []
    voter.set_validator(lambda proposal: asked.append(proposal) or epoch.later())
    return me, voter, asked


async def begun(me, voter, asked):
    """A commit that waits for its vote."""
    commits = asyncio.create_task(me.acommit(b"first", agree=True))
    while not asked:
        voter.poll()
        await asyncio.sleep(0)
    return commits


async def cancel(task):
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as raised:
        await task
    return raised.value


def test_a_queued_acommit_is_cancelled_at_once(region):
    """The one before it waits on: it is not waited for."""
    me, voter, asked = waits_for_a_vote(region)

    async def both():
        first = await begun(me, voter, asked)
        second = asyncio.create_task(me.acommit(b"second", agree=True))
        await asyncio.sleep(0)
        told = await cancel(second)
        assert getattr(told, "__notes__", []) == [] and not first.done()
        voter.vote(asked[0].ballot, epoch.accept())
        assert await first == 1

    run(both())
    assert region.read().state == b"first" and len(asked) == 1


def test_a_timeout_counts_from_the_call_not_from_the_turn(region):
    me, voter, asked = waits_for_a_vote(region)

    async def both():
        first = await begun(me, voter, asked)
        for timeout in (SOON, 0):
            with pytest.raises(epoch.DeadlineExceeded) as late:
                await me.acommit(b"second", agree=True, timeout=timeout)
            assert late.value.outcome == "unchanged" and not first.done()
        voter.vote(asked[0].ballot, epoch.accept())
        assert await first == 1

    run(both())
    assert len(asked) == 1


def test_who_commits_for_it_is_parked_after_a_failure(region):
    """Nobody waits for it to acknowledge anything."""
    me = region.join("me")

    async def fails():
        changes = me.achanges(since=-1)
        await changes.__anext__()  # the hub stays
        with pytest.raises(epoch.Conflict):
            await me.acommit(b"x", expected=7, fence=True)
        waited_for = {one.name: one.condition for one in region.participants()}
        await changes.aclose()
        return waited_for

    assert run(fails()).get("me (commits)", "parked") == "parked"


def test_a_descriptor_that_is_used_again_is_left_alone(region):
    """The listener is stopped, and another file gets its number, which the loop watches."""
    me, other = region.join("me"), region.join("other")

    async def follow():
        listener = me.listen()
        number = listener.fileno()
        changes = me.achanges(since=-1)
        await changes.__anext__()
        waits = asyncio.create_task(changes.__anext__())
        await asyncio.sleep(0)
        listener.stop()
        ours, theirs = os.pipe()
        if ours != number:
            os.dup2(ours, number)
            os.close(ours)
        seen = asyncio.Event()
        asyncio.get_running_loop().add_reader(number, seen.set)
        other.commit(b"x")
        assert await waits == (1, 0)
        await changes.aclose()
        os.write(theirs, b"x")
        await seen.wait()
        asyncio.get_running_loop().remove_reader(number)
        os.close(number)
        os.close(theirs)

    run(asyncio.wait_for(follow(), LONG))


def test_the_loop_runs_while_a_listener_is_stopped(region):
    """Its validator waits for the loop."""
    me, other = region.join("me", voter=True), region.join("other")

    async def answer():
        return epoch.accept()

    async def follow():
        loop, asked = asyncio.get_running_loop(), asyncio.Event()
        goes_on = threading.Event()

        @me.validator
        def check(proposal):
            loop.call_soon_threadsafe(asked.set)
            goes_on.wait()
            return asyncio.run_coroutine_threadsafe(answer(), loop).result()

        changes = me.achanges(since=-1)
        await changes.__anext__()
        made = []
        thread = threading.Thread(
            target=lambda: made.append(other.commit(b"x", agree=True, timeout=LONG))
        )
        thread.start()
        await asked.wait()
        goes_on.set()
        await changes.aclose()
        await loop.run_in_executor(None, thread.join)
        return made

    assert run(follow()) == [1]
    me.leave()
