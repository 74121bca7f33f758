r"""Verdicts that can fail. A claim compares means over seeds: with means m, standard errors s over at least three seeds,

.. math:: A \text{ better than } B \iff \pm(m_A - m_B) > 2 \sqrt{s_A^2 + s_B^2},

refuted where the sign is reversed, and "not separated" in between. Two rows that are measured of the *same* trained runs are
compared seed by seed: s is then the standard error of the differences. Claims about a log-density use its certified side only:
A needs a lower end (EXACT, LOWER, UNBIASED); where B is itself a lower bound the words say that bounds were compared.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from statistics import stdev

from genalloy.core.spec import Value

SEEDS = 3
ERRORS = 2.0
CERTIFIED = ("EXACT", "LOWER", "UNBIASED")


class Outcome(Enum):
    """What became of a claim."""

    HOLDS = "holds"
    FAILS = "fails"
    OPEN = "not separated"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True)
class Verdict:
    """The outcome, and the numbers behind it in a sentence."""

    outcome: Outcome
    words: str


@dataclass(frozen=True)
class Score:
    """A row's number in a column: mean over `seeds` runs (0: nothing was trained), its error, its label.

    sign: +1 where high is better, -1 where low is, 0 where neither. each: the value at each seed. runs: the trained runs that
    it was measured of.
    """

    value: float
    stderr: float | None
    seeds: int
    sign: float
    kind: str | None = None
    each: tuple[float, ...] = ()
    runs: tuple[str, ...] = ()

    @property
    def missing(self) -> str:
        """Why no claim can rest on it; empty where one can."""
        if 0 < self.seeds < SEEDS:
            return f"needs at least {SEEDS} seeds; found {self.seeds}"
        return "" if math.isfinite(self.value) else "not finite"

    def __str__(self) -> str:
        label = f" {self.kind}" if self.kind else ""
        error = "" if self.stderr is None else f" \u00b1 {self.stderr:.2g}"
        return f"{self.value:.4g}{error}{label}"


Results = Mapping[str, Mapping[str, Score]]
"""Row's name to column to score."""


class Check(Value, ABC):
    """A claim about results."""

    @abstractmethod
    def __call__(self, results: Results) -> Verdict:
        """Holds, fails, is not separated, or cannot be decided yet."""


def _find(results: Results, name: str, column: str) -> Score | str:
    score = results.get(name, {}).get(column)
    if score is None:
        return f"{name} has no {column}"
    return f"{name}'s {column}: {score.missing}" if score.missing else score


def _error_of_difference(a: Score, b: Score) -> float:
    if not a.runs or a.runs != b.runs or len(a.each) != len(b.each):
        return math.hypot(a.stderr or 0.0, b.stderr or 0.0)
    n = len(a.each)
    return stdev(x - y for x, y in zip(a.each, b.each, strict=True)) / math.sqrt(n)


def _said(column: str) -> str:
    return column.replace("_", " ")


def _decide(gap: float, error: float, words: str) -> Verdict:
    """Whether a gap is above zero, beyond its errors."""
    outcome = Outcome.HOLDS if gap > ERRORS * error else Outcome.FAILS if gap < -ERRORS * error else Outcome.OPEN
    return Verdict(outcome, words)


@dataclass(frozen=True)
class Better(Check):
    """`a` is better than `b` in `column` by more than `margin` (in the column's unit, negative: no worse by that much)."""

    a: str
    b: str
    column: str
    margin: float = 0.0

    def __call__(self, results: Results) -> Verdict:
        a, b = _find(results, self.a, self.column), _find(results, self.b, self.column)
        for found in (a, b):
            if not isinstance(found, Score):
                return Verdict(Outcome.INCOMPLETE, found)
        assert isinstance(a, Score) and isinstance(b, Score)
        if a.kind is not None and (a.kind not in CERTIFIED or b.kind in ("ESTIMATE", "NONE", None)):
            return Verdict(Outcome.INCOMPLETE, f"{self.a} ({a.kind}) and {self.b} ({b.kind}) cannot be ranked")
        error = _error_of_difference(a, b)
        gap = a.sign * (a.value - b.value) - self.margin
        by = "" if not self.margin else f", by {self.margin:g}" if self.margin > 0 else f", to within {-self.margin:g}"
        bounds = "; both are lower bounds, and it is the bounds that are compared" if b.kind == "LOWER" else ""
        verdict = _decide(gap, error, f"{_said(self.column)}{by}: {self.a} {a}, {self.b} {b}{bounds}")
        if verdict.outcome is Outcome.FAILS and a.kind == "LOWER" and b.kind != "LOWER":
            return Verdict(Outcome.OPEN, f"{verdict.words}; a lower bound refutes nothing")
        return verdict


@dataclass(frozen=True)
class Between(Check):
    """The value of a row lies between `low` and `high`, beyond its errors."""

    a: str
    column: str
    low: float = -math.inf
    high: float = math.inf

    def __call__(self, results: Results) -> Verdict:
        a = _find(results, self.a, self.column)
        if not isinstance(a, Score):
            return Verdict(Outcome.INCOMPLETE, a)
        gap = min(a.value - self.low, self.high - a.value)
        sides = (("at least", self.low), ("at most", self.high))
        limits = " and ".join(f"{word} {end:g}" for word, end in sides if math.isfinite(end))
        return _decide(gap, a.stderr or 0.0, f"{_said(self.column)}: {self.a} {a}, expected {limits}")


@dataclass(frozen=True)
class AllOf(Check):
    """Every part of a claim; the weakest decides."""

    parts: tuple[Check, ...]

    def __call__(self, results: Results) -> Verdict:
        found = [part(results) for part in self.parts]
        for outcome in (Outcome.INCOMPLETE, Outcome.FAILS, Outcome.OPEN):
            if any(v.outcome is outcome for v in found):
                return Verdict(outcome, _sentences(found))
        return Verdict(Outcome.HOLDS, _sentences(found))


def _sentences(found: list[Verdict]) -> str:
    return "; ".join(f"{v.words} ({v.outcome.value})" for v in found)
