"""Time distributions: which noise levels training and bounds look at."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from genalloy.core.spec import Value
from genalloy.diffusion.paths import Path, Window


class Times(Value, ABC):
    """A distribution of lambda on a window, through its inverse distribution function: strata of u become strata of lambda.

    Bounds and the Likelihood() weight divide by its density, so that there any choice estimates the same integral, with another
    variance; under weights that do not, the choice is part of the loss.
    """

    @abstractmethod
    def quantile(self, u: Tensor, path: Path, window: Window) -> tuple[Tensor, Tensor]:
        r""":math:`(\lambda, p(\lambda))` at levels u in [0, 1], both in the shape of u; window: (smallest, largest) lambda."""


@dataclass(frozen=True)
class UniformLambda(Times):
    """Uniform in lambda: the variational bound with weight one (Kingma et al., 2021, arXiv:2107.00630)."""

    def quantile(self, u: Tensor, path: Path, window: Window) -> tuple[Tensor, Tensor]:
        r""":math:`\lambda = low + (high - low) u`, of constant density."""
        low, high = window
        return low + (high - low) * u, torch.full_like(u, 1 / (high - low))


@dataclass(frozen=True)
class UniformTime(Times):
    r"""Uniform in the path's own t: :math:`p(\lambda) = 1 / (|d\lambda/dt|\,(t_1 - t_0))`."""

    def quantile(self, u: Tensor, path: Path, window: Window) -> tuple[Tensor, Tensor]:
        """lambda at evenly spread times, falling in u, and its density."""
        last, first = path.time(u.new_tensor(window))
        t = first + (last - first) * u
        alpha_rate, sigma_rate = path.rates(t)
        slope = (sigma_rate / path.sigma(t) - alpha_rate / path.alpha(t)).abs()
        return path.lam(t), 1 / (slope * (last - first))


@dataclass(frozen=True)
class LogisticLambda(Times):
    """Logistic in lambda, truncated to the window: most weight where the denoiser's error changes.

    centre, spread: location and scale of the logistic, in units of lambda.
    """

    centre: float = 0.5
    spread: float = 1.0

    def quantile(self, u: Tensor, path: Path, window: Window) -> tuple[Tensor, Tensor]:
        """The truncated logistic's quantile and density."""
        ends = torch.sigmoid((u.new_tensor(window) - self.centre) / self.spread)
        p = ends[0] + (ends[1] - ends[0]) * u
        density = p * (1 - p) / (self.spread * (ends[1] - ends[0]))
        return self.centre + self.spread * torch.logit(p), density


@dataclass(frozen=True)
class LogNormalSigma(Times):
    r""":math:`\log(\sigma/\alpha)` normal, truncated to the window (Karras et al., 2022, arXiv:2206.00364).

    mean, sd: of log(sigma/alpha), at the paper's values.
    """

    mean: float = -1.2
    sd: float = 1.2

    def quantile(self, u: Tensor, path: Path, window: Window) -> tuple[Tensor, Tensor]:
        """The truncated normal's quantile and density, in lambda = -log(sigma/alpha)."""
        normal = torch.distributions.Normal(-self.mean, self.sd, validate_args=False)
        ends = normal.cdf(u.new_tensor(window))
        lam = normal.icdf(ends[0] + (ends[1] - ends[0]) * u).clamp(*window)
        return lam, normal.log_prob(lam).exp() / (ends[1] - ends[0])
