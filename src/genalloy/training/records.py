"""JSON records beside a run's tensors: read strictly, so that a damaged one is a line that names the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def parse_json(text: str | bytes, constants: Callable[[str], Any] = float) -> dict[str, Any]:
    """An object of JSON. constants: what NaN and the infinities become. Raises ValueError saying, in one line, what is wrong."""
    try:
        decoded = text.decode("utf-8") if isinstance(text, bytes) else text
        record = json.loads(decoded, object_pairs_hook=_unique, parse_constant=constants)
    except RecursionError:
        record = "brackets nested too deep"
    if not isinstance(record, dict):
        raise ValueError(f"found {str(record)[:40]!r}, expected a JSON object")
    return record


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return record


WRITTEN = "expected what `genalloy fit --out` wrote there"


def read_json(path: Path, remedy: str = WRITTEN) -> dict[str, Any]:
    """The object that a JSON file holds. Raises ValueError naming file and remedy where it is missing or holds anything else."""
    return sound(path, lambda: parse_json(path.read_bytes()), remedy)


def read_record(path: Path, build: Callable[[dict[str, Any]], T]) -> T:
    """`build` of a JSON file's object. Raises ValueError naming the file where it is missing, damaged, or `build` fails on it."""
    return sound(path, lambda: build(parse_json(path.read_bytes())))


def sound(path: Path, build: Callable[[], T], remedy: str = WRITTEN) -> T:
    """`build()`, whatever goes wrong in it told in one line that names the file and the remedy."""
    try:
        return build()
    except Exception as error:
        reason = in_words(error)
    raise ValueError(f"{path} cannot be read: {reason}; {remedy}")


def in_words(error: Exception) -> str:
    """The first line of an error, with its type where that says more."""
    line = (str(error).strip().splitlines() or [""])[0][:300]
    named = type(error) in (ValueError, OSError)
    return line if named and line else f"{type(error).__name__} {line}".strip()


def of_record(cls: type[T], record: Any) -> T:
    """A dataclass from a record of its fields. Raises ValueError on a field that is unknown, missing or of another type."""
    if not isinstance(record, dict):
        raise ValueError(f"found {str(record)[:40]!r}, expected the fields of {cls.__name__}")
    hints = get_type_hints(cls)
    for name, value in record.items():
        if not _fits(value, hints.get(name)):
            raise ValueError(f"found {name[:40]!r} = {str(value)[:60]!r}, no entry of {cls.__name__}")
    return cls(**record)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a JSON value has the annotated type; an unknown field has None."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any or hint is None:
        return hint is Any
    if origin in (Union, UnionType):
        return any(_fits(value, h) for h in inner)
    if hint is type(None):
        return value is None
    if origin in (list, tuple):
        return isinstance(value, (list, tuple)) and all(_fits(v, inner[0]) for v in value)
    if isinstance(value, bool) or hint is bool:
        return isinstance(value, bool) and hint is bool
    return isinstance(value, (int, float) if hint is float else origin or hint)
