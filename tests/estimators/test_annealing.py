"""Annealed importance sampling of latent models, and the sandwich on simulated rows, against closed forms."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from linear_models import Case
from torch import Tensor, nn
from torch.distributions import Independent, Normal, OneHotCategorical

from genalloy.core.evidence import Kind, Unavailable
from genalloy.core.part import Conditional
from genalloy.estimators.annealed_importance import AnnealedImportance, FromPosterior
from genalloy.estimators.annealing import AnnealingPath, backward, forward, temperatures, tuned
from genalloy.estimators.bidirectional import sandwich
from genalloy.heads.discrete import Bernoulli
from genalloy.heads.gaussian import Gaussian, StandardNormal
from genalloy.mcmc.hmc import HMC
from genalloy.mcmc.langevin import Langevin
from genalloy.mcmc.mala import MALA
from genalloy.models.energy import EnergyModel
from genalloy.models.flow import Preprocessed
from genalloy.models.latent import LatentVariable
from genalloy.networks.mlp import MLP
from genalloy.transforms.observation import Standardise

STEP = HMC(1, 0.1, 3)


def test_temperatures_rise_from_nought_to_one_and_are_dense_at_the_ends() -> None:
    betas = temperatures(100)
    assert betas[0] == 0.0 and betas[-1] == 1.0 and len(betas) == 101
    steps = [b - a for a, b in pairwise(betas)]
    assert min(steps) > 0 and steps[0] < 0.2 * steps[50] and steps[0] == pytest.approx(steps[-1])
    assert temperatures(4, 0.0) == [0.0, 0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("kernel", [HMC(1, 0.5, 4), MALA(2, 0.5)], ids=lambda k: type(k).__name__)
def test_weights_have_the_right_mean_in_both_directions(kernel: HMC | MALA) -> None:
    """b = N(0, 1), r = -x^2/2 tilted: pi_1 = N(0, 1/2), Z = 1/sqrt 2. Three temperatures only: the weights are spread out."""
    torch.manual_seed(0)
    path = AnnealingPath(lambda z: -0.5 * z.square().sum(-1), lambda z: -0.5 * z.square().sum(-1))
    betas = temperatures(3, 0.0)
    ahead = forward(path, torch.randn(40_000, 2), betas, [kernel] * 4)
    back = backward(path, torch.randn(40_000, 2) * 0.5**0.5, betas, [kernel] * 4)
    truth, n = math.log(0.5), math.log(40_000)
    assert float(ahead.logsumexp(0) - n) == pytest.approx(truth, abs=0.01)
    assert float(-((-back).logsumexp(0) - n)) == pytest.approx(truth, abs=0.01)
    assert float(ahead.mean()) < truth - 0.03 and float(back.mean()) > truth + 0.03


def test_the_pilot_finds_steps_with_the_wanted_acceptance() -> None:
    torch.manual_seed(0)
    precision = torch.linspace(1.0, 100.0, 12)
    path = AnnealingPath(lambda z: -0.5 * z.square().sum(-1), lambda z: -0.5 * (precision * z.square()).sum(-1))
    betas = temperatures(60)
    kernels = tuned(path, torch.randn(200, 12), betas, MALA(1, 1.0))
    for k in (20, 40, 60):
        exact = torch.randn(4000, 12) * (1 + betas[k] * precision).rsqrt()
        assert 0.45 < float(kernels[k].run(path.energy(betas[k]), exact).accepted.mean()) < 0.85
    assert kernels[-1].step_size < 0.3 * kernels[5].step_size
    assert tuned(path, torch.randn(9, 12), betas, Langevin(1, 0.1))[-1] == Langevin(1, 0.1)


@pytest.mark.parametrize("start", [None, FromPosterior()], ids=["prior", "posterior"])
def test_within_five_hundredths_of_a_nat_of_a_linear_gaussian_model(start: FromPosterior | None) -> None:
    torch.manual_seed(0)
    case = Case(10, 20, 1.0)
    x = case.law.sample((64,))
    ais = AnnealedImportance(16, 150, STEP) if start is None else AnnealedImportance(16, 40, STEP, start=start)
    evidence = ais(case.model(), x)
    gap = evidence.value - case.law.log_prob(x)
    assert abs(float(gap.mean())) < 0.05
    assert evidence.kind is Kind.LOWER and evidence.proper and evidence.measure.lebesgue == 20
    assert 0.4 < float((gap / evidence.stderr).square().mean().sqrt()) < 2.0
    assert "16 chains" in evidence.how and "HMC" in evidence.how and "effective share" in evidence.how


def test_a_short_path_lies_below_and_its_weights_have_mean_p() -> None:
    torch.manual_seed(0)
    case = Case(2, 3)
    x = case.law.sample((1,)).expand(4000, 3)
    evidence = AnnealedImportance(1, 4, MALA(1, 0.05), pilot=0)(case.model(), x)
    value, truth = evidence.value.double(), float(case.law.log_prob(x[0]))
    assert evidence.stderr is None
    assert float(value.mean()) < truth - 5 * float(value.std()) / 4000**0.5
    assert float(value.logsumexp(0)) - math.log(4000) == pytest.approx(truth, abs=0.15)


def test_without_a_metropolis_test_nothing_is_claimed() -> None:
    torch.manual_seed(0)
    case = Case(2, 3)
    evidence = AnnealedImportance(4, 10, Langevin(1, 0.02))(case.model(), case.law.sample((3,)))
    assert evidence.kind is Kind.ESTIMATE and not evidence.proper
    with pytest.raises(Unavailable, match="Metropolis"):
        sandwich(case.model(), 4, AnnealedImportance(4, 10, Langevin(1, 0.02)))


def test_preprocessing_contexts_and_blocks_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    case = Case(3, 4)
    x = case.law.sample((12,))
    outer = Preprocessed(case.model, [Standardise(torch.ones(4), torch.full((4,), 3.0))], (4,))()
    monkeypatch.setattr("genalloy.estimators.annealed_importance.MOST_FLOATS", 4 * 32 * 5)
    found = AnnealedImportance(32, 80, STEP)(outer, 3 * x + 1)
    assert found.value.shape == (12,) and found.kind is Kind.LOWER
    assert float((found.value - (case.law.log_prob(x) - 4 * math.log(3.0))).abs().mean()) < 0.15
    decoder = Conditional(Bernoulli(), MLP(((2,), (1,)), 5, (8,)), (5,), ((2,), (1,)))
    encoder = Conditional(Gaussian(), MLP(((5,), (1,)), 4, (8,)), (2,), ((5,), (1,)))
    model = LatentVariable(StandardNormal((2,)), decoder, encoder, context_shapes=((1,),))
    bits = (torch.rand(7, 5) < 0.5).float()
    found = AnnealedImportance(4, 20, STEP)(model(torch.randn(7, 1)), bits)
    assert found.value.shape == (7,) and found.measure.counting == 5 and bool((found.value < 0).all())


class Fixed(nn.Module):
    """A part of one plain torch distribution over (2,)."""

    def __init__(self, distribution: torch.distributions.Distribution) -> None:
        super().__init__()
        self.distribution, self.event_shape = distribution, (2,)

    def forward(self, context: object = None) -> torch.distributions.Distribution:
        return self.distribution


def test_what_cannot_be_annealed_says_why() -> None:
    decoder, encoder = (Conditional(Gaussian(), MLP(((2,),), 4, ()), (2,), ((2,),)) for _ in range(2))
    x, ais = torch.zeros(3, 2), AnnealedImportance(2, 3, MALA(1, 0.1))
    with pytest.raises(Unavailable, match=r"energy\(x\), or trace.*has neither"):
        ais(StandardNormal((2,))(), x)
    codes = LatentVariable(Fixed(OneHotCategorical(torch.ones(2))), decoder, encoder)
    with pytest.raises(Unavailable, match="codes are discrete"):
        ais(codes(), x)
    nested = LatentVariable(LatentVariable(StandardNormal((2,)), decoder, encoder), decoder, encoder)
    with pytest.raises(Unavailable, match="exact prior; found LOWER"):
        ais(nested(), x)
    deep = LatentVariable(StandardNormal((2,)), LatentVariable(StandardNormal((2,)), decoder, encoder), encoder)
    with pytest.raises(Unavailable, match="exact likelihood; found LOWER"):
        ais(deep(), x)
    plain = LatentVariable(Fixed(Independent(Normal(torch.zeros(2), torch.ones(2)), 1)), decoder, encoder)
    assert ais(plain(), x).kind is Kind.LOWER


def bracket(temperatures_: int) -> tuple[float, float, float, Tensor]:
    torch.manual_seed(0)
    case = Case(8, 16, 1.0)
    found = sandwich(case.model(), 64, AnnealedImportance(8, temperatures_, STEP))
    truth = case.law.log_prob(found.x)
    assert found.lower.kind is Kind.LOWER and found.upper.kind is Kind.UPPER
    assert "rows simulated from the model" in found.lower.how and "reverse" in found.upper.how
    return float((found.lower.value - truth).mean()), float((found.upper.value - truth).mean()), found.gap, found.x


def test_the_sandwich_brackets_the_truth_and_closes() -> None:
    low, high, gap, x = bracket(15)
    assert low < -0.3 and high > 0.3 and gap == pytest.approx(high - low, abs=1e-3)
    assert x.shape == (64, 16)
    low, high, narrow, _ = bracket(150)
    assert -0.1 < low < 0.05 and -0.05 < high < 0.1
    assert narrow < 0.2 * gap


def test_the_sandwich_looks_through_preprocessing_and_refuses_contexts() -> None:
    torch.manual_seed(0)
    case = Case(3, 4)
    outer = Preprocessed(case.model, [Standardise(torch.ones(4), torch.full((4,), 3.0))], (4,))()
    found = sandwich(outer, 6, AnnealedImportance(4, 60, STEP))
    assert float((found.lower.value - case.law.log_prob(found.x)).abs().mean()) < 0.3
    decoder, encoder = (Conditional(Gaussian(), MLP(((2,), (1,)), 4, ()), (2,), ((2,), (1,))) for _ in range(2))
    conditional = LatentVariable(StandardNormal((2,)), decoder, encoder, context_shapes=((1,),))
    with pytest.raises(Unavailable, match="without a batch"):
        sandwich(conditional(torch.zeros(3, 1)), 2)
    with pytest.raises(Unavailable, match="trace"):
        sandwich(StandardNormal((2,))(), 2)


def test_a_base_that_is_a_bound_leaves_the_side_unknown() -> None:
    """-E(x) holds log base(x): where that is itself a lower bound, minus a lower bound of log Z is on no known side."""
    torch.manual_seed(0)
    affine = Conditional(Gaussian(), MLP(((2,),), 4, ()), (2,), ((2,),))
    bound = LatentVariable(StandardNormal((2,)), affine, affine)
    for base, kind in ((StandardNormal((2,)), Kind.UPPER), (bound, Kind.ESTIMATE)):
        model = EnergyModel(MLP(((2,),), 1, (4,)), base, (2,))
        found = AnnealedImportance(8, 5, MALA(steps=1, step_size=0.1), pilot=0)(model(), torch.randn(3, 2))
        assert found.kind is kind
