"""Continuous flows: round trips, traces, gradients, labels, and a linear field whose answer is known."""

import math

import pytest
import torch
from torch import nn

from genalloy.core.evidence import Kind
from genalloy.core.spec import from_spec, to_spec
from genalloy.heads.gaussian import StandardNormal
from genalloy.laws.invertible import LayerTransform, invertible
from genalloy.laws.subject import perturb_parameters
from genalloy.models.flow import Flow
from genalloy.networks.concat_squash import ConcatSquash
from genalloy.networks.denoiser import DenoiserMLP
from genalloy.networks.mlp import MLP
from genalloy.solvers.adjoint import Adjoint, Backpropagated, Checkpointed
from genalloy.solvers.divergence import ExactTrace, GaussianProbes, Hutchinson
from genalloy.solvers.ode import Adaptive, Euler, Heun, RungeKutta4, Steps
from genalloy.transforms.ode import Continuous

MATRIX = torch.tensor([[0.5, 0.8, 0.0], [-0.3, -1.0, 0.2], [0.1, 0.0, 0.7]], dtype=torch.float64)


class LinearField(nn.Module):
    """f = A x: z = e^A x, log-determinant tr A."""

    inputs = ((3,), ())

    def __init__(self):
        super().__init__()
        self.matrix = nn.Parameter(MATRIX.clone())

    def forward(self, context):
        return context[0] @ self.matrix.T


FIELDS = {
    "squash": lambda c: ConcatSquash(((2,), (), *c), (16, 16), features=8),
    "mlp": lambda c: MLP(((2,), (), *c), 2, (16,), nn.Tanh),
    "residual": lambda c: DenoiserMLP(((2,), (), *c), width=8, blocks=1),
}


def layer(field="squash", context=(), **options):
    torch.manual_seed(0)
    return perturb_parameters(Continuous(FIELDS[field](context), (2,), **options))


@pytest.mark.parametrize("solver", [RungeKutta4(), Adaptive(1e-8, 1e-8)], ids=["fixed", "adaptive"])
def test_a_linear_field_is_a_matrix_exponential(solver):
    if not solver.evaluations:
        pytest.importorskip("torchdiffeq", reason="the adaptive solver is torchdiffeq's")
    ode = Continuous(LinearField(), (3,), solver)
    x = torch.randn(4, 3, dtype=torch.float64)
    z, evidence = ode.encode(x)
    ladj = evidence.value
    torch.testing.assert_close(z, x @ torch.linalg.matrix_exp(MATRIX).T, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ladj, MATRIX.trace().expand(4), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ode.decode(z)[0], x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scale", [1.0, 5.0, 20.0])
@pytest.mark.parametrize("field", FIELDS)
def test_both_directions_at_every_scale(field, scale):
    """Round trip and log-determinant against autograd's Jacobian of the whole solve."""
    ode = layer(field, ((3,), ()), steps=Steps(24, 24))
    invertible(LayerTransform(ode), scale * torch.randn(1, 2), (torch.randn(1, 3), torch.randn(1)))


@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_round_trip_is_as_good_as_the_tolerance(scale):
    pytest.importorskip("torchdiffeq", reason="the adaptive solver is torchdiffeq's")
    x = scale * torch.randn(16, 2, dtype=torch.float64)
    gaps = []
    for tolerance in (1e-3, 1e-9):
        ode = layer(solver=Adaptive(tolerance, tolerance)).double()
        with torch.no_grad():
            gaps.append(float((ode.decode(ode.encode(x)[0])[0] - x).abs().max()))
    assert gaps[0] < 0.02 * scale and gaps[1] < 1e-7 * scale


def test_the_error_of_the_log_determinant_falls_with_the_solver_s_order():
    x = torch.randn(16, 2, dtype=torch.float64)
    with torch.no_grad():
        truth = layer(steps=Steps(200, 200)).double().encode(x)[1].value
        errors = {
            n: float((layer(solver=Heun(), steps=Steps(n, n)).double().encode(x)[1].value - truth).abs().max()) for n in (8, 32)
        }
    assert 1.6 < math.log(errors[8] / errors[32], 4) < 2.6


def both_traces(noise, probes=1000):
    ode = layer("residual", steps=Steps(2, 2)).double()
    x = torch.randn(3, 2, dtype=torch.float64)
    with torch.no_grad():
        exact = ode.eval().encode(x)[1].value
        ode.trace = Hutchinson(1, probes, noise) if noise else Hutchinson(1, probes)
        return exact, ode.encode(x)[1]


@pytest.mark.parametrize("noise", [None, GaussianProbes()], ids=["signs", "normal"])
def test_random_probes_agree_with_the_exact_trace_within_their_error(noise):
    torch.manual_seed(1)
    exact, found = both_traces(noise)
    assert found.kind is Kind.ESTIMATE and (found.stderr > 0).all()
    assert ((found.value - exact).abs() < 4 * found.stderr).all()
    _, few = both_traces(noise, 20)
    assert (few.stderr > 3 * found.stderr).all(), "the error must fall as one over the root of the number of probes"


def test_images_by_random_probes():
    ode = perturb_parameters(Continuous(ConcatSquash(((1, 4, 4), ()), (16,)), (1, 4, 4), steps=Steps(8, 8)), 0.1)
    flow = Flow(StandardNormal((1, 4, 4)), [ode], (1, 4, 4)).eval()
    x = torch.randn(2, 1, 4, 4)
    with torch.no_grad():
        exact = flow().density(x).value
        ode.trace = Hutchinson(1, 2000)
        found = flow().density(x)
    assert ((found.value - exact).abs() < 5 * found.stderr).all()


def test_labels_and_how_they_came():
    ode = layer(steps=Steps(2, 3)).eval()
    evidence = ode.encode(torch.randn(4, 2))[1]
    assert (evidence.kind, evidence.proper, evidence.stderr) == (Kind.ESTIMATE, False, None)
    assert evidence.how == "RungeKutta4, 12 evaluations, exact trace" and ode.evaluations == 12
    assert ode.train().evaluations == 8
    ode.trace = Hutchinson(1)
    assert "8 evaluations, 1 Rademacher probe" in ode.encode(torch.randn(4, 2))[1].how
    ode.solver = Adaptive(1e-4, 1e-4)
    pytest.importorskip("torchdiffeq", reason="the adaptive solver is torchdiffeq's")
    assert ode.evaluations == 0 and "Adaptive" in ode.encode(torch.randn(4, 2))[1].how


def test_evaluations_are_those_of_the_network():
    for solver in (Euler(), RungeKutta4(), Adaptive(1e-4, 1e-4)):
        ode, calls = layer(solver=solver), []
        ode.field.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        with torch.no_grad():
            journey = ode.journey(torch.randn(4, 2))
        assert len(calls) == journey.evaluations > 0


def test_two_calls_agree_where_the_trace_is_exact():
    ode, x = layer(), torch.randn(4, 2)
    assert torch.equal(ode.encode(x)[1].value, ode.encode(x)[1].value)
    ode.trace = Hutchinson(2)
    assert not torch.equal(ode.encode(x)[1].value, ode.encode(x)[1].value)


def weighted_gradients(gradient, solver, field, steps, trace):
    """Of densities weighted by row, with respect to parameters and context."""
    ode = layer(field, ((3,),), solver=solver, steps=steps, trace=trace, gradient=gradient).double()
    torch.manual_seed(2)
    flow = Flow(StandardNormal((2,)), [ode], (2,), ((3,),)).double()
    x, c = torch.randn(5, 2).double(), torch.randn(5, 3).double().requires_grad_()
    weights = torch.tensor([0.0, 1.0, -2.0, 3.0, 0.5]).double()
    (weights * flow(c).density(x).value).sum().backward()
    return [c.grad, *(p.grad for p in ode.parameters())]


@pytest.mark.parametrize("trace", [ExactTrace(), Hutchinson(2)], ids=["exact", "probes"])
@pytest.mark.parametrize("field", ["squash", "residual"])
def test_adjoint_gradient_is_backpropagation_s(field, trace):
    steps = Steps(64, 64)
    plain, adjoint = (weighted_gradients(g, RungeKutta4(), field, steps, trace) for g in (Backpropagated(), Adjoint()))
    for a, b in zip(plain, adjoint, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    assert (plain[0][0] == 0).all() and (plain[0][1] != 0).any()


def test_adjoint_gradient_with_adaptive_steps():
    pytest.importorskip("torchdiffeq", reason="the adaptive solver is torchdiffeq's")
    steps = Steps(64, 64)
    plain = weighted_gradients(Backpropagated(), RungeKutta4(), "squash", steps, ExactTrace())
    adjoint = weighted_gradients(Adjoint(), Adaptive(1e-9, 1e-9), "squash", steps, ExactTrace())
    for a, b in zip(plain, adjoint, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_checkpointing_changes_no_gradient():
    found = (weighted_gradients(g, Heun(), "residual", Steps(3, 3), ExactTrace()) for g in (Backpropagated(), Checkpointed()))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_rows_meet_their_own_context():
    ode = layer(context=((3,),)).double()
    flow = Flow(StandardNormal((2,)).double(), [ode], (2,), ((3,),))
    c, x = torch.randn(3, 3).double(), torch.randn(4, 3, 2).double()
    whole = flow(c).density(x).value
    for i in range(3):
        torch.testing.assert_close(whole[:, i], flow(c[i]).density(x[:, i]).value)
    assert flow(c).density(x[0, 0]).value.shape == (3,)


def test_samples_without_a_trace_are_those_with_one():
    flow = Flow(StandardNormal((2,)), [layer()], (2,))
    torch.manual_seed(3)
    a = flow().sample((6,))
    torch.manual_seed(3)
    b, evidence = flow().draw((6,))
    torch.testing.assert_close(a, b)
    torch.testing.assert_close(evidence.value, flow().density(b).value, rtol=1e-3, atol=1e-3)


def test_a_density_s_mass_is_one():
    flow = Flow(StandardNormal((2,)), [layer()], (2,)).eval()
    axis = torch.linspace(-9, 9, 121)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        mass = float(flow().density(grid).value.exp().sum()) * float(axis[1] - axis[0]) ** 2
    assert abs(mass - 1) < 2e-3


def test_grids():
    assert Steps(2, 4).grid(True) == [0.0, 0.5, 1.0] and Steps(2, 4, 2.0).grid(False)[1] == 1 / 16
    assert Steps(1, 1, jitter=1.0).grid(True) == [0.0, 1.0]
    moved = Steps(8, 8, jitter=1.0)
    grid = moved.grid(True)
    assert grid[0] == 0 and grid[-1] == 1 and grid == sorted(grid) and grid != moved.grid(True)
    assert moved.grid(False) == Steps(8, 8).grid(False)


@pytest.mark.parametrize("gradient", [Backpropagated(), Adjoint()], ids=repr)
def test_saved_and_rebuilt(gradient):
    ode = layer(solver=Heun(), steps=Steps(3, 5, 1.5), trace=Hutchinson(2, 3, GaussianProbes()), gradient=gradient)
    again = from_spec(*to_spec(ode))
    assert repr(again) == repr(ode)
    x = torch.randn(3, 2)
    torch.testing.assert_close(again.carry(x), ode.carry(x))


@pytest.mark.parametrize("solver", [Euler(), Heun(), RungeKutta4(), Adaptive(1e-3, 1e-3)], ids=lambda s: type(s).__name__)
def test_a_flow_states_an_error_that_covers_its_solvers(solver):
    if not solver.evaluations:
        pytest.importorskip("torchdiffeq", reason="the adaptive solver is torchdiffeq's")
    x = 2 * torch.randn(50, 3, dtype=torch.float64)
    flow = Flow(StandardNormal((3,)).double(), [Continuous(LinearField(), (3,), solver, Steps(8, 8))], (3,))
    z = x @ torch.linalg.matrix_exp(MATRIX).T
    truth = torch.distributions.Normal(0, 1).log_prob(z).sum(-1) + MATRIX.trace()
    flow.eval()
    torch.manual_seed(3)
    claim = flow().density(x)
    after = torch.rand(1)
    assert claim.kind is Kind.ESTIMATE and f"solver error up to {float(claim.stderr.max()):.1g} nats" in claim.how
    error = (claim.value.detach() - truth).abs()
    # first order is judged by itself to first order; in single rows either may pass through zero
    assert float(error.max()) <= 1.3 * float(claim.stderr.max()) and float(error.norm()) <= 1.3 * float(claim.stderr.norm())
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(1)), "judging the error moved the caller's random stream"
    assert flow.train()().density(x).stderr is None


def test_the_coarser_solve_has_the_same_probes():
    """Eight random signs are nats apart; the solver's error is not."""
    flow = Flow(StandardNormal((2,)), [layer(steps=Steps(4, 16), trace=Hutchinson(1, 1))], (2,)).eval()
    with torch.no_grad():
        claim = flow().density(torch.randn(30, 2))
    assert float(claim.stderr.max()) < 1e-3


@pytest.mark.parametrize("gradient", [Backpropagated(), Checkpointed(), Adjoint()], ids=lambda g: type(g).__name__)
def test_gradients_reach_a_named_context(gradient):
    shapes = ({"near": (3,)},)
    ode = perturb_parameters(Continuous(MLP(((2,), (), *shapes), 2, (8,), nn.Tanh), (2,), gradient=gradient, steps=Steps(3, 3)))
    c, x = torch.randn(4, 3, requires_grad=True), torch.randn(4, 2)
    ode.encode(x, {"near": c})[1].value.sum().backward()
    assert c.grad is not None and bool(c.grad.abs().sum() > 0)
