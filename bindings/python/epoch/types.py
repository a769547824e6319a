"""Plain results: what calls give back."""

from __future__ import annotations

from typing import List, NamedTuple, Optional

__all__ = [
    "Answer",
    "Change",
    "CheckpointInfo",
    "CheckpointList",
    "Contribution",
    "Culprit",
    "PastEpoch",
    "Proposal",
    "PruneResult",
    "Shard",
    "Snapshot",
    "Straggler",
    "Ticket",
    "accept",
    "later",
    "reject",
]


class Culprit(NamedTuple):
    """A participant that had a part in an error."""

    slot: int
    generation: int
    pid: int  # in its own pid namespace
    name: str
    reason: str  # of a refusal; else empty
    epoch: Optional[int]  # pinned, or acknowledged last


class Snapshot(NamedTuple):
    """A copy of a committed state."""

    epoch: int
    token: int
    state: bytes


class PastEpoch(NamedTuple):
    """An old epoch, from the journal."""

    epoch: int
    token: int
    state: bytes
    digest: int  # XXH64 of the state
    chain: int
    proposer_slot: Optional[int]
    proposer_generation: Optional[int]
    forced: bool


class Straggler(NamedTuple):
    """A participant that has not acknowledged an epoch."""

    slot: int
    generation: int
    pid: int
    name: str
    condition: str  # "running", "stopped", "dead", "parked"
    acknowledged: Optional[int]
    pinned: Optional[int]


class Ticket(NamedTuple):
    """An accepted transition that may not be visible yet: for ``Participant.await_``."""

    epoch: int
    unchanged: bool = False  # of an update that returned None: `epoch` is what it was given


class Change(NamedTuple):
    """Something was committed: ``epoch`` is the newest, and ``skipped`` of those before it were
    not reported one by one."""

    epoch: int
    skipped: int


class Contribution(NamedTuple):
    """One part of a collective commit."""

    slot: int
    data: bytes


class Proposal(NamedTuple):
    """What a validator is asked about."""

    epoch: int  # what it would become
    ballot: int  # names this attempt
    token: int
    proposer: str
    state: bytes
    fence: bool


class Answer(NamedTuple):
    """What a validator says: made by ``accept()``, ``reject(reason)``, ``later()``."""

    verdict: int
    reason: str


_REJECT, _ACCEPT, _LATER = 0, 1, 2


def accept() -> Answer:
    """Agrees."""
    return Answer(_ACCEPT, "")


def reject(reason: str = "") -> Answer:
    """Refuses; the proposer is told why."""
    return Answer(_REJECT, reason)


def later() -> Answer:
    """The answer comes by ``Participant.vote(ballot, answer)``."""
    return Answer(_LATER, "")


class Shard(NamedTuple):
    """A file of a checkpoint."""

    rank: int
    name: str
    size: int  # bytes
    digest: bytes  # XXH3-128; its hex() is what `xxhsum -H2` prints


class CheckpointInfo(NamedTuple):
    """What a manifest says."""

    step: int
    epoch: int  # of the manifest
    attempt: int  # with the step, the folder's name
    files: int
    size: int  # of all files, bytes
    directory: str
    world: int
    pruned: bool


class CheckpointList(NamedTuple):
    """What lies in a directory of checkpoints."""

    checkpoints: List[CheckpointInfo]  # oldest first
    damage: List[str]  # of the journal of manifests
    stagings: List[str]  # folders that no manifest names, of dead ranks
    stagings_live: List[str]  # those that a living rank works in


class PruneResult(NamedTuple):
    """What was pruned; newest first."""

    kept: List[CheckpointInfo]
    removed: List[CheckpointInfo]
    in_use: List[CheckpointInfo]
    damaged: List[CheckpointInfo]
    problems: List[str]
    cleaned: List[str]
