"""Missing entries: heads and latent models take them, measures count what is observed, objectives divide alike."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from genalloy.core.batch import Batch
from genalloy.core.distribution import density
from genalloy.core.evidence import Kind, Measure, lebesgue
from genalloy.core.observations import Masked, in_blocks, observed_measure, repeat, rows
from genalloy.core.part import Conditional
from genalloy.core.spec import from_spec, to_spec
from genalloy.estimators.annealed_importance import AnnealedImportance
from genalloy.estimators.importance_weighted import ImportanceWeighted
from genalloy.heads.discrete import Bernoulli
from genalloy.heads.gaussian import Gaussian, StandardNormal
from genalloy.heads.unit import Beta
from genalloy.models.autoregressive import Autoregressive
from genalloy.models.latent import LatentVariable
from genalloy.networks.causal.made import MADE
from genalloy.networks.imputation import ZeroImputation
from genalloy.networks.mlp import MLP
from genalloy.objectives.bounds import ELBO, ImportanceWeightedBound
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.objectives.objective import Play
from genalloy.training.fit import fit

D, Z = 5, 2


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


class Affine(nn.Module):
    """x ~ N(W z + b, s^2) as a network for a Gaussian head."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.raw = nn.Linear(Z, D).double(), 0.3

    def forward(self, z: Tensor) -> Tensor:
        mean = self.map(z)
        return torch.stack([mean, torch.full_like(mean, self.raw)], -1).flatten(-2)


def model() -> LatentVariable:
    encoder = ZeroImputation(MLP(((D,), (D,)), 2 * Z, (16,)).double())
    return LatentVariable(
        StandardNormal((Z,)).double(),
        Conditional(Gaussian(), Affine(), (D,), ((Z,),)),
        Conditional(Gaussian(), encoder, (Z,), ((D,),)),
    )


def gaps(n: int = 7) -> Masked:
    x = torch.randn(n, D, dtype=torch.float64)
    mask = torch.rand(n, D) < 0.6
    mask[:, 0] = True
    return Masked(x.masked_fill(~mask, math.nan), mask)


def truth(part: LatentVariable, observed: Masked) -> Tensor:
    """log N(x_o; b_o, (W W' + s^2 I)_oo) of every row."""
    network = part.likelihood.network
    scale = float(part.likelihood(torch.zeros(Z, dtype=torch.float64)).scale[0])
    covariance = network.map.weight @ network.map.weight.T + scale**2 * torch.eye(D, dtype=torch.float64)
    values = []
    for x, seen in zip(observed.x, observed.mask, strict=True):
        some = covariance[seen][:, seen]
        values.append(MultivariateNormal(network.map.bias[seen], some).log_prob(x[seen]))
    return torch.stack(values)


def test_importance_weighting_on_missing_entries_meets_the_truth() -> None:
    """MIWAE (Mattei & Frellsen, 2019) with a linear-Gaussian model, whose marginals are known."""
    part, observed = model(), gaps()
    for _ in fit(part, ImportanceWeightedBound(5), [Batch(gaps(64)) for _ in range(60)]):
        pass
    with torch.no_grad():
        exact = truth(part, observed)
        found = ImportanceWeighted(20_000)(part(), observed)
    assert (found.value - exact).abs().max() < 0.05
    assert found.measure == observed_measure(observed.mask, 1, discrete=False)
    again = from_spec(*to_spec(part))
    torch.manual_seed(1)
    here = density(part(), observed).value
    torch.manual_seed(1)
    assert torch.equal(density(again(), observed).value, here)


@pytest.mark.parametrize(
    ("head", "x"), [(Gaussian(), torch.randn(3, 4)), (Bernoulli(), torch.ones(3, 4)), (Beta(), torch.rand(3, 4))]
)
def test_heads_sum_over_the_observed_entries(head: nn.Module, x: Tensor) -> None:
    features = torch.randn(3, 4, head.width, requires_grad=True)
    mask = torch.tensor([[1, 0, 1, 1], [0, 1, 1, 1], [1, 1, 0, 1]]).bool()
    missing = Masked(x.masked_fill(~mask, math.nan), mask)
    found = density(head(features, 1), missing)
    elements = torch.stack([density(head(features[:, i : i + 1], 1), x[:, i : i + 1]).value for i in range(4)], 1)
    torch.testing.assert_close(found.value, elements.where(mask, 0.0).sum(1))
    found.value.sum().backward()
    assert features.grad is not None and bool(features.grad.isfinite().all()), "what is missing leaves no trace in gradients"
    assert sum(found.measure) == 3
    torch.testing.assert_close(density(head(features, 1), repeat(missing, 2)).value, found.value.expand(2, 3))


def test_the_measure_counts_what_is_observed() -> None:
    head = Gaussian()(torch.zeros(2, 30, 2), 1)
    mask = torch.zeros(2, 30).bool()
    mask[:, :12] = True
    assert str(density(head, Masked(torch.zeros(2, 30), mask)).measure) == "12 Lebesgue"
    mask[1, :20] = True
    uneven = density(head, Masked(torch.zeros(2, 30), mask))
    assert str(uneven.measure) == "(12 to 20 observed) Lebesgue"
    assert (uneven - uneven).measure == Measure()
    whole = density(head, torch.zeros(2, 30))
    assert str((whole - uneven).measure) == "30 + -(12 to 20 observed) Lebesgue", "units do not cancel by themselves"
    assert observed_measure(repeat(Masked(mask, mask), 3).mask, 1, discrete=False) == uneven.measure


def test_a_row_less_its_beginning_keeps_a_measure() -> None:
    part = Autoregressive(MADE((6,), 2), Gaussian(), (6,))
    x = torch.randn(4, 6)
    whole, beginning = density(part(), x), density(part(), Masked.first(x, torch.tensor([2, 2, 2, 2])))
    assert (whole - beginning).measure == lebesgue(4)
    ragged = density(part(), Masked.first(x, torch.tensor([1, 2, 3, 2])))
    assert str((whole - ragged).measure) == "6 + -(1 to 3 observed) Lebesgue"


def test_objectives_divide_masked_rows_by_the_same_number() -> None:
    """A likelihood and a bound of one network: their gradients agree, so that a sum of them is balanced."""
    steps = 6
    x = Masked.first(torch.randn(8, steps), torch.tensor([6, 3, 4, 2, 6, 1, 5, 6]))
    decoder = Conditional(Gaussian(), MLP(((1,),), 2 * steps, (8,)), (steps,), ((1,),))
    encoder = Conditional(Gaussian(), ZeroImputation(MLP(((steps,), (steps,)), 2, (4,), zero=True)), (1,), ((steps,),))
    latent = LatentVariable(StandardNormal((1,)), decoder, encoder)
    plain = Conditional(Gaussian(), decoder.network, (steps,), ((1,),))
    torch.manual_seed(1)
    z = encoder(x).rsample((1,))[0]

    def gradient(value: Tensor) -> Tensor:
        return torch.cat([g.flatten() for g in torch.autograd.grad(value, list(decoder.parameters()))])

    likelihood = gradient(MaximumLikelihood()(Play(plain, Batch(x, z))))
    for objective in (ELBO(), ImportanceWeightedBound(1)):
        torch.manual_seed(1)
        torch.testing.assert_close(gradient(objective(Play(latent, Batch(x)))), likelihood)


def test_rows_are_taken_in_blocks() -> None:
    observed = gaps(7)
    assert [len(block) for block in in_blocks(observed, 3)] == [3, 3, 1] and [len(b) for b in in_blocks(observed.x[:0], 3)] == [0]
    assert rows(observed, torch.tensor([1, 1])).mask.shape == (2, D)


def test_annealing_takes_rows_with_gaps() -> None:
    torch.manual_seed(0)
    part, observed = model(), gaps(5)
    annealed = AnnealedImportance(chains=64, temperatures=40)(part(), observed)
    assert annealed.kind is Kind.LOWER
    torch.testing.assert_close(annealed.value, truth(part, observed), atol=0.1, rtol=0)
