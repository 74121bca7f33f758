r"""Heads: features become simple factorised distributions.

A head turns parameters (\*B, \*E, width) into a distribution with events of shape E. Autoregressive models use the same
head for one element (event_dims = 0) when they sample. Heads compute their own densities: torch's validation
would triple their cost, and bounds on parameters are part of the head.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from genalloy.distribution import Distribution, Shape, leading, sum_event
from genalloy.evidence import Evidence, Measure
from genalloy.spec import Module


class Head(Module, ABC):
    """width: parameters per element. discrete: whether its densities are mass functions."""

    width: int = 1
    discrete: bool = False

    @abstractmethod
    def forward(self, parameters: Tensor, event_dims: int) -> Factorised:
        r"""(\*B, \*E, width) -> distribution with batch B and event E of `event_dims` axes."""


def collapsed(x: Tensor, axes: int) -> Tensor:
    """Repeated (expanded) ones of the first `axes` axes at size one: what depends on x alone is then computed once."""
    for axis in range(axes):
        x = x.narrow(axis, 0, 1) if x.stride(axis) == 0 and x.shape[axis] > 1 else x
    return x


class Factorised(Distribution):
    """Independent elements; subclasses give one element's log-density, sample and mean."""

    discrete = False

    def __init__(self, shape: Shape, event_dims: int) -> None:
        cut = len(shape) - event_dims
        event = tuple(shape[cut:])
        dims = 1
        for n in event:
            dims *= n
        super().__init__(tuple(shape[:cut]), event, Measure(0, dims) if self.discrete else Measure(dims, 0))

    @abstractmethod
    def element_log_prob(self, x: Tensor) -> Tensor:
        """Elementwise log-density, same shape as x broadcast with the parameters."""

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        r"""(\*B, \*E)."""

    def density(self, x: Tensor) -> Evidence:
        lead = leading(x, tuple(self.event_shape))
        value = sum_event(self.element_log_prob(collapsed(x, len(lead))), len(self.event_shape))
        value = value.expand(torch.broadcast_shapes(value.shape, lead))
        return Evidence.exact(value, "closed form", self.measure)

    def masked_density(self, x: Tensor, mask: Tensor) -> Evidence:
        """Log-density of the entries where mask is true (missing data, padding)."""
        elements = self.element_log_prob(x).where(mask, 0.0)
        return Evidence.exact(sum_event(elements, len(self.event_shape)), "closed form, observed entries", self.measure)
