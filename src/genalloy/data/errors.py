"""The one error of this layer: data that cannot be used as it is."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class BadData(ValueError):
    """Data that cannot be used; one line says what was found, what was expected, and the next move."""


def nearest(word: str, choices: Iterable[object]) -> str:
    """``"; did you mean 'petal'?"`` when one of `choices` is close to `word`, else an empty string."""
    close = get_close_matches(word, [str(choice) for choice in choices], n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""
