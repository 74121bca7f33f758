r"""The label algebra: a log-density never travels without its claim.

A latent-variable model cannot say :math:`\log p(x)`; it can say a number whose expectation lies below it. Such
numbers are added, subtracted and averaged when models nest, and what may be claimed of the result follows from what
was claimed of the parts:

* a sum of lower bounds is a lower bound, :math:`-` turns a lower bound into an upper bound, a lower plus an upper
  bound claims nothing;
* :math:`\log \frac1k \sum_i e^{v_i}` of noisy :math:`v_i` is pushed upwards by the noise (Jensen), so a lower bound
  survives it only if each term is *proper*, :math:`\mathbb E\, e^{v} = p(x)` (Burda, Grosse & Salakhutdinov, 2016);
  upper bounds survive because log-sum-exp is convex and increasing.

Base measures behave like physical units. A density in three real coordinates has the measure ``lebesgue=3``; adding
log-densities adds the measures, subtracting subtracts them, and a sum whose units do not cancel (a prior over
integers under a posterior over reals) is an error rather than a number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Unavailable(ValueError):
    """A number that does not exist was asked for; the message says why, and what to ask for instead."""


class Kind(Enum):
    """What a log-density claims, in expectation over its own randomness.

    EXACT     value = log p(x).
    LOWER     E[value] <= log p(x).
    UPPER     E[value] >= log p(x).
    UNBIASED  E[value] = log p(x), but random (Russian roulette, exact trace identities with random probes).
    ESTIMATE  near log p(x), on an unknown side (solver tolerance, mixed bounds).
    NONE      there is no number.
    """

    EXACT = "EXACT"
    LOWER = "LOWER"
    UPPER = "UPPER"
    UNBIASED = "UNBIASED"
    ESTIMATE = "ESTIMATE"
    NONE = "NONE"

    def __add__(self, other: Kind) -> Kind:
        return _SUM[frozenset((self, other))]

    def __neg__(self) -> Kind:
        return {Kind.LOWER: Kind.UPPER, Kind.UPPER: Kind.LOWER}.get(self, self)

    @property
    def relation(self) -> str:
        """Sign between log p(x) and the value, read left to right: ``log p(x) >= value`` for LOWER."""
        return {Kind.EXACT: "=", Kind.LOWER: ">=", Kind.UPPER: "<=", Kind.NONE: "n/a"}.get(self, "~")


def _sum_table() -> dict[frozenset[Kind], Kind]:
    """Neutral elements first (EXACT, then UNBIASED beside bounds); NONE and then ESTIMATE absorb."""
    table = {}
    for a in Kind:
        for b in Kind:
            pair = frozenset((a, b))
            rest = pair - {Kind.EXACT}
            rest = rest - {Kind.UNBIASED} or rest
            if Kind.NONE in pair:
                table[pair] = Kind.NONE
            elif Kind.ESTIMATE in pair or len(rest) > 1:
                table[pair] = Kind.ESTIMATE
            else:
                table[pair] = next(iter(rest), Kind.EXACT)
    return table


_SUM = _sum_table()


class Rows(NamedTuple):
    """Rows that lack different numbers of entries: a unit that only the same rows share.

    fewest, most: observed entries of a row. key: what tells these rows from others, a hash of their numbers of entries.
    """

    fewest: int
    most: int
    key: int


@dataclass(frozen=True)
class Ragged:
    """A number of coordinates that differs between rows: `whole` of every row, and multiples of rows' observed entries.

    It adds and subtracts as a number does, and is a plain number again where the same rows cancel.
    """

    whole: int
    units: tuple[tuple[Rows, int], ...]

    def __add__(self, other: int | Ragged) -> int | Ragged:
        more = other if isinstance(other, Ragged) else Ragged(other, ())
        units = dict(self.units)
        for rows, number in more.units:
            units[rows] = units.get(rows, 0) + number
        left = tuple(sorted((rows, number) for rows, number in units.items() if number))
        return Ragged(self.whole + more.whole, left) if left else self.whole + more.whole

    __radd__ = __add__

    def __rmul__(self, sign: int) -> int | Ragged:
        return Ragged(sign * self.whole, tuple((rows, sign * number) for rows, number in self.units))

    @property
    def most(self) -> int:
        """The largest number that a row may have."""
        return self.whole + sum(number * rows.most for rows, number in self.units)

    def __str__(self) -> str:
        spans = (f"{'-' if n < 0 else ''}{abs(n) if abs(n) > 1 else ''}({r.fewest} to {r.most} observed)" for r, n in self.units)
        return " + ".join([*([str(self.whole)] if self.whole else []), *spans])


class Measure(NamedTuple):
    """Base measure of a density, as a unit: number of Lebesgue and of counting coordinates."""

    lebesgue: int | Ragged = 0
    counting: int | Ragged = 0

    def plus(self, other: Measure, sign: int = 1) -> Measure:
        """The sum of both measures; with sign -1 the difference."""
        return Measure(self.lebesgue + sign * other.lebesgue, self.counting + sign * other.counting)

    @property
    def pure(self) -> bool:
        """True unless one unit is owed while the other is held (units that did not cancel)."""
        reals, counts = (n if isinstance(n, int) else n.most for n in self)
        return reals * counts >= 0

    def __str__(self) -> str:
        parts = [f"{n} {name}" for n, name in zip(self, ("Lebesgue", "counting"), strict=True) if n]
        return " + ".join(parts) or "none"


NO_MEASURE = Measure()


def measure_over(dims: int | Ragged, discrete: bool) -> Measure:
    """Of `dims` coordinates, counting where they are discrete."""
    return Measure(0, dims) if discrete else Measure(dims, 0)


def lebesgue(dims: int) -> Measure:
    """Measure of a density over `dims` real coordinates."""
    return Measure(dims, 0)


def counting(dims: int) -> Measure:
    """Measure of a mass function over `dims` discrete coordinates."""
    return Measure(0, dims)


@dataclass(frozen=True)
class Evidence:
    r"""A log-density with its claim; ``+`` and ``-`` act on both at once.

    value: (\*S, \*B) nats. kind: what the value claims, see :class:`Kind`. how: "ELBO, 1 sample", printed beside the number.

    proper: from ``density()``: :math:`E\, e^{value} \le p(x)`; from ``draw()``: :math:`E[e^{-value} | sample] \le 1 / q(sample)`.
    Negation swaps the two. Sums stay proper only where the noises are independent given the hidden variables, which holds for
    nested parts that draw their own. Never true for UNBIASED and ESTIMATE.

    covers: whether the two are equal, so that averages tighten. A deterministic posterior over discrete codes is proper and does
    not cover: mass of p(x) lies at codes that it never proposes.

    stderr: standard error where the value is a Monte Carlo mean, same shape as value. measure: base measure as a unit. given:
    what the number is conditional on, "" for log p(x) itself: log p(x | y) is never ranked beside log p(x).
    """

    value: Tensor
    kind: Kind
    how: str = ""
    proper: bool = False
    stderr: Tensor | None = None
    measure: Measure = NO_MEASURE
    given: str = ""
    covers: bool = True

    @staticmethod
    def exact(value: Tensor, how: str = "", measure: Measure = NO_MEASURE) -> Evidence:
        """log p(x) itself; shapes (\\*S, \\*B)."""
        return Evidence(value, Kind.EXACT, how, True, None, measure)

    @staticmethod
    def none(how: str, shape: tuple[int, ...] = ()) -> Evidence:
        """The absence of a number, with its reason; the value is NaN so that no arithmetic revives it."""
        return Evidence(torch.full(shape, math.nan), Kind.NONE, how)

    def __add__(self, other: Evidence) -> Evidence:
        return self.plus(other)

    def plus(self, other: Evidence, settled: bool = False) -> Evidence:
        """The sum; `settled=True` where units are knowingly left open (layers that have not met their base yet)."""
        if self.value.shape != other.value.shape:
            raise ValueError(
                f"log-densities of shapes {tuple(self.value.shape)} ({self.how}) and {tuple(other.value.shape)} "
                f"({other.how}) do not add; a distribution over vectors may lack torch.distributions.Independent"
            )
        kind, measure = self.kind + other.kind, self.measure.plus(other.measure)
        if not (measure.pure or settled or kind is Kind.NONE):
            raise ValueError(
                f"base measures {self.measure} ({self.how}) and {other.measure} ({other.how}) do not add: one side is a "
                "mass function and the other a density over the same variable; give both parts the same kind of data"
            )
        return Evidence(
            self.value + other.value,
            kind,
            join_words(self.how, other.how),
            self.proper and other.proper and kind in _CAN_BE_PROPER,
            _combine_stderr(self.stderr, other.stderr),
            measure,
            join_words(self.given, other.given),
            self.covers and other.covers,
        )

    def __neg__(self) -> Evidence:
        negative = Measure().plus(self.measure, -1)
        return replace(self, value=-self.value, kind=-self.kind, measure=negative)

    def __sub__(self, other: Evidence) -> Evidence:
        return self + (-other)

    def below(self, how: str, proper: bool = True) -> Evidence:
        """The same number after a hidden variable was imputed: adds a LOWER of zero size (Jensen)."""
        return self._weakened(Kind.LOWER, how, proper)

    def above(self, how: str, proper: bool = True) -> Evidence:
        """The mirror image of :meth:`below`, for ``draw()``."""
        return self._weakened(Kind.UPPER, how, proper)

    def estimated(self, how: str, stderr: Tensor | None = None) -> Evidence:
        """The same number with an error of unknown side."""
        return replace(self._weakened(Kind.ESTIMATE, how, False), stderr=_combine_stderr(self.stderr, stderr))

    def _weakened(self, kind: Kind, how: str, proper: bool) -> Evidence:
        result = self.kind + kind
        keeps = self.proper and proper and result in _CAN_BE_PROPER
        return replace(self, kind=result, how=how or self.how, proper=keeps)

    @property
    def available(self) -> Tensor:
        """The value; raises :class:`Unavailable` with the reason where kind is NONE."""
        if self.kind is Kind.NONE:
            raise Unavailable(f"no density: {self.how}")
        return self.value

    def at(self, index: Any) -> Evidence:
        """The same claim about the values that an index picks."""
        stderr = None if self.stderr is None else self.stderr[index]
        return replace(self, value=self.value[index], stderr=stderr)

    def expand(self, shape: tuple[int, ...]) -> Evidence:
        """The same claim about a larger batch, by broadcasting."""
        stderr = None if self.stderr is None else self.stderr.expand(shape)
        return replace(self, value=self.value.expand(shape), stderr=stderr)

    def where(self, mask: Tensor) -> Evidence:
        """The value where a mask is true, 0 elsewhere: the log-density of an empty product, which claims nothing wrong."""
        stderr = None if self.stderr is None else self.stderr.where(mask, 0.0)
        return replace(self, value=self.value.where(mask, 0.0), stderr=stderr)

    def log_sum_exp(self, dim: int = 0, how: str = "") -> Evidence:
        r"""Mixture :math:`\log \sum_i e^{v_i}` along `dim`, each v_i already holding log w_i.

        Noise pushes a log-sum-exp upwards: LOWER stays only where every term is proper, UPPER always.
        """
        kind = _mixed_kind({self.kind}, self.proper)
        proper = self.proper and kind in (Kind.EXACT, Kind.LOWER)
        value = self.value.logsumexp(dim)
        return Evidence(value, kind, how or self.how, proper, None, self.measure, self.given, self.covers)

    def log_mean_exp(self, dim: int = 0, how: str = "") -> Evidence:
        r"""Average of k densities of the same x: :math:`\log \frac1k \sum_i e^{v_i}` along `dim`.

        LOWER and proper: E of the average is still at most p(x), so the label stays LOWER; it rises to log p(x) with k where the
        terms cover.
        """
        k = self.value.shape[dim]
        total = self.log_sum_exp(dim, how or f"{self.how}, mean of {k}")
        return replace(total, value=total.value - math.log(k))

    def mean(self) -> float:
        """Mean of the values, nats; NaN where there is none."""
        return float(self.value.mean())

    def bits_per_dim(self, dims: int) -> Tensor:
        """-value / (dims ln 2). A LOWER bound on log p is an upper bound on this number."""
        return -self.available / (dims * math.log(2.0))

    def __str__(self) -> str:
        if self.kind is Kind.NONE:
            return f"n/a ({self.how})"
        number = f"{self.value.mean().item():.4g}" if self.value.numel() else "(empty)"
        given = f" | {self.given}" if self.given else ""
        return f"log p(x{given}) {self.kind.relation} {number} nats ({self.kind.value}; {self.how or 'closed form'})"


_CAN_BE_PROPER = frozenset((Kind.EXACT, Kind.LOWER, Kind.UPPER))


def join_words(a: str, b: str) -> str:
    """Both descriptions, once each."""
    return a if (not b or b in a) else (b if (not a or a in b) else f"{a}; {b}")


def _combine_stderr(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """Independent errors add in quadrature."""
    if a is None or b is None:
        return b if a is None else a
    return (a.square() + b.square()).sqrt()


def _mixed_kind(kinds: set[Kind], proper: bool) -> Kind:
    """Kind of a log-sum-exp: noise pushes upwards, so LOWER survives only if every term is proper."""
    if Kind.NONE in kinds:
        return Kind.NONE
    if kinds == {Kind.EXACT}:
        return Kind.EXACT
    if kinds <= {Kind.EXACT, Kind.LOWER} and proper:
        return Kind.LOWER
    if kinds <= {Kind.EXACT, Kind.UPPER, Kind.UNBIASED}:
        return Kind.UPPER
    return Kind.ESTIMATE


def log_sum_exp(terms: list[Evidence], how: str = "") -> Evidence:
    r"""Mixture :math:`\log \sum_i e^{v_i}` of log-weighted components (each v_i already holds log w_i).

    Raises ValueError where base measures or shapes differ.
    """
    first = terms[0]
    for term in terms:
        if term.kind is Kind.NONE:
            return Evidence.none(term.how, tuple(term.value.shape))
    same_unit(terms)
    kind = _mixed_kind({term.kind for term in terms}, all(term.proper for term in terms))
    proper = all(term.proper for term in terms) and kind in (Kind.EXACT, Kind.LOWER)
    value = torch.stack([term.value for term in terms]).logsumexp(0)
    words = how or first.how
    covers = all(term.covers for term in terms)
    return Evidence(value, kind, words, proper, None, first.measure, covers=covers)


def same_unit(terms: Sequence[Evidence]) -> None:
    """Raise ValueError where log-densities that are to be averaged differ in base measure or shape; the absent are not asked."""
    there = [term for term in terms if term.kind is not Kind.NONE]
    for term in there[1:]:
        if term.measure != there[0].measure or term.value.shape != there[0].value.shape:
            raise ValueError(
                f"a mixture's components must share base measure and shape: found {there[0].measure} "
                f"{tuple(there[0].value.shape)} and {term.measure} {tuple(term.value.shape)}; give every component the same kind "
                "of data"
            )
