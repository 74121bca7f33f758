"""The diffusion part: refusals, coordinates, capabilities, storing, self-test."""

import copy

import pytest
import torch

from genalloy.core.evidence import Kind, Unavailable
from genalloy.core.spec import from_spec, to_spec, value_text
from genalloy.diffusion.parameterisations import X0, Edm, Eps, Levels, Score, V, Velocity
from genalloy.diffusion.paths import CosinePath, LinearPath, VarianceExploding, VariancePreserving
from genalloy.estimators.probability_flow import ProbabilityFlowLikelihood
from genalloy.laws.diffusion import check_diffusion
from genalloy.models.analytic import AnalyticNetwork, mixture_denoiser, mixture_log_density, mixture_sample
from genalloy.models.diffusion import ContinuousData, Diffusion, DiscretisedData
from genalloy.networks.denoiser import DenoiserMLP
from genalloy.networks.mlp import MLP
from genalloy.networks.unet import UNet
from genalloy.samplers.ancestral import DDIM, Ancestral
from genalloy.samplers.ode import AdamsBashforth, ProbabilityFlow


def small(shape=(2,), *values, **named):
    width = named.get("parameterisation", Edm()).width
    return Diffusion(DenoiserMLP((shape, ()), width, 16, 1), shape, *values, **named)


@pytest.mark.parametrize("path", [LinearPath(), CosinePath()], ids=repr)
@pytest.mark.parametrize("head", [Eps(), Score()], ids=repr)
def test_eps_needs_data_left_at_the_end(path, head):
    with pytest.raises(ValueError, match="use V"):
        small(path=path, parameterisation=head)


def test_score_and_velocity_follow_from_the_denoiser():
    torch.manual_seed(0)
    path = VariancePreserving()
    part = Diffusion(AnalyticNetwork(path, Eps()), (2,), ContinuousData(standardise=False), path, Eps()).double()
    t = torch.rand(50, dtype=torch.float64) * 0.8 + 0.1
    x_t = torch.randn(50, 2, dtype=torch.float64, requires_grad=True)
    a, s = path.alpha(t), path.sigma(t)
    means, variance = 0.9 * torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64), 0.19 * a**2 + s**2
    log_p = (-0.5 * (x_t[:, None] - a[:, None, None] * means).square().sum(-1) / variance[:, None]).logsumexp(-1)
    (true,) = torch.autograd.grad(log_p.sum(), x_t)
    with torch.no_grad():
        torch.testing.assert_close(part().noised_score(x_t, t), true)
        beta = (0.1 + 19.9 * t)[:, None]
        torch.testing.assert_close(part().velocity(x_t, t), -0.5 * beta * (x_t + true))


def test_score_of_the_data():
    torch.manual_seed(0)
    part = Diffusion(AnalyticNetwork(LinearPath(), V()), (2,), ContinuousData(standardise=False), parameterisation=V()).double()
    y = mixture_sample(20).requires_grad_()
    (true,) = torch.autograd.grad(mixture_log_density(y).sum(), y)
    torch.testing.assert_close(part().score(y.detach()), true, rtol=1e-2, atol=5e-2)


def test_denoise_accepts_any_batch():
    torch.manual_seed(0)
    part = Diffusion(AnalyticNetwork(LinearPath(), V()), (2,), ContinuousData(standardise=False), parameterisation=V()).double()
    x_t = torch.randn(3, 4, 2, dtype=torch.float64)
    one = part().denoise(x_t, torch.tensor(0.5))
    torch.testing.assert_close(one, part().denoise(x_t, torch.full((4,), 0.5)))
    expected = mixture_denoiser(x_t / 0.5**0.5, torch.zeros(3, 4, 1, dtype=torch.float64))
    torch.testing.assert_close(one, expected)


def test_integers_come_back_as_integers():
    torch.manual_seed(0)
    for head in (Levels(7), Edm()):
        part = small((2, 3), DiscretisedData(7), parameterisation=head, sampler=AdamsBashforth(6))
        x = part().sample((50,))
        assert x.shape == (50, 2, 3) and torch.equal(x, x.round()) and x.min() >= 0 and x.max() <= 6


def test_initialised_levels_are_the_histogram_model():
    """Before any training a levels diffusion is the model of independent pixels: samples and bound say so."""
    torch.manual_seed(0)
    p = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
    x = torch.stack([torch.multinomial(row, 20000, replacement=True) for row in p], 1).float()
    part = small((2,), DiscretisedData(3), parameterisation=Levels(3))
    part.initialise(x)
    sample = part().sample((5000,)).long()
    found = torch.stack([torch.bincount(sample[:, i], minlength=3) / 5000 for i in range(2)])
    assert (found - p).abs().max() < 0.03
    exact = -(p * p.log()).sum()
    evidence = part().density(x[:2000])
    assert abs(-evidence.value.mean() - exact) < 4 * evidence.stderr.square().mean().sqrt() / 2000**0.5 + 0.05


def test_standardisation_is_kept_in_the_file():
    part = small()
    part.initialise(torch.randn(100, 2) * 3 + 7)
    again = from_spec(*to_spec(part))
    torch.testing.assert_close(again.shift, part.shift)
    torch.testing.assert_close(again.scale, part.scale)


@pytest.mark.parametrize(
    "values",
    [
        {"path": VarianceExploding(0.01, 30.0), "parameterisation": X0(), "sampler": DDIM(3, 0.5)},
        {"observation": DiscretisedData(5), "parameterisation": Levels(5), "sampler": Ancestral(3)},
        {"parameterisation": Velocity(), "estimator": ProbabilityFlowLikelihood(3), "sampler": ProbabilityFlow(steps=3)},
    ],
)
def test_save_copy_and_print(values):
    part = small((2,), **values)
    torch.nn.init.normal_(part.network.leave.weight)
    again = from_spec(*to_spec(part))
    for other in (again, copy.deepcopy(part)):
        torch.manual_seed(0)
        x = part().sample((3,))
        torch.manual_seed(0)
        assert torch.equal(other().sample((3,)), x)
    for name in ("observation", "path", "parameterisation", "sampler", "estimator"):
        assert getattr(again, name) == getattr(part, name)
        assert value_text(getattr(part, name)) in repr(part) or name not in values


def test_labels():
    part = small()
    x, evidence = part().draw((4,))
    assert x.shape == (4, 2) and evidence.kind is Kind.ESTIMATE and not part().has_rsample
    assert part().density(x).kind is Kind.LOWER
    with pytest.raises(Unavailable, match="LOWER"):
        part().log_prob(x)


@pytest.mark.parametrize(
    "part",
    [
        small((3,), path=CosinePath(), sampler=Ancestral(50)),
        small((2, 2), DiscretisedData(4), parameterisation=Levels(4), path=VariancePreserving()),
    ],
    ids=["reals", "levels"],
)
def test_self_test_passes_and_keeps_the_generator(part):
    state = torch.get_rng_state()
    findings = check_diffusion(part)
    assert torch.equal(state, torch.get_rng_state())
    assert len(findings) >= 6
    assert [f.what for f in findings if not f.ok] == []


def test_self_test_catches_a_wrong_sampler_and_a_coarse_solver():
    class Drifting(AdamsBashforth):
        def _velocity(self, process, x, t):
            return 1.02 * super()._velocity(process, x, t)

    findings = check_diffusion(small(sampler=Drifting(20)))
    assert any("order" in f.what for f in findings if not f.ok)
    coarse = check_diffusion(small(estimator=ProbabilityFlowLikelihood(4)))
    assert any("probability flow" in f.what for f in coarse if not f.ok)


def test_other_networks_serve():
    torch.manual_seed(0)
    mlp = Diffusion(MLP(((2,), ()), 2, (8,)), (2,))
    assert torch.isfinite(mlp().density(torch.randn(5, 2)).value).all()
    unet = Diffusion(UNet(((2, 4, 6), (), (3,)), channels=8), (2, 4, 6))
    distribution = unet(torch.randn(5, 3))
    assert distribution.density(torch.randn(2, 5, 2, 4, 6)).value.shape == (2, 5)
