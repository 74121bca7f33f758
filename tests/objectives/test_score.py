"""Denoising score matching: its value, its reach, its warning, and that it learns."""

import warnings

import pytest
import torch

from genalloy.core.batch import Batch
from genalloy.core.evidence import Unavailable
from genalloy.diffusion.parameterisations import X0, Edm, Velocity
from genalloy.diffusion.paths import LinearPath
from genalloy.diffusion.times import UniformTime
from genalloy.diffusion.weights import Likelihood, MinSnr, Tilted, Unit
from genalloy.heads.gaussian import StandardNormal
from genalloy.models.analytic import mixture_log_density, mixture_sample
from genalloy.models.diffusion import ContinuousData, Diffusion
from genalloy.models.flow import Preprocessed
from genalloy.networks.denoiser import DenoiserMLP
from genalloy.objectives.objective import Play
from genalloy.objectives.score import DenoisingScoreMatching
from genalloy.transforms.observation import Standardise


def small(**named):
    width = named.get("parameterisation", Edm()).width
    return Diffusion(DenoiserMLP(((2,), ()), width, 32, 1), (2,), **named)


def test_likelihood_weight_is_the_integral_over_lambda():
    """N(0, 1) with its exact denoiser (the zero network under Edm): E |eps - eps_hat|^2 = sigmoid(2 lambda) an element."""
    torch.manual_seed(0)
    part = small(observation=ContinuousData(standardise=False))
    with torch.no_grad():
        loss = DenoisingScoreMatching()(Play(part, Batch(torch.randn(100000, 2))))
    integral = 0.5 * torch.nn.functional.softplus(torch.tensor([12.0, -9.0]))
    torch.testing.assert_close(loss, 2 * (integral[0] - integral[1]), rtol=0.01, atol=0)


@pytest.mark.parametrize("times", [UniformTime()], ids=repr)
def test_time_distribution_does_not_change_the_likelihood_loss(times):
    torch.manual_seed(0)
    part, x = small(), torch.randn(20000, 2)
    torch.nn.init.normal_(part.network.leave.weight, std=0.05)
    with torch.no_grad():
        a, b = (DenoisingScoreMatching(times=t)(Play(part, Batch(x))) for t in (DenoisingScoreMatching().times, times))
    torch.testing.assert_close(a, b, rtol=0.05, atol=0)


def test_unit_weight_is_regression_of_the_output():
    torch.manual_seed(0)
    part, x = small(parameterisation=Velocity(), observation=ContinuousData(standardise=False)), torch.randn(50000, 2)
    with torch.no_grad():
        loss = DenoisingScoreMatching(Unit(), UniformTime())(Play(part, Batch(x)))
    # the zero network predicts velocity 0 where eps - y has variance 2 in each of two dimensions
    torch.testing.assert_close(loss, torch.tensor(4.0), rtol=0.03, atol=0)


def test_reaches_through_preprocessing():
    torch.manual_seed(0)
    part = small()
    wrapped = Preprocessed(part, [Standardise(torch.full((2,), 5.0), torch.full((2,), 3.0))], (2,))
    y = torch.randn(64, 2)
    torch.manual_seed(1)
    inside = DenoisingScoreMatching()(Play(part, Batch(y)))
    torch.manual_seed(1)
    torch.testing.assert_close(DenoisingScoreMatching()(Play(wrapped, Batch(3 * y + 5))), inside)
    with pytest.raises(Unavailable, match="denoise"):
        DenoisingScoreMatching().check(Play(StandardNormal((2,)), Batch(y)))


@pytest.mark.parametrize("weight", [Unit(), MinSnr()], ids=repr)
def test_starved_likelihoods_are_warned_of(weight):
    play = Play(small(parameterisation=X0()), Batch(torch.randn(4, 2)))
    with pytest.warns(UserWarning, match="likelihood"):
        DenoisingScoreMatching(weight).check(play)


@pytest.mark.parametrize("weight", [Likelihood(), Tilted(), Unit()], ids=repr)
def test_sound_choices_are_not(weight):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DenoisingScoreMatching(weight).check(Play(small(path=LinearPath()), Batch(torch.randn(4, 2))))


def test_learns_a_mixture():
    torch.manual_seed(0)
    part, objective = small(), DenoisingScoreMatching(Unit(), UniformTime())
    optimizer = torch.optim.Adam(part.parameters(), lr=4e-3)
    test = mixture_sample(1000)
    with torch.no_grad():
        start = part().density(test.float()).value.mean()
    for step in range(250):
        loss = objective(Play(part, Batch(mixture_sample(256).float()), step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        end = part().density(test.float()).value.mean()
    assert mixture_log_density(test).mean() - end < 0.6 * (mixture_log_density(test).mean() - start)
