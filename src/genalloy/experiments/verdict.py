r"""Verdicts that can fail. A claim compares means over seeds: with means m, standard errors s over at least three seeds,

.. math:: A \text{ better than } B \iff \pm(m_A - m_B) > 2 \sqrt{s_A^2 + s_B^2},

refuted where the sign is reversed, and "not separated" in between. Two rows that are measured of the *same* trained runs are
compared seed by seed: s is then the standard error of the differences. Claims about a log-density use its bounds only:
A needs a lower bound (EXACT, LOWER, UNBIASED); where B is itself a lower bound the words say that bounds were compared.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from statistics import stdev

from genalloy.core.evidence import Kind
from genalloy.core.schema import ERRORS, Number, Outcome, Verdict, absent
from genalloy.core.spec import Value

SEEDS = 3
BOUNDED_BELOW = (Kind.EXACT, Kind.LOWER, Kind.UNBIASED)


@dataclass(frozen=True)
class Results:
    """What a claim is about: numbers by row and column, a column's direction (1 where high is better, -1 where low is, 1 where
    the table has no such column), and the trained runs that a row's numbers are of; a row without was not trained.
    """

    numbers: Mapping[str, Mapping[str, Number]]
    signs: Mapping[str, float] = field(default_factory=dict)
    runs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def find(self, name: str, column: str) -> Number:
        """A number that a claim can rest on; otherwise its absence, with the reason in words."""
        number = self.numbers.get(name, {}).get(column)
        if number is None:
            return absent(f"{name} has no {column}")
        seeds = len(number.dots) or 1
        if name in self.runs and seeds < SEEDS:
            return absent(f"{name}'s {column}: needs at least {SEEDS} seeds; found {seeds}")
        return number if number.known else absent(f"{name}'s {column}: not finite")


class Check(Value, ABC):
    """A claim about results."""

    @abstractmethod
    def __call__(self, results: Results) -> Verdict:
        """Holds, fails, is not separated, or cannot be decided yet."""


def _error_of_difference(results: Results, names: tuple[str, str], a: Number, b: Number) -> float:
    """Of the differences by seed where both rows are measured of the same runs, otherwise of two independent means."""
    first, second = (results.runs.get(name) for name in names)
    if not first or first != second or len(a.dots) != len(b.dots) or len(a.dots) < 2:
        return math.hypot(a.stderr or 0.0, b.stderr or 0.0)
    return stdev(x - y for x, y in zip(a.dots, b.dots, strict=True)) / math.sqrt(len(a.dots))


def _quoted(number: Number) -> str:
    error = "" if number.stderr is None else f" \u00b1 {number.stderr:.2g}"
    return f"{number.value:.4g}{error}" + (f" {number.kind.value}" if number.kind else "")


def _spoken(column: str) -> str:
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
        a, b = results.find(self.a, self.column), results.find(self.b, self.column)
        for number in (a, b):
            if not number.known:
                return Verdict(Outcome.INCOMPLETE, number.missing)
        if a.kind is not None and (a.kind not in BOUNDED_BELOW or b.kind in (Kind.ESTIMATE, Kind.NONE, None)):
            kinds = [number.kind.value if number.kind else "no label" for number in (a, b)]
            return Verdict(Outcome.INCOMPLETE, f"{self.a} ({kinds[0]}) and {self.b} ({kinds[1]}) cannot be ranked")
        error = _error_of_difference(results, (self.a, self.b), a, b)
        gap = results.signs.get(self.column, 1.0) * (a.value - b.value) - self.margin
        by = "" if not self.margin else f", by {self.margin:g}" if self.margin > 0 else f", to within {-self.margin:g}"
        bounds = "; both are lower bounds, and it is the bounds that are compared" if b.kind is Kind.LOWER else ""
        words = f"{_spoken(self.column)}{by}: {self.a} {_quoted(a)}, {self.b} {_quoted(b)}{bounds}"
        verdict = _decide(gap, error, words)
        if verdict.outcome is Outcome.FAILS and a.kind is Kind.LOWER and b.kind is not Kind.LOWER:
            return Verdict(Outcome.OPEN, f"{words}; a lower bound refutes nothing")
        return verdict


@dataclass(frozen=True)
class Between(Check):
    """The value of a row lies between `low` and `high`, beyond its errors."""

    a: str
    column: str
    low: float = -math.inf
    high: float = math.inf

    def __call__(self, results: Results) -> Verdict:
        a = results.find(self.a, self.column)
        if not a.known:
            return Verdict(Outcome.INCOMPLETE, a.missing)
        gap = min(a.value - self.low, self.high - a.value)
        sides = (("at least", self.low), ("at most", self.high))
        limits = " and ".join(f"{word} {end:g}" for word, end in sides if math.isfinite(end))
        return _decide(gap, a.stderr or 0.0, f"{_spoken(self.column)}: {self.a} {_quoted(a)}, expected {limits}")


@dataclass(frozen=True)
class AllOf(Check):
    """Every part of a claim; the weakest decides."""

    parts: tuple[Check, ...]

    def __call__(self, results: Results) -> Verdict:
        verdicts = tuple(part(results) for part in self.parts)
        outcomes = [verdict.outcome for verdict in verdicts]
        order = (Outcome.INCOMPLETE, Outcome.FAILS, Outcome.OPEN)
        whole = Verdict(next((o for o in order if o in outcomes), Outcome.HOLDS), parts=verdicts)
        return replace(whole, words=whole.whole)
