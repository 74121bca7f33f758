r"""Log-density by the probability-flow ODE, on any path.

Chen et al., 2018, arXiv:1806.07366; Song et al., 2021, arXiv:2011.13456.

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

from genalloy.core.distribution import sum_event
from genalloy.core.evidence import Evidence, Kind
from genalloy.core.observations import leading
from genalloy.core.spec import Value
from genalloy.diffusion.paths import Diffuses, even
from genalloy.solvers.divergence import ExactTrace, Hutchinson, products
from genalloy.solvers.ode import Field, RungeKutta4, Solver, State


@dataclass(frozen=True)
class ProbabilityFlowLikelihood(Value):
    r""":math:`\log p(x)` by the flow to :math:`N(0, I)`, nats, ESTIMATE: solver error and the window's edge have no known side.

    Song et al., 2021, arXiv:2011.13456. steps: of the solver on a uniform grid of lambda. exact: most dimensions of an exact
    trace. probes: of Hutchinson's trace beyond, whose spread gives a standard error. The solver's own error is stated by step
    doubling: the difference from half as many steps, row by row, added in quadrature.
    """

    steps: int = 32
    solver: Solver = field(default_factory=RungeKutta4)
    exact: int = 64
    probes: int = 4

    def __call__(self, distribution: Diffuses, x: Tensor) -> Evidence:
        r"""The estimate for x (\*B, \*E), an Evidence of shape (\*B); differentiable in x and the model."""
        lead, shape = leading(x, tuple(distribution.event_shape)), tuple(distribution.event_shape)
        dims = max(math.prod(shape), 1)
        y, ladj = distribution.embed(x)
        w, correction = distribution.observation.lift(distribution, x, y)
        exact, trace = dims <= self.exact, ExactTrace() if dims <= self.exact else Hutchinson(self.probes, self.probes)
        vectors = trace.vectors(w, len(shape), False)
        low, high = distribution.window
        zero, field = w.new_zeros((1 if exact else len(vectors), *lead)), _augmented(distribution, vectors, exact)

        def solved(steps: int) -> tuple[Tensor, Tensor]:
            """Log-density at the edge, and the change along each probe."""
            end, change = self.solver(field, (w, zero), even(high, low, steps + 1).tolist())
            return change.mean(0) - 0.5 * sum_event(end.square() + math.log(2 * math.pi), len(shape)), change

        value, change = solved(self.steps)
        with torch.no_grad():
            solver = (solved(max(self.steps // 2, 1))[0] - value).abs().detach()
        spread = 0.0 if exact or self.probes < 2 else change.detach().std(0) / self.probes**0.5
        error = (solver.square() + spread**2).sqrt()
        worst = float(solver.max()) if solver.numel() else 0.0
        how = f"{self._how(dims)}, solver error up to {worst:.1g} nats by step doubling"
        return Evidence(value + correction + ladj, Kind.ESTIMATE, how, False, error, distribution.measure)

    def _how(self, dims: int) -> str:
        trace = "exact trace" if dims <= self.exact else f"{self.probes} Rademacher probes"
        name = type(self.solver).__name__
        calls = f"{self.steps * self.solver.evaluations} evaluations" if self.solver.evaluations else "adaptive"
        return f"probability flow, {name}, {calls}, {trace}"


def _augmented(distribution: Diffuses, vectors: Tensor, exact: bool) -> Field:
    """(lambda, (w, divergence so far)) -> their rates."""
    path, dims = distribution.path, len(distribution.event_shape)
    numel = max(math.prod(distribution.event_shape), 1)

    def rates(lam: float, state: State) -> State:
        w = state[0]
        level = torch.tensor(lam, dtype=torch.float64)
        t, a = path.time(level), float(torch.sigmoid(2 * level).sqrt())
        clean, product = products(lambda w: distribution.denoise(w * path.scale(t).to(w), t.to(w)), w, vectors)
        traces = sum_event(product * vectors, dims)
        traces = traces.sum(0, keepdim=True) if exact else traces
        return a * (clean - a * w), a * (traces - a * numel)

    return rates
