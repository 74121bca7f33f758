r"""Metropolis-adjusted Langevin (Roberts & Tweedie, 1996): a Langevin step y ~ q(y|x) = N(x - a/2 grad E(x), a I),

accepted with probability :math:`\min(1, e^{E(x) - E(y)} q(x|y) / q(y|x))`, which leaves exp(-E) invariant at any step a.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from genalloy.mcmc.langevin import Energy, Kernel, Moved, rows, slope, square_norm


@dataclass(frozen=True)
class MALA(Kernel):
    """Metropolis-adjusted Langevin steps, see the module; leaves exp(-E) invariant exactly.

    step_size: a, in squared units of x; about 57 % of the proposals are accepted at the best one.
    """

    steps: int = 60
    step_size: float = 0.01
    adjusted = True

    def run(self, energy: Energy, x: Tensor) -> Moved:
        r"""Chains x (\*B, \*E) after `steps` proposals, and the share accepted (\*B)."""
        x = x.detach()
        value, gradient = slope(energy, x)
        accepted = torch.zeros_like(value)
        for _ in range(self.steps):
            y = x - 0.5 * self.step_size * gradient + self.step_size**0.5 * torch.randn_like(x)
            new_value, new_gradient = slope(energy, y)
            there = square_norm(y - x + 0.5 * self.step_size * gradient, value.dim())
            back = square_norm(x - y + 0.5 * self.step_size * new_gradient, value.dim())
            log_ratio = value - new_value + (there - back) / (2 * self.step_size)
            take = torch.rand_like(value).log() < log_ratio  # a NaN proposal compares false and is refused
            accepted = accepted + take
            x = torch.where(rows(take, x), y, x)
            gradient = torch.where(rows(take, x), new_gradient, gradient)
            value = torch.where(take, new_value, value)
        return Moved(x, accepted / max(self.steps, 1))

    def scaled(self, factor: float | Tensor) -> MALA:
        """The same with a times the factor."""
        return replace(self, step_size=self.step_size * float(factor))

    @property
    def label(self) -> str:
        """Steps and step size in words."""
        return f"MALA, {self.steps} steps of {self.step_size:g}"
