r"""Sampling filters: the same head under another law, chosen for its samples.

A filter changes every factor :math:`p(x_i | x_{<i})` and renormalises it, so the product is a law of its own whose density
is EXACT; it is not the law that was trained, and the evidence says so. Filters act in the order given.

* Temperature: :math:`p^{1/T} / Z`, of one element given those before (Ackley, Hinton & Sejnowski, 1985); not the root of
  the joint law.
* TopK: the k most probable values (Fan, Lewis & Dauphin, 2018, arXiv:1805.04833). Of equally probable ones the lowest stay, so k
  = 1 is greedy.
* TopP, nucleus: the smallest set of most probable values whose mass is at least p (Holtzman et al., 2020, arXiv:1904.09751).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genalloy.core.evidence import Unavailable
from genalloy.core.spec import Value
from genalloy.heads.head import Factorised, Head


class Filter(Value, ABC):
    """What is done to each factor. name: as the evidence prints it."""

    @abstractmethod
    def __call__(self, distribution: Any) -> Factorised:
        """The distribution under the filter, renormalised. Raises Unavailable where its factors do not allow it."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The filter in a word or two."""


@dataclass(frozen=True)
class Temperature(Filter):
    """:math:`p^{1/t} / Z` of each factor: below one more probable values, above one more various ones.

    Raises ValueError unless t > 0, Unavailable for factors without a closed form.
    """

    t: float

    def __post_init__(self) -> None:
        if not self.t > 0:
            raise ValueError(f"found temperature {self.t}, expected one above 0; for the most probable value use TopK(1)")

    def __call__(self, distribution: Any) -> Factorised:
        """The distribution with every factor at temperature t."""
        if not hasattr(distribution, "tempered"):
            name = type(distribution).__name__.removesuffix("Distribution")
            raise Unavailable(
                f"{name} has no p^(1/T) in closed form; temperature is for Bernoulli, Categorical, MuLaw, Gaussian and the "
                "LogisticMixture over integers"
            )
        return distribution.tempered(self.t)

    @property
    def name(self) -> str:
        """ "temperature" and t."""
        return f"temperature {self.t:g}"


@dataclass(frozen=True)
class TopK(Filter):
    """The k most probable values; all of them where there are no more (Fan, Lewis & Dauphin, 2018, arXiv:1805.04833).

    Raises ValueError unless k >= 1, Unavailable for factors without a finite list of values.
    """

    k: int

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"found k={self.k}, expected 1 (greedy) or more")

    def __call__(self, distribution: Any) -> Factorised:
        """The distribution over the k most probable values of each element."""
        return distribution.kept(lambda log_mass: _rank(log_mass) < self.k)

    @property
    def name(self) -> str:
        """ "top-k" and k."""
        return f"top-k {self.k}"


SLACK = 1e-6
"""Rounding of the masses: a set of p - SLACK counts as p."""


@dataclass(frozen=True)
class TopP(Filter):
    """The most probable values up to a mass of p (nucleus sampling: Holtzman et al., 2020, arXiv:1904.09751).

    Raises ValueError unless 0 < p <= 1, Unavailable for factors without a finite list of values.
    """

    p: float

    def __post_init__(self) -> None:
        if not 0 < self.p <= 1:
            raise ValueError(f"found p={self.p}, expected a mass above 0 and at most 1")

    def __call__(self, distribution: Any) -> Factorised:
        """The distribution over the nucleus of each element."""
        return distribution.kept(self._nucleus)

    def _nucleus(self, log_mass: Tensor) -> Tensor:
        """A value stays where those before it do not reach p; at p = 1 all that have mass."""
        mass = log_mass.double().exp()
        order = mass.argsort(dim=-1, descending=True, stable=True)
        down = mass.gather(-1, order)
        stays = (down.cumsum(-1) - down < self.p - SLACK) | (self.p == 1)
        return torch.zeros_like(stays).scatter(-1, order, stays)

    @property
    def name(self) -> str:
        """ "top-p" and p."""
        return f"top-p {self.p:g}"


def _rank(log_mass: Tensor) -> Tensor:
    """0 for the most probable value (last axis), 1 for the next; of equals, the lower value first."""
    return log_mass.argsort(dim=-1, descending=True, stable=True).argsort(-1)


class Filtered(Head):
    """`head` with every factor under `filters`, in the order given; same parameters, another law: EXACT density *of that law*.

    Raises Unavailable (a ValueError) where the head's factors do not allow a filter.
    """

    def __init__(self, head: Head, filters: tuple[Filter, ...]) -> None:
        super().__init__()
        self.head, self.filters = head, tuple(filters)
        self.width, self.discrete, self.has_rsample = head.width, head.discrete, head.has_rsample

    @property
    def law(self) -> str:  # type: ignore[override]
        """ ", filtered by top-p 0.9: not the trained law"; nothing where there are no filters."""
        names = ", ".join(f.name for f in self.filters)
        return f"{self.head.law}, filtered by {names}: not the trained law" if names else self.head.law

    def forward(self, parameters: Tensor, event_dims: int) -> Factorised:
        r"""Parameters (\*B, \*E, width) -> the head's distribution under all filters, which says so in its evidence."""
        distribution = self.head(parameters, event_dims)
        for one in self.filters:
            distribution = one(distribution)
        return distribution.under(self.law)
