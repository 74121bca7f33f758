r"""Discrete schedules as paths: a table of :math:`\bar\alpha_i`, i = 1..T, at times :math:`t = i/T`, variance preserving.

Between entries :math:`\lambda = \tfrac12 \log(\bar\alpha/(1 - \bar\alpha))` is linear in t, so lambda(t) and its inverse are
exact
at every entry and everywhere between: no rounding to a table. The window is the table's own: lambda at t = 1/T and at t = 1.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from genalloy.core.spec import Value
from genalloy.diffusion.paths import Path, Window


class Betas(Value, ABC):
    r"""The noise added at each of `steps` steps: :math:`x_i = \sqrt{1 - \beta_i}\,x_{i-1} + \sqrt{\beta_i}\,\epsilon`."""

    steps: int

    @abstractmethod
    def survival(self) -> Tensor:
        r""":math:`\bar\alpha_i = \prod_{j \le i} (1 - \beta_j)`, (T,), falling, in double precision."""


@dataclass(frozen=True)
class LinearBetas(Betas):
    r""":math:`\beta_i` evenly from `low` to `high` over `steps` steps (Ho, Jain & Abbeel, 2020, arXiv:2006.11239)."""

    steps: int = 1000
    low: float = 1e-4
    high: float = 0.02

    def survival(self) -> Tensor:
        """The cumulated product of 1 - beta, (T,), by sums of logarithms."""
        return (1 - torch.linspace(self.low, self.high, self.steps, dtype=torch.float64)).log().cumsum(0).exp()


@dataclass(frozen=True)
class CosineBetas(Betas):
    r""":math:`\bar\alpha_i = f(i)/f(0), f(i) = \cos^2(\tfrac{i/T + s}{1 + s} \tfrac\pi2)`, beta at most 0.999.

    Nichol & Dhariwal, 2021, arXiv:2102.09672. offset: s, which keeps the first steps from being too small.
    """

    steps: int = 1000
    offset: float = 0.008

    def survival(self) -> Tensor:
        """The cumulated product of 1 - beta, (T,), after beta was capped."""
        place = torch.arange(self.steps + 1, dtype=torch.float64) / self.steps
        f = torch.cos((place + self.offset) / (1 + self.offset) * math.pi / 2).square()
        beta = (1 - f[1:] / f[:-1]).clamp(max=0.999)
        return (1 - beta).log().cumsum(0).exp()


@dataclass(frozen=True)
class Tabled(Path):
    r"""A path through the entries of a table: :math:`\alpha^2 = \mathrm{sigmoid}(2\lambda)`, lambda linear in t between them."""

    betas: Betas = LinearBetas()

    @property
    def steps(self) -> int:
        """T."""
        return self.betas.steps

    def clip(self, window: Window) -> Window:
        """The table's own ends: a model trained on its steps knows no others."""
        lam = _table(self.betas)
        return float(lam[-1]), float(lam[0])

    def step(self, t: Tensor) -> Tensor:
        """The nearest entry's number, 1..T."""
        return (t * self.steps).round().clamp(1, self.steps).long()

    def lam(self, t: Tensor) -> Tensor:
        """lambda(t), piecewise linear; beyond the table's ends the first or the last piece goes on."""
        table = _table(self.betas).to(t.device)
        place = t.double() * self.steps - 1
        left = place.floor().clamp(0, self.steps - 2).long()
        return (table[left] + (place - left) * (table[left + 1] - table[left])).to(t.dtype)

    def time(self, lam: Tensor) -> Tensor:
        """The t of a lambda by a search of the table, exact to rounding."""
        table = _table(self.betas).to(lam.device)
        level = lam.double().contiguous()
        left = (self.steps - 1 - torch.searchsorted(table.flip(0), level, right=True)).clamp(0, self.steps - 2)
        place = left + (level - table[left]) / (table[left + 1] - table[left])
        return ((place + 1) / self.steps).to(lam.dtype)

    def alpha(self, t: Tensor) -> Tensor:
        r""":math:`\mathrm{sigmoid}(2\lambda)^{1/2}`."""
        return torch.sigmoid(2 * self.lam(t)).sqrt()

    def sigma(self, t: Tensor) -> Tensor:
        r""":math:`\mathrm{sigmoid}(-2\lambda)^{1/2}`."""
        return torch.sigmoid(-2 * self.lam(t)).sqrt()

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        r""":math:`(\alpha \sigma^2 \lambda', -\sigma \alpha^2 \lambda')`, with the slope of lambda in the piece."""
        table = _table(self.betas).to(t.device)
        left = (t.double() * self.steps - 1).floor().clamp(0, self.steps - 2).long()
        slope = ((table[left + 1] - table[left]) * self.steps).to(t.dtype)
        alpha, sigma = self.alpha(t), self.sigma(t)
        return alpha * sigma.square() * slope, -sigma * alpha.square() * slope


@lru_cache(maxsize=16)
def _table(betas: Betas) -> Tensor:
    """lambda at every entry, (T,), falling."""
    survival = betas.survival()
    return 0.5 * (survival.log() - torch.log1p(-survival))
