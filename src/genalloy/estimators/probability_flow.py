r"""Log-density by the probability-flow ODE (Chen et al., 2018; Song et al., 2021), on any path.

In :math:`w = x_t/\sqrt{\alpha^2+\sigma^2}` and :math:`a^2 = \mathrm{sigmoid}(2\lambda)` the flow and the log-density along it are

.. math:: \frac{dw}{d\lambda} = a\,(D - a w), \qquad
          \frac{d \log p(w)}{d\lambda} = -a \left(\mathrm{tr}\,\frac{\partial D}{\partial w} - a\,d\right),

integrated from the observation's edge :math:`\lambda_0` down to :math:`\lambda_1`, where w is N(0, I): the law of
:math:`\alpha y + \sigma \epsilon` for data of unit variance. The trace is exact up to `exact` dimensions and
otherwise Hutchinson's with Rademacher probes, fixed along each trajectory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from genalloy.distribution import leading, sum_event
from genalloy.evidence import Evidence, Kind
from genalloy.paths import Diffuses, even
from genalloy.solvers.ode import Field, RungeKutta4, Solver, State
from genalloy.spec import Value


@dataclass(frozen=True)
class ProbabilityFlowLikelihood(Value):
    """(distribution, x) -> ESTIMATE: solver error and the edge of the window have no known side.

    steps: of the solver on a uniform grid of lambda; probes: of Hutchinson's trace, whose spread gives the standard error.
    """

    steps: int = 32
    solver: Solver = field(default_factory=RungeKutta4)
    exact: int = 64
    probes: int = 4

    def __call__(self, distribution: Diffuses, x: Tensor) -> Evidence:
        lead, shape = leading(x, tuple(distribution.event_shape)), tuple(distribution.event_shape)
        dims = max(math.prod(shape), 1)
        y, ladj = distribution.embed(x)
        w, correction = distribution.observation.lift(distribution, x, y)
        probes = self._probes(w, dims)
        low, high = distribution.window
        grid = even(high, low, self.steps + 1).tolist()
        zero = w.new_zeros((probes.shape[0], *lead))
        w, change = self.solver(_augmented(distribution, probes, dims <= self.exact), (w, zero), grid)
        base = -0.5 * sum_event(w.square() + math.log(2 * math.pi), len(shape))
        spread = None if dims <= self.exact or self.probes < 2 else change.detach().std(0) / self.probes**0.5
        return Evidence(
            base + change.mean(0) + correction + ladj, Kind.ESTIMATE, self._how(dims), False, spread, distribution.measure
        )

    def _probes(self, w: Tensor, dims: int) -> Tensor:
        r"""(n, \*S, \*B, \*E): the standard basis (to be summed) or random signs (to be averaged)."""
        if dims > self.exact:
            return torch.randint(0, 2, (self.probes, *w.shape), device=w.device).to(w.dtype) * 2 - 1
        return torch.zeros((1, *w.shape), dtype=w.dtype, device=w.device)

    def _how(self, dims: int) -> str:
        trace = "exact trace" if dims <= self.exact else f"{self.probes} Rademacher probes"
        name = type(self.solver).__name__
        calls = f"{self.steps * self.solver.evaluations} evaluations" if self.solver.evaluations else "adaptive"
        return f"probability flow, {name}, {calls}, {trace}"


def _augmented(distribution: Diffuses, probes: Tensor, exact: bool) -> Field:
    """(lambda, (w, divergence so far)) -> their rates."""
    path, dims = distribution.path, len(distribution.event_shape)
    numel = max(math.prod(distribution.event_shape), 1)

    def rates(lam: float, state: State) -> State:
        w = state[0]
        level = torch.tensor(lam, dtype=torch.float64)
        t, a = path.time(level), float(torch.sigmoid(2 * level).sqrt())
        clean, trace = _denoised(distribution, w, path.scale(t).to(w), t.to(w), probes, exact, dims)
        return a * (clean - a * w), a * (trace - a * numel)

    return rates


def _denoised(
    distribution: Diffuses, w: Tensor, scale: Tensor, t: Tensor, probes: Tensor, exact: bool, dims: int
) -> tuple[Tensor, Tensor]:
    r"""D and the traces (n, \*S, \*B) of dD/dw; gradients reach parameters and w where they were enabled outside."""
    graph = torch.is_grad_enabled()
    with torch.enable_grad():
        w = w if w.requires_grad else w.detach().requires_grad_()
        clean = distribution.denoise(w * scale, t)
        vectors = _basis(w, dims) if exact else probes
        (products,) = torch.autograd.grad(clean, w, vectors, is_grads_batched=True, create_graph=graph, retain_graph=True)
        traces = sum_event(products * vectors, dims)
        traces = traces.sum(0, keepdim=True) if exact else traces
    return (clean, traces) if graph else (clean.detach(), traces.detach())


def _basis(w: Tensor, dims: int) -> Tensor:
    r"""(numel, \*S, \*B, \*E) the standard basis at every batch element."""
    event = w.shape[w.dim() - dims :]
    numel = max(math.prod(event), 1)
    eye = torch.eye(numel, dtype=w.dtype, device=w.device).reshape(numel, *(1,) * (w.dim() - dims), *event)
    return eye.expand(numel, *w.shape)
