r"""A full-covariance Gaussian with fixed moments: noise for contrastive estimation, base for an energy, baseline.

.. math:: \log N(x; \mu, LL^T) = -\tfrac12 |L^{-1}(x - \mu)|^2 - \sum_i \log L_{ii} - \tfrac d2 \log 2\pi
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from genalloy.capabilities import Context
from genalloy.distribution import Distribution, Shape, leading
from genalloy.evidence import Evidence, lebesgue
from genalloy.part import Part


class FittedGaussian(Part):
    r"""N(mean, L L^T) over events of mean's shape; mean (\*E), factor L (d, d) lower triangular. Takes no context."""

    mean: Tensor
    factor: Tensor

    def __init__(self, mean: Tensor, factor: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("factor", factor)
        self.event_shape = tuple(mean.shape)

    @staticmethod
    def of(x: Tensor, jitter: float = 1e-4, spread: float = 1.0) -> FittedGaussian:
        r"""Moments of rows x (N, \*E); `jitter` times the mean variance is added to the diagonal, `spread` scales L.

        Raises ValueError with fewer than two rows.
        """
        if len(x) < 2:
            raise ValueError(f"a Gaussian was to be fitted to {len(x)} rows; give at least two")
        flat = x.flatten(1).double()
        covariance = torch.cov(flat.T).reshape(flat.shape[1], flat.shape[1])
        ridge = jitter * covariance.diagonal().mean() * torch.eye(flat.shape[1], dtype=flat.dtype)
        factor = torch.linalg.cholesky(covariance + ridge) * spread
        return FittedGaussian(flat.mean(0).reshape(x.shape[1:]).to(x.dtype), factor.to(x.dtype))

    def forward(self, context: Context = None) -> FittedGaussianDistribution:
        return FittedGaussianDistribution(self.mean, self.factor)


class FittedGaussianDistribution(Distribution):
    """See :class:`FittedGaussian`: EXACT."""

    def __init__(self, loc: Tensor, factor: Tensor) -> None:
        super().__init__((), tuple(loc.shape), lebesgue(loc.numel()))
        self.loc, self.factor = loc, factor

    @property
    def mean(self) -> Tensor:
        return self.loc

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        noise = torch.randn(*sample_shape, self.loc.numel(), dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + (noise @ self.factor.T).reshape(*sample_shape, *self.event_shape)

    def density(self, x: Tensor) -> Evidence:
        lead = leading(x, tuple(self.event_shape))
        centred = (x - self.loc).reshape(-1, self.loc.numel())
        white = torch.linalg.solve_triangular(self.factor, centred.T, upper=False)
        constant = self.factor.diagonal().log().sum() + 0.5 * self.loc.numel() * math.log(2 * math.pi)
        value = -0.5 * white.square().sum(0).reshape(lead) - constant
        return Evidence.exact(value, "closed form", self.measure)
