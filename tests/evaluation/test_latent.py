"""Diagnostics of latent models against closed forms: linear-Gaussian models, a mixture as aggregate posterior, collapse."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from genalloy.core.part import Conditional, Part
from genalloy.evaluation.latent import NAMES, latent_panel, refined_model
from genalloy.heads.gaussian import Gaussian, GaussianDistribution, StandardNormal
from genalloy.models.flow import Flow, Preprocessed
from genalloy.models.latent import LatentVariable
from genalloy.networks.mlp import MLP
from genalloy.transforms import observation
from genalloy.transforms.coupling import Coupling, FixedMask, alternating


class Line(Part):
    """N(context W^T + b, scale^2); scale a number or one for each coordinate."""

    def __init__(self, weight: Tensor, bias: Tensor, scale: float | Tensor) -> None:
        super().__init__()
        self.weight, self.bias, self.scale = nn.Parameter(weight), nn.Parameter(bias), torch.as_tensor(scale)
        self.event_shape, self.context_shapes = tuple(bias.shape), ((weight.shape[1],),)

    def forward(self, context: Any = None) -> GaussianDistribution:
        mean = context @ self.weight.T + self.bias
        return GaussianDistribution(mean, self.scale.expand_as(mean), 1)


CODES, DIMS, NOISE = 3, 8, 0.5


def linear(posterior_scale: float = 0.45, shift: float = 0.0) -> tuple[LatentVariable, MultivariateNormal, Tensor]:
    """The model, its marginal over x, and the precision of p(z|x); the encoder's mean is right up to `shift`."""
    generator = torch.Generator().manual_seed(3)
    weight, bias = torch.randn(DIMS, CODES, generator=generator) * 0.5, torch.randn(DIMS, generator=generator)
    precision = torch.eye(CODES) + weight.T @ weight / NOISE**2
    gain = torch.linalg.solve(precision, weight.T) / NOISE**2
    encoder = Line(gain, -gain @ bias + shift, posterior_scale)
    law = MultivariateNormal(bias, weight @ weight.T + NOISE**2 * torch.eye(DIMS))
    return LatentVariable(StandardNormal((CODES,)), Line(weight, bias, NOISE), encoder), law, precision


def value(panel: dict[str, Any], name: str) -> float:
    assert not panel[name].missing, panel[name]
    return float(panel[name].value)


def test_a_linear_gaussian_model_has_its_closed_forms() -> None:
    torch.manual_seed(0)
    model, law, precision = linear()
    x = law.sample((1500,))
    panel = latent_panel(model, x, refine=150)
    assert tuple(panel) == NAMES
    with torch.no_grad():
        posterior = model().infer(x)
    kl = float(posterior.kl(model().prior).sum(-1).mean())
    assert value(panel, "kl") == pytest.approx(kl, abs=4 * panel["kl"].stderr)
    moments = torch.cov(posterior.mean.T) + 0.45**2 * torch.eye(CODES)
    aggregate = MultivariateNormal(posterior.mean.mean(0), moments)
    marginal = float(torch.distributions.kl_divergence(aggregate, MultivariateNormal(torch.zeros(CODES), torch.eye(CODES))))
    assert value(panel, "marginal_kl") == pytest.approx(marginal, abs=0.08)
    assert value(panel, "mutual_information") == pytest.approx(kl - marginal, abs=0.12)
    assert value(panel, "mutual_information") + value(panel, "marginal_kl") == pytest.approx(value(panel, "kl"), abs=1e-5)
    assert value(panel, "active_units") == CODES
    truth = float(law.log_prob(x).mean())
    inside = -CODES * math.log(0.45) + 0.5 * float((0.45**2 * precision.diagonal()).sum() - CODES - torch.logdet(precision))
    assert value(panel, "elbo") == pytest.approx(truth - inside, abs=0.15)
    assert truth - 0.05 < value(panel, "importance_weighted") < truth + 0.05
    assert "LOWER; ELBO, 1 sample" in panel["elbo"].how and "effective samples" in panel["importance_weighted"].how


def test_the_amortisation_gap_is_that_of_the_best_factorised_gaussian() -> None:
    """KL(q || p(z|x)) of the encoder minus that of scales 1 / sqrt(precision_ii) and the right mean."""
    torch.manual_seed(0)
    model, law, precision = linear(0.6, shift=0.2)
    shift = torch.full((CODES,), 0.2)
    encoder = -CODES * math.log(0.6) + 0.5 * float(0.36 * precision.diagonal().sum() - CODES + shift @ precision @ shift)
    best = 0.5 * float(precision.diagonal().log().sum())
    panel = latent_panel(model, law.sample((300,)), refine=200)
    assert value(panel, "amortisation_gap") == pytest.approx(encoder - best, rel=0.03)
    assert panel["amortisation_gap"].n == 200 and "200 steps" in panel["amortisation_gap"].how


def test_refining_starts_at_the_encoder_and_leaves_the_model_alone() -> None:
    torch.manual_seed(0)
    model, law, _ = linear()
    x = law.sample((5,))
    before = [p.detach().clone() for p in model.parameters()]
    posterior = model().infer(x)
    kept = refined_model(model(), posterior, x, 0)
    torch.testing.assert_close(kept.posterior().loc, posterior.loc)
    torch.testing.assert_close(kept.posterior().scale, posterior.scale)
    moved = refined_model(model(), posterior, x, 20)
    assert not torch.equal(moved.posterior().loc, posterior.loc)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_a_mixture_as_aggregate_posterior() -> None:
    """Two clusters of x, coded at -3 and 3 with scale 0.5: q(z) is a mixture of two normals, I = log 2, KL by quadrature."""
    torch.manual_seed(0)
    encoder = Line(torch.tensor([[3.0, 0.0]]), torch.zeros(1), 0.5)
    model = LatentVariable(StandardNormal((1,)), Line(torch.ones(2, 1), torch.zeros(2), 1.0), encoder)
    x = torch.stack([torch.tensor([1.0, -1.0]).repeat(400), torch.zeros(800)], 1)
    panel = latent_panel(model, x, refine=5)
    z = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    halves = [torch.distributions.Normal(m, 0.5).log_prob(z) for m in (-3.0, 3.0)]
    mixture = torch.logaddexp(*halves) - math.log(2)
    marginal = float(torch.trapezoid(mixture.exp() * (mixture - torch.distributions.Normal(0.0, 1.0).log_prob(z)), z))
    assert value(panel, "marginal_kl") == pytest.approx(marginal, abs=4 * panel["marginal_kl"].stderr)
    assert value(panel, "mutual_information") == pytest.approx(math.log(2), abs=1e-3)
    assert "ceiling" not in panel["mutual_information"].how


def test_collapse_is_seen_by_every_measure() -> None:
    torch.manual_seed(0)
    decoder = Line(torch.zeros(DIMS, CODES), torch.zeros(DIMS), 1.0)
    deaf = LatentVariable(StandardNormal((CODES,)), decoder, Line(torch.zeros(CODES, DIMS), torch.zeros(CODES), 1.0))
    panel = latent_panel(deaf, torch.randn(300, DIMS), refine=5)
    assert value(panel, "active_units") == 0
    for name in ("kl", "mutual_information", "marginal_kl", "shuffled_codes", "amortisation_gap"):
        assert abs(value(panel, name)) < 0.02, name
    model, law, _ = linear()
    assert value(latent_panel(model, law.sample((300,)), refine=5), "shuffled_codes") < -5.0


def test_the_ceiling_of_the_mutual_information_is_stated() -> None:
    torch.manual_seed(0)
    sharp = Line(torch.eye(2) * 100, torch.zeros(2), 0.1)
    model = LatentVariable(StandardNormal((2,)), Line(torch.eye(2), torch.zeros(2), 1.0), sharp)
    panel = latent_panel(model, torch.randn(60, 2), refine=5)
    assert value(panel, "mutual_information") == pytest.approx(math.log(60), abs=0.01)
    assert "at the ceiling" in panel["mutual_information"].how and "upper bound" in panel["marginal_kl"].how


def test_posteriors_without_a_mean_do_not_light_up_their_noise() -> None:
    """A flow has no closed-form mean: the units of an uninformative one stay inactive."""
    torch.manual_seed(0)
    noise = Conditional(Gaussian(), MLP(((2,),), 4, ()), (2,), ((2,),))
    with torch.no_grad():
        for p in noise.parameters():
            p.zero_()
    flow = Flow(noise, [Coupling(FixedMask(alternating(2, False)), MLP(((1,),), 2, (4,)))], (2,), ((2,),))
    model = LatentVariable(StandardNormal((2,)), Line(torch.eye(2), torch.zeros(2), 1.0), flow)
    panel = latent_panel(model, torch.randn(600, 2), refine=5)
    assert value(panel, "active_units") == 0
    assert panel["amortisation_gap"].missing and "Gaussian q" in panel["amortisation_gap"].reason
    assert abs(value(panel, "mutual_information")) < 0.02


def test_hidden_variables_of_the_posterior_withhold_the_information() -> None:
    torch.manual_seed(0)
    hidden = LatentVariable(
        StandardNormal((1,)),
        Conditional(Gaussian(), MLP(((1,), (2,)), 4, ()), (2,), ((1,), (2,))),
        Conditional(Gaussian(), MLP(((2,), (2,)), 2, ()), (1,), ((2,), (2,))),
        context_shapes=((2,),),
    )
    model = LatentVariable(StandardNormal((2,)), Line(torch.eye(2), torch.zeros(2), 1.0), hidden)
    panel = latent_panel(model, torch.randn(40, 2), samples=10, refine=5)
    assert panel["mutual_information"].missing and "exact log q(z|x)" in panel["mutual_information"].reason
    assert not panel["elbo"].missing and not panel["kl"].missing


def test_preprocessing_seeds_and_refusals() -> None:
    torch.manual_seed(0)
    model, law, _ = linear()
    x = law.sample((400,))
    outer = Preprocessed(model, [observation.Standardise(torch.ones(DIMS), torch.full((DIMS,), 2.0))], (DIMS,)).train()
    state = torch.get_rng_state()
    a, b = latent_panel(outer, 2 * x + 1, refine=5), latent_panel(outer, 2 * x + 1, refine=5)
    assert a == b and outer.training and torch.equal(state, torch.get_rng_state())
    inside = latent_panel(model, x, refine=5)
    assert value(a, "elbo") == pytest.approx(value(inside, "elbo") - DIMS * math.log(2), abs=0.2)
    assert value(a, "kl") == pytest.approx(value(inside, "kl"), abs=0.2)
    assert all("not a latent-variable model" in str(r) for r in latent_panel(StandardNormal((2,)), torch.randn(50, 2)).values())
    assert all("at least 20 test rows" in str(r) for r in latent_panel(model, x[:5]).values())
    x[3, 0] = math.nan
    assert all("1 of 400 test rows are not finite" in str(r) for r in latent_panel(model, x).values())
