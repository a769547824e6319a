"""Regions: opened by name, picklable by path."""

from __future__ import annotations

import os
from typing import Any, Callable, List, Optional, Tuple, Union

from . import _epoch
from .errors import NotFound
from .participant import Participant
from .types import Straggler

__all__ = ["Region", "create", "open", "restore", "unlink"]

Name = Union[str, bytes, "os.PathLike[str]", "os.PathLike[bytes]"]

# The last one there can be: nobody has acknowledged it.
_NO_EPOCH_YET = (1 << 48) - 1


class Region(_epoch.Region):
    """A region that is mapped: where participants meet. Any threads.

    Pickled, it is its path: another process that unpickles it opens that region. So it may be an
    argument of a process's target, whatever the start method is.
    """

    __slots__ = ("__weakref__",)

    def join(
        self,
        name: str = "",
        *,
        voter: bool = False,
        acknowledges_by_hand: bool = False,
        window: int = 0,
    ) -> Participant:
        """Takes a slot. Raises Exhausted (all taken: by whom), Invalid (the name has more than 63
        bytes), Denied (the region is open to look only).

        voter: counts in transitions that are voted on. window: so many of its proposals may be
        accepted and not durable yet; 0: as many as the region has versions for.
        """
        return Participant._join(
            self, name, voter=voter, acknowledges_by_hand=acknowledges_by_hand, window=window
        )

    def participants(self) -> List[Straggler]:
        """Everybody who is in, whether behind or not; with those who are dead and not reaped."""
        return self.stragglers(_NO_EPOCH_YET)

    def __reduce__(self) -> Tuple[Callable[..., Region], Tuple[Any, ...]]:
        return _reopen, (self.path, self.journal, self.read_only, self.trust_other_owners)

    def __repr__(self) -> str:
        return f"<epoch.Region {self.path!r} at epoch {self.epoch}>"


def _open(how: str, name: Name, **options: Any) -> Region:
    """By a path that leads there from any directory: this process may go to another one, and who
    unpickles the region may be in one."""
    path = os.fsdecode(name)
    if "/" in path:
        path = os.path.join(os.getcwd(), path)
    return Region._open(how, path, **options)


def _reopen(path: str, journal: Optional[str], read_only: bool, trust: bool) -> Region:
    return Region._open(
        "open", path, journal=journal, read_only=read_only, trust_other_owners=trust
    )


def open(
    name: Name,
    *,
    journal: Optional[Name] = None,
    state_bytes: Optional[int] = None,
    participants: Optional[int] = None,
    versions: Optional[int] = None,
    history: Optional[str] = None,
    segment_bytes: Optional[int] = None,
    retain_epochs: Optional[int] = None,
    retain_segments: Optional[int] = None,
    mode: Optional[int] = None,
    timeout: Optional[float] = None,
    create: bool = True,
    read_only: bool = False,
    trust_other_owners: bool = False,
    ignore_block_damage: bool = False,
) -> Region:
    """Opens a region; makes it anew from its journal, or creates it, if it is not there.

    name: a name, or a path if it has a slash. journal: a directory; with it the region is durable.
    state_bytes: the largest state (64 KiB). participants: slots (64). versions: states in use at a
    time (128). history: "all" epochs or the "latest" of each batch are kept. timeout: seconds to
    wait for processes that still hold the journal (10). mode: permission bits (0o600).
    create=False, read_only=True: an existing region only, else NotFound. Blocking: on files.
    """
    return _open(
        "open_or_create" if create and not read_only else "open",
        name,
        journal=journal,
        state_bytes=state_bytes,
        participants=participants,
        versions=versions,
        history=history,
        segment_bytes=segment_bytes,
        retain_epochs=retain_epochs,
        retain_segments=retain_segments,
        mode=mode,
        timeout=timeout,
        read_only=read_only,
        trust_other_owners=trust_other_owners,
        ignore_block_damage=ignore_block_damage,
    )


def create(
    name: Name,
    *,
    journal: Optional[Name] = None,
    state_bytes: Optional[int] = None,
    participants: Optional[int] = None,
    versions: Optional[int] = None,
    history: Optional[str] = None,
    segment_bytes: Optional[int] = None,
    retain_epochs: Optional[int] = None,
    retain_segments: Optional[int] = None,
    mode: Optional[int] = None,
    trust_other_owners: bool = False,
) -> Region:
    """Creates a region; Exists if there is one. The options are those of open()."""
    return _open(
        "create",
        name,
        journal=journal,
        state_bytes=state_bytes,
        participants=participants,
        versions=versions,
        history=history,
        segment_bytes=segment_bytes,
        retain_epochs=retain_epochs,
        retain_segments=retain_segments,
        mode=mode,
        trust_other_owners=trust_other_owners,
    )


def restore(
    name: Name,
    *,
    journal: Name,
    participants: Optional[int] = None,
    versions: Optional[int] = None,
    mode: Optional[int] = None,
    timeout: Optional[float] = None,
    trust_other_owners: bool = False,
    ignore_block_damage: bool = False,
) -> Region:
    """Makes a region anew from its journal, after a reboot say. The options are those of open()."""
    return _open(
        "restore",
        name,
        journal=journal,
        participants=participants,
        versions=versions,
        mode=mode,
        timeout=timeout,
        trust_other_owners=trust_other_owners,
        ignore_block_damage=ignore_block_damage,
    )


def unlink(name: Name, *, missing_ok: bool = False) -> None:
    """Removes a region's name; who is in the region stays in it. A journal stays."""
    try:
        _epoch.unlink(name)
    except NotFound:
        if not missing_ok:
            raise
