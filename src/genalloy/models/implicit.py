r"""Implicit models: z ~ latent, x = network(z, c) (Goodfellow et al., 2014; Mohamed & Lakshminarayanan, 2016).

Samples carry gradients and there is no density: where z has fewer dimensions than x the law of x has none, and elsewhere
the network is not inverted.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from genalloy.core.contexts import Context, Shapes, batch_of, both, shapes_of
from genalloy.core.distribution import Distribution, Shape, needs_gradient
from genalloy.core.evidence import Evidence, Measure, lebesgue
from genalloy.core.observations import leading
from genalloy.core.part import Part


class Implicit(Part):
    r"""x = network(both(z, c)), z ~ latent: the generator of a GAN (Goodfellow et al., 2014, arXiv:1406.2661).

    latent: Part over z, without context. network: both(z, c) -> (\*B, event size) or (\*B, \*E). Samples carry gradients, and
    their density is NONE (Mohamed & Lakshminarayanan, 2016, arXiv:1610.03483).
    """

    measure: Measure

    def __init__(self, latent: nn.Module, network: nn.Module, event_shape: Shape, context_shapes: Shapes = ()) -> None:
        super().__init__()
        self.latent, self.network = latent, network
        self.event_shape, self.has_rsample = tuple(event_shape), True
        self.measure = lebesgue(math.prod(self.event_shape))
        self.context_shapes = shapes_of(context_shapes)

    def forward(self, context: Context = None) -> ImplicitDistribution:
        r"""The distribution of x given c, with events (\*E) and the batch of the context's parts, () without one."""
        return ImplicitDistribution(self, context)


class ImplicitDistribution(Distribution):
    """See :class:`Implicit`. Capability: generate."""

    has_rsample = True

    def __init__(self, part: Implicit, context: Context = None) -> None:
        self.part = part
        self.context = context if part.context_shapes else None
        self.latent: Any = part.latent(None)
        super().__init__(batch_of(self.context, part.context_shapes), part.event_shape, part.measure)

    def generate(self, z: Tensor) -> Tensor:
        r"""network(z, c) as events, (\*S, \*B, \*Z) -> (\*S, \*B, \*E)."""
        x = self.part.network(both(z, self.context))
        lead = leading(z, tuple(self.latent.event_shape))
        return x.reshape(*lead, *self.event_shape)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        r""":math:`\mathrm{network}(z, c)` at draws z of the latent, (\*S, \*B, \*E), with gradients of the network."""
        needs_gradient(self.latent, "latent")
        shape = (*sample_shape, *self.batch_shape)
        z = self.latent.rsample(shape) if self.latent.has_rsample else self.latent.sample(shape)
        return self.generate(z)

    def density(self, x: Tensor) -> Evidence:
        r"""NONE, (\*S, \*B): see the module's text."""
        return Evidence.none(
            "an implicit model only samples; compare samples, or train a flow under Adversarial(critic) for a density",
            leading(x, tuple(self.event_shape)),
        )
