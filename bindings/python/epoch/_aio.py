"""Participants in an event loop: the listener's descriptor, and a thread for what may wait."""

from __future__ import annotations

import asyncio
import os
import queue
import threading
import time
from typing import TYPE_CHECKING, Any, AsyncIterator, Callable, Dict, Optional, Set

from . import _epoch
from .errors import Busy, DeadlineExceeded, EpochError, Exhausted, PinHeld, note
from .types import Change

if TYPE_CHECKING:
    from .participant import Participant
    from .region import Region

__all__ = ["Hub", "achanges", "acommit"]

# A wake-up comes by the descriptor. Whatever else ends a wait (its listener was stopped) is seen
# after so many seconds.
_LOOK_AGAIN = 1.0


class _Job:
    """One commit, which waits for its turn in the queue of a hub, and then is at work."""

    def __init__(
        self, future: asyncio.Future[int], state: bytes, options: Dict[str, Any]
    ) -> None:
        self.future = future
        self.state = state
        self.options = options
        self.interrupt = _epoch.Interrupt()
        timeout = options.get("timeout")
        self.ends: Optional[float] = None
        # It counts from the call, not from its turn. Others: the commit itself judges them.
        if isinstance(timeout, (int, float)) and 0 < timeout < float("inf"):
            self.ends = time.monotonic() + timeout
        self._lock = threading.Lock()
        self._queued = True

    def begin(self) -> bool:
        """In the thread that commits. False: it was withdrawn."""
        return self._leave_queue()

    def withdraw(self) -> bool:
        """False: it has begun."""
        if not self._leave_queue():
            return False
        self.state = b""  # what stands in the queue still holds nothing
        return True

    def _leave_queue(self) -> bool:
        with self._lock:
            was, self._queued = self._queued, False
            return was

    def expire(self) -> None:
        """In the loop, when the time is over."""
        if self.withdraw() and not self.future.done():
            self.future.set_exception(_waited_in_vain())


def _waited_in_vain() -> DeadlineExceeded:
    return DeadlineExceeded(
        "the timeout passed while other commits of this participant had their turn; nothing was "
        "changed"
    )


class Hub:
    """What one event loop has of one participant, while anything there waits."""

    def __init__(self, participant: Participant, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.pid = os.getpid()
        self._participant = participant
        self._users = 0
        self._waiters: Set[asyncio.Future[None]] = set()
        self._listener: Optional[_epoch.Listener] = None
        self._own = False  # the listener was started here
        self._fd = -1  # as its descriptor, but of this hub's own
        self._stopping: Optional[asyncio.Future[None]] = None
        self._jobs: Optional[queue.SimpleQueue[Optional[_Job]]] = None
        self._at_work = 0  # jobs that are queued, or begun

    async def __aenter__(self) -> Hub:
        self._users += 1
        try:
            while self._stopping is not None:
                await asyncio.wait([self._stopping])
            if self._listener is None:
                self._watch()
        except BaseException:
            self._users -= 1
            raise
        return self

    async def __aexit__(self, *unused: object) -> None:
        self._users -= 1
        if self._users != 0 or self.pid != os.getpid():
            return
        self._end_jobs()
        own = self._unwatch()
        if own is not None and self.loop.is_closed():
            own.stop()  # nothing runs there that its validator could wait for
        elif own is not None:
            await self._stop(own)
        if self._users == 0:
            self._forget()

    def _watch(self) -> None:
        listener = self._participant._running_listener()
        self._own = listener is None
        self._listener = self._participant.listen() if listener is None else listener
        # Whoever stops the listener closes its descriptor, and the number may be another file's
        # before the loop is told.
        self._fd = os.dup(self._listener.fileno())
        self.loop.add_reader(self._fd, self._readable)

    def _unwatch(self) -> Optional[_epoch.Listener]:
        """Returns the listener if it was started here: to be stopped."""
        if self._fd >= 0:
            if not self.loop.is_closed():
                self.loop.remove_reader(self._fd)
            os.close(self._fd)
        self._fd = -1
        own = self._listener if self._own else None
        self._listener = None
        return own

    async def _stop(self, listener: _epoch.Listener) -> None:
        """In another thread: a validator that runs is waited for, which may wait for this loop."""
        stopped: asyncio.Future[None] = self.loop.create_future()
        self._stopping = stopped

        def stop() -> None:
            try:
                listener.stop()
            except Busy:
                pass  # its participant is in a call of another thread: it goes when that returns
            finally:
                _tell(self.loop, _set, stopped)

        threading.Thread(target=stop, daemon=True).start()
        cancelled = await _ended(stopped)
        self._stopping = None
        if cancelled is not None:
            raise cancelled

    def _readable(self) -> None:
        # First, so that what is committed from now on makes it readable again.
        if self._listener is not None and self._listener.running:
            self._listener.drain()
        self._wake()

    def _wake(self) -> None:
        for waiter in self._waiters:
            _set(waiter)

    async def wait(self) -> None:
        """Until something was committed, or may have been."""
        if self._listener is None or not self._listener.running:
            self._unwatch()
            self._watch()
        waiter: asyncio.Future[None] = self.loop.create_future()
        self._waiters.add(waiter)
        look = self.loop.call_later(_LOOK_AGAIN, self._wake)
        try:
            await waiter
        finally:
            look.cancel()
            self._waiters.discard(waiter)

    async def commit(self, state: bytes, options: Dict[str, Any]) -> int:
        """Commits in the thread for that."""
        if options.get("timeout") == 0 and self._at_work != 0:
            raise _waited_in_vain()
        if self._jobs is None:
            self._jobs = queue.SimpleQueue()
            name = (self._participant.name + " (commits)").encode()[:63].decode(errors="ignore")
            # A daemon: what it waits for must not hold up the end of the interpreter.
            threading.Thread(
                target=_work,
                args=(self.loop, self._jobs, self._participant.region, name),
                daemon=True,
            ).start()
        job = _Job(self.loop.create_future(), state, options)
        job.future.add_done_callback(self._job_done)
        self._at_work += 1
        self._jobs.put(job)
        end = None if job.ends is None else self.loop.call_later(options["timeout"], job.expire)
        try:
            return await asyncio.shield(job.future)
        except asyncio.CancelledError as cancelled:
            if job.withdraw():
                job.future.cancel()
                raise
            job.interrupt.set()
            await _ended(job.future)
            note = _note(job.future)
            if note is not None:
                cancelled.add_note(note)
            raise
        finally:
            if end is not None:
                end.cancel()

    def _job_done(self, unused: object) -> None:
        self._at_work -= 1

    def _end_jobs(self) -> None:
        if self._jobs is not None:
            self._jobs.put(None)
            self._jobs = None

    def _forget(self) -> None:
        if getattr(self._participant, "_hub", None) is self:
            self._participant._hub = None

    def close(self) -> None:
        """Lets go of everything, at once; what still waits looks once more, and begins anew. Waits
        for a validator that runs."""
        if self.pid == os.getpid():
            self._end_jobs()
            own = self._unwatch()
            if own is not None:
                own.stop()
            if not self.loop.is_closed():
                self._wake()
        self._forget()


def _work(
    loop: asyncio.AbstractEventLoop,
    jobs: queue.SimpleQueue[Optional[_Job]],
    region: Region,
    name: str,
) -> None:
    committer: Optional[Participant] = None
    while True:
        job = jobs.get()
        if job is None:
            break
        if not job.begin():
            continue
        epoch: Optional[int] = None
        raised: Optional[BaseException] = None
        try:
            options = dict(job.options)
            if job.ends is not None:
                options["timeout"] = job.ends - time.monotonic()
                if options["timeout"] <= 0:
                    raise _waited_in_vain()
            if committer is None:
                committer = region.join(name)
            epoch = committer.commit(job.state, interrupt=job.interrupt, **options)
        except BaseException as error:
            raised = error
        if committer is not None:
            try:
                committer.park()  # nobody waits for it to acknowledge anything
                committer.check()
            except EpochError:
                committer = None  # it was expelled: the next one joins anew
        _tell(loop, _settle, job.future, epoch, raised)
        job = raised = None  # nothing is kept alive
    if committer is not None:
        committer.leave()


def _tell(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *args: Any) -> None:
    try:
        loop.call_soon_threadsafe(function, *args)
    except RuntimeError:
        pass  # the loop was closed: nobody is there to be told


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _settle(
    future: asyncio.Future[int], epoch: Optional[int], raised: Optional[BaseException]
) -> None:
    if future.done():
        return
    if epoch is not None:
        future.set_result(epoch)
    elif raised is not None:
        future.set_exception(raised)


def _hub_of(participant: Participant) -> Hub:
    loop = asyncio.get_running_loop()
    hub: Optional[Hub] = getattr(participant, "_hub", None)
    if hub is not None and (hub.loop is not loop or hub.pid != os.getpid()):
        if hub.pid == os.getpid() and not hub.loop.is_closed():
            raise Busy("this participant is used by another event loop just now")
        hub.close()
        hub = None
    if hub is None:
        hub = participant._hub = Hub(participant, loop)
    return hub


async def achanges(participant: Participant, seen: int) -> AsyncIterator[Change]:
    region = participant.region
    async with _hub_of(participant) as hub:
        while True:
            epoch = region.epoch
            if epoch > seen:
                change = Change(epoch, epoch - seen - 1)
                seen = epoch
                yield change
                continue
            try:
                participant.check()
            except Busy:
                pass  # of another thread just now
            await hub.wait()


async def acommit(participant: Participant, state: Any, options: Dict[str, Any]) -> int:
    alone = not (options.get("agree") or options.get("fence"))
    if alone and not participant.region.durable:
        # Nobody is waited for, but a vote that is under way, or a free version.
        at_once: Dict[str, Any] = {**options, "timeout": 0}
        try:
            return participant.commit(state, **at_once)
        except (DeadlineExceeded, Exhausted) as error:
            if error.outcome != "unchanged" or options.get("timeout") == 0:
                raise
    if options.get("fence") and participant.pins != 0:
        raise PinHeld(
            "a fenced transition would wait for the pin that this participant holds: release it "
            "first; nothing was changed"
        )
    committed: Optional[int] = None
    try:
        async with _hub_of(participant) as hub:
            # Bytes of its own: what is given may change while it waits for its turn.
            committed = await hub.commit(bytes(memoryview(state)), options)
        return committed
    except asyncio.CancelledError as cancelled:
        if committed is not None:  # while the listener was being stopped
            cancelled.add_note(f"epoch {committed} is committed")
        raise


async def _ended(future: asyncio.Future[Any]) -> Optional[asyncio.CancelledError]:
    """However often the caller is cancelled, which is told: an interrupted commit ends within a
    tenth of a second, and a write to the disk."""
    told: Optional[asyncio.CancelledError] = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as cancelled:
            told = cancelled
    return told


def _note(future: asyncio.Future[int]) -> Optional[str]:
    error = future.exception()
    return f"epoch {future.result()} is committed" if error is None else note(error)
