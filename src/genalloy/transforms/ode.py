r"""Continuous flows: :math:`dx/dt = f(x, t, c)` from data at t = 0 to noise at t = 1 (Chen et al., 2018; Grathwohl et al., 2019).

Along a trajectory the log-density changes by minus the divergence, so that

.. math:: \log p(x_0 \mid c) = \log p(x_1) + \int_0^1 \mathrm{tr}\,\frac{\partial f}{\partial x}(x_t, t, c)\, dt .

The integral is solved beside the trajectory. Two more, of :math:`|f|^2` and of :math:`|\partial f / \partial x|_F^2`, are solved
in training: what keeps trajectories straight and solvers cheap (Finlay, Jacobsen, Nurbekyan & Oberman, 2020).

Every number is an ESTIMATE, since a solver's error has no known side. With random probes it has a standard error besides; in
evaluation a flow adds the solver's own, from a coarser solve with the same probes (:meth:`Continuous.coarser`).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from genalloy.core.contexts import Context, Shapes, batch_of, tensors
from genalloy.core.distribution import Shape, sum_event
from genalloy.core.evidence import Evidence
from genalloy.core.observations import leading
from genalloy.core.shapes import broadcast_shapes
from genalloy.solvers.adjoint import Backpropagated, Gradient
from genalloy.solvers.divergence import ExactTrace, TraceEstimator, rates, velocity
from genalloy.solvers.ode import Field, RungeKutta4, Solver, State, Steps
from genalloy.transforms.layer import Layer


class ODESolution(NamedTuple):
    r"""One solve. end (\*B, \*E); ladj (n, \*B), log |det d end / d start| by each probe, n = 1 where the trace is exact.

    kinetic, frobenius (\*B): integrals of |f|^2 and of |df/dx|_F^2, zero outside training. evaluations: of the field. words: how.
    """

    end: Tensor
    ladj: Tensor
    kinetic: Tensor
    frobenius: Tensor
    evaluations: int
    words: str

    def evidence(self, sign: int = 1) -> Evidence:
        """sign * ladj as a contribution to a log-density, with the spread of the probes."""
        spread = self.ladj.detach().std(0) / len(self.ladj) ** 0.5 if len(self.ladj) > 1 else None
        return Evidence.exact(sign * self.ladj.mean(0)).estimated(self.words, spread)


@dataclass
class _Count:
    """Evaluations of one solve."""

    calls: int = 0


class Continuous(Layer):
    r"""The flow of an ordinary differential equation dx/dt = f(x, t, c) (Grathwohl et al., 2019, arXiv:1810.01367).

    .. math:: \log p(x_0 \mid c) = \log p(x_1) + \int_0^1 \mathrm{tr}\,\frac{\partial f}{\partial x}(x_t, t, c)\, dt

    field: network (x, t, \*context) -> (\*B, \*E) with ``inputs = (event_shape, (), *context_shapes)``; smooth, and best of
    bounded speed. solver: fixed steps or adaptive. steps: the grid of fixed steps. trace: exact, or by random probes.
    gradient: how derivatives of a solve are found. Contributions are ESTIMATE.
    """

    def __init__(
        self,
        field: nn.Module,
        event_shape: Shape,
        solver: Solver = RungeKutta4(),  # noqa: B008
        steps: Steps = Steps(),  # noqa: B008
        trace: TraceEstimator = ExactTrace(),  # noqa: B008
        gradient: Gradient = Backpropagated(),  # noqa: B008
    ) -> None:
        super().__init__()
        self.field, self.event_shape = field, tuple(event_shape)
        self.solver, self.steps, self.trace, self.gradient = solver, steps, trace, gradient
        self.context_shapes: Shapes = tuple(getattr(field, "inputs", ())[2:])

    @property
    def evaluations(self) -> int:
        """Evaluations of the field a solve, in the present mode; 0 where the solver adapts."""
        return self.solver.evaluations * (len(self.steps.grid(self.training)) - 1)

    @property
    def solved(self) -> bool:  # type: ignore[override]
        """In evaluation; in training the error is not asked for."""
        return not self.training

    def coarser(self) -> Layer:
        """The same equation in half the steps, or at ten times the tolerance."""
        coarse = copy.copy(self)
        coarse.solver, coarse.steps = self.solver.coarser(), self.steps.coarser()
        return coarse

    def velocity(self, x: Tensor, t: Tensor, context: Context = None) -> Tensor:
        r"""dx/dt; x (\*B, \*E), t broadcastable to (\*B)."""
        return velocity(self.field, x, t, self._own(context))

    def encode(self, x: Tensor, context: Context = None) -> tuple[Tensor, Evidence]:
        journey = self.journey(x, context)
        return journey.end, journey.evidence()

    def decode(self, z: Tensor, context: Context = None) -> tuple[Tensor, Evidence]:
        journey = self.journey(z, context, backwards=True)
        return journey.end, journey.evidence(-1)

    def journey(self, x: Tensor, context: Context = None, backwards: bool = False) -> ODESolution:
        r"""One solve from x (\*B, \*E) with all its integrals; `backwards` from z at t = 1 to x at t = 0."""
        context = self._own(context)
        x = self._broadcast(x, context)
        vectors = self.trace.vectors(x, len(self.event_shape), self.training)
        zero = x.new_zeros(leading(x, self.event_shape))
        divergence = zero.expand(1 if self.trace.exact else len(vectors), *zero.shape)
        start: State = (x, divergence, zero, zero) if self.training else (x, divergence)
        count = _Count()
        end = self._solve(self._rates(context, vectors, count), start, context, backwards)
        kinetic, frobenius = (v.abs() for v in end[2:]) if self.training else (zero, zero)
        words = f"{self._name()}, {count.calls} evaluations, {self.trace.words(len(vectors))}"
        return ODESolution(end[0], end[1], kinetic, frobenius, count.calls, words)

    def carry(self, x: Tensor, context: Context = None, backwards: bool = False) -> Tensor:
        """The trajectory's end alone, at one evaluation of the network a stage."""
        context = self._own(context)
        x = self._broadcast(x, context)

        def rate(t: float, state: State) -> State:
            return (velocity(self.field, state[0], x.new_tensor(t), context),)

        return self._solve(rate, (x,), context, backwards)[0]

    def _rates(self, context: Context, vectors: Tensor, count: _Count) -> Field:
        dims = len(self.event_shape)

        def rate(t: float, state: State) -> State:
            count.calls += 1
            slopes = rates(self.field, state[0], vectors.new_tensor(t), context, vectors, self.trace.exact)
            more = (sum_event(slopes.velocity.square(), dims), slopes.frobenius) if len(state) > 2 else ()
            return (slopes.velocity, slopes.divergence, *more)

        return rate

    def _solve(self, rate: Field, start: State, context: Context, backwards: bool) -> State:
        grid = self.steps.grid(self.training)
        leaves = (*self.field.parameters(), *tensors(context))
        return self.gradient(self.solver, rate, start, grid[::-1] if backwards else grid, leaves)

    def _own(self, context: Context) -> Context:
        """The context where the field takes one, nothing otherwise."""
        return context if self.context_shapes else None

    def _broadcast(self, x: Tensor, context: Context) -> Tensor:
        batch = broadcast_shapes(leading(x, self.event_shape), batch_of(context, self.context_shapes))
        return x.expand(*batch, *self.event_shape)

    def _name(self) -> str:
        return type(self.solver).__name__ if self.solver.evaluations else repr(self.solver)
