"""Plain torch distributions, and zuko's flows, where a Part or a Distribution is wanted."""

from __future__ import annotations

import math

import pytest
import torch
from torch import distributions as D

from genalloy.core.batch import Batch
from genalloy.core.distribution import density, draw, measure_of, needs_gradient
from genalloy.core.evidence import Kind, Measure, Unavailable
from genalloy.core.part import Conditional
from genalloy.core.spec import Foreign
from genalloy.heads.gaussian import Gaussian, StandardNormal
from genalloy.models.flow import Flow
from genalloy.models.latent import LatentVariable
from genalloy.networks.mlp import MLP
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.training.checkpoint import load, save
from genalloy.training.fit import fit
from genalloy.transforms.observation import Standardise


def test_density_is_exact_and_measured() -> None:
    normal = D.Independent(D.Normal(torch.zeros(3), torch.ones(3)), 1)
    evidence = density(normal, torch.zeros(5, 3))
    assert evidence.kind is Kind.EXACT and evidence.proper and evidence.measure == Measure(3, 0)
    torch.testing.assert_close(evidence.value, torch.full((5,), -1.5 * math.log(2 * math.pi)))
    assert measure_of(D.Independent(D.Bernoulli(torch.ones(4) / 2), 1)) == Measure(0, 4)
    assert measure_of(D.Categorical(torch.ones(3))) == Measure(0, 1)


def test_a_normal_that_lacks_independent_is_refused_when_added() -> None:
    """On a batch of its own size it would broadcast silently."""
    bare, good = D.Normal(torch.zeros(3), 1.0), D.Independent(D.Normal(torch.zeros(3), 1.0), 1)
    x = torch.zeros(3, 3)
    with pytest.raises(ValueError, match="Independent"):
        _ = density(bare, x) + density(good, x)
    with pytest.raises(ValueError, match="expected one that ends in"):
        density(good, torch.zeros(5, 2))


@pytest.mark.parametrize("validate", [True, False])
def test_outside_the_support_is_minus_infinity(validate: bool) -> None:
    gamma = D.Independent(D.Gamma(torch.ones(2), torch.ones(2), validate_args=validate), 1, validate_args=validate)
    value = density(gamma, torch.tensor([[1.0, 2.0], [1.0, -2.0], [-1.0, -1.0]])).value
    torch.testing.assert_close(value, torch.tensor([-3.0, -math.inf, -math.inf]))
    bits = D.Bernoulli(torch.tensor(0.5), validate_args=validate)
    half = -math.log(2)
    torch.testing.assert_close(density(bits, torch.tensor([0.0, 0.5, 1.0])).value, torch.tensor([half, -math.inf, half]))
    uniform = D.Uniform(torch.zeros(4), torch.ones(4), validate_args=validate)
    value = density(uniform, torch.tensor([[0.5, 0.5, 2.0, 0.5]] * 2)).value
    assert value.tolist() == [[0.0, 0.0, -math.inf, 0.0]] * 2


def test_a_saturated_tanh_draws_finite_densities() -> None:
    base = D.Independent(D.Normal(torch.zeros(2), torch.full((2,), 20.0)), 1)
    squashed = D.TransformedDistribution(base, [D.TanhTransform()])
    torch.manual_seed(0)
    x, evidence = draw(squashed, (500,))
    assert bool((x.abs() == 1).any()), "the case must saturate in float32"
    assert evidence.kind is Kind.EXACT and bool(torch.isfinite(evidence.value).all())


def test_transformed_draws_agree_with_log_prob() -> None:
    torch.manual_seed(0)
    base = D.Normal(torch.zeros(3), torch.ones(3))
    transforms = [D.AffineTransform(1.0, 2.0), D.ExpTransform()]
    for distribution in (
        D.Independent(D.TransformedDistribution(base, transforms), 1),
        D.TransformedDistribution(D.Independent(base, 1), transforms),
        D.TransformedDistribution(base, [D.StickBreakingTransform()]),
        D.LogNormal(torch.zeros(2), torch.ones(2)),
    ):
        x, evidence = draw(distribution, (7,))
        torch.testing.assert_close(evidence.value, distribution.log_prob(x), rtol=1e-4, atol=1e-4)


def test_needs_gradient_names_the_remedy() -> None:
    with pytest.raises(Unavailable, match="Gumbel-softmax"):
        needs_gradient(D.Bernoulli(torch.tensor(0.5)), "posterior")
    with torch.no_grad():
        needs_gradient(D.Bernoulli(torch.tensor(0.5)), "posterior")
    needs_gradient(D.Normal(0.0, 1.0), "posterior")


class Factory(torch.nn.Module):
    """A third party's module of the same shape: context -> torch distribution."""

    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Linear(3, 4)

    def forward(self, context=None):
        mean, raw = self.net(context).chunk(2, -1)
        return D.Independent(D.Normal(mean, raw.exp()), 1)


def test_torch_factories_serve_as_posterior_and_base() -> None:
    torch.manual_seed(0)
    model = LatentVariable(StandardNormal((2,)), Conditional(Gaussian(), MLP(((2,),), 6, (8,)), (3,), ((2,),)), Factory(), (3,))
    x = torch.randn(16, 3)
    losses = [step.losses["model"] for step in fit(model, MaximumLikelihood(), [Batch(x)] * 3)]
    assert all(map(math.isfinite, losses))
    evidence = density(model(), x)
    assert evidence.kind is Kind.LOWER and evidence.proper
    with pytest.raises(Unavailable, match=r"no exact log_prob.*LOWER.*density"):
        model().log_prob(x)


def _zuko(features: int, context: int = 0) -> Foreign:
    pytest.importorskip("zuko", reason="checks that a third party's flows nest")
    options = {"features": features, "context": context, "transforms": 1, "hidden_features": [8]}
    return Foreign("zuko.flows:MAF", options)


def test_zuko_flows_are_prior_posterior_likelihood_and_base(tmp_path) -> None:
    torch.manual_seed(0)
    x = torch.randn(16, 3)
    vae = LatentVariable(_zuko(2), _zuko(3, 2), _zuko(2, 3), (3,))
    flow = Flow(_zuko(3), [Standardise(torch.zeros(3), torch.full((3,), 2.0))], (3,))
    for model, kind in ((vae, Kind.LOWER), (flow, Kind.EXACT)):
        before = [p.clone() for p in model.parameters()]
        losses = [step.losses["model"] for step in fit(model, MaximumLikelihood(), [Batch(x)] * 3)]
        assert all(map(math.isfinite, losses))
        assert all(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True) if b.requires_grad)
        evidence = density(model(), x)
        assert (evidence.kind, evidence.proper, tuple(evidence.value.shape)) == (kind, True, (16,))
        assert tuple(draw(model(), (5,))[0].shape) == (5, 3)
    with pytest.raises(ValueError, match="trust="):
        load(save(vae, tmp_path / "vae.safetensors"))
    loaded = load(tmp_path / "vae.safetensors", trust=["zuko.flows:MAF"])
    for part in (vae, loaded):
        torch.manual_seed(3)
        part.value = density(part(), x).value
    torch.testing.assert_close(vae.value, loaded.value, rtol=0, atol=0)
