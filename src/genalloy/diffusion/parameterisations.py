r"""Parameterisations: how a network output F becomes the denoiser, :math:`D = c_{skip}\,x_t + c_{out}\,F`, on any path."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from genalloy.core.spec import Value
from genalloy.diffusion.paths import Path


class Parameterisation(Value, ABC):
    r"""What the network's output F means: D = c_skip x_t + c_out F. `width` outputs an element."""

    width: int = 1

    @abstractmethod
    def pair(self, path: Path, t: Tensor) -> tuple[Tensor, Tensor]:
        """(c_skip, c_out) at times t."""

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

    def pair(self, path: Path, t: Tensor) -> tuple[Tensor, Tensor]:
        raise ValueError("Levels() gives masses of levels, from which D is a mean: there is no pair (c_skip, c_out)")

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
