r"""Solvers of :math:`dy/dt = f(t, y)` on a given grid, as frozen values; the state is a tuple of tensors.

One step of size h from t: Euler :math:`y + h k_1`; Heun :math:`y + \tfrac h2 (k_1 + k_2)`; Kutta's classical
:math:`y + \tfrac h6 (k_1 + 2 k_2 + 2 k_3 + k_4)`. The error at fixed time falls as :math:`h^{order}`.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from genalloy.core.spec import Value

State = tuple[Tensor, ...]
Field = Callable[[float, State], State]


class Solver(Value, ABC):
    """solver(f, y, grid) -> y at the grid's end. order: of the global error; evaluations: of f in one step (0: adaptive)."""

    order: int = 0
    evaluations: int = 0

    def __call__(self, field: Field, state: State, grid: Sequence[float]) -> State:
        for t, after in pairwise(grid):
            state = self.step(field, state, t, after - t)
        return state

    def step(self, field: Field, state: State, t: float, h: float) -> State:
        raise NotImplementedError(f"{type(self).__name__} has no fixed step")

    def coarser(self) -> Solver:
        """The same solver at ten times the tolerance where it has one; where the grid gives the steps, itself."""
        return self

    def watching(self, count: int) -> Solver:
        """The same solver, its error judged by the first `count` tensors of the state where it adapts its steps."""
        return self


@dataclass(frozen=True)
class Steps(Value):
    r"""How finely [0, 1] is divided: :math:`t_i = (i/n)^{power}`, so that a power above 1 looks closer at t = 0, the data.

    training, evaluation: n in the two modes of a module. jitter: in training the inner times move at random, each by up to half
    this share of an interval, so that a model cannot learn the errors of one coarse grid.
    """

    training: int = 8
    evaluation: int = 32
    power: float = 1.0
    jitter: float = 0.0

    def coarser(self) -> Steps:
        """Half as many in evaluation, at least one."""
        return replace(self, evaluation=max(self.evaluation // 2, 1))

    def grid(self, training: bool) -> list[float]:
        """The n + 1 times, increasing."""
        n = self.training if training else self.evaluation
        moves = (self.jitter * (torch.rand(n - 1) - 0.5)).tolist() if training and self.jitter else [0.0] * (n - 1)
        inner = [((i + move) / n) ** self.power for i, move in enumerate(moves, 1)]
        return [0.0, *inner, 1.0]


def _move(state: State, h: float, *slopes: State) -> State:
    """y + h (k_1 + ... + k_n)."""
    return tuple(y + h * sum(ks[1:], start=ks[0]) for y, *ks in zip(state, *slopes, strict=True))


@dataclass(frozen=True)
class Euler(Solver):
    """First order."""

    order = 1
    evaluations = 1

    def step(self, field: Field, state: State, t: float, h: float) -> State:
        return _move(state, h, field(t, state))


@dataclass(frozen=True)
class Heun(Solver):
    """Second order, explicit trapezium."""

    order = 2
    evaluations = 2

    def step(self, field: Field, state: State, t: float, h: float) -> State:
        first = field(t, state)
        return _move(state, h / 2, first, field(t + h, _move(state, h, first)))


@dataclass(frozen=True)
class RungeKutta4(Solver):
    """Fourth order (Kutta, 1901)."""

    order = 4
    evaluations = 4

    def step(self, field: Field, state: State, t: float, h: float) -> State:
        k1 = field(t, state)
        k2 = field(t + h / 2, _move(state, h / 2, k1))
        k3 = field(t + h / 2, _move(state, h / 2, k2))
        k4 = field(t + h, _move(state, h, k3))
        return _move(state, h / 6, k1, k2, k2, k3, k3, k4)


@dataclass(frozen=True)
class Adaptive(Solver):
    """torchdiffeq's adaptive methods between the grid's ends; batch elements share their steps, so they are coupled.

    watched: tensors of the state whose error chooses the steps, all of them where 0.
    """

    rtol: float = 1e-5
    atol: float = 1e-5
    method: str = "dopri5"
    watched: int = 0

    order = 5

    def coarser(self) -> Adaptive:
        return replace(self, rtol=10 * self.rtol, atol=10 * self.atol)

    def watching(self, count: int) -> Adaptive:
        return replace(self, watched=count)

    def __call__(self, field: Field, state: State, grid: Sequence[float]) -> State:
        from torchdiffeq import odeint

        times = torch.tensor([grid[0], grid[-1]], dtype=torch.float64, device=state[0].device)
        out = odeint(
            lambda t, y: field(float(t), y),
            state,
            times,
            rtol=self.rtol,
            atol=self.atol,
            method=self.method,
            options={"norm": self._norm},
        )
        return tuple(path[-1] for path in out)

    def _norm(self, state: State) -> Tensor:
        """Largest root mean square of the watched tensors; detached, or the first step's length would carry a gradient."""
        watched = state[: self.watched] if self.watched else state
        return torch.stack([y.detach().square().mean().sqrt() for y in watched if y.numel()]).max()
