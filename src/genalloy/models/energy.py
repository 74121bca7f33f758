r"""Energy-based models (LeCun, Chopra, Hadsell, Ranzato & Huang, 2006): a network tilts a base, nothing normalises the result.

.. math:: p(x|c) = \frac{b(x|c)\, e^{-f(x, c)}}{Z(c)}, \qquad E(x) = f(x, c) - \log b(x|c)

The base b (a Gaussian, a flow) confines the energy, so that Z exists for bounded f and chains stay where the data are. With
f a network and b a standard normal this is the confining quadratic of Du & Mordatch (2019) and of Nijkamp et al. (2019).
Z is unknown: :meth:`EnergyDistribution.density` is NONE until an estimator is asked for.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from genalloy.core.contexts import Context, Shapes, batch_of, both, shapes_of
from genalloy.core.distribution import Distribution, Shape, density, measure_of
from genalloy.core.evidence import Evidence, Measure
from genalloy.core.observations import leading
from genalloy.core.part import Part, declared_measure, initialise_inside
from genalloy.mcmc.buffer import ReplayBuffer
from genalloy.mcmc.langevin import Kernel, Langevin, slope


class EnergyModel(Part):
    r"""p(x | c) proportional to base(x | c) exp(-network(x, c)) (LeCun et al., 2006; Du & Mordatch, 2019, arXiv:1903.08689).

    .. math:: p(x|c) = \frac{b(x|c)\, e^{-f(x, c)}}{Z(c)}, \qquad E(x) = f(x, c) - \log b(x|c)

    network: both(x, c) -> (\*B, 1), the tilt f. base: Part over x with an EXACT density and samples. sampler: kernel that
    makes samples. buffer: replay buffer whose chains samples continue from; without one they start at the base.
    """

    def __init__(
        self,
        network: nn.Module,
        base: nn.Module,
        event_shape: Shape,
        sampler: Kernel = Langevin(),  # noqa: B008
        buffer: ReplayBuffer | None = None,
        context_shapes: Shapes = (),
    ) -> None:
        super().__init__()
        self.network, self.base, self.sampler, self.buffer = network, base, sampler, buffer
        self.event_shape, self.has_rsample = tuple(event_shape), False
        self.context_shapes = shapes_of(context_shapes)

    @property
    def measure(self) -> Measure | None:  # type: ignore[override]
        """The base's."""
        return declared_measure(self.base)

    def forward(self, context: Context = None) -> EnergyDistribution:
        r"""The distribution of x given c, with events (\*E) and the base's batch; the context's where the base has none."""
        return EnergyDistribution(self, context)

    def initialise(self, x: Tensor, context: Context = None) -> None:
        r"""Hands x (\*B, \*E) and the context on to the base, where it is initialised from data; the tilt stays as it is."""
        initialise_inside(self.base, x, context)


class EnergyDistribution(Distribution):
    """See :class:`EnergyModel`. Capabilities: energy, tilt, score."""

    has_rsample = False

    def __init__(self, part: EnergyModel, context: Context = None) -> None:
        self.part = part
        self.context = context if part.context_shapes else None
        self.base: Any = part.base(self.context)
        batch = tuple(self.base.batch_shape) or batch_of(self.context, part.context_shapes)
        super().__init__(batch, part.event_shape, measure_of(self.base))

    def tilt(self, x: Tensor) -> Tensor:
        r"""f(x, c), (\*S, \*B, \*E) -> (\*S, \*B)."""
        leading(x, tuple(self.event_shape))
        return self.part.network(both(x, self.context)).squeeze(-1)

    def energy(self, x: Tensor) -> Tensor:
        r"""E(x) = f(x, c) - log base(x), (\*S, \*B, \*E) -> (\*S, \*B), nats up to a constant."""
        return self.tilt(x) - density(self.base, x).available

    def score(self, x: Tensor) -> Tensor:
        """grad log p(x) = -grad E(x), same shape as x; carries no graph."""
        return -slope(self.energy, x)[1]

    def fresh(self, shape: Shape) -> Tensor:
        r"""Samples of the base, (\*S, \*B, \*E), where chains (re)start."""
        missing = () if self.base.batch_shape else tuple(self.batch_shape)
        return self.base.sample((*shape, *missing))

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        r"""Chains (\*S, \*B, \*E) of the sampler, from the replay buffer's where there is one (no context), else the base's."""
        buffer = self.part.buffer
        if buffer is None or self.batch_shape:
            start = self.fresh(sample_shape)
        else:
            start = buffer.sample(math.prod(sample_shape), self.fresh).reshape(*sample_shape, *self.event_shape)
        return self.part.sampler(self.energy, start)

    def density(self, x: Tensor) -> Evidence:
        r"""NONE, (\*S, \*B): Z is unknown."""
        return Evidence.none(
            "unnormalised: an energy has no log Z; ask AnnealedImportance()(distribution, x)", leading(x, tuple(self.event_shape))
        )

    def draw(self, sample_shape: Shape = ()) -> tuple[Tensor, Evidence]:
        r"""Chains (\*S, \*B, \*E) that ran, and NONE."""
        x = self.sample(sample_shape)
        return x, self.density(x)
