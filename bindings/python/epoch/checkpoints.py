"""Checkpoints of many ranks: all shards of one step, verified, or none."""

from __future__ import annotations

import operator
import os
from typing import List, NamedTuple, Optional, Union

from . import _epoch
from .types import CheckpointInfo, CheckpointList, PruneResult

__all__ = ["Checkpoints", "NewestGood", "Rank", "checkpoints"]

Path = Union[str, bytes, "os.PathLike[str]", "os.PathLike[bytes]"]


class Rank(_epoch.Rank):
    """One of the ranks that make checkpoints together: ``rank`` of 0 to ``world`` - 1.

    Opens the directory, making it if its parent is there. region: where the ranks meet; None: a
    name made from the directory's identity. take_over: expel a living process that has this rank.
    timeout: seconds to wait for processes that still hold the journal (10). Blocking: on files.
    """

    __slots__ = ()

    def __new__(
        cls,
        directory: Path,
        *,
        rank: int,
        world: int,
        region: Optional[Path] = None,
        mode: Optional[int] = None,
        take_over: bool = False,
        timeout: Optional[float] = None,
    ) -> Rank:
        return cls._join(
            directory,
            rank=rank,
            world=world,
            region=region,
            mode=mode,
            take_over=take_over,
            timeout=timeout,
        )


class NewestGood(NamedTuple):
    """The newest checkpoint of which every byte was verified, and what was passed over."""

    checkpoint: _epoch.Checkpoint
    passed_over: List[CheckpointInfo]  # damaged ones that were newer
    problems: List[str]  # what is wrong with them


class Checkpoints:
    """A directory of checkpoints, read. Takes no part, and waits for nobody."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def open_latest(self) -> _epoch.Checkpoint:
        """The newest one; every shard is verified. NotFound, DataLoss."""
        return _epoch.checkpoint_open(self.directory)[0]

    def open_step(self, step: int) -> _epoch.Checkpoint:
        """The newest one of that step; every shard is verified. NotFound, DataLoss."""
        return _epoch.checkpoint_open(self.directory, step=operator.index(step))[0]

    def open_newest_good(self) -> NewestGood:
        """Goes from the newest one back to the first that is good."""
        return NewestGood(*_epoch.checkpoint_open(self.directory, good=True))

    def list(self) -> CheckpointList:
        """All that the manifests tell, and what lies about."""
        return CheckpointList(*_epoch.checkpoints_list(self.directory))

    def verify(self, step: int) -> List[str]:
        """All problems of the newest checkpoint of that step; none: it is good."""
        return _epoch.checkpoints_verify(self.directory, step)

    def prune(
        self, keep: int = 1, *, remove_damaged: bool = False, dry_run: bool = False
    ) -> PruneResult:
        """Removes checkpoints that are older than the newest `keep` good ones, and cleans up."""
        return PruneResult(
            *_epoch.checkpoints_prune(
                self.directory, keep=keep, remove_damaged=remove_damaged, dry_run=dry_run
            )
        )

    def clean_up(self) -> List[str]:
        """Removes abandoned stagings. Returns their folders."""
        return _epoch.checkpoints_clean_up(self.directory)

    def __repr__(self) -> str:
        return f"<epoch.Checkpoints {os.fsdecode(self.directory)!r}>"


def checkpoints(directory: Path) -> Checkpoints:
    """The checkpoints in a directory."""
    return Checkpoints(directory)
