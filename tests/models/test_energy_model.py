"""Energy models, implicit models and the fitted Gaussian."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from genalloy.core.capabilities import reach
from genalloy.core.evidence import Kind, Unavailable
from genalloy.core.part import Estimated
from genalloy.core.spec import from_spec, to_spec
from genalloy.estimators.annealed_importance import AnnealedImportance
from genalloy.heads.gaussian import StandardNormal
from genalloy.mcmc.buffer import ReplayBuffer
from genalloy.mcmc.hmc import HMC
from genalloy.mcmc.langevin import Langevin
from genalloy.mcmc.mala import MALA
from genalloy.models.energy import EnergyModel
from genalloy.models.fitted import FittedGaussian
from genalloy.models.flow import Preprocessed
from genalloy.models.implicit import Implicit
from genalloy.networks.mlp import MLP, ResidualMLP
from genalloy.transforms.observation import Standardise


class Shift(nn.Module):
    """f(x) = sum x, so that p = N(-1, I) and log Z = d/2 under a standard normal base."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(-1).sum(-1, keepdim=True)


def tilted() -> EnergyModel:
    return EnergyModel(Shift(), StandardNormal((2,)), (2,), MALA(60, 1.0))


def test_energy_score_and_samples_of_a_tilted_gaussian() -> None:
    torch.manual_seed(0)
    model = tilted()()
    x = torch.randn(5, 3, 2)
    energy = 0.5 * x.square().sum(-1) + math.log(2 * math.pi) + x.sum(-1)
    assert torch.allclose(model.energy(x), energy, atol=1e-5)
    assert torch.allclose(model.score(x), -x - 1, atol=1e-5)
    sample = model.sample((8000,))
    assert torch.allclose(sample.mean(0), torch.full((2,), -1.0), atol=0.05)
    assert torch.allclose(sample.var(0), torch.ones(2), atol=0.08)


def test_density_is_absent_with_the_next_move() -> None:
    model = tilted()()
    evidence = model.density(torch.zeros(3, 2))
    assert evidence.kind is Kind.NONE
    assert evidence.value.shape == (3,)
    with pytest.raises(Unavailable, match="AnnealedImportance"):
        _ = evidence.available
    assert model.draw((2,))[1].kind is Kind.NONE


@pytest.mark.parametrize("kernel", [MALA(1, 1.0), HMC(1, 0.7, 2)], ids=lambda k: type(k).__name__)
def test_annealed_importance_finds_log_z(kernel: MALA | HMC) -> None:
    torch.manual_seed(0)
    ais = AnnealedImportance(400, 60, kernel)
    found = ais.log_z(tilted()())
    assert float(found.value) == pytest.approx(1.0, abs=0.05)
    assert 0.5 < float(found.share) <= 1.0
    assert float(found.stderr) < 0.05


def test_annealed_importance_lies_above_log_p_on_average() -> None:
    torch.manual_seed(0)
    model, x = tilted()(), torch.zeros(1, 2)
    truth = float(torch.distributions.Normal(-1.0, 1.0).log_prob(torch.zeros(2)).sum())
    coarse = AnnealedImportance(2, 3, MALA(1, 1.0), pilot=0)
    values = torch.cat([coarse(model, x).value for _ in range(300)])
    assert float(values.mean()) - truth > 3 * float(values.std()) / 300**0.5
    assert coarse(model, x).kind is Kind.UPPER
    assert AnnealedImportance(2, 3, Langevin(1, 0.1), pilot=0)(model, x).kind is Kind.ESTIMATE


def test_annealed_importance_counts_preprocessing() -> None:
    torch.manual_seed(0)
    part = Preprocessed(
        Estimated(tilted(), AnnealedImportance(200, 40)), [Standardise(torch.ones(2), torch.full((2,), 3.0))], (2,)
    )
    x = torch.randn(4, 2)
    truth = torch.distributions.Normal(1.0 - 3.0, 3.0).log_prob(x).sum(-1)
    evidence = part().density(x)
    assert evidence.kind is Kind.UPPER
    assert torch.allclose(evidence.value, truth, atol=0.1)
    outer = AnnealedImportance(200, 40)(Preprocessed(tilted(), list(part.layers), (2,))(), x)
    assert torch.allclose(outer.value, truth, atol=0.1)
    assert outer.measure == evidence.measure


def test_samples_continue_the_buffers_chains() -> None:
    buffer = ReplayBuffer(8, (2,))
    buffer.put(torch.arange(8), torch.full((8, 2), 7.0))
    part = EnergyModel(Shift(), StandardNormal((2,)), (2,), Langevin(0), buffer)
    assert torch.equal(part().sample((2, 3)), torch.full((2, 3, 2), 7.0))


def test_a_conditional_energy_broadcasts() -> None:
    part = EnergyModel(MLP(((2,), (3,)), 1), StandardNormal((2,)), (2,), Langevin(2), context_shapes=((3,),))
    model = part(torch.randn(5, 3))
    assert model.sample((4,)).shape == (4, 5, 2)
    assert model.energy(torch.randn(4, 5, 2)).shape == (4, 5)


def test_energy_models_are_stored_with_their_buffer() -> None:
    buffer = ReplayBuffer(8, (2,))
    part = EnergyModel(MLP(((2,),), 1), StandardNormal((2,)), (2,), HMC(2), buffer)
    buffer.put(torch.arange(8), torch.randn(8, 2))
    again = from_spec(*to_spec(part))
    x = torch.randn(3, 2)
    assert torch.equal(again().energy(x), part().energy(x))
    assert torch.equal(again.buffer.chains, buffer.chains)
    assert again.sampler == HMC(2)


def test_the_fitted_gaussian_has_the_datas_moments_and_is_normalised() -> None:
    torch.manual_seed(0)
    mix = torch.tensor([[1.0, 0.0], [0.8, 0.3]])
    x = torch.randn(4000, 2) @ mix.T + torch.tensor([1.0, -2.0])
    part = FittedGaussian.of(x, jitter=0.0)
    reference = torch.distributions.MultivariateNormal(x.mean(0), torch.cov(x.T))
    assert torch.allclose(part().density(x[:9]).value, reference.log_prob(x[:9]), atol=1e-3)
    assert torch.allclose(torch.cov(part().sample((20_000,)).T), torch.cov(x.T), atol=0.05)
    assert part().sample((3, 2)).shape == (3, 2, 2)
    with pytest.raises(ValueError, match="at least two"):
        FittedGaussian.of(x[:1])
    images = FittedGaussian.of(torch.randn(50, 1, 2, 2))
    assert images().density(torch.zeros(5, 7, 1, 2, 2)).value.shape == (5, 7)
    assert torch.equal(from_spec(*to_spec(part)).factor, part.factor)


def test_implicit_models_sample_with_gradients_and_have_no_density() -> None:
    part = Implicit(StandardNormal((3,)), ResidualMLP(((3,), ()), 4, 16, 1), (1, 2, 2), ((),))
    model = part(torch.randn(5))
    x = model.rsample((6,))
    assert x.shape == (6, 5, 1, 2, 2)
    assert x.requires_grad
    assert model.density(x).kind is Kind.NONE
    assert model.density(x).value.shape == (6, 5)
    assert model.draw()[1].kind is Kind.NONE
    with pytest.raises(Unavailable, match="encode"):
        reach(model, x[0], "encode")
    again = from_spec(*to_spec(part))
    z = torch.randn(5, 3)
    assert torch.equal(again(torch.ones(5)).generate(z), part(torch.ones(5)).generate(z))
