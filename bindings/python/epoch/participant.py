"""Participants: C's calls, and what is thin enough for Python on top of them."""

from __future__ import annotations

import weakref
from typing import (
    TYPE_CHECKING,
    Any,
    AsyncIterator,
    Callable,
    Iterator,
    NoReturn,
    Optional,
    TypeVar,
)

from . import _epoch
from .document import Codec, Document, JSON, PICKLE
from .errors import Busy, DeadlineExceeded, Expelled, Forked, Invalid, Left, PinHeld
from .types import Answer, Change, Proposal

if TYPE_CHECKING:
    from ._aio import Hub

__all__ = ["Participant"]

_Validator = TypeVar("_Validator", bound=Callable[[Proposal], Answer])


class Participant(_epoch.Participant):
    """An actor in a region: it pins what it reads, commits what comes next, and votes.

    One thread at a time, whichever it is; else Busy. In a fork child every call raises Forked
    until rejoin(). It cannot be pickled: join in the child.
    """

    __slots__ = ("__weakref__", "_listener", "_hub")

    _listener: Optional[weakref.ReferenceType[Listener]]
    _hub: Optional[Hub]

    def validator(self, function: _Validator) -> _Validator:
        """Decorator: ``function(proposal)`` returns accept(), reject(reason) or later().

        It is called by whichever thread polls or waits, or by the listener's. What it raises, or
        anything else that it returns, is a refusal. It may not call this participant (Busy).
        """
        self.set_validator(function)
        return function

    def listen(self) -> Listener:
        """Starts a thread that answers votes and acknowledges while this one does something else.
        For an event loop it has fileno() and drain(). Busy: there is one already."""
        listener = super().listen()
        self._listener = weakref.ref(listener)
        return listener

    def _running_listener(self) -> Optional[Listener]:
        reference = getattr(self, "_listener", None)
        listener: Optional[Listener] = None if reference is None else reference()
        return listener if listener is not None and listener.running else None

    # ---- states that are not bytes

    def json(self) -> Document:
        """The state as a JSON document."""
        return Document(self, JSON)

    def pickled(self, *, trust: bool = False) -> Document:
        """The state as any Python object, pickled. Whoever may write to the region can make this
        process run anything by it: so only with trust=True."""
        if trust is not True:
            raise Invalid(
                "a pickle runs whatever its writer wants: pickled(trust=True), if everybody who "
                "may write to this region may also run code in this process"
            )
        return Document(self, PICKLE)

    def document(self, codec: Codec) -> Document:
        """The state as whatever `codec` makes of it."""
        return Document(self, codec)

    # ---- what others commit

    def changes(
        self, timeout: Optional[float] = None, *, since: Optional[int] = None
    ) -> Iterator[Change]:
        """What is committed behind epoch `since` (default: now), as it becomes visible. Ends when
        nothing was committed for `timeout` seconds. Ctrl-C ends it."""
        return self._changes(timeout, self.region.epoch if since is None else since)

    def _changes(self, timeout: Optional[float], seen: int) -> Iterator[Change]:
        while True:
            try:
                epoch = self.await_(seen + 1, timeout=timeout)
            except DeadlineExceeded:
                return
            yield Change(epoch, epoch - seen - 1)
            seen = epoch

    def achanges(self, *, since: Optional[int] = None) -> AsyncIterator[Change]:
        """As changes(), for ``async for``. It uses this participant's listener, or starts one
        while it runs; with a listener of your own, leave its descriptor to this."""
        from ._aio import achanges  # asyncio takes long to import

        return achanges(self, self.region.epoch if since is None else since)

    async def acommit(self, state: Any, **options: Any) -> int:
        """As commit(), without holding up the event loop. What may wait (for a disk, voters, a
        fence) is done in a thread, by a participant of its own: that takes another slot.

        Cancelled behind its acceptance, the CancelledError carries a note with the epoch.
        """
        from ._aio import acommit

        return await acommit(self, state, options)

    # ---- the end

    def close(self) -> None:
        """Stops its listener, and leaves. PinHeld, Busy while a pin, a draft or another listener
        is left."""
        hub: Optional[Hub] = getattr(self, "_hub", None)
        if hub is not None:
            hub.close()
        listener = self._running_listener()
        if listener is not None:
            listener.stop()
        self.leave()

    def __enter__(self) -> Participant:
        return self

    def __exit__(self, kind: object, raised: object, traceback: object) -> None:
        try:
            self.close()
        except (Expelled, Forked, Left):
            pass  # it is out already
        except (Busy, PinHeld):
            # What is on its way is not replaced: it leaves when the last of its views is gone.
            if kind is None:
                raise

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError(
            "a participant cannot be pickled: pickle its region, and join in the child"
        )

    def __repr__(self) -> str:
        return f"<epoch.Participant {self.name!r} in slot {self.slot}>"


Listener = _epoch.Listener
