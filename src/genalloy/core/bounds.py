"""What a setting may be: kinds of values with their bounds, read from text and checked in one way everywhere. Needs no torch."""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real
from typing import Any

SHOWN = 60
"""Characters of a refused value that its error shows."""


@dataclass(frozen=True)
class Bounds(ABC):
    """A set of values. `str` says it in words."""

    @abstractmethod
    def plain(self, value: Any) -> Any:
        """The value as a plain Python one. Raises ValueError or TypeError where it is not of the set."""

    def read(self, text: str) -> Any:
        """What a text on the command line stands for; the text itself where it stands for nothing."""
        return text

    def holds(self, value: Any) -> bool:
        """Whether the value is of the set."""
        try:
            self.plain(value)
        except (ValueError, TypeError, OverflowError):
            return False
        return True

    def check(self, name: str, value: Any) -> Any:
        """The value as a plain Python one. Raises ValueError, naming it, where it is not of the set."""
        try:
            return self.plain(value)
        except (ValueError, TypeError, OverflowError):
            raise ValueError(f"found {name}={shown(value)}, expected {self}") from None


@dataclass(frozen=True)
class Whole(Bounds):
    """Whole numbers from low to high; Python's and NumPy's integers, no booleans."""

    low: int
    high: int

    def plain(self, value: Any) -> int:
        """The value as an int. Raises TypeError for booleans and what is no integer, ValueError outside low..high."""
        number = operator.index(_no_switch(value))
        if not self.low <= number <= self.high:
            raise ValueError
        return number

    def read(self, text: str) -> Any:
        """The int that a text stands for; the text itself where it is none."""
        return _as(int, text)

    def __str__(self) -> str:
        return f"a whole number from {self.low:,} to {self.high:,}"


@dataclass(frozen=True)
class Number(Bounds):
    """Finite numbers from low (above it, where `above`) to high; no booleans."""

    low: float
    high: float
    above: bool = False

    def plain(self, value: Any) -> float:
        """The value as a float. Raises TypeError for booleans and what is no real number, ValueError outside the bounds."""
        if not isinstance(_no_switch(value), Real):
            raise TypeError
        number = float(value)
        if not (math.isfinite(number) and self.low <= number <= self.high) or (self.above and number == self.low):
            raise ValueError
        return number

    def read(self, text: str) -> Any:
        """The float that a text stands for; the text itself where it is none."""
        return _as(float, text)

    def __str__(self) -> str:
        return f"a number {'above' if self.above else 'from'} {self.low:g} {'and up ' if self.above else ''}to {self.high:,.9g}"


@dataclass(frozen=True)
class Switch(Bounds):
    """True or false; on the command line also yes and no, in any case."""

    def plain(self, value: Any) -> bool:
        """The value as a bool. Raises TypeError for anything but Python's and NumPy's booleans."""
        if type(value).__name__ not in ("bool", "bool_"):
            raise TypeError
        return bool(value)

    def read(self, text: str) -> Any:
        """True for true and yes, False for false and no, in any case; otherwise the text itself."""
        return {"true": True, "yes": True, "false": False, "no": False}.get(text.lower(), text)

    def __str__(self) -> str:
        return "true or false"


@dataclass(frozen=True)
class Choice(Bounds):
    """One of some words."""

    words: tuple[str, ...]

    def plain(self, value: Any) -> str:
        """The word. Raises ValueError where it is none of them."""
        if not isinstance(value, str) or value not in self.words:
            raise ValueError
        return str(value)

    def __str__(self) -> str:
        return "one of " + ", ".join(word or "''" for word in self.words)


@dataclass(frozen=True)
class Text(Bounds):
    """Any text but an empty one, without the zero character, which no file's name holds."""

    def plain(self, value: Any) -> str:
        """The text. Raises ValueError where it is empty, no text, or holds the zero character."""
        if not isinstance(value, str) or not value or "\0" in value:
            raise ValueError
        return str(value)

    def __str__(self) -> str:
        return "a text"


@dataclass(frozen=True)
class Maybe(Bounds):
    """The same or None, which leaves the choice to the program."""

    inner: Bounds

    def plain(self, value: Any) -> Any:
        """None, or what the inner bounds make of the value; raises what they raise."""
        return None if value is None else self.inner.plain(value)

    def read(self, text: str) -> Any:
        """None for none and null, in any case, unless the inner bounds hold such a word; otherwise what these read."""
        value = self.inner.read(text)
        return None if text.lower() in ("none", "null") and not self.inner.holds(value) else value

    def __str__(self) -> str:
        return f"{self.inner}, or none"


def shown(value: Any) -> str:
    """A refused value in one short line."""
    try:
        words = " ".join(repr(value).split())
    except Exception:  # a stranger's repr, or an integer of more digits than Python prints
        words = f"a {type(value).__name__}"
    return words if len(words) <= SHOWN else words[: SHOWN - 3] + "..."


def listed(option: str, text: str, known: Iterable[str] = ()) -> tuple[str, ...]:
    """A comma-separated list. Raises ValueError on an empty or repeated item, or one that is not `known`, where that is given."""
    items, choices = tuple(item.strip() for item in text.split(",")), tuple(known)
    for index, item in enumerate(items):
        if not item or item in items[:index]:
            raise ValueError(f"found {option} {shown(text)} with {'an empty' if not item else 'a repeated'} item, expected A,B,C")
        if choices and item not in choices:
            raise ValueError(f"found {option} {shown(item)}, expected one of {', '.join(choices)}")
    return items


def _no_switch(value: Any) -> Any:
    if type(value).__name__ in ("bool", "bool_"):
        raise TypeError
    return value


def _as(kind: type, text: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        return text
