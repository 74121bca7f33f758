r"""Deterministic samplers: solvers of the probability-flow ODE.

Adams-Bashforth works in :math:`r = x/(\alpha + \sigma)` and :math:`u = \sigma/(\alpha + \sigma)`, where every path is straight:
:math:`dr/du = \hat\epsilon - D =: v`, finite at both ends of time. Two steps, second order, one evaluation a step:

.. math:: r_{n+1} = r_n + h_n \left[v_n + \tfrac{h_n}{2 h_{n-1}} (v_n - v_{n-1})\right].
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from genalloy.diffusion.paths import even
from genalloy.diffusion.process import Process
from genalloy.samplers.sampler import Sampler
from genalloy.samplers.spacing import EvenTime, Spacing
from genalloy.solvers.ode import Field, Heun, Solver, State


@dataclass(frozen=True)
class AdamsBashforth(Sampler):
    r"""Second order, one evaluation a step, exact where the velocity is constant; the default.

    :math:`r_{n+1} = r_n + h_n [v_n + \tfrac{h_n}{2 h_{n-1}} (v_n - v_{n-1})]` in the module's coordinates; the first step is
    Euler's.
    """

    steps: int = 20
    spacing: Spacing = EvenTime()  # noqa: RUF009

    order = 2
    amplifies = True

    def __call__(self, process: Process, noise: Tensor) -> Tensor:
        r"""Noise (\*B, \*E) -> samples (\*B, \*E), without randomness."""
        path, grid = process.path, self.spacing(process, self.steps).to(noise.device)
        total = path.alpha(grid) + path.sigma(grid)
        levels = path.sigma(grid) / total
        r = process.start(noise) / total[0].to(noise)
        previous, gap = None, 1.0
        for n in range(self.steps):
            v = self._velocity(process, r * total[n].to(r), grid[n])
            h = float(levels[n + 1] - levels[n])
            slope = v if previous is None else v + (h / (2 * gap)) * (v - previous)
            r, previous, gap = r + h * slope, v, h
        return r * total[-1].to(r)

    def _velocity(self, process: Process, x: Tensor, t: Tensor) -> Tensor:
        clean, path = process.clean(x, t), process.path
        return (x - path.alpha(t).to(x) * clean) / path.sigma(t).to(x) - clean


@dataclass(frozen=True)
class ProbabilityFlow(Sampler):
    r"""Any ODE solver on :math:`dw/d\lambda = a\,(D - a w), w = x / \sqrt{\alpha^2 + \sigma^2}`, on a uniform grid of lambda.

    The probability-flow ODE of Song et al., 2021, arXiv:2011.13456; :math:`a^2 = \mathrm{sigmoid}(2\lambda)`.
    """

    solver: Solver = field(default_factory=Heun)
    steps: int = 20

    amplifies = True

    @property
    def order(self) -> int:  # type: ignore[override]
        """The solver's own."""
        return self.solver.order

    def __call__(self, process: Process, noise: Tensor) -> Tensor:
        r"""Noise (\*B, \*E) -> samples (\*B, \*E), without randomness."""
        grid = even(*process.window, self.steps + 1).tolist()
        (w,) = self.solver(flow_field(process, noise), (noise,), grid)
        return w * process.path.scale(torch.tensor(process.span[1], dtype=torch.float64)).to(w)


def flow_field(process: Process, like: Tensor) -> Field:
    r""":math:`(\lambda, (w,)) \to (dw/d\lambda,)` for a solver, see :mod:`genalloy.diffusion.paths`; w (\*B, \*E)."""

    def slope(lam: float, state: State) -> State:
        level = torch.tensor(lam, dtype=torch.float64)
        t, a = process.path.time(level), torch.sigmoid(2 * level).sqrt().to(like)
        clean = process.denoise(state[0] * process.path.scale(t).to(like), t.to(like))
        return (a * (clean - a * state[0]),)

    return slope
