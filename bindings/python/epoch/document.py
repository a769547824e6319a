"""States that are one value: JSON, or what a codec makes of the bytes."""

from __future__ import annotations

import copy
import importlib
import json
import pickle
from typing import TYPE_CHECKING, Any, Callable, Dict, Final, Iterable, NamedTuple, Optional, Tuple

from .errors import Conflict, EpochError, Invalid

if TYPE_CHECKING:
    from .participant import Participant

__all__ = ["Codec", "Document", "JSON", "NO_CHANGE", "PICKLE"]


class _NoChange:
    def __repr__(self) -> str:
        return "epoch.NO_CHANGE"


# What the function of Document.update returns to leave everything as it is.
NO_CHANGE: Final = _NoChange()


class Codec(NamedTuple):
    """How a value becomes bytes, and back. An empty state is the value None."""

    name: str
    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]


def _to_json(value: Any) -> bytes:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        encoded = text.encode()
    except UnicodeEncodeError as error:
        raise Invalid(
            "the value is no JSON: it has text with a lone surrogate, which UTF-8 cannot hold; "
            "nothing was changed"
        ) from error
    except ValueError as error:
        raise Invalid(f"the value is no JSON: {error}; nothing was changed") from error
    _refuse_keys_twice(value)
    return encoded


def _refuse_keys_twice(value: Any) -> None:
    """json writes the key 1 as "1", beside another "1" if there is one: one would be lost."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            if not set(map(type, one)) <= {str}:
                written = json.loads(json.dumps(dict.fromkeys(one)))
                if len(written) != len(one):
                    raise Invalid(
                        "the value is no JSON: two keys of an object are the same text (1 and "
                        '"1", say); nothing was changed'
                    )
            left.extend(each for each in one.values() if isinstance(each, (dict, list, tuple)))
        elif isinstance(one, (list, tuple)):
            left.extend(each for each in one if isinstance(each, (dict, list, tuple)))


JSON = Codec("JSON", json.loads, _to_json)
PICKLE = Codec("pickle", pickle.loads, pickle.dumps)


class Document:
    """The state of a region as one value, read whole and replaced whole.

    The options of update, patch and set are those of Participant.commit.
    """

    __slots__ = ("_participant", "_codec")

    def __init__(self, participant: Participant, codec: Codec) -> None:
        self._participant = participant
        self._codec = codec

    @property
    def value(self) -> Any:
        """What is committed; None: nothing is yet. A value of its own, each time."""
        return self.read()[0]

    def read(self) -> Tuple[Any, int]:
        """The committed value, and its epoch: for set(..., expected=epoch)."""
        with self._participant.pin() as pin:
            return self._decoded(bytes(pin)), pin.epoch

    def set(self, value: Any, **options: Any) -> int:
        """Commits `value`. Returns its epoch."""
        return self._participant.commit(self._codec.encode(value), **options)

    def update(self, function: Callable[[Any], Any], **options: Any) -> int:
        """Commits what `function` makes of the newest value: it changes it in place and returns
        None, or returns another one, or NO_CHANGE. It is called again if another transition came
        first, and what it raises ends the update with nothing changed. Returns the epoch."""

        def run(state: bytes, epoch: int) -> Optional[bytes]:
            value = self._decoded(state)
            result = function(value)
            if result is NO_CHANGE:
                return None
            if result is None or result is value:
                return self._codec.encode(value)
            # `lambda d: d.pop("x")` is an accident that would replace the document.
            if state and self._codec.encode(value) != self._codec.encode(self._decoded(state)):
                raise Invalid(
                    "the update changed the document in place, and returned another one: return "
                    "None, or the new document; nothing was changed"
                )
            return self._codec.encode(result)

        return self._participant.update(run, **options)

    def patch(self, operations: Iterable[Dict[str, Any]], **options: Any) -> int:
        """Applies a JSON patch (RFC 6902), whole or not at all. Conflict: a "test" in it failed;
        Invalid: it cannot be applied. Needs the package jsonpatch. Returns the epoch."""
        jsonpatch = _jsonpatch()
        try:
            # As it is now: the caller may change it, or another thread.
            patch = [_unshared(operation) for operation in operations]
            jsonpatch.JsonPatch(patch)
        except Exception as error:
            raise Invalid(f"this is no patch: {error}; nothing was changed") from error

        def run(state: bytes, epoch: int) -> bytes:
            value = self._decoded(state)
            try:
                for operation in patch:
                    # jsonpatch puts the very value of an operation into the document, where a
                    # later one may change it: each run has its own.
                    value = _applied(jsonpatch, _unshared(operation), value)
            except _TestFailed as error:
                conflict = Conflict(
                    f"a test of the patch failed at epoch {epoch}: {error}; nothing was changed"
                )
                conflict.actual = epoch
                raise conflict from error
            except Exception as error:  # of jsonpatch, or what it stumbled over
                raise Invalid(
                    f"the patch cannot be applied at epoch {epoch}: {error}; nothing was changed"
                ) from error
            return self._codec.encode(value)

        return self._participant.update(run, **options)

    def _decoded(self, state: bytes) -> Any:
        return self._codec.decode(state) if state else None

    def __repr__(self) -> str:
        return f"<epoch.Document ({self._codec.name}) of {self._participant!r}>"


class _TestFailed(Exception):
    """Of an operation "test"."""


def _applied(jsonpatch: Any, operation: Dict[str, Any], value: Any) -> Any:
    if operation["op"] != "test":
        return jsonpatch.JsonPatch([operation]).apply(value, in_place=True)
    path = operation["path"]
    expected = operation["value"]
    try:
        found = jsonpatch.JsonPointer(path).resolve(value)
    except jsonpatch.JsonPointerException as error:
        raise _TestFailed(str(error)) from error
    if not _same(found, expected):
        raise _TestFailed(f"{path!r} is {found!r}, not {expected!r}")
    return value


def _same(one: Any, other: Any) -> bool:
    """Whether two values are the same in JSON, where true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _unshared(value: Any) -> Any:
    """A copy, no part of which is in it twice."""
    if isinstance(value, dict):
        return {key: _unshared(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_unshared(each) for each in value]
    return copy.deepcopy(value)


def _jsonpatch() -> Any:
    try:
        return importlib.import_module("jsonpatch")  # which has no types
    except ImportError as error:
        raise EpochError(
            "patch() needs the Python package jsonpatch (Debian: python3-jsonpatch); "
            "update() does without"
        ) from error
