r"""Weights of the denoising loss, functions of :math:`\lambda = \log(\alpha/\sigma)`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from genalloy.core.spec import Value


class Weight(Value, ABC):
    """Factor of :math:`|D - y|^2` in the denoising loss; any positive one has the same optimum at every noise level."""

    @abstractmethod
    def __call__(self, lam: Tensor, density: Tensor, unit: Tensor) -> Tensor:
        r"""The weight (\*B) from lambda, its density under the times and the parameterisation's unit weight, all (\*B)."""


@dataclass(frozen=True)
class Likelihood(Weight):
    r""":math:`e^{2\lambda} / p(\lambda)`: the loss is :math:`\int |\epsilon - \hat\epsilon|^2 d\lambda`, nats.

    Kingma et al., 2021, arXiv:2107.00630 (VDM).
    """

    def __call__(self, lam: Tensor, density: Tensor, unit: Tensor) -> Tensor:
        r""":math:`e^{2\lambda} / p(\lambda)`, (\*B)."""
        return torch.exp(2 * lam) / density


@dataclass(frozen=True)
class Tilted(Weight):
    r"""The bound's weight times :math:`1 + gain\,\mathrm{sigmoid}(2 (centre - \lambda))`: more on coarse structure, for samples.

    Non-increasing in lambda, so the loss is still a bound for data with noise added (Kingma & Gao, 2023, arXiv:2303.00848).
    """

    gain: float = 3.0
    centre: float = 0.5

    def __call__(self, lam: Tensor, density: Tensor, unit: Tensor) -> Tensor:
        r"""The tilted weight, (\*B)."""
        return torch.exp(2 * lam) / density * (1 + self.gain * torch.sigmoid(2 * (self.centre - lam)))


@dataclass(frozen=True)
class Unit(Weight):
    """Plain regression of the network's output F (Ho et al., 2020, arXiv:2006.11239, for Eps)."""

    def __call__(self, lam: Tensor, density: Tensor, unit: Tensor) -> Tensor:
        r"""The parameterisation's unit weight as it is, (\*B)."""
        return unit


@dataclass(frozen=True)
class MinSnr(Weight):
    r""":math:`\min(e^{2\lambda}, ceiling)`, the signal-to-noise ratio capped (Min-SNR: Hang et al., 2023, arXiv:2303.09556)."""

    ceiling: float = 5.0

    def __call__(self, lam: Tensor, density: Tensor, unit: Tensor) -> Tensor:
        r"""The capped signal-to-noise ratio, (\*B); the density of lambda does not enter."""
        return torch.exp(2 * lam).clamp(max=self.ceiling)
