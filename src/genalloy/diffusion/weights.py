r"""Weights of the denoising loss, functions of :math:`\lambda = \log(\alpha/\sigma)`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from genalloy.core.spec import Value


class Weight(Value, ABC):
    """Factor of |D - y|^2."""

    @abstractmethod
    def __call__(self, lam: Tensor, density: Tensor, unit: Tensor) -> Tensor:
        """lambda, its density under the time distribution, and the parameterisation's unit weight; all (\\*B)."""


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
