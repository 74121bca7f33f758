r"""Markov chain kernels, and the unadjusted Langevin algorithm.

An energy E defines p(x) proportional to exp(-E(x)). A kernel is a frozen value that moves chains x a number of steps
towards p. Discretising the Langevin diffusion dx = -grad E(x)/2 dt + dW at step :math:`\alpha`,

.. math:: x' = x - \tfrac{\alpha}{2} \nabla E(x) + \sqrt{\alpha T}\,\epsilon, \qquad \epsilon \sim N(0, I),

whose stationary law for E = x^2/2 has variance :math:`T / (1 - \alpha/4)`: biased, since nothing is rejected. Step and noise are
tied. T = 1 samples p; any other T samples close to :math:`p^{1/T}` and says so (the chains of Du & Mordatch, 2019,
arXiv:1903.08689, and Grathwohl et al., 2020, arXiv:1912.03263, are of this sort).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from genalloy.core.spec import Value

Energy = Callable[[Tensor], Tensor]
"""x (\\*B, \\*E) -> energies (\\*B)."""


class Moved(NamedTuple):
    """Chains after a kernel ran, and the share of accepted proposals, (\\*B) in [0, 1]."""

    x: Tensor
    accepted: Tensor


class Kernel(Value, ABC):
    r"""Moves chains (\*B, \*E) towards exp(-E). adjusted: whether p is left invariant exactly (a Metropolis test)."""

    adjusted: bool = False

    @abstractmethod
    def run(self, energy: Energy, x: Tensor) -> Moved:
        r"""Chains x (\*B, \*E), each on its own, after the kernel's steps; no gradient reaches the energy's parameters."""

    @property
    @abstractmethod
    def label(self) -> str:
        """What the samples are, in words."""

    @abstractmethod
    def scaled(self, factor: float | Tensor) -> Kernel:
        """The same kernel with its step size multiplied."""

    def __call__(self, energy: Energy, x: Tensor) -> Tensor:
        r"""The moved chains (\*B, \*E). Raises FloatingPointError where one of them is no longer finite."""
        moved = self.run(energy, x).x
        if not bool(torch.isfinite(moved).all()):
            raise FloatingPointError(
                f"{self!r}: a chain left the finite numbers; make the step smaller, or confine the energy (a base, energy l2)"
            )
        return moved


def slope(energy: Energy, x: Tensor) -> tuple[Tensor, Tensor]:
    r"""E(x), (\*B), and its gradient (\*B, \*E) with respect to x alone; the graph is dropped."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value = energy(x)
        (gradient,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), gradient


def rows(value: Tensor, x: Tensor) -> Tensor:
    """(\\*B) made to broadcast against (\\*B, \\*E)."""
    return value.reshape(*value.shape, *(1,) * (x.dim() - value.dim()))


def square_norm(x: Tensor, batch_dims: int) -> Tensor:
    r"""Sum of squares over all but the first `batch_dims` axes, (\*B)."""
    return x.square().flatten(batch_dims).sum(-1) if x.dim() > batch_dims else x.square()


@dataclass(frozen=True)
class Langevin(Kernel):
    r""":math:`x - \tfrac\alpha2 \nabla E(x) + \sqrt{\alpha T}\,\epsilon` without a test, see the module for its bias.

    step_size: alpha, in squared units of x. temperature: T. noise=False: descent, no sampler. A move to infinite energy (out of a
    bounded support) is not made; the share of moves made is what `run` calls accepted.
    """

    steps: int = 60
    step_size: float = 0.01
    temperature: float = 1.0
    noise: bool = True

    def run(self, energy: Energy, x: Tensor) -> Moved:
        r"""Chains x (\*B, \*E) after `steps` moves, and the share of moves made (\*B)."""
        spread = math.sqrt(self.step_size * self.temperature) if self.noise else 0.0
        x = x.detach()
        value, gradient = slope(energy, x)
        stayed = torch.zeros_like(value)
        for _ in range(self.steps):
            there = x - 0.5 * self.step_size * gradient
            if self.noise:
                there = there + spread * torch.randn_like(x)
            next_value, next_gradient = slope(energy, there)
            # an infinite energy is no place of the support: such a move is not made
            out = next_value == math.inf
            x, gradient = (torch.where(rows(out, x), a, b) for a, b in ((x, there), (gradient, next_gradient)))
            stayed = stayed + out
        return Moved(x, 1 - stayed / max(self.steps, 1))

    def scaled(self, factor: float | Tensor) -> Langevin:
        """The same with alpha times the factor."""
        return Langevin(self.steps, self.step_size * float(factor), self.temperature, self.noise)

    @property
    def label(self) -> str:
        """Steps, step size, and any temperature or silence in words."""
        tempered = "" if self.temperature == 1.0 else f", tempered at T={self.temperature:g}"
        silent = "" if self.noise else ", without noise (descent, not sampling)"
        return f"unadjusted Langevin, {self.steps} steps of {self.step_size:g}{tempered}{silent}"
