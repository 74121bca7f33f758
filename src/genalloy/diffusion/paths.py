r"""Diffusion paths, parameterisations, weights and time distributions: four values that make every diffusion model.

A path noises data y into :math:`x_t = \alpha(t)\,y + \sigma(t)\,\epsilon`, t = 0 data, t = 1 noise. Everything else is a
function of :math:`\lambda = \log(\alpha/\sigma)` and of the denoiser :math:`D(x_t, t) \approx E[y \mid x_t]`:

.. math::
    \hat\epsilon = \frac{x_t - \alpha D}{\sigma}, \qquad \nabla \log p_t = \frac{\alpha D - x_t}{\sigma^2}, \qquad
    \frac{dx}{dt} = \alpha' D + \sigma' \hat\epsilon .

In the coordinate :math:`w = x_t / \sqrt{\alpha^2 + \sigma^2}`, with :math:`a^2 = \mathrm{sigmoid}(2\lambda)`, the same flow reads
:math:`dw/d\lambda = a\,(D - a w)` for every path (:math:`a' = a s^2, s' = -s a^2, a^2 + s^2 = 1`), so that paths differ only
in where time is spent and one solver serves all.

A network output F becomes the denoiser by one pair, :math:`D = c_{skip}\,x_t + c_{out}\,F` (Karras et al., 2022,
arXiv:2206.00364, for :math:`\alpha = 1`; here on every path). A loss is :math:`E_t\, w(\lambda)\,|D - y|^2`; with density p of
lambda, the weight :math:`e^{2\lambda}/p(\lambda)` gives :math:`\int |\epsilon - \hat\epsilon|^2 d\lambda`, the variational
bound's (Kingma et al., 2021).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from genalloy.core.spec import Value

Denoiser = Callable[[Tensor, Tensor], Tensor]
r"""(x_t (\*B, \*E), t broadcastable to (\*B)) -> E[y | x_t], (\*B, \*E)."""

Window = tuple[float, float]
"""Smallest and largest lambda between which a model is trained, sampled and scored."""


class Path(Value, ABC):
    r""":math:`\alpha(t), \sigma(t)`, their derivatives, :math:`\lambda(t)` and its exact inverse; elementwise on t in [0, 1].

    Paths are values: two of equal settings are equal, and models are compared by them.
    """

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """The factor of the data, in the shape of t; 1 at t = 0 or near it."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """The standard deviation of the noise, in the shape of t."""

    @abstractmethod
    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        r""":math:`(d\alpha/dt, d\sigma/dt)`, each in the shape of t."""

    @abstractmethod
    def time(self, lam: Tensor) -> Tensor:
        """The t with lambda(t) = lam, in closed form: no table, no rounding; in the shape of lam."""

    def lam(self, t: Tensor) -> Tensor:
        r""":math:`\lambda = \log(\alpha/\sigma)`; infinite where a path ends in pure data or pure noise."""
        return self.alpha(t).log() - self.sigma(t).log()

    def noised(self, y: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        r""":math:`x_t = \alpha y + \sigma \epsilon`; y, eps (\*B, \*E), t broadcastable to them."""
        return self.alpha(t) * y + self.sigma(t) * eps

    def scale(self, t: Tensor) -> Tensor:
        r""":math:`\sqrt{\alpha^2 + \sigma^2}`: standard deviation of x_t for data of unit variance."""
        return (self.alpha(t).square() + self.sigma(t).square()).sqrt()

    def clip(self, window: Window) -> Window:
        r"""The part of a window of :math:`\lambda` that the path reaches between t = 1 and t = 0."""
        ends = torch.tensor([1.0, 0.0], dtype=torch.float64)
        low, high = self.lam(ends).tolist()
        return max(window[0], low), min(window[1], high)

    @property
    def ends_in_noise(self) -> bool:
        r"""Whether :math:`\alpha(1) < 10^{-6}`: no trace of the data is left."""
        return float(self.alpha(torch.ones((), dtype=torch.float64))) < 1e-6


@dataclass(frozen=True)
class LinearPath(Path):
    r""":math:`\alpha = 1 - t, \sigma = t`: the straight path of flow matching and of rectified flow.

    Lipman et al., 2023, arXiv:2210.02747; Liu et al., 2023, arXiv:2209.03003.
    """

    def alpha(self, t: Tensor) -> Tensor:
        """1 - t."""
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        """t."""
        return t

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(-1, 1)."""
        return -torch.ones_like(t), torch.ones_like(t)

    def time(self, lam: Tensor) -> Tensor:
        r""":math:`\mathrm{sigmoid}(-\lambda)`."""
        return torch.sigmoid(-lam)


@dataclass(frozen=True)
class CosinePath(Path):
    r""":math:`\alpha = \cos(\pi t / 2), \sigma = \sin(\pi t / 2)` (after Nichol & Dhariwal, 2021, arXiv:2102.09672)."""

    def alpha(self, t: Tensor) -> Tensor:
        r""":math:`\sin(\pi (1 - t) / 2)`, which is :math:`\cos(\pi t / 2)` and exactly 0 at t = 1."""
        return torch.sin(0.5 * math.pi * (1 - t))

    def sigma(self, t: Tensor) -> Tensor:
        r""":math:`\sin(\pi t / 2)`."""
        return torch.sin(0.5 * math.pi * t)

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        r""":math:`\tfrac\pi2 (-\sigma, \alpha)`."""
        half = 0.5 * math.pi
        return -half * self.sigma(t), half * self.alpha(t)

    def time(self, lam: Tensor) -> Tensor:
        r""":math:`\tfrac2\pi \arctan e^{-\lambda}`."""
        return torch.atan(torch.exp(-lam)) * (2 / math.pi)


def _log_alpha(t: Tensor, low: float, high: float) -> Tensor:
    return -t * (0.25 * (high - low) * t + 0.5 * low)


def _time_of_log_alpha(minus: Tensor, low: float, high: float) -> Tensor:
    """Root of (high - low) t^2 / 4 + low t / 2 = minus, in the form that does not cancel at small t."""
    return 2 * minus / (0.5 * low + (0.25 * low**2 + (high - low) * minus).sqrt())


@dataclass(frozen=True)
class VariancePreserving(Path):
    r""":math:`\log \alpha = -(b_1 - b_0) t^2/4 - b_0 t/2, \sigma^2 = 1 - \alpha^2`: DDPM in continuous time.

    Song et al., 2021, arXiv:2011.13456. low, high: b_0 and b_1, the rates of noise at t = 0 and t = 1.
    """

    low: float = 0.1
    high: float = 20.0

    def alpha(self, t: Tensor) -> Tensor:
        r""":math:`e^{\log \alpha}` by the class's formula, about 0.007 at t = 1 by default: some data are left."""
        return _log_alpha(t, self.low, self.high).exp()

    def sigma(self, t: Tensor) -> Tensor:
        r""":math:`\sqrt{1 - \alpha^2}`, by expm1 and so without cancellation at small t."""
        return (-torch.expm1(2 * _log_alpha(t, self.low, self.high))).sqrt()

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        r""":math:`(-\tfrac12 \beta \alpha, \tfrac12 \beta \alpha^2 / \sigma)`, :math:`\beta = b_0 + (b_1 - b_0) t`."""
        alpha, beta = self.alpha(t), self.low + (self.high - self.low) * t
        return -0.5 * beta * alpha, 0.5 * beta * alpha.square() / self.sigma(t)

    def time(self, lam: Tensor) -> Tensor:
        r"""The root of a quadratic in t, from :math:`-\log \alpha = \tfrac12 \mathrm{softplus}(-2\lambda)`."""
        return _time_of_log_alpha(0.5 * F.softplus(-2 * lam), self.low, self.high)


@dataclass(frozen=True)
class SubVariancePreserving(Path):
    r""":math:`\alpha` as in VariancePreserving, :math:`\sigma = 1 - \alpha^2` (Song et al., 2021, arXiv:2011.13456)."""

    low: float = 0.1
    high: float = 20.0

    def alpha(self, t: Tensor) -> Tensor:
        """As in VariancePreserving."""
        return _log_alpha(t, self.low, self.high).exp()

    def sigma(self, t: Tensor) -> Tensor:
        r""":math:`1 - \alpha^2`, by expm1."""
        return -torch.expm1(2 * _log_alpha(t, self.low, self.high))

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        r""":math:`(-\tfrac12 \beta \alpha, \beta \alpha^2)`, :math:`\beta = b_0 + (b_1 - b_0) t`."""
        alpha, beta = self.alpha(t), self.low + (self.high - self.low) * t
        return -0.5 * beta * alpha, beta * alpha.square()

    def time(self, lam: Tensor) -> Tensor:
        r"""The root of a quadratic in t, from :math:`-\log \alpha = \mathrm{arsinh}(\tfrac12 e^{-\lambda})`."""
        return _time_of_log_alpha(torch.asinh(0.5 * torch.exp(-lam)), self.low, self.high)


@dataclass(frozen=True)
class VarianceExploding(Path):
    r""":math:`\alpha = 1, \sigma = low\,(high/low)^t`; low must lie well below the data's finest detail.

    Song & Ermon, 2019, arXiv:1907.05600; in continuous time Song et al., 2021, arXiv:2011.13456.
    """

    low: float = 0.005
    high: float = 50.0

    def alpha(self, t: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        r""":math:`low\,(high/low)^t`, in units of the data."""
        return self.low * torch.exp(t * math.log(self.high / self.low))

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        r""":math:`(0, \sigma \log(high/low))`."""
        return torch.zeros_like(t), self.sigma(t) * math.log(self.high / self.low)

    def time(self, lam: Tensor) -> Tensor:
        r""":math:`(-\lambda - \log low) / \log(high/low)`."""
        return (-lam - math.log(self.low)) / math.log(self.high / self.low)


@dataclass(frozen=True)
class Karras(Path):
    r""":math:`\alpha = 1, \sigma^{1/\rho}` linear in t from `low` to `high` (EDM: Karras et al., 2022, arXiv:2206.00364)."""

    low: float = 0.002
    high: float = 80.0
    rho: float = 7.0

    def alpha(self, t: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(t)

    def _root(self, t: Tensor) -> tuple[Tensor, float]:
        low, high = self.low ** (1 / self.rho), self.high ** (1 / self.rho)
        return low + t * (high - low), high - low

    def sigma(self, t: Tensor) -> Tensor:
        r""":math:`(low^{1/\rho} + t\,(high^{1/\rho} - low^{1/\rho}))^\rho`, in units of the data."""
        return self._root(t)[0] ** self.rho

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        r""":math:`(0, d\sigma/dt)`."""
        root, slope = self._root(t)
        return torch.zeros_like(t), self.rho * slope * root ** (self.rho - 1)

    def time(self, lam: Tensor) -> Tensor:
        r""":math:`(e^{-\lambda/\rho} - low^{1/\rho}) / (high^{1/\rho} - low^{1/\rho})`."""
        low, high = self.low ** (1 / self.rho), self.high ** (1 / self.rho)
        return (torch.exp(-lam / self.rho) - low) / (high - low)


class Diffuses(Protocol):
    r"""What samplers and estimators ask of a diffusion beyond `denoise`: its path, its window, and its coordinates y.

    embed(x) gives y, the coordinates in which the path acts and `denoise` speaks, and :math:`\log |dy/dx|`.
    """

    path: Path
    window: Window
    event_shape: torch.Size
    measure: Any
    observation: Any

    def denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        r"""E[y | x_t] for x_t (\*B, \*E) and t broadcastable to (\*B)."""

    def embed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""y (\*B, \*E) of x (\*B, \*E), and :math:`\log |dy/dx|`, (\*B), nats."""


def even(low: float, high: float, count: int) -> Tensor:
    """(count,) evenly spaced from low to high, in double precision."""
    return torch.linspace(low, high, count, dtype=torch.float64)


def stratified(count: int, like: Tensor) -> Tensor:
    """(count,) one uniform level in each of `count` equal strata, in random order."""
    jitter = torch.rand(count, dtype=like.dtype, device=like.device)
    return (torch.randperm(count, device=like.device) + jitter) / count


def expand_time(t: Tensor, x: Tensor, event_dims: int) -> Tensor:
    r"""t (broadcastable to \*B) with the event's axes appended, for arithmetic with x (\*B, \*E)."""
    batch = x.shape[: x.dim() - event_dims]
    return t.to(x.dtype).expand(batch).reshape(*batch, *(1,) * event_dims)
