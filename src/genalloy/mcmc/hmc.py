r"""Hamiltonian Monte Carlo (Duane et al., 1987; Neal, 2011, arXiv:1206.1901).

With momentum p ~ N(0, I) and :math:`H(x, p) = E(x) + |p|^2/2`, the leapfrog integrator of step e

.. math:: p \leftarrow p - \tfrac e2 \nabla E(x); \qquad x \leftarrow x + e\,p; \qquad p \leftarrow p - \tfrac e2 \nabla E(x)

is reversible and keeps volume, so accepting with probability :math:`\min(1, e^{H - H'})` leaves exp(-E) invariant.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from genalloy.mcmc.langevin import Energy, Kernel, Moved, rows, slope, square_norm


@dataclass(frozen=True)
class HMC(Kernel):
    """Trajectories with a Metropolis test at their ends, see the module; a trajectory costs `leapfrog` gradients.

    steps: trajectories; leapfrog: integrator steps in each; step_size: e, in units of x (not squared).
    """

    steps: int = 10
    step_size: float = 0.1
    leapfrog: int = 10
    adjusted = True

    def run(self, energy: Energy, x: Tensor) -> Moved:
        r"""Chains x (\*B, \*E) after `steps` trajectories, and the share accepted (\*B)."""
        x = x.detach()
        value, gradient = slope(energy, x)
        accepted = torch.zeros_like(value)
        for _ in range(self.steps):
            p = torch.randn_like(x)
            start = value + 0.5 * square_norm(p, value.dim())
            y, p, new_value, new_gradient = self._integrate(energy, x, p, gradient)
            end = new_value + 0.5 * square_norm(p, value.dim())
            take = torch.rand_like(value).log() < start - end  # a NaN proposal compares false and is refused
            accepted = accepted + take
            x = torch.where(rows(take, x), y, x)
            gradient = torch.where(rows(take, x), new_gradient, gradient)
            value = torch.where(take, new_value, value)
        return Moved(x, accepted / max(self.steps, 1))

    def _integrate(self, energy: Energy, x: Tensor, p: Tensor, gradient: Tensor) -> tuple[Tensor, ...]:
        p = p - 0.5 * self.step_size * gradient
        for i in range(self.leapfrog):
            x = x + self.step_size * p
            value, gradient = slope(energy, x)
            p = p - self.step_size * gradient * (1.0 if i < self.leapfrog - 1 else 0.5)
        return x, p, value, gradient

    def scaled(self, factor: float | Tensor) -> HMC:
        """The same with e times the factor."""
        return replace(self, step_size=self.step_size * float(factor))

    @property
    def label(self) -> str:
        """Trajectories, integrator steps and step size in words."""
        return f"HMC, {self.steps} trajectories of {self.leapfrog} x {self.step_size:g}"
