"""Chains of latents against Gaussian algebra; a ladder and a recurrent network in a few lines each, stored and given labels."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, MultivariateNormal, Normal

import genalloy as ga
from genalloy.core.evidence import Kind
from genalloy.core.observations import Masked
from genalloy.estimators.importance_weighted import ImportanceWeighted
from genalloy.heads.gaussian import GaussianDistribution, StandardNormal
from genalloy.laws.linear_gaussian import Line, lines
from genalloy.models.chain import Chain, ChainNetwork
from genalloy.models.latent import LatentVariable
from genalloy.networks.labels import LabelEmbedding
from genalloy.networks.mlp import MLP
from genalloy.objectives.bounds import ELBO


def exact_chain() -> Chain:
    """u ~ N(0, 1), z | u ~ N(u, 1), x | z ~ N(z, 1) with r(u | x) = p(u | x) and r(z | u, x) = p(z | u, x)."""
    posteriors = [Line((0.0, 1 / 3), math.sqrt(2 / 3)), Line((0.5, 0.5), math.sqrt(0.5))]
    return lines([Line((0.0,), 1.0), Line((1.0,), 1.0)], Line((1.0,), 1.0), posteriors)


def test_with_the_true_posteriors_every_weight_is_the_density() -> None:
    x = torch.linspace(-3, 3, 7).unsqueeze(-1)
    truth = Normal(0.0, math.sqrt(3)).log_prob(x.squeeze(-1))
    trace = exact_chain()().trace(x, 50)
    torch.testing.assert_close(trace.log_weights().value, truth.expand(50, 7), atol=1e-4, rtol=0)
    assert [term.name for term in trace.terms] == ["z0", "z1"]
    # KL(p(u | x) || p(u)) in closed form; the lower one depends on u and is known for every sample
    want = 0.5 * (2 / 3 + (x / 3) ** 2 - 1 - math.log(2 / 3))
    torch.testing.assert_close(trace.terms[0].divergence().mean(0), want, atol=1e-4, rtol=0)
    assert trace.terms[1].kl is not None and trace.terms[1].kl.shape == (50, 7, 1)
    drawn, claim = ga.draw(exact_chain()(), (200,))
    assert claim.kind is Kind.UPPER
    torch.testing.assert_close(claim.value, Normal(0.0, math.sqrt(3)).log_prob(drawn.squeeze(-1)), atol=1e-4, rtol=0)


def test_a_chain_is_the_nested_model_of_the_same_parts() -> None:
    """p(x | z) p(z | u) p(u) as a latent model whose prior is one: the same bound, to the noise of its samples."""
    prior = LatentVariable(StandardNormal((1,)), Line((1.0,), 1.0).part(), Line((0.5,), math.sqrt(0.5)).part())
    nested = LatentVariable(prior, Line((1.0,), 1.0).part(), Line((2 / 3,), math.sqrt(2 / 3)).part())
    x = torch.tensor([[0.7], [-2.0]])
    value = nested().density(x).value
    torch.testing.assert_close(value, exact_chain()().density(x).value, atol=1e-4, rtol=0)


def test_resampling_keeps_what_is_above() -> None:
    torch.manual_seed(0)
    x = torch.full((40_000, 1), 3.0)
    chain = exact_chain()()
    # u is kept: E[x' | x] = E[u | x] = 1; u and z are kept: E[z | x] = 2; none: 0
    for level, mean in ((0, 0.0), (1, 1.0), (2, 2.0)):
        assert chain.resample(x, level).mean().item() == pytest.approx(mean, abs=0.04)
    assert chain.encode(x[:2]).tolist() == pytest.approx([pytest.approx([1.0, 2.0], abs=1e-4)] * 2)
    assert chain.reconstruct(x[:2]).squeeze().tolist() == pytest.approx([2.0, 2.0], abs=1e-4)


class Ladder(ChainNetwork):
    """A hierarchy: features of x from below, a state from above, x from the last state."""

    def __init__(self, sizes: tuple[int, ...], width: int, classes: int = 0) -> None:
        super().__init__()
        self.sizes, self.width, self.classes, self.steps = tuple(sizes), width, classes, len(sizes)
        self.features = MLP(((1, 8, 8),), width, (64,), shift=8.0, scale=4.0)
        self.labels = LabelEmbedding(classes, width) if classes else None
        self.p = nn.ModuleList(MLP(((width,),), 2 * size, (32,), zero=True) for size in sizes)
        self.q = nn.ModuleList(MLP(((width,), (width,)), 2 * size, (32,), zero=True) for size in sizes)
        self.down = nn.ModuleList(MLP(((size,),), width, (32,)) for size in sizes)
        self.x = ga.Conditional(ga.heads.Categorical(17), MLP(((width,),), 64 * 17, (64,)), (1, 8, 8), ((width,),))

    def encode(self, x: Tensor, context: Any = None) -> Tensor:
        return self.features(x)

    def begin(self, lead: tuple[int, ...], context: Any = None) -> Tensor:
        top = torch.zeros(self.width) if self.labels is None else self.labels(context)
        return top.expand(*lead, self.width)

    def prior(self, t: int, state: Tensor) -> Any:
        mean, raw = self.p[t](state).chunk(2, -1)
        return Independent(Normal(mean, raw.exp()), 1)

    def posterior(self, t: int, state: Tensor, encoding: Tensor) -> Any:
        mean, raw = self.q[t]((state, encoding.expand_as(state))).chunk(2, -1)
        return Independent(Normal(mean, raw.exp()), 1)

    def advance(self, t: int, state: Tensor, z: Tensor) -> Tensor:
        return state + self.down[t](z)

    def emit(self, t: int, state: Tensor) -> Any:
        return self.x(state)


@pytest.mark.parametrize("classes", [0, 10])
def test_a_ladder_trains_and_is_stored(classes: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = ga.load_data("digits")
    model = Chain(Ladder((4, 6), 24, classes), (1, 8, 8), True, ((),) if classes else ())
    labels = data.labels["train"].float() if classes else None
    batch = ga.Batch(data.train[:256], None if labels is None else labels[:256])
    before = model(batch.context).density(batch.x).value.mean()
    steps = list(ga.fit(model, ELBO(), [batch] * 60, training=ga.Training(ga.training.Adam(3e-3))))
    assert {"kl/z0", "kl/z1"} <= set(steps[-1].terms)
    after = model(batch.context).density(batch.x).value.mean()
    assert after > before + 20
    ga.save(model, tmp_path / "ladder.safetensors")
    again = ga.load(tmp_path / "ladder.safetensors")
    for seed in (0, 1):
        values = []
        for each in (model, again):
            torch.manual_seed(seed)
            values.append(each(batch.context).density(batch.x))
        torch.testing.assert_close(values[0].value, values[1].value)
        assert values[0].measure == values[1].measure and values[0].kind is Kind.LOWER
    ten = torch.arange(10.0) if classes else None
    drawn, claim = ga.draw(model(ten), () if classes else (10,))
    assert drawn.shape == (10, 1, 8, 8) and claim.kind is Kind.UPPER and claim.value.shape == (10,)
    one, many = model(batch.context).density(batch.x), ImportanceWeighted(20)(model(batch.context), batch.x)
    assert many.kind is Kind.LOWER and many.value.mean() > one.value.mean()


class Walk(ChainNetwork):
    """A latent random walk seen through noise, z_t ~ N(z_(t-1), 1), x_t ~ N(z_t, 0.5^2); r = p(z_t | z_(t-1), x_t)."""

    each_step = True

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def encode(self, x: Any, context: Any = None) -> tuple[Tensor, Tensor]:
        """x, and by how much it pulls each latent: where there is none, r is the prior."""
        whole = x if isinstance(x, Masked) else Masked(x, torch.ones_like(x))
        return whole.x, 0.8 * whole.mask

    def begin(self, lead: tuple[int, ...], context: Any = None) -> Tensor:
        return torch.zeros(*lead, 1)

    def prior(self, t: int, state: Tensor) -> Any:
        return Independent(Normal(state, 1.0), 1)

    def posterior(self, t: int, state: Tensor, encoding: tuple[Tensor, Tensor]) -> Any:
        x, pull = (part[..., t, :] for part in encoding)
        return Independent(Normal(torch.lerp(state, x.expand_as(state), pull), (1 - pull) ** 0.5), 1)

    def advance(self, t: int, state: Tensor, z: Tensor) -> Tensor:
        return z

    def emit(self, t: int, state: Tensor) -> Any:
        return GaussianDistribution(state, torch.full_like(state, 0.5), 1)


def walk_law(steps: int) -> MultivariateNormal:
    """Cov x = min(s, t) + 0.25 [s = t]."""
    times = torch.arange(1.0, steps + 1)
    return MultivariateNormal(torch.zeros(steps), torch.minimum(times[:, None], times) + 0.25 * torch.eye(steps))


def test_a_sequence_of_latents_bounds_rows_of_unequal_lengths() -> None:
    torch.manual_seed(0)
    lengths = torch.tensor([1, 2, 4, 4])
    full = walk_law(4).sample((4,))
    rows = Masked.first(full.unsqueeze(-1), lengths)
    truth = torch.stack([walk_law(int(n)).log_prob(row[: int(n)]) for n, row in zip(lengths, full, strict=True)])
    model = Chain(Walk(4), (4, 1))()
    trace = model.trace(rows, 20_000)
    weights = trace.log_weights()
    torch.testing.assert_close(weights.log_mean_exp(0).value, truth, atol=0.03, rtol=0)
    assert (weights.value.mean(0) <= truth + 0.01).all() and weights.proper and weights.kind is Kind.LOWER
    # a row of one step has one latent: r is its true posterior
    torch.testing.assert_close(weights.value[:, 0], truth[0].expand(20_000), atol=1e-4, rtol=0)
    assert not trace.terms[3].log_prior.value[:, :2].any() and trace.terms[3].kl is not None
    assert not trace.terms[3].kl[:, :2].any() and trace.terms[3].kl[:, 2:].all()
    assert "1 to 4" in str(weights.measure) and str(model.density(rows[2:]).measure) == "4 Lebesgue"
    whole = model.trace(full.unsqueeze(-1), 20_000).log_weights().log_mean_exp(0).value
    torch.testing.assert_close(whole, walk_law(4).log_prob(full), atol=0.03, rtol=0)


def test_a_gap_in_the_middle_is_summed_over() -> None:
    """x_1 is missing: its step emits nothing, and its latent is still weighed, since the next depends on it."""
    torch.manual_seed(0)
    x, mask = torch.tensor([[[0.5], [0.0], [1.5]]]), torch.tensor([[[True], [False], [True]]])
    law = MultivariateNormal(torch.zeros(2), walk_law(3).covariance_matrix[[0, 2]][:, [0, 2]])
    value = Chain(Walk(3), (3, 1))().trace(Masked(x, mask), 200_000).log_weights().log_mean_exp(0).value
    torch.testing.assert_close(value, law.log_prob(torch.tensor([[0.5, 1.5]])), atol=0.03, rtol=0)


def test_what_is_drawn_has_the_law_of_the_chain() -> None:
    torch.manual_seed(0)
    x, claim = ga.draw(Chain(Walk(3), (3, 1))(), (40_000,))
    assert x.shape == (40_000, 3, 1) and claim.kind is Kind.UPPER
    torch.testing.assert_close(torch.cov(x.squeeze(-1).T), walk_law(3).covariance_matrix, atol=0.08, rtol=0)
    assert (claim.value - walk_law(3).log_prob(x.squeeze(-1))).mean() > 0


def test_a_chain_says_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="found a chain of 4 steps over an observation of shape \\(5, 1\\)"):
        Chain(Walk(4), (5, 1))
    with pytest.raises(ValueError, match="expected one that ends in"):
        Chain(Walk(4), (4, 1))().density(torch.zeros(2, 3, 1))
