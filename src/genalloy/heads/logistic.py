r"""The logistic distribution and its mixtures, over reals.

The head of WaveNet's successors (van den Oord et al., 2018, arXiv:1711.10433),

.. math:: p(x) = \frac{e^{-u}}{s (1 + e^{-u})^2}, \quad u = \frac{x - \mu}{s}, \qquad F(x) = \sigma(u);
          \qquad p_M(x) = \sum_m \pi_m\, p(x; \mu_m, s_m).

For integers 0..K-1 see :class:`genalloy.heads.discrete.LogisticMixture`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from genalloy.core.distribution import Shape
from genalloy.heads.head import Factorised, Head, component, positive, spread_out, uniform


class Logistic(Head):
    r""":math:`p(x) = e^{-u} / (s (1 + e^{-u})^2), u = (x - \mu)/s`, over all reals; width 2. Samples carry gradients.

    Features (location, raw scale); scale = floor + softplus, about one at zero features.
    """

    has_rsample = True
    width = 2

    def __init__(self, floor: float = 1e-4) -> None:
        super().__init__()
        self.floor = floor

    def forward(self, parameters: Tensor, event_dims: int) -> LogisticDistribution:
        r"""Parameters (\*B, \*E, 2) -> distribution of reals (\*B, \*E)."""
        loc, raw = parameters.unbind(-1)
        return LogisticDistribution(loc, positive(raw, self.floor), event_dims)


class LogisticDistribution(Factorised):
    r"""Independent logistics; location and scale (\*B, \*E)."""

    def __init__(self, loc: Tensor, scale: Tensor, event_dims: int) -> None:
        super().__init__(tuple(loc.shape), event_dims)
        self.loc, self.scale = loc, scale

    @property
    def mean(self) -> Tensor:
        r"""The location, (\*B, \*E)."""
        return self.loc

    def element_log_prob(self, x: Tensor) -> Tensor:
        r""":math:`\log p(x)`, nats an element."""
        return logistic_log_density(x, self.loc, self.scale)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        r""":math:`\mu + s\,\mathrm{logit}(u)`, (\*S, \*B, \*E), u uniform."""
        u = uniform(self.loc, (*sample_shape, *self.loc.shape))
        return self.loc + self.scale * torch.logit(u)


def logistic_log_density(x: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    r""":math:`-|u| - 2\,\mathrm{softplus}(-|u|) - \log s`, nats: even in u, so that neither tail overflows."""
    u = ((x - loc) / scale).abs()
    return -u - 2 * F.softplus(-u) - scale.log()


class ContinuousLogisticMixture(Head):
    r""":math:`\sum_m \pi_m\,p(x; \mu_m, s_m)`, logistics over reals; width 3 x components, for sound in [-1, 1] and the like.

    Parallel WaveNet's head (van den Oord et al., 2018, arXiv:1711.10433), here over reals. floor: least scale. At zero features
    the locations are spread over [-spread, spread].
    """

    has_rsample = False

    def __init__(self, components: int = 10, floor: float = 1e-3, spread: float = 1.0) -> None:
        super().__init__()
        self.components, self.floor, self.spread = components, floor, spread
        self.width = 3 * components
        self.register_buffer("places", spread_out(components, spread), persistent=False)

    def forward(self, parameters: Tensor, event_dims: int) -> ContinuousLogisticMixtureDistribution:
        r"""Parameters (\*B, \*E, 3 M), weights, locations and raw scales in blocks of M -> distribution of reals (\*B, \*E)."""
        weights, loc, raw = parameters.unflatten(-1, (3, self.components)).unbind(-2)
        return ContinuousLogisticMixtureDistribution(weights, loc + self.places, positive(raw, self.floor), event_dims)


class ContinuousLogisticMixtureDistribution(Factorised):
    r"""Independent mixtures; weights (logits), locations and scales (\*B, \*E, M). Samples carry no gradient."""

    has_rsample = False

    def __init__(self, weights: Tensor, locs: Tensor, scales: Tensor, event_dims: int) -> None:
        super().__init__(tuple(locs.shape[:-1]), event_dims)
        self.weights, self.locs, self.scales = weights, locs, scales

    @property
    def mean(self) -> Tensor:
        r"""The locations' weighted mean, (\*B, \*E)."""
        return (self.weights.softmax(-1) * self.locs).sum(-1)

    def joint_log_prob(self, x: Tensor) -> Tensor:
        r""":math:`\log \pi_m + \log p_m(x)` of every component, (\*B, \*E, M), nats."""
        return self.weights.log_softmax(-1) + logistic_log_density(x.unsqueeze(-1), self.locs, self.scales)

    def element_log_prob(self, x: Tensor) -> Tensor:
        r""":math:`\log \sum_m \pi_m p_m(x)`, nats an element."""
        return self.joint_log_prob(x).logsumexp(-1)

    @torch.no_grad()
    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        r"""Draws (\*S, \*B, \*E) of a component chosen by its weight, without gradient."""
        loc, scale = component(self.weights, sample_shape, self.locs, self.scales)
        return loc + scale * torch.logit(uniform(loc, tuple(loc.shape)))
