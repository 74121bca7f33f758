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
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from genalloy.spec import Value

Denoiser = Callable[[Tensor, Tensor], Tensor]
r"""(x_t (\*B, \*E), t broadcastable to (\*B)) -> E[y | x_t], (\*B, \*E)."""

Window = tuple[float, float]
"""Smallest and largest lambda between which a model is trained, sampled and scored."""


class Path(Value):
    """alpha(t), sigma(t), their derivatives, lambda(t) and its exact inverse; elementwise on tensors in [0, 1]."""

    def alpha(self, t: Tensor) -> Tensor:
        raise NotImplementedError

    def sigma(self, t: Tensor) -> Tensor:
        raise NotImplementedError

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(d alpha/dt, d sigma/dt)."""
        raise NotImplementedError

    def time(self, lam: Tensor) -> Tensor:
        """The t with lambda(t) = lam, in closed form: no table, no rounding."""
        raise NotImplementedError

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
class Linear(Path):
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
class Cosine(Path):
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


class Parameterisation(Value):
    r"""What the network's output F means: D = c_skip x_t + c_out F. `width` outputs an element."""

    width: int = 1

    def pair(self, path: Path, t: Tensor) -> tuple[Tensor, Tensor]:
        """(c_skip, c_out) at times t."""
        raise NotImplementedError

    def denoised(self, output: Tensor, x_t: Tensor, path: Path, t: Tensor) -> Tensor:
        r"""output (\*B, \*E, width), x_t (\*B, \*E), t broadcastable to x_t -> D (\*B, \*E)."""
        skip, out = self.pair(path, t)
        return skip * x_t + out * output.squeeze(-1)

    def logits(self, output: Tensor) -> Tensor | None:
        """Unnormalised log-probabilities of grid levels before x_t's own likelihood; None where F is no such thing."""
        return None

    def unit_weight(self, path: Path, t: Tensor) -> Tensor:
        """The weight of |D - y|^2 that is plain regression of F: 1 / c_out^2."""
        return self.pair(path, t)[1].square().reciprocal()

    def refuse(self, path: Path) -> None:
        """Raise ValueError where the pair is singular on this path."""


@dataclass(frozen=True)
class X0(Parameterisation):
    """F = D. With unit weight the low noise levels starve: samples look fine, the likelihood is nats off."""

    def pair(self, path: Path, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(t), torch.ones_like(t)


def _refuse_without_data(head: Parameterisation, path: Path) -> None:
    """For pairs that divide by alpha."""
    if path.ends_in_noise:
        raise ValueError(
            f"{head!r} divides by alpha, and alpha(1) = 0 on {path!r}, so the first sampling step is noise over zero; "
            "use V(), Velocity() or Edm(), or a path that keeps some data at t = 1 such as VariancePreserving()"
        )


@dataclass(frozen=True)
class Eps(Parameterisation):
    """F = eps_hat (Ho et al., 2020)."""

    def pair(self, path: Path, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha = path.alpha(t)
        return 1 / alpha, -path.sigma(t) / alpha

    def refuse(self, path: Path) -> None:
        _refuse_without_data(self, path)


@dataclass(frozen=True)
class Score(Parameterisation):
    """F = grad log p_t (Song & Ermon, 2019)."""

    def pair(self, path: Path, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha = path.alpha(t)
        return 1 / alpha, path.sigma(t).square() / alpha

    def refuse(self, path: Path) -> None:
        _refuse_without_data(self, path)


@dataclass(frozen=True)
class V(Parameterisation):
    """F = alpha eps_hat - sigma D where alpha^2 + sigma^2 = 1 (Salimans & Ho, 2022); normalised on every other path."""

    def pair(self, path: Path, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = path.alpha(t), path.sigma(t)
        total = alpha.square() + sigma.square()
        return alpha / total, -sigma / total


@dataclass(frozen=True)
class Velocity(Parameterisation):
    """F = dx_t/dt = alpha' D + sigma' eps_hat (Lipman et al., 2023)."""

    def pair(self, path: Path, t: Tensor) -> tuple[Tensor, Tensor]:
        (alpha_rate, sigma_rate), sigma = path.rates(t), path.sigma(t)
        determinant = path.alpha(t) * sigma_rate - sigma * alpha_rate
        return sigma_rate / determinant, -sigma / determinant


@dataclass(frozen=True)
class Edm(Parameterisation):
    """F of unit variance at every noise level, for data of standard deviation `sd` (Karras et al., 2022)."""

    sd: float = 1.0

    def pair(self, path: Path, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = path.alpha(t), path.sigma(t)
        total = (alpha * self.sd).square() + sigma.square()
        return alpha * self.sd**2 / total, sigma * self.sd / total.sqrt()


@dataclass(frozen=True)
class Levels(Parameterisation):
    r"""F = K logits an element, for data on K evenly spaced levels :math:`l_k` of [-1, 1].

    By Bayes, :math:`p(y_i = l_k \mid x_t) \propto p(y_i = l_k \mid x_{t,-i})\, N(x_{t,i}; \alpha l_k, \sigma^2)`: the network
    gives the first factor, the second is known, and D is the mean. Exact at both ends of time, and a network of constant
    logits is already the model of independent pixels (the posterior of Chen, Zhang & Hinton, 2023, with the element's
    own likelihood divided out).
    """

    levels: int = 2

    @property
    def width(self) -> int:  # type: ignore[override]
        return self.levels

    def denoised(self, output: Tensor, x_t: Tensor, path: Path, t: Tensor) -> Tensor:
        grid = level_grid(self.levels, x_t)
        return (level_log_probs(output, x_t, path, t).exp() * grid).sum(-1)

    def logits(self, output: Tensor) -> Tensor:
        return output

    def unit_weight(self, path: Path, t: Tensor) -> Tensor:
        return torch.ones_like(t)


def level_grid(levels: int, like: Tensor) -> Tensor:
    """(levels,) evenly spaced in [-1, 1]."""
    return torch.linspace(-1.0, 1.0, levels, dtype=like.dtype, device=like.device)


def level_log_probs(logits: Tensor, x_t: Tensor, path: Path, t: Tensor) -> Tensor:
    r"""log p(y = l_k | x_t), (\*B, \*E, K), from logits before x_t's own likelihood (zeros: a flat prior)."""
    distance = (x_t.unsqueeze(-1) - path.alpha(t).unsqueeze(-1) * level_grid(logits.shape[-1], x_t)).square()
    return (logits - 0.5 * distance / path.sigma(t).square().unsqueeze(-1)).log_softmax(-1)


class Times(Value):
    """A distribution of lambda on a window, through its inverse distribution function: strata of u become strata of lambda."""

    def quantile(self, u: Tensor, path: Path, window: Window) -> tuple[Tensor, Tensor]:
        """(lambda, density p(lambda)) at levels u in [0, 1]."""
        raise NotImplementedError


@dataclass(frozen=True)
class UniformLambda(Times):
    """Uniform in lambda: the variational bound with weight one."""

    def quantile(self, u: Tensor, path: Path, window: Window) -> tuple[Tensor, Tensor]:
        low, high = window
        return low + (high - low) * u, torch.full_like(u, 1 / (high - low))


@dataclass(frozen=True)
class UniformTime(Times):
    """Uniform in the path's own t."""

    def quantile(self, u: Tensor, path: Path, window: Window) -> tuple[Tensor, Tensor]:
        last, first = path.time(u.new_tensor(window))
        t = first + (last - first) * u
        alpha_rate, sigma_rate = path.rates(t)
        slope = (sigma_rate / path.sigma(t) - alpha_rate / path.alpha(t)).abs()
        return path.lam(t), 1 / (slope * (last - first))


@dataclass(frozen=True)
class LogisticLambda(Times):
    """Logistic in lambda, truncated to the window: most weight where the denoiser's error changes."""

    centre: float = 0.5
    spread: float = 1.0

    def quantile(self, u: Tensor, path: Path, window: Window) -> tuple[Tensor, Tensor]:
        ends = torch.sigmoid((u.new_tensor(window) - self.centre) / self.spread)
        p = ends[0] + (ends[1] - ends[0]) * u
        density = p * (1 - p) / (self.spread * (ends[1] - ends[0]))
        return self.centre + self.spread * torch.logit(p), density


@dataclass(frozen=True)
class LogNormalSigma(Times):
    """log(sigma/alpha) normal, truncated to the window (Karras et al., 2022)."""

    mean: float = -1.2
    sd: float = 1.2

    def quantile(self, u: Tensor, path: Path, window: Window) -> tuple[Tensor, Tensor]:
        normal = torch.distributions.Normal(-self.mean, self.sd, validate_args=False)
        ends = normal.cdf(u.new_tensor(window))
        lam = normal.icdf(ends[0] + (ends[1] - ends[0]) * u).clamp(*window)
        return lam, normal.log_prob(lam).exp() / (ends[1] - ends[0])


class Weight(Value):
    """Factor of |D - y|^2."""

    def __call__(self, lam: Tensor, density: Tensor, unit: Tensor) -> Tensor:
        """lambda, its density under the time distribution, and the parameterisation's unit weight; all (\\*B)."""
        raise NotImplementedError


@dataclass(frozen=True)
class Likelihood(Weight):
    r"""e^{2 lambda} / p(lambda): :math:`\int |\epsilon - \hat\epsilon|^2 d\lambda`, nats (Kingma et al., 2021)."""

    def __call__(self, lam: Tensor, density: Tensor, unit: Tensor) -> Tensor:
        return torch.exp(2 * lam) / density


@dataclass(frozen=True)
class Tilted(Weight):
    r"""The bound's weight times :math:`1 + gain\,\mathrm{sigmoid}(2 (centre - \lambda))`: more on coarse structure, for samples.

    Non-increasing in lambda, so the loss is still a bound for data with noise added (Kingma & Gao, 2023).
    """

    gain: float = 3.0
    centre: float = 0.5

    def __call__(self, lam: Tensor, density: Tensor, unit: Tensor) -> Tensor:
        return torch.exp(2 * lam) / density * (1 + self.gain * torch.sigmoid(2 * (self.centre - lam)))


@dataclass(frozen=True)
class Unit(Weight):
    """Plain regression of the network's output F (Ho et al., 2020, for Eps)."""

    def __call__(self, lam: Tensor, density: Tensor, unit: Tensor) -> Tensor:
        return unit


@dataclass(frozen=True)
class MinSnr(Weight):
    """min(e^{2 lambda}, ceiling) (Hang et al., 2023)."""

    ceiling: float = 5.0

    def __call__(self, lam: Tensor, density: Tensor, unit: Tensor) -> Tensor:
        return torch.exp(2 * lam).clamp(max=self.ceiling)


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
