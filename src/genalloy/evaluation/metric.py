"""A number with its error and its making, or the reason why there is none; nothing in between."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor

FEWEST = 20
"""Rows below which no sample metric is given."""


@dataclass(frozen=True)
class Metric:
    """value, its standard error (None where none is known), the number of rows behind it, how it was made.

    low, high: ends of a 95 % interval where they are known and are not value -+ 2 stderr (bootstrap, ratios).
    """

    value: float
    stderr: float | None
    n: int
    how: str
    low: float | None = None
    high: float | None = None

    def to_json(self) -> dict[str, Any]:
        """value, stderr, n, how, low, high."""
        return asdict(self)

    def named(self, name: str) -> Metric:
        """The same number with `name` in front of how it was made."""
        return replace(self, how=f"{name}: {self.how}")

    def __str__(self) -> str:
        error = "" if self.stderr is None else f" +- {self.stderr:.2g}"
        return f"{self.value:.4g}{error} (n = {self.n:,}; {self.how})"


@dataclass(frozen=True)
class Missing:
    """There is no number, and why."""

    reason: str

    def to_json(self) -> dict[str, Any]:
        """missing: the reason."""
        return {"missing": self.reason}

    def named(self, name: str) -> Missing:
        """Itself: a reason needs no name."""
        return self

    def __str__(self) -> str:
        return f"n/a ({self.reason})"


Result = Metric | Missing
Panel = dict[str, Result]


def mean_of(values: Tensor, how: str) -> Metric:
    """Mean of (N,) values with the standard error over them."""
    n = len(values)
    spread = values.double().std().item() if n > 1 else math.nan
    return Metric(values.double().mean().item(), spread / math.sqrt(n) if n > 1 else None, n, how)


def validate(needed: int, sets: dict[str, Tensor]) -> Missing | None:
    """Missing if any named set (N, ...) has fewer than `needed` rows or rows that are not finite (counted)."""
    for name, rows in sets.items():
        if len(rows) < needed:
            return Missing(f"needs at least {needed:,} {name}; found {len(rows):,}")
        bad = int((~rows.reshape(len(rows), -1).isfinite()).any(1).sum())
        if bad:
            return Missing(f"{bad:,} of {len(rows):,} {name} are not finite")
    return None
