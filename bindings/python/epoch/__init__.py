"""Processes of one machine move a shared state from one version to the next, atomically, without
locks, and durably if wanted, while any of them may be killed or stopped.

    region = epoch.open("plan")
    with region.join("planner") as me:
        me.update(lambda state, number: state + b"x")
        with me.pin() as pin:
            print(pin.epoch, bytes(pin))

docs/python.md tells the rest.
"""

# First what the extension takes from here by itself.
from .errors import (
    Busy,
    Conflict,
    DataLoss,
    DeadlineExceeded,
    Denied,
    EpochError,
    Exhausted,
    Exists,
    Expelled,
    Forked,
    Interrupted,
    Invalid,
    JournalUnavailable,
    LayoutMismatch,
    Left,
    NotFound,
    PeerDied,
    PinHeld,
    Rejected,
    TooLarge,
)
from .types import (
    Answer,
    Change,
    CheckpointInfo,
    CheckpointList,
    Contribution,
    Culprit,
    PastEpoch,
    Proposal,
    PruneResult,
    Shard,
    Snapshot,
    Straggler,
    Ticket,
    accept,
    later,
    reject,
)
from ._epoch import (
    Checkpoint,
    Draft,
    History,
    HistoryReader,
    Interrupt,
    Listener,
    Pin,
    Step,
    contributions,
)
from ._epoch import version as __version__
from .checkpoints import Checkpoints, NewestGood, Rank, checkpoints
from .document import NO_CHANGE, Codec, Document
from .participant import Participant
from .region import Region, create, open, restore, unlink

__all__ = [
    "Answer",
    "Busy",
    "Change",
    "Checkpoint",
    "CheckpointInfo",
    "CheckpointList",
    "Checkpoints",
    "Codec",
    "Conflict",
    "Contribution",
    "Culprit",
    "DataLoss",
    "DeadlineExceeded",
    "Denied",
    "Document",
    "Draft",
    "EpochError",
    "Exhausted",
    "Exists",
    "Expelled",
    "Forked",
    "History",
    "HistoryReader",
    "Interrupt",
    "Interrupted",
    "Invalid",
    "JournalUnavailable",
    "LayoutMismatch",
    "Left",
    "Listener",
    "NO_CHANGE",
    "NewestGood",
    "NotFound",
    "Participant",
    "PastEpoch",
    "PeerDied",
    "Pin",
    "PinHeld",
    "Proposal",
    "PruneResult",
    "Rank",
    "Region",
    "Rejected",
    "Shard",
    "Snapshot",
    "Step",
    "Straggler",
    "Ticket",
    "TooLarge",
    "__version__",
    "accept",
    "checkpoints",
    "contributions",
    "create",
    "later",
    "open",
    "reject",
    "restore",
    "unlink",
]
