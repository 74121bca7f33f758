"""Bound and probability-flow likelihood of exact denoisers against exact densities."""

import itertools
import math

import pytest
import torch
from torch.func import functional_call

from genalloy.core.evidence import Kind, counting, lebesgue
from genalloy.diffusion.parameterisations import Edm, Levels, V
from genalloy.diffusion.paths import CosinePath, Karras, LinearPath, SubVariancePreserving, VarianceExploding, VariancePreserving
from genalloy.diffusion.times import LogisticLambda
from genalloy.estimators.probability_flow import ProbabilityFlowLikelihood
from genalloy.estimators.variational_bound import VariationalBound
from genalloy.models.analytic import AnalyticNetwork, masses, mixture_log_density, mixture_sample
from genalloy.models.diffusion import ContinuousData, Diffusion, DiscretisedData
from genalloy.networks.denoiser import DenoiserMLP

PATHS = [LinearPath(), CosinePath(), VariancePreserving(), SubVariancePreserving(), VarianceExploding(), Karras()]


LINEAR, EDM, REAL = LinearPath(), Edm(), ContinuousData()


def mixture(path=LINEAR):
    return Diffusion(AnalyticNetwork(path, V()), (2,), ContinuousData(standardise=False), path, V()).double()


def trained(shape, parameterisation=EDM, observation=REAL):
    """A network with random last layer: a denoiser that is exact for nothing."""
    torch.manual_seed(1)
    part = Diffusion(
        DenoiserMLP((shape, ()), parameterisation.width, 32, 1), shape, observation, parameterisation=parameterisation
    )
    for p in part.parameters():
        torch.nn.init.normal_(p, std=0.2)
    return part


@pytest.mark.parametrize("path", PATHS, ids=repr)
def test_probability_flow_equals_the_exact_density(path):
    torch.manual_seed(0)
    y = mixture_sample(60)
    with torch.no_grad():
        evidence = ProbabilityFlowLikelihood(32)(mixture(path)(), y)
    assert evidence.kind is Kind.ESTIMATE and evidence.measure == lebesgue(2)
    assert (evidence.value - mixture_log_density(y)).abs().max() < 1e-2
    assert (evidence.value - mixture_log_density(y)).abs().mean() < 1e-3


def test_probability_flow_is_of_fourth_order():
    torch.manual_seed(0)
    y, exact = mixture_sample(60), ProbabilityFlowLikelihood(160)
    with torch.no_grad():
        truth = exact(mixture()(), y).value
        errors = [(ProbabilityFlowLikelihood(n)(mixture()(), y).value - truth).square().mean().sqrt() for n in (20, 40)]
    assert math.log2(errors[0] / errors[1]) > 3.5


def test_probability_flow_gradients():
    """d log p / dx of the exact mixture; and parameters get theirs."""
    torch.manual_seed(0)
    y = mixture_sample(20).requires_grad_()
    (found,) = torch.autograd.grad(ProbabilityFlowLikelihood(24)(mixture()(), y).value.sum(), y)
    (true,) = torch.autograd.grad(mixture_log_density(y).sum(), y)
    torch.testing.assert_close(found, true, rtol=1e-2, atol=2e-2)
    part = trained((2,))
    ProbabilityFlowLikelihood(2)(part(), torch.randn(4, 2)).value.sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in part.parameters())


def test_hutchinson_agrees_within_its_error():
    torch.manual_seed(0)
    part, x = trained((6,)), torch.randn(20, 6)
    with torch.no_grad():
        exact = ProbabilityFlowLikelihood(8)(part(), x)
        guess = ProbabilityFlowLikelihood(8, exact=0, probes=64)(part(), x)
    assert "exact trace" in exact.how and "64 Rademacher probes" in guess.how
    assert exact.stderr is not None and "solver error up to" in exact.how
    # the same solver on both sides: what differs is the trace, whose error is added in quadrature
    probes = (guess.stderr.square() - exact.stderr.square()).clamp(min=1e-12).sqrt()
    gap = (guess.value - exact.value) / probes
    assert 0.2 < gap.square().median().sqrt() < 2.0


@pytest.mark.parametrize("path", PATHS, ids=repr)
def test_bound_is_tight_where_the_denoiser_is_exact(path):
    torch.manual_seed(0)
    y = mixture_sample(400)
    evidence = VariationalBound(64)(mixture(path)(), y)
    assert evidence.kind is Kind.LOWER and not evidence.proper
    gap, noise = mixture_log_density(y) - evidence.value, evidence.stderr.square().mean().sqrt() / 20
    assert abs(gap.mean()) < 4 * noise + 0.005


def test_bound_equals_the_gaussian_truth_without_noise():
    """The zero network under Edm is the exact denoiser of N(0, I): the control variate leaves nothing random."""
    torch.manual_seed(0)
    part = Diffusion(DenoiserMLP(((3,), ()), width=16, blocks=1), (3,), ContinuousData(standardise=False))
    x = torch.randn(50, 3)
    evidence = VariationalBound(4)(part(), x)
    exact = torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(-1)
    torch.testing.assert_close(evidence.value, exact, rtol=0, atol=2e-2)
    assert evidence.stderr.max() < 1e-2


def test_bound_in_the_units_of_the_data():
    """A diffusion standardised by its data has the density of N(mean, sd^2), Jacobian included."""
    torch.manual_seed(0)
    part = Diffusion(DenoiserMLP(((2,), ()), width=16, blocks=1), (2,), ContinuousData())
    x = torch.randn(5000, 2) * torch.tensor([0.1, 20.0]) + torch.tensor([5.0, -3.0])
    part.initialise(x)
    exact = torch.distributions.Normal(x.mean(0), x.std(0)).log_prob(x).sum(-1)
    torch.testing.assert_close(VariationalBound(2)(part(), x).value, exact, rtol=0, atol=2e-2)
    torch.testing.assert_close(ProbabilityFlowLikelihood(8)(part(), x[:50]).value, exact[:50], rtol=0, atol=2e-2)


def test_bound_does_not_depend_on_the_spread_of_times():
    torch.manual_seed(0)
    part, x = trained((2,)), torch.randn(1000, 2)
    a, b = (VariationalBound(64, s)(part(), x) for s in (VariationalBound().spread, LogisticLambda(1.0, 1.5)))
    noise = (a.stderr.square().mean() + b.stderr.square().mean()).sqrt() / 1000**0.5
    assert abs(a.value.mean() - b.value.mean()) < 4 * noise


def test_standard_error_is_about_right():
    torch.manual_seed(0)
    part, x = mixture(), mixture_sample(1).expand(500, 2)
    evidence = VariationalBound(32)(part(), x)
    ratio = evidence.stderr.square().mean().sqrt() / evidence.value.std()
    assert 0.9 < ratio < 1.4


def test_bound_is_low_for_a_wrong_denoiser():
    torch.manual_seed(0)
    part = mixture()
    worse = Diffusion(Blurred(part.network), (2,), ContinuousData(standardise=False), parameterisation=V()).double()
    y = mixture_sample(400)
    with torch.no_grad():
        bound = VariationalBound(64)(worse(), y)
    gap = mixture_log_density(y) - bound.value
    assert gap.mean() > 0.05 + 3 * bound.stderr.square().mean().sqrt() / 20


class Blurred(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner, self.inputs = inner, inner.inputs

    def forward(self, context):
        return 0.5 * self.inner(context)


@pytest.mark.parametrize("parameterisation", [Levels(5), V()], ids=repr)
def test_grid_bound_equals_the_exact_mass(parameterisation):
    torch.manual_seed(0)
    part = Diffusion(
        AnalyticNetwork(LinearPath(), parameterisation, 5), (2,), DiscretisedData(5), parameterisation=parameterisation
    ).double()
    p = masses(5, torch.zeros((), dtype=torch.float64))
    x = torch.multinomial(p, 1600, replacement=True).reshape(-1, 2)
    evidence = VariationalBound(64)(part(), x.double())
    noise = 4 * evidence.stderr.square().mean().sqrt() / 800**0.5
    assert evidence.kind is Kind.LOWER and evidence.measure == counting(2)
    assert abs((p.log()[x].sum(-1) - evidence.value).mean()) < noise + 0.01
    flow = ProbabilityFlowLikelihood(64)(part(), x[:100].double())
    assert abs((p.log()[x[:100]].sum(-1) - flow.value).mean()) < 0.1


@pytest.mark.parametrize("parameterisation", [Levels(3), Edm()], ids=repr)
def test_masses_of_all_grids_sum_below_one(parameterisation):
    """sum over every x of exp(E bound) <= 1 for a network that knows nothing, and is not vacuous."""
    part = trained((2,), parameterisation, DiscretisedData(3))
    every = torch.tensor(list(itertools.product(range(3), repeat=2)), dtype=torch.float32)
    torch.manual_seed(0)
    with torch.no_grad():
        bounds = VariationalBound(64)(part(), every.expand(100, 9, 2)).value.mean(0)
    total = bounds.exp().sum()
    assert 1e-3 < total < 1.01


def test_edges_of_the_window():
    """Where a low lambda leaves data in x_t the prior term is the Gaussians' KL; where a high one smooths, a Jacobian shows."""
    x, edges = torch.tensor([[0.0, 1.0]]), []
    for low in (0.0, -30.0):
        part = trained((2,), Levels(3), DiscretisedData(3, low))
        y, _ = part().embed(x)
        torch.manual_seed(0)
        edges.append(part.observation.edge(part(), x, y))
    q, p = torch.distributions.Normal(0.5**0.5 * y, 0.5**0.5), torch.distributions.Normal(0.0, 1.0)
    torch.testing.assert_close(edges[1] - edges[0], torch.distributions.kl_divergence(q, p).sum(-1))
    part = trained((2,))
    w, correction = ContinuousData(high=0.0).lift(Diffusion(part.network, (2,), ContinuousData(high=0.0))(), y, y)
    torch.testing.assert_close(w, 0.5**0.5 * y)
    torch.testing.assert_close(correction, torch.full((1,), -math.log(2.0)))


def test_off_the_grid_is_impossible():
    part = trained((2,), Levels(3), DiscretisedData(3))
    assert VariationalBound(4)(part(), torch.tensor([[0.5, 1.0], [3.0, 1.0]])).value.tolist() == [-math.inf, -math.inf]


@pytest.mark.parametrize("estimator", [VariationalBound(4), ProbabilityFlowLikelihood(2)], ids=repr)
def test_shapes_and_context(estimator):
    torch.manual_seed(0)
    part = Diffusion(DenoiserMLP(((2, 3), (), (4,)), width=16, blocks=1), (2, 3), ContinuousData(), estimator=estimator)
    distribution = part(torch.randn(5, 4))
    assert distribution.batch_shape == (5,)
    assert distribution.density(torch.randn(7, 5, 2, 3)).value.shape == (7, 5)
    assert distribution.sample((3,)).shape == (3, 5, 2, 3)
    with pytest.raises(ValueError, match="expected one that ends in"):
        distribution.density(torch.randn(5, 3, 2))


def test_gradients_reach_what_is_scored():
    """As a prior: density() differentiates through z and the parameters."""
    part = trained((3,))
    z = torch.randn(8, 3, requires_grad=True)
    part().density(z).value.mean().backward()
    assert z.grad.abs().sum() > 0 and all(p.grad is not None for p in part.parameters())
    functional_call(part, dict(part.named_parameters()), ())
