"""Participants in an event loop: the listener's descriptor, and a thread for what may wait."""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from typing import TYPE_CHECKING, Any, AsyncIterator, Dict, Optional, Set, Tuple

from . import _epoch
from .errors import Busy, DeadlineExceeded, EpochError, Exhausted, PinHeld
from .types import Change

if TYPE_CHECKING:
    from .participant import Participant
    from .region import Region

__all__ = ["Hub", "achanges", "acommit"]

# A wake-up comes by the descriptor. Whatever else ends a wait (its listener was stopped) is seen
# after so many seconds.
_LOOK_AGAIN = 1.0

_Job = Tuple[
    "asyncio.AbstractEventLoop", "asyncio.Future[int]", bytes, Dict[str, Any], "_epoch.Interrupt"
]


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
        self._fd = -1
        self._jobs: Optional[queue.SimpleQueue[Optional[_Job]]] = None

    def __enter__(self) -> Hub:
        if self._users == 0:
            self._watch()
        self._users += 1
        return self

    def __exit__(self, *unused: object) -> None:
        self._users -= 1
        if self._users == 0:
            self.close()

    def _watch(self) -> None:
        listener = self._participant._running_listener()
        self._own = listener is None
        self._listener = self._participant.listen() if listener is None else listener
        self._fd = self._listener.fileno()
        self.loop.add_reader(self._fd, self._readable)

    def _unwatch(self) -> None:
        if self._fd >= 0 and not self.loop.is_closed():
            self.loop.remove_reader(self._fd)
        self._fd = -1
        if self._listener is not None and self._own:
            try:
                self._listener.stop()
            except Busy:
                pass  # its participant is in a call of another thread: it goes when that returns
        self._listener = None

    def _readable(self) -> None:
        # First, so that what is committed from now on makes it readable again.
        if self._listener is not None and self._listener.running:
            self._listener.drain()
        self._wake()

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

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

    def submit(
        self, state: bytes, options: Dict[str, Any], interrupt: _epoch.Interrupt
    ) -> asyncio.Future[int]:
        """Commits in the thread for that."""
        if self._jobs is None:
            self._jobs = queue.SimpleQueue()
            name = (self._participant.name + " (commits)").encode()[:63].decode(errors="ignore")
            # A daemon: what it waits for must not hold up the end of the interpreter.
            threading.Thread(
                target=_work, args=(self._jobs, self._participant.region, name), daemon=True
            ).start()
        future: asyncio.Future[int] = self.loop.create_future()
        self._jobs.put((self.loop, future, state, options, interrupt))
        return future

    def close(self) -> None:
        """Lets go of everything; what still waits looks once more, and begins anew."""
        if self.pid != os.getpid():
            return  # the parent's
        if self._jobs is not None:
            self._jobs.put(None)
            self._jobs = None
        self._unwatch()
        if not self.loop.is_closed():
            self._wake()
        if getattr(self._participant, "_hub", None) is self:
            self._participant._hub = None


def _work(jobs: queue.SimpleQueue[Optional[_Job]], region: Region, name: str) -> None:
    committer: Optional[Participant] = None
    while True:
        job = jobs.get()
        if job is None:
            break
        loop, future, state, options, interrupt = job
        epoch: Optional[int] = None
        raised: Optional[BaseException] = None
        try:
            if committer is None:
                committer = region.join(name)
            epoch = committer.commit(state, interrupt=interrupt, **options)
            committer.park()  # nobody waits for it to acknowledge anything
        except EpochError as error:
            raised = error
            if error.cause == "EXPELLED":
                committer = None  # the next one joins anew
        except BaseException as error:
            raised = error
        try:
            loop.call_soon_threadsafe(_settle, future, epoch, raised)
        except RuntimeError:
            pass  # the loop was closed: nobody is there to be told
        job = loop = future = raised = None  # type: ignore[assignment]  # nothing is kept alive
    if committer is not None:
        committer.leave()


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
    if hub is not None and hub.loop is not loop:
        if hub.pid == os.getpid() and not hub.loop.is_closed():
            raise Busy("this participant is used by another event loop just now")
        hub.close()
        hub = None
    if hub is None:
        hub = participant._hub = Hub(participant, loop)
    return hub


async def achanges(participant: Participant, seen: int) -> AsyncIterator[Change]:
    region = participant.region
    with _hub_of(participant) as hub:
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
    interrupt = _epoch.Interrupt()
    with _hub_of(participant) as hub:
        # Bytes of its own: what is given may change while it waits for its turn.
        committed = hub.submit(bytes(memoryview(state)), options, interrupt)
        try:
            return await asyncio.shield(committed)
        except asyncio.CancelledError as cancelled:
            interrupt.set()
            await _ended(committed)
            note = _note(committed)
            if note is not None:
                cancelled.add_note(note)
            raise


async def _ended(future: asyncio.Future[int]) -> None:
    """However often it is cancelled: an interrupted commit ends within a tenth of a second, and a
    write to the disk."""
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            continue


def _note(future: asyncio.Future[int]) -> Optional[str]:
    error = future.exception()
    if error is None:
        return f"epoch {future.result()} is committed"
    if isinstance(error, EpochError) and error.epoch is not None and error.outcome != "unchanged":
        return (
            f"epoch {error.epoch} is accepted, its outcome {error.outcome}: await it, do not "
            "repeat it"
        )
    return None
