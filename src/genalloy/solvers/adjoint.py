r"""Gradients of a solve of :math:`dy/dt = f_\theta(t, y)`, as frozen values: what is kept, and what is computed again.

``Backpropagated`` differentiates the solver's own arithmetic and keeps every intermediate result. ``Checkpointed`` keeps
one state a step and computes the step again: the same gradients. ``Adjoint`` keeps the end alone and solves backwards in
time (Pontryagin, 1962; Chen, Rubanova, Bettencourt & Duvenaud, 2018, arXiv:1806.07366), with
:math:`a = \partial L / \partial y`,

.. math:: \dot y = f, \qquad \dot a = -a^\top \frac{\partial f}{\partial y}, \qquad
          \dot g = -a^\top \frac{\partial f}{\partial \theta}, \quad g(1) = 0, \quad g(0) = \frac{dL}{d\theta}.

Its gradient is that of the exact flow and not that of the solver's steps; the two meet as the steps get small. Rows carry
their own a, so per-sample weights are honoured.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from genalloy.core.spec import Value
from genalloy.solvers.ode import Field, Solver, State


class Gradient(Value, ABC):
    """gradient(solver, field, state, grid, leaves) -> the state at the grid's end.

    leaves: every tensor besides the state on which the field depends and through which a gradient may be wanted.
    """

    @abstractmethod
    def __call__(self, solver: Solver, field: Field, state: State, grid: Sequence[float], leaves: tuple[Tensor, ...]) -> State:
        """The state at the grid's end, differentiable in the state and the leaves."""


@dataclass(frozen=True)
class Backpropagated(Gradient):
    """Through the solver's arithmetic: exact for what was computed; memory grows with the evaluations."""

    def __call__(self, solver: Solver, field: Field, state: State, grid: Sequence[float], leaves: tuple[Tensor, ...]) -> State:
        """The solver's own result."""
        return solver(field, state, grid)


@dataclass(frozen=True)
class Checkpointed(Gradient):
    """The same gradients from one kept state a step, at the price of one more forward pass. Adaptive solvers are one step."""

    def __call__(self, solver: Solver, field: Field, state: State, grid: Sequence[float], leaves: tuple[Tensor, ...]) -> State:
        """The same values as the solver's, one checkpoint for each interval of the grid."""
        for ends in pairwise(grid) if solver.evaluations else [(grid[0], grid[-1])]:
            state = checkpoint(solver, field, state, ends, use_reentrant=False)
        return state


@dataclass(frozen=True)
class Adjoint(Gradient):
    """Backwards in time with the same solver; memory does not grow with the steps. Once differentiable.

    Chen et al., 2018, arXiv:1806.07366. Adaptive steps of the backward solve are chosen by the error of y and a alone, not of the
    parameters' gradient (Kidger, Chen & Lyons, 2021, arXiv:2009.09457).
    """

    def __call__(self, solver: Solver, field: Field, state: State, grid: Sequence[float], leaves: tuple[Tensor, ...]) -> State:
        """The solver's own result; backwards, the augmented equation is solved on the reversed grid."""
        learned = tuple(leaf for leaf in leaves if leaf.requires_grad)
        return _Backwards.apply(_Problem(solver, field, tuple(grid), len(state)), *state, *learned)


@dataclass(frozen=True)
class _Problem:
    """What a solve is made of besides tensors; `size` tensors make the state."""

    solver: Solver
    field: Field
    grid: tuple[float, ...]
    size: int


class _Backwards(torch.autograd.Function):
    """See :class:`Adjoint`."""

    @staticmethod
    def forward(ctx: Any, problem: _Problem, *tensors: Tensor) -> tuple[Tensor, ...]:
        state = problem.solver(problem.field, tensors[: problem.size], problem.grid)
        ctx.problem = problem
        ctx.save_for_backward(*state, *tensors[problem.size :])
        return tuple(y.clone() if y is x else y for x, y in zip(tensors, state, strict=False))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        problem, size = ctx.problem, ctx.problem.size
        state, leaves = ctx.saved_tensors[:size], ctx.saved_tensors[size:]
        start = (*state, *slopes, *(torch.zeros_like(leaf) for leaf in leaves))
        end = problem.solver.watching(2 * size)(_augmented(problem.field, size, leaves), start, problem.grid[::-1])
        return None, *end[size:]


def _augmented(field: Field, size: int, leaves: tuple[Tensor, ...]) -> Field:
    """(t, (y, a, g)) -> (f, -a df/dy, -a df/dtheta)."""

    def slopes(t: float, whole: State) -> State:
        with torch.enable_grad():
            state = tuple(y.detach().requires_grad_() for y in whole[:size])
            rates = field(t, state)
        adjoint = [(r, a) for r, a in zip(rates, whole[size:], strict=False) if r.requires_grad]
        ends, weights = [r for r, _ in adjoint], [a for _, a in adjoint]
        gradients = torch.autograd.grad(ends, (*state, *leaves), weights, allow_unused=True)
        back = (torch.zeros_like(x) if g is None else -g for x, g in zip((*state, *leaves), gradients, strict=True))
        return (*(r.detach() for r in rates), *back)

    return slopes
