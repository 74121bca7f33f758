r"""Diffusion paths, parameterisations, weights and time distributions: four values that make every diffusion model.

A path noises data y into :math:`x_t = \alpha(t)\,y + \sigma(t)\,\epsilon`, t = 0 data, t = 1 noise. Everything else is a
function of :math:`\lambda = \log(\alpha/\sigma)` and of the denoiser :math:`D(x_t, t) \approx E[y \mid x_t]`:

.. math::
    \hat\epsilon = \frac{x_t - \alpha D}{\sigma}, \qquad \nabla \log p_t = \frac{\alpha D - x_t}{\sigma^2}, \qquad
    \frac{dx}{dt} = \alpha' D + \sigma' \hat\epsilon .

In the coordinate :math:`w = x_t / \sqrt{\alpha^2 + \sigma^2}`, with :math:`a^2 = \mathrm{sigmoid}(2\lambda)`, the same flow reads
:math:`dw/d\lambda = a\,(D - a w)` for every path (:math:`a' = a s^2, s' = -s a^2, a^2 + s^2 = 1`), so that paths differ only
in where time is spent and one solver serves all.

A network output F becomes the denoiser by one pair, :math:`D = c_{skip}\,x_t + c_{out}\,F` (Karras et al., 2022, for
:math:`\alpha = 1`; here on every path). A loss is :math:`E_t\, w(\lambda)\,|D - y|^2`; with density p of lambda, the
weight :math:`e^{2\lambda}/p(\lambda)` gives :math:`\int |\epsilon - \hat\epsilon|^2 d\lambda`, the variational bound's (Kingma
et al., 2021).
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
    """alpha(t), sigma(t), their derivatives, lambda(t) and its exact inverse; elementwise on tensors in [0, 1]."""

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor: ...

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor: ...

    @abstractmethod
    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(d alpha/dt, d sigma/dt)."""

    @abstractmethod
    def time(self, lam: Tensor) -> Tensor:
        """The t with lambda(t) = lam, in closed form: no table, no rounding."""

    def lam(self, t: Tensor) -> Tensor:
        """log(alpha/sigma); infinite where a path ends in pure data or pure noise."""
        return self.alpha(t).log() - self.sigma(t).log()

    def noised(self, y: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        r"""alpha y + sigma eps; y, eps (\*B, \*E), t broadcastable to them."""
        return self.alpha(t) * y + self.sigma(t) * eps

    def scale(self, t: Tensor) -> Tensor:
        """sqrt(alpha^2 + sigma^2): standard deviation of x_t for data of unit variance."""
        return (self.alpha(t).square() + self.sigma(t).square()).sqrt()

    def clip(self, window: Window) -> Window:
        """The part of a lambda window that the path reaches."""
        ends = torch.tensor([1.0, 0.0], dtype=torch.float64)
        low, high = self.lam(ends).tolist()
        return max(window[0], low), min(window[1], high)

    @property
    def ends_in_noise(self) -> bool:
        """Whether alpha(1) = 0: no trace of the data is left."""
        return float(self.alpha(torch.ones((), dtype=torch.float64))) < 1e-6


@dataclass(frozen=True)
class LinearPath(Path):
    """alpha = 1 - t, sigma = t: flow matching's straight path (Lipman et al., 2023; Liu et al., 2023)."""

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        return t

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return -torch.ones_like(t), torch.ones_like(t)

    def time(self, lam: Tensor) -> Tensor:
        return torch.sigmoid(-lam)


@dataclass(frozen=True)
class CosinePath(Path):
    """alpha = cos(pi t / 2), sigma = sin(pi t / 2) (after Nichol & Dhariwal, 2021)."""

    def alpha(self, t: Tensor) -> Tensor:
        return torch.sin(0.5 * math.pi * (1 - t))

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sin(0.5 * math.pi * t)

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        half = 0.5 * math.pi
        return -half * self.sigma(t), half * self.alpha(t)

    def time(self, lam: Tensor) -> Tensor:
        return torch.atan(torch.exp(-lam)) * (2 / math.pi)


def _log_alpha(t: Tensor, low: float, high: float) -> Tensor:
    return -t * (0.25 * (high - low) * t + 0.5 * low)


def _time_of_log_alpha(minus: Tensor, low: float, high: float) -> Tensor:
    """Root of (high - low) t^2 / 4 + low t / 2 = minus, in the form that does not cancel at small t."""
    return 2 * minus / (0.5 * low + (0.25 * low**2 + (high - low) * minus).sqrt())


@dataclass(frozen=True)
class VariancePreserving(Path):
    """log alpha = -(b1 - b0) t^2/4 - b0 t/2, sigma^2 = 1 - alpha^2: DDPM in continuous time (Song et al., 2021)."""

    low: float = 0.1
    high: float = 20.0

    def alpha(self, t: Tensor) -> Tensor:
        return _log_alpha(t, self.low, self.high).exp()

    def sigma(self, t: Tensor) -> Tensor:
        return (-torch.expm1(2 * _log_alpha(t, self.low, self.high))).sqrt()

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, beta = self.alpha(t), self.low + (self.high - self.low) * t
        return -0.5 * beta * alpha, 0.5 * beta * alpha.square() / self.sigma(t)

    def time(self, lam: Tensor) -> Tensor:
        return _time_of_log_alpha(0.5 * F.softplus(-2 * lam), self.low, self.high)


@dataclass(frozen=True)
class SubVariancePreserving(Path):
    """alpha as in VariancePreserving, sigma = 1 - alpha^2 (Song et al., 2021)."""

    low: float = 0.1
    high: float = 20.0

    def alpha(self, t: Tensor) -> Tensor:
        return _log_alpha(t, self.low, self.high).exp()

    def sigma(self, t: Tensor) -> Tensor:
        return -torch.expm1(2 * _log_alpha(t, self.low, self.high))

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, beta = self.alpha(t), self.low + (self.high - self.low) * t
        return -0.5 * beta * alpha, beta * alpha.square()

    def time(self, lam: Tensor) -> Tensor:
        return _time_of_log_alpha(torch.asinh(0.5 * torch.exp(-lam)), self.low, self.high)


@dataclass(frozen=True)
class VarianceExploding(Path):
    """alpha = 1, sigma = low (high/low)^t (Song & Ermon, 2019); low must lie well below the data's finest detail."""

    low: float = 0.005
    high: float = 50.0

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return self.low * torch.exp(t * math.log(self.high / self.low))

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(t), self.sigma(t) * math.log(self.high / self.low)

    def time(self, lam: Tensor) -> Tensor:
        return (-lam - math.log(self.low)) / math.log(self.high / self.low)


@dataclass(frozen=True)
class Karras(Path):
    """alpha = 1, sigma^(1/rho) linear in t (Karras et al., 2022, "EDM")."""

    low: float = 0.002
    high: float = 80.0
    rho: float = 7.0

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def _root(self, t: Tensor) -> tuple[Tensor, float]:
        low, high = self.low ** (1 / self.rho), self.high ** (1 / self.rho)
        return low + t * (high - low), high - low

    def sigma(self, t: Tensor) -> Tensor:
        return self._root(t)[0] ** self.rho

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        root, slope = self._root(t)
        return torch.zeros_like(t), self.rho * slope * root ** (self.rho - 1)

    def time(self, lam: Tensor) -> Tensor:
        low, high = self.low ** (1 / self.rho), self.high ** (1 / self.rho)
        return (torch.exp(-lam / self.rho) - low) / (high - low)


class Diffuses(Protocol):
    """What samplers and estimators ask of a diffusion beyond `denoise`: its path, its window, and its coordinates y.

    embed(x) = (y, log |dy/dx|) are the coordinates in which the path acts and `denoise` speaks.
    """

    path: Path
    window: Window
    event_shape: torch.Size
    measure: Any
    observation: Any

    def denoise(self, x_t: Tensor, t: Tensor) -> Tensor: ...
    def embed(self, x: Tensor) -> tuple[Tensor, Tensor]: ...


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
