r"""A full-covariance Gaussian with fixed moments: noise for contrastive estimation, base for an energy, baseline.

.. math:: \log N(x; \mu, LL^T) = -\tfrac12 |L^{-1}(x - \mu)|^2 - \sum_i \log L_{ii} - \tfrac d2 \log 2\pi
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from genalloy.core.contexts import Context
from genalloy.core.distribution import Distribution, Shape
from genalloy.core.evidence import Evidence, counting, lebesgue
from genalloy.core.moments import RESOLUTION, mean_and_scale
from genalloy.core.observations import leading
from genalloy.core.part import Part


class FittedGaussian(Part):
    r""":math:`N(\mu, LL^T)` over events of mean's shape; mean (\*E), factor L (d, d) lower triangular. Takes no context.

    .. math:: \log p(x) = -\tfrac12 |L^{-1}(x - \mu)|^2 - \sum_i \log L_{ii} - \tfrac d2 \log 2\pi
    """

    mean: Tensor
    factor: Tensor

    def __init__(self, mean: Tensor, factor: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("factor", factor)
        self.event_shape, self.measure, self.has_rsample = tuple(mean.shape), lebesgue(mean.numel()), True

    @staticmethod
    def of(x: Tensor, jitter: float = 1e-4, spread: float = 1.0) -> FittedGaussian:
        r"""Moments of rows x (N, \*E); `jitter` times its own variance is added to each entry of the diagonal, `spread` scales L.

        Raises ValueError with fewer than two rows.
        """
        if len(x) < 2:
            raise ValueError(f"a Gaussian was to be fitted to {len(x)} rows; give at least two")
        flat = x.flatten(1).double()
        covariance = torch.cov(flat.T).reshape(flat.shape[1], flat.shape[1])
        # in units of each entry's own scale, so that neither a small unit nor a large one is lost in the ridge
        _, scale = mean_and_scale(flat, constant=RESOLUTION)
        correlation = covariance / scale[:, None] / scale + jitter * torch.eye(flat.shape[1], dtype=flat.dtype)
        factor = scale[:, None] * torch.linalg.cholesky(correlation) * spread
        return FittedGaussian(flat.mean(0).reshape(x.shape[1:]).to(x.dtype), factor.to(x.dtype))

    def forward(self, context: Context = None) -> FittedGaussianDistribution:
        r"""The Gaussian, with events (\*E) and no batch; a context is ignored."""
        return FittedGaussianDistribution(self.mean, self.factor)


class FittedGaussianDistribution(Distribution):
    """See :class:`FittedGaussian`: EXACT."""

    def __init__(self, loc: Tensor, factor: Tensor) -> None:
        super().__init__((), tuple(loc.shape), lebesgue(loc.numel()))
        self.loc, self.factor = loc, factor

    @property
    def mean(self) -> Tensor:
        r"""The mean, (\*E)."""
        return self.loc

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        r""":math:`\mu + L \epsilon`, (\*S, \*E), with :math:`\epsilon \sim N(0, I)`."""
        noise = torch.randn(*sample_shape, self.loc.numel(), dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + (noise @ self.factor.T).reshape(*sample_shape, *self.event_shape)

    def density(self, x: Tensor) -> Evidence:
        r"""EXACT, (\*S, \*B), nats, by a triangular solve."""
        lead = leading(x, tuple(self.event_shape))
        centred = (x - self.loc).reshape(-1, self.loc.numel())
        white = torch.linalg.solve_triangular(self.factor, centred.T, upper=False)
        constant = self.factor.diagonal().log().sum() + 0.5 * self.loc.numel() * math.log(2 * math.pi)
        value = -0.5 * white.square().sum(0).reshape(lead) - constant
        return Evidence.exact(value, "closed form", self.measure)


class UniformLevels(Part):
    """Every entry independent and uniform on 0..levels-1, :math:`p(x) = K^{-D}`: noise on integers; takes no context."""

    row: Tensor

    def __init__(self, levels: int, event_shape: Shape) -> None:
        super().__init__()
        self.levels, self.event_shape = levels, tuple(event_shape)
        self.measure, self.has_rsample = counting(math.prod(self.event_shape)), False
        self.register_buffer("row", torch.zeros(1, *self.event_shape), persistent=False)

    def forward(self, context: Context = None) -> KernelSmoothedDistribution:
        r"""The uniform law, with events (\*E) and no batch; a context is ignored."""
        return KernelSmoothedDistribution(self.row, self.levels, 1.0)


class KernelSmoothed(Part):
    r"""Training rows :math:`x_n` with a little noise, a mixture with as many components as rows:

    .. math:: p(x) = \frac1N \sum_n \prod_d \left[(1 - \eta)\,1[x_d = x_{nd}] + \eta / K\right].

    A kernel density of Aitchison & Aitken (1976). Perfect samples, hardly a likelihood: the positive control of memorisation
    tests. rows (N, \*E) on levels 0..K-1; noise: eta. Raises ValueError unless 0 < noise <= 1.
    """

    rows: Tensor

    def __init__(self, rows: Tensor, levels: int, noise: float = 0.02) -> None:
        super().__init__()
        if not 0 < noise <= 1:
            raise ValueError(f"noise is {noise}; expected a share in (0, 1], since without it unseen rows have no density")
        self.register_buffer("rows", rows)
        self.levels, self.noise, self.event_shape = levels, noise, tuple(rows.shape[1:])
        self.measure, self.has_rsample = counting(math.prod(self.event_shape)), False

    def forward(self, context: Context = None) -> KernelSmoothedDistribution:
        r"""The smoothed rows' law, with events (\*E) and no batch; a context is ignored."""
        return KernelSmoothedDistribution(self.rows, self.levels, self.noise)


class KernelSmoothedDistribution(Distribution):
    """See :class:`KernelSmoothed`: EXACT, counting measure."""

    has_rsample = False

    def __init__(self, rows: Tensor, levels: int, noise: float) -> None:
        super().__init__((), tuple(rows.shape[1:]), counting(rows[0].numel()))
        self.rows, self.levels, self.noise = rows, levels, noise

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        r"""Rows (\*S, \*E) drawn evenly, each entry replaced with probability eta by a uniform level; without gradients."""
        x = self.rows[torch.randint(len(self.rows), sample_shape, device=self.rows.device)]
        replaced = torch.rand_like(x) < self.noise
        return torch.where(replaced, torch.randint_like(x, self.levels), x)

    def density(self, x: Tensor) -> Evidence:
        r"""EXACT, (\*S, \*B), nats; -inf off the levels. Cost: one comparison of x with every training row."""
        lead = leading(x, tuple(self.event_shape))
        flat, dims = x.reshape(-1, self.rows[0].numel()), self.rows[0].numel()
        hit = math.log(1 - self.noise + self.noise / self.levels)
        miss = math.log(self.noise / self.levels)
        # a count of equal entries is a Hamming distance; few rows at a time keep memory flat
        blocks = [(part[:, None] == self.rows.flatten(1)).sum(-1) for part in flat.split(max(1, 2**22 // self.rows.numel()))]
        same = torch.cat(blocks).to(x.dtype)
        value = (same * hit + (dims - same) * miss).logsumexp(1) - math.log(len(self.rows))
        on_grid = ((flat == flat.round()) & (flat >= 0) & (flat < self.levels)).all(1)
        return Evidence.exact(torch.where(on_grid, value, -math.inf).reshape(lead), "closed form", self.measure)
