r"""Parameterisations: how a network output F becomes the denoiser, :math:`D = c_{skip}\,x_t + c_{out}\,F`, on any path."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from genalloy.core.spec import Value
from genalloy.diffusion.paths import Path


class Parameterisation(Value, ABC):
    r"""What the network's output F means: :math:`D = c_{skip}\,x_t + c_{out}\,F`. `width` outputs an element.

    The form is that of Karras et al., 2022, arXiv:2206.00364, here on every path.
    """

    width: int = 1

    @abstractmethod
    def pair(self, path: Path, t: Tensor) -> tuple[Tensor, Tensor]:
        """:math:`(c_{skip}, c_{out})` at times t, each in the shape of t."""

    def denoised(self, output: Tensor, x_t: Tensor, path: Path, t: Tensor) -> Tensor:
        r"""output (\*B, \*E, width), x_t (\*B, \*E), t broadcastable to x_t -> D (\*B, \*E)."""
        skip, out = self.pair(path, t)
        return skip * x_t + out * output.squeeze(-1)

    def logits(self, output: Tensor) -> Tensor | None:
        r"""Unnormalised log-probabilities (\*B, \*E, K) of grid levels before x_t's own likelihood, or None."""
        return None

    def unit_weight(self, path: Path, t: Tensor) -> Tensor:
        """The weight of :math:`|D - y|^2` that is plain regression of F: :math:`1 / c_{out}^2`, in the shape of t."""
        return self.pair(path, t)[1].square().reciprocal()

    def refuse(self, path: Path) -> None:
        """Raises ValueError where :math:`(c_{skip}, c_{out})` is singular on this path; does nothing elsewhere."""


@dataclass(frozen=True)
class X0(Parameterisation):
    """F = D: :math:`c_{skip} = 0, c_{out} = 1`. With unit weight the low noise levels starve: the likelihood is nats off."""

    def pair(self, path: Path, t: Tensor) -> tuple[Tensor, Tensor]:
        """(0, 1)."""
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
    r""":math:`F = \hat\epsilon`: :math:`c_{skip} = 1/\alpha, c_{out} = -\sigma/\alpha` (Ho et al., 2020, arXiv:2006.11239)."""

    def pair(self, path: Path, t: Tensor) -> tuple[Tensor, Tensor]:
        r""":math:`(1/\alpha, -\sigma/\alpha)`; infinite where alpha is 0."""
        alpha = path.alpha(t)
        return 1 / alpha, -path.sigma(t) / alpha

    def refuse(self, path: Path) -> None:
        """Raises ValueError on a path that ends in pure noise."""
        _refuse_without_data(self, path)


@dataclass(frozen=True)
class Score(Parameterisation):
    r""":math:`F = \nabla \log p_t`: :math:`c_{skip} = 1/\alpha, c_{out} = \sigma^2/\alpha`.

    Song & Ermon, 2019, arXiv:1907.05600.
    """

    def pair(self, path: Path, t: Tensor) -> tuple[Tensor, Tensor]:
        r""":math:`(1/\alpha, \sigma^2/\alpha)`; infinite where alpha is 0."""
        alpha = path.alpha(t)
        return 1 / alpha, path.sigma(t).square() / alpha

    def refuse(self, path: Path) -> None:
        """Raises ValueError on a path that ends in pure noise."""
        _refuse_without_data(self, path)


@dataclass(frozen=True)
class V(Parameterisation):
    r""":math:`F = \alpha \hat\epsilon - \sigma D` where :math:`\alpha^2 + \sigma^2 = 1` (Salimans & Ho, 2022, arXiv:2202.00512).

    On every path :math:`c_{skip} = \alpha / (\alpha^2 + \sigma^2)` and :math:`c_{out} = -\sigma / (\alpha^2 + \sigma^2)`, finite
    at both ends of time.
    """

    def pair(self, path: Path, t: Tensor) -> tuple[Tensor, Tensor]:
        r""":math:`(\alpha, -\sigma) / (\alpha^2 + \sigma^2)`."""
        alpha, sigma = path.alpha(t), path.sigma(t)
        total = alpha.square() + sigma.square()
        return alpha / total, -sigma / total


@dataclass(frozen=True)
class Velocity(Parameterisation):
    r""":math:`F = dx_t/dt = \alpha' D + \sigma' \hat\epsilon` (Lipman et al., 2023, arXiv:2210.02747).

    With the determinant :math:`\delta = \alpha \sigma' - \sigma \alpha'`, :math:`c_{skip} = \sigma'/\delta` and :math:`c_{out} =
    -\sigma/\delta`.
    """

    def pair(self, path: Path, t: Tensor) -> tuple[Tensor, Tensor]:
        r""":math:`(\sigma', -\sigma) / (\alpha \sigma' - \sigma \alpha')`."""
        (alpha_rate, sigma_rate), sigma = path.rates(t), path.sigma(t)
        determinant = path.alpha(t) * sigma_rate - sigma * alpha_rate
        return sigma_rate / determinant, -sigma / determinant


@dataclass(frozen=True)
class Edm(Parameterisation):
    r"""F of unit variance at every noise level, for data of standard deviation `sd` (Karras et al., 2022, arXiv:2206.00364).

    With total variance :math:`v = \alpha^2 sd^2 + \sigma^2`, :math:`c_{skip} = \alpha\,sd^2 / v` and :math:`c_{out} = \sigma\,sd
    / \sqrt v`.
    """

    sd: float = 1.0

    def pair(self, path: Path, t: Tensor) -> tuple[Tensor, Tensor]:
        r""":math:`(\alpha\,sd^2 / v, \sigma\,sd / \sqrt v)`; c_skip is the regression of y on x_t for data of variance sd^2."""
        alpha, sigma = path.alpha(t), path.sigma(t)
        total = (alpha * self.sd).square() + sigma.square()
        return alpha * self.sd**2 / total, sigma * self.sd / total.sqrt()


@dataclass(frozen=True)
class Levels(Parameterisation):
    r"""F = K logits an element, for data on K evenly spaced levels :math:`l_k` of [-1, 1].

    By Bayes, :math:`p(y_i = l_k \mid x_t) \propto p(y_i = l_k \mid x_{t,-i})\, N(x_{t,i}; \alpha l_k, \sigma^2)`: the network
    gives the first factor, the second is known, and D is the mean. Exact at both ends of time, and a network of constant
    logits is already the model of independent pixels (the posterior of Chen, Zhang & Hinton, 2023, arXiv:2208.04202, with the
    element's own likelihood divided out).
    """

    levels: int = 2

    @property
    def width(self) -> int:  # type: ignore[override]
        """K, the number of levels."""
        return self.levels

    def pair(self, path: Path, t: Tensor) -> tuple[Tensor, Tensor]:
        """Raises ValueError: D is a mean of levels, not linear in F."""
        raise ValueError("Levels() gives masses of levels, from which D is a mean: there is no pair (c_skip, c_out)")

    def denoised(self, output: Tensor, x_t: Tensor, path: Path, t: Tensor) -> Tensor:
        r""":math:`D = \sum_k l_k\, p(y = l_k \mid x_t)`, (\*B, \*E), from logits (\*B, \*E, K)."""
        grid = level_grid(self.levels, x_t)
        return (level_log_probs(output, x_t, path, t).exp() * grid).sum(-1)

    def logits(self, output: Tensor) -> Tensor:
        r"""The output itself, (\*B, \*E, K)."""
        return output

    def unit_weight(self, path: Path, t: Tensor) -> Tensor:
        """One: the loss is that of D."""
        return torch.ones_like(t)


def level_grid(levels: int, like: Tensor) -> Tensor:
    """(levels,) evenly spaced in [-1, 1], in the dtype and on the device of `like`."""
    return torch.linspace(-1.0, 1.0, levels, dtype=like.dtype, device=like.device)


def level_log_probs(logits: Tensor, x_t: Tensor, path: Path, t: Tensor) -> Tensor:
    r""":math:`\log p(y = l_k \mid x_t)`, (\*B, \*E, K), nats, from logits before x_t's own likelihood (zeros: a flat prior)."""
    distance = (x_t.unsqueeze(-1) - path.alpha(t).unsqueeze(-1) * level_grid(logits.shape[-1], x_t)).square()
    return (logits - 0.5 * distance / path.sigma(t).square().unsqueeze(-1)).log_softmax(-1)
