"""Contrastive objectives against cases with a known answer."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from genalloy.core.batch import Batch
from genalloy.core.distribution import density
from genalloy.core.evidence import Unavailable
from genalloy.core.spec import from_spec, to_spec
from genalloy.heads.gaussian import StandardNormal
from genalloy.mcmc.buffer import ReplayBuffer
from genalloy.mcmc.hmc import HMC
from genalloy.mcmc.langevin import Langevin
from genalloy.models.energy import EnergyModel
from genalloy.models.fitted import FittedGaussian
from genalloy.models.flow import Preprocessed
from genalloy.models.implicit import Implicit
from genalloy.networks.mlp import MLP
from genalloy.objectives.contrastive import ContrastiveDivergence, FitNoise, NoiseContrastive
from genalloy.objectives.objective import Play
from genalloy.training.slots import players
from genalloy.transforms.observation import Standardise


class Linear(nn.Module):
    """f(x) = slope x + bias: under N(0, 1) the model is N(-slope, 1), and log Z = slope^2/2 - bias."""

    def __init__(self, slope: float = 0.0) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope))
        self.bias = nn.Parameter(torch.tensor(0.7), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.slope * x + self.bias


def model(slope: float = 0.0) -> EnergyModel:
    return EnergyModel(Linear(slope), StandardNormal((1,)), (1,))


@pytest.mark.parametrize("persistent", [False, True])
def test_the_gradient_is_data_minus_model_expectation(persistent: bool) -> None:
    torch.manual_seed(0)
    part, x = model(0.6), 1.5 + 0.3 * torch.randn(4000, 1)
    buffer = ReplayBuffer(4000, (1,)) if persistent else None
    objective = ContrastiveDivergence(HMC(12, 0.5, 3), buffer, decay=0.0)
    objective(Play(part, Batch(x))).backward()
    assert part.network.slope.grad.item() == pytest.approx(float(x.mean()) + 0.6, abs=0.06)


def test_chains_are_written_back_only_while_training() -> None:
    buffer = ReplayBuffer(32, (1,))
    objective = ContrastiveDivergence(Langevin(2), buffer)
    objective.eval()(Play(model(), Batch(torch.zeros(8, 1))))
    assert not bool(buffer.started.any())
    objective.train()(Play(model(), Batch(torch.zeros(8, 1)), shard=1, shards=2))
    assert buffer.started.nonzero().squeeze(-1).remainder(2).eq(1).all()
    assert int(buffer.started.sum()) == 8


def test_decay_is_the_mean_square_of_the_tilt() -> None:
    torch.manual_seed(0)
    part, x = model(0.0), torch.randn(16, 1)
    values = []
    for decay in (0.0, 0.5):
        torch.manual_seed(1)
        values.append(ContrastiveDivergence(Langevin(1), decay=decay)(Play(part, Batch(x))).item())
    assert values[1] - values[0] == pytest.approx(0.5 * 2 * 0.7**2, abs=1e-5)


def test_non_finite_energies_stop_with_words() -> None:
    part = model(math.inf)
    with pytest.raises(FloatingPointError, match="step"):
        ContrastiveDivergence(Langevin(2))(Play(part, Batch(torch.ones(4, 1))))


def test_chains_with_a_context_need_no_buffer() -> None:
    part = EnergyModel(MLP(((1,), (2,)), 1), StandardNormal((1,)), (1,), context_shapes=((2,),))
    play = Play(part, Batch(torch.zeros(4, 1), torch.zeros(4, 2)))
    assert torch.isfinite(ContrastiveDivergence(Langevin(2))(play))
    with pytest.raises(ValueError, match="without one"):
        ContrastiveDivergence(Langevin(2), ReplayBuffer(8, (1,)))(play)


def test_noise_contrastive_estimation_recovers_log_z() -> None:
    torch.manual_seed(0)
    part, x = model(), torch.randn(8000, 1) + 0.8
    objective = NoiseContrastive(FittedGaussian(torch.zeros(1), torch.tensor([[1.5]])), ratio=2)
    optimizer = torch.optim.Adam([*part.parameters(), objective.log_z], lr=0.05, betas=(0.9, 0.99))
    for step in range(150):
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * (1 - step / 150)
        batch = Batch(x[torch.randint(len(x), (1000,))])
        optimizer.zero_grad()
        objective(Play(part, batch)).backward()
        optimizer.step()
    slope = part.network.slope.item()
    assert slope == pytest.approx(-0.8, abs=0.05)
    assert objective.log_z.item() == pytest.approx(slope**2 / 2 - 0.7, abs=0.05)


def test_noise_contrastive_value_at_the_truth() -> None:
    """With p_model = noise and ratio 1 the classifier is blind: 2 log 2."""
    part, noise = model(0.0), StandardNormal((1,))
    objective = NoiseContrastive(noise)
    objective.log_z.data.fill_(-0.7)
    assert objective(Play(part, Batch(torch.randn(64, 1)))).item() == pytest.approx(2 * math.log(2), abs=1e-5)


def test_noise_gets_no_gradient_from_the_contrast_and_may_have_a_turn_of_its_own() -> None:
    torch.manual_seed(0)
    noise = EnergyModel(Linear(), StandardNormal((1,)), (1,))
    with pytest.raises(Unavailable, match="exact density"):
        NoiseContrastive(noise)(Play(model(), Batch(torch.zeros(4, 1))))
    learned = FittedGaussian(torch.zeros(1), torch.eye(1))
    learned.shift = nn.Parameter(torch.zeros(1))
    objective = NoiseContrastive(learned)
    objective.rival = FitNoise(learned)
    found = {p.name: p.parameters for p in players(model(), objective)}
    assert [id(p) for p in found["fitnoise"]] == [id(learned.shift)]
    x = torch.randn(50, 1)
    assert float(FitNoise(learned).loss(Play(model(), Batch(x)))) == pytest.approx(-float(density(learned(), x).value.mean()))


def test_contrastive_objectives_look_through_preprocessing_and_ask_for_an_energy() -> None:
    part = Preprocessed(model(), [Standardise(torch.ones(1), torch.full((1,), 2.0))], (1,))
    objective = ContrastiveDivergence(Langevin(1), ReplayBuffer(8, (1,)))
    objective.check(Play(part, Batch(torch.zeros(4, 1))))
    implicit = Implicit(StandardNormal((1,)), nn.Identity(), (1,))
    with pytest.raises(Unavailable, match="energy"):
        objective.check(Play(implicit, Batch(torch.zeros(4, 1))))


def test_contrastive_objectives_print_and_are_stored() -> None:
    objective = ContrastiveDivergence(Langevin(3), ReplayBuffer(8, (1,))) + NoiseContrastive(StandardNormal((1,)))
    objective.terms[1].log_z.data.fill_(0.5)
    assert "ContrastiveDivergence" in repr(objective)
    again = from_spec(*to_spec(objective))
    assert float(again.terms[1].log_z) == 0.5
    assert again.terms[0].kernel == Langevin(3)
