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
"""(t, y) -> dy/dt, a tensor for each of the state's."""


class Solver(Value, ABC):
    """solver(f, y, grid) -> y at the grid's end. order: of the global error; evaluations: of f in one step (0: adaptive)."""

    order: int = 0
    evaluations: int = 0

    def __call__(self, field: Field, state: State, grid: Sequence[float]) -> State:
        """The state at the grid's end, one step for each of its intervals."""
        for t, after in pairwise(grid):
            state = self.step(field, state, t, after - t)
        return state

    def step(self, field: Field, state: State, t: float, h: float) -> State:
        """The state at t + h. Raises NotImplementedError where the solver chooses its own steps."""
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
    """First order: :math:`y + h k_1`, one evaluation a step."""

    order = 1
    evaluations = 1

    def step(self, field: Field, state: State, t: float, h: float) -> State:
        """:math:`y + h f(t, y)`."""
        return _move(state, h, field(t, state))


@dataclass(frozen=True)
class Heun(Solver):
    r"""Second order, explicit trapezium: :math:`y + \tfrac h2 (k_1 + k_2)`, two evaluations a step."""

    order = 2
    evaluations = 2

    def step(self, field: Field, state: State, t: float, h: float) -> State:
        """The mean of the slopes at both ends, the second at Euler's point."""
        first = field(t, state)
        return _move(state, h / 2, first, field(t + h, _move(state, h, first)))


@dataclass(frozen=True)
class RungeKutta4(Solver):
    r"""Fourth order: :math:`y + \tfrac h6 (k_1 + 2 k_2 + 2 k_3 + k_4)`, four evaluations a step (Kutta, 1901)."""

    order = 4
    evaluations = 4

    def step(self, field: Field, state: State, t: float, h: float) -> State:
        """Slopes at the start, twice in the middle, and at the end."""
        k1 = field(t, state)
        k2 = field(t + h / 2, _move(state, h / 2, k1))
        k3 = field(t + h / 2, _move(state, h / 2, k2))
        k4 = field(t + h, _move(state, h, k3))
        return _move(state, h / 6, k1, k2, k2, k3, k3, k4)


@dataclass(frozen=True)
class Adaptive(Solver):
    """torchdiffeq's adaptive methods between the grid's ends; batch elements share their steps, so they are coupled.

    rtol, atol: tolerances of a step's error, by the largest root mean square of a watched tensor. method: torchdiffeq's name;
    `order` is that of dopri5. watched: tensors of the state whose error chooses the steps, all of them where 0.
    """

    rtol: float = 1e-5
    atol: float = 1e-5
    method: str = "dopri5"
    watched: int = 0

    order = 5

    def coarser(self) -> Adaptive:
        """Both tolerances times ten."""
        return replace(self, rtol=10 * self.rtol, atol=10 * self.atol)

    def watching(self, count: int) -> Adaptive:
        """The same with `watched` = count."""
        return replace(self, watched=count)

    def __call__(self, field: Field, state: State, grid: Sequence[float]) -> State:
        """The state at the grid's last time; inner times of the grid are not looked at."""
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
