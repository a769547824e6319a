"""What a call raises: one class for each kind of reason, found by one table.

Every error of Epoch is an ``EpochError``. Its message says what is wrong, where, and what to do;
its attributes tell programs why, because of whom, and what became of the transition.
"""

from __future__ import annotations

from typing import Any, Dict, Optional, Sequence, Tuple, Type

from .types import Culprit

__all__ = [
    "EpochError",
    "Busy",
    "Conflict",
    "DataLoss",
    "DeadlineExceeded",
    "Denied",
    "Exhausted",
    "Exists",
    "Expelled",
    "Forked",
    "Interrupted",
    "Invalid",
    "JournalUnavailable",
    "LayoutMismatch",
    "Left",
    "NotFound",
    "PeerDied",
    "PinHeld",
    "Rejected",
    "TooLarge",
]


class EpochError(Exception):
    """Any error of Epoch. ``outcome`` is what became of the transition that the call was about:

    - ``"unchanged"``: nothing was accepted, and nothing will be; the call may be repeated;
    - ``"pending"``: it is accepted as ``epoch``, and becomes visible later: await it, do not
      repeat it;
    - ``"unknown"``: it is accepted as ``epoch``, or may be; recovery tells;
    - ``"committed"``: only as the ``__context__`` of what was raised over a call that succeeded.
    """

    outcome: str = "unchanged"
    epoch: Optional[int] = None  # what is accepted
    culprits: Tuple[Culprit, ...] = ()  # because of whom; at most 8
    code: str = "UNKNOWN"  # as in the C interface
    cause: str = "NONE"

    def __reduce__(self) -> Any:
        return _again, (type(self), self.args, self.__dict__, getattr(self, "errno", None))


class Conflict(EpochError):
    """The region is not at the expected epoch; or another participant brought another tag."""

    expected: Optional[int] = None
    actual: Optional[int] = None


class Rejected(EpochError):
    """A voter refused, and ``culprits`` has its reason; or too few voters accepted."""


class PeerDied(EpochError):
    """A participant of a collective commit died, left, or gave up."""


class DeadlineExceeded(EpochError, TimeoutError):
    """The timeout passed; ``culprits`` names the stragglers."""


class Expelled(EpochError):
    """This participant was expelled: it was taken for dead, or stood still for too long. Rejoin."""


class Left(EpochError):
    """This participant left. Rejoin."""


class Forked(EpochError):
    """This participant is the parent process's. Rejoin, or join anew in the child."""


class PinHeld(EpochError, BufferError):
    """A pin is held that this call would wait for; or a view of a pin or a draft is alive."""


class Busy(EpochError):
    """This participant is in a call already: of another thread, or the one that has called this
    validator or update. Or a fence drains."""


class Exhausted(EpochError):
    """No free slot or version (``culprits`` holds them), no space on disk or in memory."""


class TooLarge(EpochError, ValueError):
    """The state is larger than the region's states."""


class JournalUnavailable(EpochError):
    """Nobody writes the journal, it has failed, or it is not where it was."""


class DataLoss(EpochError):
    """Damage; or the journal failed during a commit."""


class LayoutMismatch(EpochError):
    """The region or the journal has another layout than this library."""


class NotFound(EpochError, FileNotFoundError):
    """There is no such region, epoch, checkpoint or shard."""


class Exists(EpochError, FileExistsError):
    """There is one already."""


class Denied(EpochError, PermissionError):
    """The system does not permit it, or the region is open to look only."""


class Invalid(EpochError, ValueError):
    """An argument that cannot be."""


class Interrupted(EpochError):
    """An ``epoch.Interrupt`` ended the wait; or the interpreter is ending, and its functions are
    not called any more."""


# What a code says before its cause is asked: who waits in vain wants to know that first.
_BY_CODE_FIRST: Dict[str, Type[EpochError]] = {
    "CANCELLED": Interrupted,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "DATA_LOSS": DataLoss,
}
_BY_CAUSE: Dict[str, Type[EpochError]] = {
    "EXPECTED_DIFFERS": Conflict,
    "OTHER_TAG": Conflict,
    "REJECTED": Rejected,
    "OTHER_BYTES": Rejected,
    "TOO_FEW_VOTERS": Rejected,
    "TIMED_OUT": DeadlineExceeded,
    "INTERRUPTED": Interrupted,
    "GONE": PeerDied,
    "GAVE_UP": PeerDied,
    "EXPELLED": Expelled,
    "LEFT": Left,
    "FORKED": Forked,
    "PIN_HELD": PinHeld,
    "BUSY": Busy,
    "DRAINING": Busy,
    "NO_SLOT": Exhausted,
    "NO_VERSION": Exhausted,
    "NO_SPACE": Exhausted,
    "TOO_LARGE": TooLarge,
    "NO_WRITER": JournalUnavailable,
    "POISONED": JournalUnavailable,
    "SUPERSEDED": JournalUnavailable,
    "JOURNAL_AWAY": JournalUnavailable,
    "DAMAGED": DataLoss,
    "REPEATED": Exists,
    "READ_ONLY": Denied,
    "INVALID": Invalid,
    "NOT_WRITTEN": Invalid,
}
_BY_CODE: Dict[str, Type[EpochError]] = {
    "INVALID_ARGUMENT": Invalid,
    "NOT_FOUND": NotFound,
    "ALREADY_EXISTS": Exists,
    "PERMISSION_DENIED": Denied,
    "RESOURCE_EXHAUSTED": Exhausted,
    "OUT_OF_RANGE": Invalid,
    "UNIMPLEMENTED": LayoutMismatch,
}


def class_of(code: str, cause: str) -> Type[EpochError]:
    """The class of an error of the C interface, by the names of its code and its cause."""
    return (
        _BY_CODE_FIRST.get(code) or _BY_CAUSE.get(cause) or _BY_CODE.get(code) or EpochError
    )


def of(
    code: str,
    cause: str,
    message: str,
    outcome: str,
    expected: Optional[int],
    actual: Optional[int],
    accepted: Optional[int],
    errno: int,
    culprits: Sequence[Tuple[Any, ...]],
) -> EpochError:
    """The exception of an error of the C interface."""
    error = class_of(code, cause)(message)
    error.code = code
    error.cause = cause
    # Without a cause it was of no transition, and there is nothing to be unknown.
    # Without a cause or an epoch it was of no transition, and there is nothing to be unknown.
    error.outcome = outcome if cause != "NONE" or accepted is not None else "unchanged"
    error.epoch = accepted
    error.culprits = tuple(Culprit(*culprit) for culprit in culprits)
    if isinstance(error, Conflict):
        error.expected = expected
        error.actual = actual
    if isinstance(error, OSError) and errno != 0:
        error.errno = errno
    return error


def _again(
    kind: Type[EpochError], args: Tuple[Any, ...], state: Dict[str, Any], errno: Optional[int]
) -> EpochError:
    """A pickled error."""
    error = kind(*args)
    error.__dict__.update(state)
    if isinstance(error, OSError) and errno is not None:
        error.errno = errno
    return error


# ---- what is raised over something that was made, or may have been


def note(error: BaseException) -> Optional[str]:
    """What of an error has to be known, where something else is raised instead."""
    if not isinstance(error, EpochError) or error.outcome == "unchanged":
        return None
    what = "an epoch may be" if error.epoch is None else f"epoch {error.epoch} is"
    if error.outcome == "committed":
        return f"{what} committed"
    if error.outcome == "pending":
        return f"{what} accepted, its outcome pending: await it, do not repeat it"
    return f"{what} accepted, its outcome unknown until recovery: do not repeat it"


def committed(epoch: int) -> EpochError:
    """Stands for a call that has committed `epoch`."""
    error = EpochError(f"epoch {epoch} was committed")
    error.code, error.outcome, error.epoch = "OK", "committed", epoch
    return error


def accepted(epoch: int) -> EpochError:
    """Stands for a call that has a ticket: as if it had been interrupted behind the acceptance."""
    error = Interrupted(f"epoch {epoch} was accepted, and is not awaited yet")
    error.code, error.cause = "CANCELLED", "INTERRUPTED"
    error.outcome, error.epoch = "pending", epoch
    return error
