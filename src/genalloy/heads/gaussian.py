r"""Gaussian heads and the standard normal Part.

.. math:: \log N(x; \mu, s^2) = -\frac{(x - \mu)^2}{2 s^2} - \log s - \tfrac12 \log 2\pi, \qquad
          KL(N(\mu, s^2)\, \|\, N(\mu', s'^2)) = \log\frac{s'}{s} + \frac{s^2 + (\mu - \mu')^2}{2 s'^2} - \tfrac12.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from genalloy.core.contexts import Context
from genalloy.core.distribution import Shape, sum_event
from genalloy.core.evidence import Evidence, lebesgue
from genalloy.core.part import Part
from genalloy.heads.head import Factorised, Head, positive

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class Gaussian(Head):
    """N(mean, scale^2) with features (mean, raw scale); scale = floor + softplus(raw + 0.54), about 1 at raw = 0."""

    has_rsample = True
    width = 2

    def __init__(self, floor: float = 1e-4) -> None:
        super().__init__()
        self.floor = floor

    def forward(self, parameters: Tensor, event_dims: int) -> GaussianDistribution:
        mean, raw = parameters.unbind(-1)
        return GaussianDistribution(mean, positive(raw, self.floor), event_dims)


class GaussianDistribution(Factorised):
    r"""Independent normals; mean and scale (\*B, \*E)."""

    def __init__(self, mean: Tensor, scale: Tensor, event_dims: int) -> None:
        super().__init__(tuple(mean.shape), event_dims)
        self.loc, self.scale = mean, scale

    @property
    def mean(self) -> Tensor:
        return self.loc

    def element_log_prob(self, x: Tensor) -> Tensor:
        return -0.5 * ((x - self.loc) / self.scale).square() - self.scale.log() - HALF_LOG_2PI

    def event_log_prob(self, x: Tensor) -> Tensor:
        r"""The scales' part once, whatever the number of samples; (\*S, \*B, \*E) -> (\*S, \*B)."""
        return self._log_prob_of_noise(self.standardise(x))

    def _log_prob_of_noise(self, eps: Tensor) -> Tensor:
        axes = len(self.event_shape)
        return -0.5 * sum_event(eps.square(), axes) - sum_event(self.scale.log() + HALF_LOG_2PI, axes)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        r"""mean + scale eps, (\*S, \*B, \*E)."""
        return self.loc + self.scale * self._noise(sample_shape)

    def draw(self, sample_shape: Shape = ()) -> tuple[Tensor, Evidence]:
        """log N(x) from the noise itself, -|eps|^2 / 2 - log scale: nothing is standardised again."""
        eps = self._noise(sample_shape)
        return self.loc + self.scale * eps, Evidence.exact(self._log_prob_of_noise(eps), self.how, self.measure)

    def _noise(self, sample_shape: Shape) -> Tensor:
        return torch.randn((*sample_shape, *self.loc.shape), dtype=self.loc.dtype, device=self.loc.device)

    def tempered(self, temperature: float) -> GaussianDistribution:
        """p^(1/T), normalised: variance times T."""
        scale = self.scale * temperature**0.5
        return GaussianDistribution(self.loc, scale, len(self.event_shape)).under(self.law)

    def standardise(self, x: Tensor) -> Tensor:
        """(x - mean) / scale: what a flow calls the code of x."""
        return (x - self.loc) / self.scale

    def kl(self, other: object) -> Tensor | None:
        r"""KL(self || other) of every element, (\*B, elements), in nats; None where the other is not Gaussian."""
        if type(other) is not GaussianDistribution:
            return None
        ratio = (self.scale / other.scale).square()
        terms = 0.5 * (ratio + ((self.loc - other.loc) / other.scale).square() - 1.0 - ratio.log())
        return terms.flatten(-len(self.event_shape)) if self.event_shape else terms.unsqueeze(-1)


class StandardNormal(Part):
    """N(0, I) over events of a shape; takes no context."""

    def __init__(self, event_shape: Shape) -> None:
        super().__init__()
        self.event_shape, self.has_rsample = tuple(event_shape), True
        self.measure = lebesgue(math.prod(self.event_shape))
        self.register_buffer("zero", torch.zeros(self.event_shape), persistent=False)
        self.register_buffer("one", torch.ones(self.event_shape), persistent=False)

    def forward(self, context: Context = None) -> GaussianDistribution:
        return GaussianDistribution(self.zero, self.one, len(self.event_shape))
