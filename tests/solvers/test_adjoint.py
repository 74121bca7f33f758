"""Gradients of a solve: three ways, one answer, under weights by row."""

import pytest
import torch
from torch import nn

from genalloy.solvers.adjoint import Adjoint, Backpropagated, Checkpointed
from genalloy.solvers.ode import Adaptive, Heun, RungeKutta4

GRID = [i / 40 for i in range(41)]


class Pull(nn.Module):
    """y' = tanh(W y) c + t, q' = |y|^2: a state of two tensors, a parameter and a context."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(3, 3, dtype=torch.float64))

    def field(self, c, calls=None):
        def slopes(t, state):
            if calls is not None:
                calls.append(t)
            y, _ = state
            return (y @ self.weight).tanh() * c + t, y.square().sum(-1)

        return slopes


def gradients(gradient, solver, grid=GRID, calls=None):
    """Of a loss weighted by row, with respect to start, context and parameter."""
    problem = Pull()
    torch.manual_seed(1)
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    c = torch.rand(3, dtype=torch.float64, requires_grad=True)
    context = 2 * c  # not a leaf: its gradient must flow on
    field = problem.field(context, calls)
    y, q = gradient(solver, field, (x, x.new_zeros(5)), grid, (problem.weight, context))
    weights = torch.tensor([0.0, 1.0, 2.0, 3.0, 0.5], dtype=torch.float64)
    loss = (weights * (y.sin().sum(-1) + q)).sum()
    return torch.autograd.grad(loss, (x, c, problem.weight))


@pytest.mark.parametrize("solver", [RungeKutta4(), Adaptive(1e-9, 1e-9)], ids=["fixed", "adaptive"])
def test_adjoint_equals_backpropagation_under_weights(solver):
    if not solver.evaluations:
        pytest.importorskip("torchdiffeq", reason="the adaptive solver is torchdiffeq's")
    plain, adjoint = gradients(Backpropagated(), solver), gradients(Adjoint(), solver)
    for a, b in zip(plain, adjoint, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    assert (plain[0][0] == 0).all() and (plain[0][1] != 0).all()


def test_adjoint_is_the_flow_s_gradient_and_not_the_grid_s():
    """With few steps the two differ, by less and less."""
    gaps = []
    for n in (4, 8, 16):
        grid = [i / n for i in range(n + 1)]
        a, b = (gradients(g, Heun(), grid)[2] for g in (Backpropagated(), Adjoint()))
        gaps.append(float((a - b).abs().max()))
    assert gaps[0] > 1e-6 and gaps[2] < gaps[0] / 8


def test_checkpointing_gives_the_same_gradients_for_one_more_pass():
    calls, again = [], []
    plain = gradients(Backpropagated(), RungeKutta4(), calls=calls)
    for a, b in zip(plain, gradients(Checkpointed(), RungeKutta4(), calls=again), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    assert len(again) == 2 * len(calls) == 2 * 4 * 40


def saved_bytes(gradient):
    """Bytes of distinct tensors that autograd keeps between forward and backward."""
    problem, kept = Pull(), {}
    x = torch.randn(200, 3, dtype=torch.float64, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.update({t.data_ptr(): t.nbytes}) or t, lambda t: t):
        field = problem.field(torch.ones(3, dtype=torch.float64))
        gradient(RungeKutta4(), field, (x, x.new_zeros(200)), GRID, (problem.weight,))[1].sum().backward()
    return sum(kept.values())


def test_memory_by_mode():
    store, adjoint = saved_bytes(Backpropagated()), saved_bytes(Adjoint())
    assert adjoint < store / 4
