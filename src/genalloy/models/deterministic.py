"""A point mass at what a network says: the encoder of an autoencoder, or the code that a codebook chooses."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from genalloy.core.contexts import Context, Shapes, shapes_of
from genalloy.core.distribution import Distribution, Shape
from genalloy.core.evidence import Evidence, Kind, measure_over
from genalloy.core.observations import leading
from genalloy.core.part import Part
from genalloy.core.shapes import broadcast_shapes


class Deterministic(Part):
    r"""z = network(c), without noise: r(z | c) = 1 at that z and 0 elsewhere.

    network: context -> (\*B, \*E). discrete: whether z are codes 0..K-1. Over discrete codes it is a posterior whose bound is
    log p(x | z) + log p(z): EXACT, proper, and it does not cover (no average over samples tightens the bound). Over real codes
    a point mass has no density: NONE.
    """

    def __init__(self, network: nn.Module, event_shape: Shape, context_shapes: Shapes, discrete: bool = False) -> None:
        super().__init__()
        self.network, self.event_shape, self.discrete = network, tuple(event_shape), discrete
        self.context_shapes, dims = shapes_of(context_shapes), math.prod(self.event_shape)
        self.measure, self.has_rsample = measure_over(dims, discrete), True

    def forward(self, context: Context = None) -> PointMass:
        r"""The point mass at network(c), of shape (\*B, \*E)."""
        return PointMass(self.network(context), self.event_shape, self.discrete)


class PointMass(Distribution):
    r"""See :class:`Deterministic`; point (\*B, \*E). Samples are the point itself, with the network's gradients."""

    def __init__(self, point: Tensor, event_shape: Shape, discrete: bool) -> None:
        dims = math.prod(event_shape)
        super().__init__(leading(point, event_shape), event_shape, measure_over(dims, discrete))
        self.point, self.discrete = point, discrete

    @property
    def mean(self) -> Tensor:
        r"""The point, (\*B, \*E)."""
        return self.point

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        r"""The point itself, (\*S, \*B, \*E), a view with the network's gradients."""
        return self.point.expand(*sample_shape, *self.point.shape)

    def density(self, x: Any) -> Evidence:
        r"""log 1[x = point], (\*S, \*B), EXACT over codes; NONE over real numbers."""
        lead = broadcast_shapes(leading(x, tuple(self.event_shape)), self.batch_shape)
        if not self.discrete:
            return Evidence.none("a point mass has no density over real numbers", tuple(lead))
        same = (x == self.point).flatten(len(lead)).all(-1) if self.event_shape else x == self.point
        dtype = self.point.dtype if self.point.is_floating_point() else None
        value = torch.zeros(lead, dtype=dtype, device=self.point.device).masked_fill(~same, -math.inf)
        return Evidence(value, Kind.EXACT, "point mass", True, None, self.measure, covers=False)
