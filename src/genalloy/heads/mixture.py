r"""Mixture of Gaussians for one real element.

With MADE, the model "MADE MoG" of Papamakarios, Pavlakou & Murray, 2017, arXiv:1705.07057.

.. math:: p(x) = \sum_m \pi_m\, N(x; \mu_m, \sigma_m^2)
"""

from __future__ import annotations

import torch
from torch import Tensor

from genalloy.core.distribution import Shape
from genalloy.heads.gaussian import HALF_LOG_2PI
from genalloy.heads.head import Factorised, Head, component, positive, spread_out


class GaussianMixture(Head):
    r""":math:`\sum_m \pi_m\,N(x; \mu_m, \sigma_m^2)`, `components` Gaussians an element; width 3 x components.

    floor: least scale. At zero features the means are spread over [-spread, spread].
    """

    has_rsample = False

    def __init__(self, components: int, floor: float = 1e-3, spread: float = 1.0) -> None:
        super().__init__()
        self.components, self.floor, self.spread = components, floor, spread
        self.width = 3 * components
        self.register_buffer("places", spread_out(components, spread), persistent=False)

    def forward(self, parameters: Tensor, event_dims: int) -> GaussianMixtureDistribution:
        r"""Parameters (\*B, \*E, 3 M), weights, means and raw scales in blocks of M -> distribution of reals (\*B, \*E)."""
        weights, mean, raw = parameters.unflatten(-1, (3, self.components)).unbind(-2)
        return GaussianMixtureDistribution(weights, mean + self.places, positive(raw, self.floor), event_dims)


class GaussianMixtureDistribution(Factorised):
    r"""Independent mixtures; weights (logits), means and scales (\*B, \*E, M). Samples carry no gradient."""

    has_rsample = False

    def __init__(self, weights: Tensor, means: Tensor, scales: Tensor, event_dims: int) -> None:
        super().__init__(tuple(means.shape[:-1]), event_dims)
        self.weights, self.means, self.scales = weights, means, scales

    @property
    def mean(self) -> Tensor:
        r"""The weighted mean of the means, (\*B, \*E)."""
        return (self.weights.softmax(-1) * self.means).sum(-1)

    def joint_log_prob(self, x: Tensor) -> Tensor:
        r""":math:`\log \pi_m + \log p_m(x)` of every component, (\*B, \*E, M), nats."""
        u = (x.unsqueeze(-1) - self.means) / self.scales
        return self.weights.log_softmax(-1) - 0.5 * u.square() - self.scales.log() - HALF_LOG_2PI

    def element_log_prob(self, x: Tensor) -> Tensor:
        r""":math:`\log \sum_m \pi_m p_m(x)`, nats an element."""
        return self.joint_log_prob(x).logsumexp(-1)

    @torch.no_grad()
    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        r"""Draws (\*S, \*B, \*E) of a component chosen by its weight, without gradient."""
        mean, scale = component(self.weights, sample_shape, self.means, self.scales)
        return mean + scale * torch.randn_like(mean)
