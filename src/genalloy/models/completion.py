r"""The rest of an observation given some of its entries, :math:`p(x_U \mid x_K) = p(x) / \sum_{x_U} p(x)`, and what is near it.

A model that generates entry by entry has a `complete` that keeps what is given and draws the rest as it goes: its conditional
where the given entries are those that it would have generated first, another law elsewhere, which the distribution names in
words (`law_of`). To the conditional itself there are two roads, for models of known density:

* `Enumerated`: the masses of all joint states of what is not given, normalised. Exact.
* `ImportanceResampled`: k such completions, of density q, one of them chosen with probability proportional to
  :math:`w = p(x) / q` (Rubin, 1987); for a model that is a mixture over orders, w holds the order of the draw, and p(x) may be
  an unbiased estimate (Andrieu & Roberts, 2009). Right as k grows; :math:`(\sum w)^2 / \sum w^2` says how many of the k count.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from genalloy.core.distribution import density
from genalloy.core.evidence import Kind, Unavailable
from genalloy.core.spec import Value

AT_ONCE = 64
"""Rows whose proposals are held at once."""
EXACTLY = "draws from p(the rest | what is given)"


class Completed(NamedTuple):
    r"""Rows (n, \*E); by what law they were drawn, in words; of how many proposals each counts (n,), where there were some."""

    values: Tensor
    how: str
    effective: Tensor | None = None


class Completion(Value, ABC):
    r"""(distribution without batch, x (\*E), known (\*E), n) -> n completed rows. Raises Unavailable where the model cannot."""

    @abstractmethod
    def __call__(self, distribution: Any, x: Tensor, known: Tensor, count: int) -> Completed:
        r"""n = `count` rows that keep x (\*E) where `known` (\*E) is true, and by what law the rest was drawn."""


@dataclass(frozen=True)
class Enumerated(Completion):
    r"""From the masses of all joint states of the unknown entries: exact.

    .. math:: p(x_U | x_K) = p(x_U, x_K) \Big/ \sum_{x'_U} p(x'_U, x_K)

    levels: of every entry, 0..levels-1. most: states at most. Raises Unavailable where there are more, the mass is not known, or
    what is given has probability 0.
    """

    levels: int
    most: int = 2**16

    def __call__(self, distribution: Any, x: Tensor, known: Tensor, count: int) -> Completed:
        states = self.states(x, known)
        log_p = torch.cat([self._exact(distribution, rows) for rows in states.split(1024)])
        if not bool((log_p > -torch.inf).any()):
            raise Unavailable("what is given has probability 0 under the model: there is nothing to draw the rest from")
        chosen = torch.multinomial(log_p.double().softmax(0), count, replacement=True)
        return Completed(states[chosen], f"{EXACTLY}, {len(states):,} states enumerated")

    def states(self, x: Tensor, known: Tensor) -> Tensor:
        r"""x (\*E) with every joint state of its unknown entries, (S, \*E). Raises Unavailable where they are too many."""
        free = int((~known).sum())
        if self.levels**free > self.most:
            raise Unavailable(
                f"{free:,} unknown entries of {self.levels} levels have more than {self.most:,} joint states to enumerate; "
                "give more entries, or take importance resampling"
            )
        values = torch.arange(self.levels, dtype=x.dtype, device=x.device)
        grid = torch.cartesian_prod(*[values] * free).reshape(-1, free) if free else values.new_zeros(1, 0)
        rows = x.expand(len(grid), *x.shape).clone()
        rows[:, ~known] = grid
        return rows

    @staticmethod
    def _exact(distribution: Any, rows: Tensor) -> Tensor:
        evidence = density(distribution.exactly() if hasattr(distribution, "exactly") else distribution, rows)
        if evidence.kind is not Kind.EXACT or evidence.measure.lebesgue:
            raise Unavailable(f"enumeration needs exact masses of integers; found {evidence.kind.value} ({evidence.how})")
        return evidence.value


@dataclass(frozen=True)
class ImportanceResampled(Completion):
    r"""One of `proposals` of the model's own completions, chosen by weight, for each row; one that is exact needs no choice.

    .. math:: P(i) = w_i \Big/ \sum_j w_j, \quad w_i = p(x_i) / q(x_i), \qquad
              \mathrm{effective} = \Big(\sum_i w_i\Big)^2 \Big/ \sum_i w_i^2

    Rubin, 1987. Raises ValueError below two proposals; Unavailable where the distribution gives no weights, or all are 0.
    """

    proposals: int = 64

    def __post_init__(self) -> None:
        if self.proposals < 2:
            raise ValueError(f"found {self.proposals} proposals, expected at least 2 to choose from")

    def __call__(self, distribution: Any, x: Tensor, known: Tensor, count: int) -> Completed:
        if not hasattr(distribution, "proposals"):
            raise Unavailable(f"weights of its completions are needed; {type(distribution).__name__} has none")
        if law_of(distribution, known) == EXACTLY:
            return Completed(completer(distribution)(x, known, (count,)), EXACTLY)
        sizes = [len(some) for some in torch.arange(count).split(AT_ONCE)]
        parts = [self._some(distribution, x, known, size) for size in sizes]
        how = f"importance resampling among {self.proposals} completions, near p(the rest | what is given)"
        return Completed(torch.cat([rows for rows, _ in parts]), how, torch.cat([effective for _, effective in parts]))

    def _some(self, distribution: Any, x: Tensor, known: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """`count` rows, and of how many proposals each counts."""
        rows, log_weight = distribution.proposals(x, known, (self.proposals, count))
        if not bool((log_weight > -torch.inf).any(0).all()):
            raise Unavailable(f"none of {self.proposals} proposals agrees with what is given; take more of them")
        weight = log_weight.double().softmax(0)
        chosen = torch.multinomial(weight.T, 1).squeeze(1)
        return rows[chosen, torch.arange(count)], 1 / weight.square().sum(0)


def completer(distribution: Any) -> Any:
    """The distribution's own `complete`. Raises Unavailable without one."""
    if not hasattr(distribution, "complete"):
        raise Unavailable(
            f"complete(x, known) is needed; {type(distribution).__name__} has none. Autoregressive and any-order models have it"
        )
    return distribution.complete


def law_of(distribution: Any, known: Tensor) -> str:
    """By what law `complete` draws the rest given `known`, in words."""
    tell = getattr(distribution, "completes_exactly", None)
    if tell is not None and tell(known):
        return EXACTLY
    return getattr(distribution, "completion_law", "a heuristic: the model does not say by what law the rest is drawn")
