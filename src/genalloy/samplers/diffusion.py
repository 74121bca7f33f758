r"""Samplers of a denoiser on any path: frozen values (denoise, path, noise, span) -> x at the span's last time.

With :math:`D = E[y|x_t]` and :math:`\hat\epsilon = (x_t - \alpha D)/\sigma`, a step from t to s < t re-mixes the two,

.. math:: x_s = \alpha_s D + \sqrt{\sigma_s^2 - c^2}\,\hat\epsilon + c\,\xi, \qquad
          c = \eta\,\sigma_s \sqrt{1 - e^{2(\lambda_t - \lambda_s)}},

which never divides by :math:`\alpha`: :math:`\eta = 1` is DDPM's ancestral step (Ho et al., 2020), :math:`\eta = 0` DDIM (Song,
Meng & Ermon, 2021).

Adams-Bashforth works in :math:`r = x/(\alpha + \sigma)` and :math:`u = \sigma/(\alpha + \sigma)`, where every path is straight:
:math:`dr/du = \hat\epsilon - D =: v`, finite at both ends of time. Two steps, second order, one evaluation a step:

.. math:: r_{n+1} = r_n + h_n \left[v_n + \tfrac{h_n}{2 h_{n-1}} (v_n - v_{n-1})\right].
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from genalloy.core.spec import Value
from genalloy.diffusion.paths import Denoiser, Path, even
from genalloy.solvers.ode import Field, Heun, Solver, State

Span = tuple[float, float]
"""Times at which sampling starts and ends; lambda is finite at both for ProbabilityFlow."""


class Sampler(Value):
    """sampler(denoise, path, noise, span): unit normal noise (\\*B, \\*E) at t = span[0] carried to t = span[1].

    order: of the error in the step size, 0 for random samplers.
    """

    order: int = 0

    def __call__(self, denoise: Denoiser, path: Path, noise: Tensor, span: Span) -> Tensor:
        raise NotImplementedError


def time_grid(steps: int, span: Span, like: Tensor) -> Tensor:
    """(steps + 1,) from span[0] down to span[1], uniform in the path's own time."""
    return even(*span, steps + 1).to(like.device)


def start(path: Path, noise: Tensor, t: Tensor) -> Tensor:
    """x_t from unit noise: N(0, alpha^2 + sigma^2), the law of noised data of unit variance."""
    return noise * path.scale(t).to(noise)


@dataclass(frozen=True)
class DDIM(Sampler):
    """First order; eta = 0 deterministic, eta = 1 ancestral."""

    steps: int = 50
    eta: float = 0.0

    @property
    def order(self) -> int:  # type: ignore[override]
        return 0 if self.eta else 1

    def __call__(self, denoise: Denoiser, path: Path, noise: Tensor, span: Span) -> Tensor:
        grid = time_grid(self.steps, span, noise)
        x = start(path, noise, grid[0])
        for t, s in pairwise(grid):
            clean = denoise(x, t.to(x.dtype))
            x = self._remix(path, x, clean, t, s)
        return x

    def _remix(self, path: Path, x: Tensor, clean: Tensor, t: Tensor, s: Tensor) -> Tensor:
        (a, b), (a_s, b_s) = ((path.alpha(v), path.sigma(v)) for v in (t, s))
        eps = (x - a.to(x) * clean) / b.to(x)
        c = self.eta * b_s * (1 - (a * b_s / (b * a_s)).square()).clamp(min=0).sqrt()
        mixed = a_s.to(x) * clean + (b_s.square() - c.square()).sqrt().to(x) * eps
        return mixed + c.to(x) * torch.randn_like(x) if self.eta else mixed


@dataclass(frozen=True)
class Ancestral(Sampler):
    """The reverse chain that the discrete variational bound is about: DDIM with eta = 1 (Ho et al., 2020)."""

    steps: int = 100

    def __call__(self, denoise: Denoiser, path: Path, noise: Tensor, span: Span) -> Tensor:
        return DDIM(self.steps, 1.0)(denoise, path, noise, span)


@dataclass(frozen=True)
class AdamsBashforth(Sampler):
    """Second order, one evaluation a step, exact where the velocity is constant; the default."""

    steps: int = 20

    order = 2

    def __call__(self, denoise: Denoiser, path: Path, noise: Tensor, span: Span) -> Tensor:
        grid = time_grid(self.steps, span, noise)
        total = path.alpha(grid) + path.sigma(grid)
        levels = path.sigma(grid) / total
        r = start(path, noise, grid[0]) / total[0].to(noise)
        previous, gap = None, 1.0
        for n in range(self.steps):
            v = self._velocity(denoise, path, r * total[n].to(r), grid[n])
            h = float(levels[n + 1] - levels[n])
            slope = v if previous is None else v + (h / (2 * gap)) * (v - previous)
            r, previous, gap = r + h * slope, v, h
        return r * total[-1].to(r)

    def _velocity(self, denoise: Denoiser, path: Path, x: Tensor, t: Tensor) -> Tensor:
        clean = denoise(x, t.to(x.dtype))
        return (x - path.alpha(t).to(x) * clean) / path.sigma(t).to(x) - clean


@dataclass(frozen=True)
class ProbabilityFlow(Sampler):
    """Any ODE solver on dw/dlambda = a (D - a w), w = x / sqrt(alpha^2 + sigma^2), on a uniform grid of lambda."""

    solver: Solver = field(default_factory=Heun)
    steps: int = 20

    @property
    def order(self) -> int:  # type: ignore[override]
        return self.solver.order

    def __call__(self, denoise: Denoiser, path: Path, noise: Tensor, span: Span) -> Tensor:
        ends = torch.tensor(span, dtype=torch.float64)
        first, last = path.lam(ends).tolist()
        grid = even(first, last, self.steps + 1).tolist()
        (w,) = self.solver(flow_field(denoise, path, noise), (noise,), grid)
        return w * path.scale(ends[1]).to(w)


def flow_field(denoise: Denoiser, path: Path, like: Tensor) -> Field:
    """(lambda, (w,)) -> (dw/dlambda,), see :mod:`genalloy.diffusion.paths`."""

    def slope(lam: float, state: State) -> State:
        level = torch.tensor(lam, dtype=torch.float64)
        t, a = path.time(level), torch.sigmoid(2 * level).sqrt().to(like)
        clean = denoise(state[0] * path.scale(t).to(like), t.to(like))
        return (a * (clean - a * state[0]),)

    return slope
