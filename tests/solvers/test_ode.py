"""A solver's order is the slope of its error."""

import math
from itertools import pairwise

import pytest
import torch

from genalloy.solvers.ode import Adaptive, Euler, Heun, RungeKutta4


def problem(t, state):
    """y' = y cos t, y = exp(sin t); q' = y gives a second component."""
    y, _ = state
    return y * math.cos(t), y


def error(solver, steps):
    start = (torch.ones(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))
    y, _ = solver(problem, start, torch.linspace(0, 2, steps + 1, dtype=torch.float64).tolist())
    return float((y - math.exp(math.sin(2.0))).abs().max())


@pytest.mark.parametrize("solver", [Euler(), Heun(), RungeKutta4()], ids=repr)
def test_order_is_the_slope_of_the_error(solver):
    errors = [error(solver, n) for n in (20, 40, 80)]
    slopes = [math.log2(a / b) for a, b in pairwise(errors)]
    assert abs(slopes[-1] - solver.order) < 0.2


@pytest.mark.parametrize("solver", [Euler(), Heun(), RungeKutta4()], ids=repr)
def test_evaluations_are_counted(solver):
    calls = []
    solver(lambda t, y: (calls.append(t), y)[1], (torch.ones(1),), [0.0, 0.5, 1.0])
    assert len(calls) == 2 * solver.evaluations


def test_time_may_run_backwards():
    start = (torch.ones(1, dtype=torch.float64),)
    (y,) = RungeKutta4()(lambda t, s: s, start, torch.linspace(1, 0, 21, dtype=torch.float64).tolist())
    torch.testing.assert_close(y, torch.full_like(y, math.exp(-1)), atol=1e-6, rtol=0)


def test_adaptive_meets_its_tolerance():
    pytest.importorskip("torchdiffeq", reason="the adaptive solver is torchdiffeq's")
    assert error(Adaptive(rtol=1e-8, atol=1e-8), 1) < 1e-6
