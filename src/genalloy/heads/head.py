r"""Heads: features become simple factorised distributions.

A head turns parameters (\*B, \*E, width) into a distribution with events of shape E. Autoregressive models use the same
head for one element (event_dims = 0) when they sample. Heads compute their own densities: torch's validation
would triple their cost, and bounds on parameters are part of the head.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from genalloy.core.distribution import Distribution, Shape, sum_event
from genalloy.core.evidence import Evidence, Unavailable, measure_over
from genalloy.core.observations import Masked, leading, observed_measure
from genalloy.core.shapes import broadcast_shapes
from genalloy.core.spec import Module

RAW_ONE = 0.5413248546
"""softplus(RAW_ONE) = 1."""


class Head(Module, ABC):
    """width: parameters per element. discrete: whether its densities are mass functions.

    has_rsample: whether samples carry gradients, None where only the distribution tells.
    law: what the evidence of its densities adds to its words, "" unless the trained law is changed (a filter).
    """

    width: int = 1
    discrete: bool = False
    has_rsample: bool | None = None
    law: str = ""

    @abstractmethod
    def forward(self, parameters: Tensor, event_dims: int) -> Factorised:
        r"""(\*B, \*E, width) -> distribution with batch B and event E of `event_dims` axes."""


def positive(raw: Tensor, floor: float) -> Tensor:
    """floor + softplus(raw + 0.54), what scales are made by: about one where the features are zero."""
    return F.softplus(raw + RAW_ONE) + floor


def collapsed(x: Tensor, axes: int) -> Tensor:
    """Repeated (expanded) ones of the first `axes` axes at size one: what depends on x alone is then computed once."""
    for axis in range(axes):
        x = x.narrow(axis, 0, 1) if x.stride(axis) == 0 and x.shape[axis] > 1 else x
    return x


class Factorised(Distribution):
    r"""Independent elements, :math:`\log p(x) = \sum_d \log p_d(x_d)` in nats, a sum over the event's axes.

    Subclasses give one element's log-density, sample and mean. inside: a value of the support, in place of missing entries.
    """

    discrete = False
    law = ""
    inside = 0.0

    def __init__(self, shape: Shape, event_dims: int) -> None:
        cut = len(shape) - event_dims
        event = tuple(shape[cut:])
        dims = 1
        for n in event:
            dims *= n
        super().__init__(tuple(shape[:cut]), event, measure_over(dims, self.discrete))

    @abstractmethod
    def element_log_prob(self, x: Tensor) -> Tensor:
        """Elementwise log-density, same shape as x broadcast with the parameters."""

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        r"""(\*B, \*E)."""

    def density(self, x: Any) -> Evidence:
        """EXACT; of a Masked observation, of its observed entries."""
        if type(x) is Masked:
            return self.masked_density(x.x, x.mask)
        lead = leading(x, tuple(self.event_shape))
        value = self.event_log_prob(collapsed(x, len(lead)))
        if tuple(value.shape) != lead:
            value = value.expand(broadcast_shapes(value.shape, lead))
        return Evidence.exact(value, self.how, self.measure)

    def event_log_prob(self, x: Tensor) -> Tensor:
        r"""(\*S, \*B, \*E) -> (\*S, \*B), nats: the sum over elements, for heads that have a shorter way to it."""
        return sum_event(self.element_log_prob(x), len(self.event_shape))

    @property
    def how(self) -> str:
        """The words of its evidence."""
        return f"closed form{self.law}"

    def under(self, law: str) -> Self:
        """Itself, saying that its law was changed; `law` as in :class:`Head`."""
        self.law = law
        return self

    def kept(self, keep: Callable[[Tensor], Tensor]) -> Factorised:
        r"""Its law on the values that `keep` takes, renormalised.

        keep: log-masses of all values (\*B, \*E, K) -> which of them stay, a bool tensor. Raises Unavailable where the
        values are not finitely many.
        """
        name = type(self).__name__.removesuffix("Distribution")
        raise Unavailable(f"{name} has no finite list of values to choose from; top-k and top-p need integers 0..K-1")

    def masked_density(self, x: Tensor, mask: Tensor) -> Evidence:
        """Log-density of the entries where mask is true (missing data, padding)."""
        lead, axes = leading(x, tuple(self.event_shape)), len(self.event_shape)
        elements = self.element_log_prob(x.where(mask, self.inside)).where(mask, 0.0)
        measure = observed_measure(mask.expand(x.shape), axes, self.discrete)
        value = sum_event(elements, axes)
        return Evidence.exact(value.expand(broadcast_shapes(value.shape, lead)), f"{self.how}, observed entries", measure)


def uniform(like: Tensor, shape: Shape) -> Tensor:
    """Uniform noise strictly inside (0, 1), as far from 0 as from 1."""
    tip = torch.finfo(like.dtype).eps / 2
    return torch.rand(shape, dtype=like.dtype, device=like.device).clamp(tip, 1 - tip)


def chosen(logits: Tensor, shape: Shape) -> Tensor:
    """One index a row of logits l (..., M) expanded to `shape` (..., M): (..., 1).

    argmax_m (l_m + g_m) with Gumbel noise g has the law softmax(l) (Gumbel, 1954; Maddison, Tarlow & Minka, 2014).
    """
    gumbel = -torch.empty(shape, dtype=logits.dtype, device=logits.device).exponential_().log()
    return (logits + gumbel).argmax(-1, keepdim=True)


def spread_out(components: int, spread: float) -> Tensor:
    """Where the components of a mixture lie at zero features, (M,): over [-spread, spread], a single one at zero."""
    return torch.linspace(-spread, spread, components) if components > 1 else torch.zeros(1)


def component(weights: Tensor, sample_shape: Shape, *parameters: Tensor) -> tuple[Tensor, ...]:
    r"""Parameters (\*B, \*E, M) of one component an element, drawn by its weight (logits, the same shape): (\*S, \*B, \*E)."""
    shape = (*sample_shape, *parameters[0].shape)
    index = chosen(weights, shape)
    return tuple(p.expand(shape).gather(-1, index).squeeze(-1) for p in parameters)
