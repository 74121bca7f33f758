"""Latent models: one encoding, a term for each group, bounds that say what they can and cannot do, declared measures."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal, kl_divergence

from genalloy.core.batch import Batch
from genalloy.core.distribution import density, kl
from genalloy.core.evidence import Evidence, Kind, Unavailable, lebesgue
from genalloy.core.part import Conditional, Estimated, Part, Unconditional
from genalloy.core.schema import Number
from genalloy.core.spec import from_spec, to_spec
from genalloy.core.traces import traced
from genalloy.estimators.importance_weighted import ImportanceWeighted, importance_curve
from genalloy.evaluation.latent import latent_panel
from genalloy.heads.discrete import Bernoulli, Categorical
from genalloy.heads.gaussian import Gaussian, GaussianDistribution, StandardNormal
from genalloy.laws.linear_gaussian import every_case
from genalloy.models.deterministic import Deterministic
from genalloy.models.implicit import Implicit
from genalloy.models.latent import LatentVariable
from genalloy.networks.mlp import MLP
from genalloy.objectives.adversarial import Adversarial, Critic
from genalloy.objectives.bounds import ELBO, ImportanceWeightedBound, PerDimension, PerGroup, PerRow, batch_trace
from genalloy.objectives.objective import Play
from genalloy.objectives.reconstruction import Reconstruction
from genalloy.objectives.sources import Encode, Prior
from genalloy.training.fit import fit

D, Z = 4, 2


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def gaussian(inputs: tuple[int, ...], outputs: int, shapes: Any = None) -> Conditional:
    shapes = shapes or tuple((n,) for n in inputs)
    return Conditional(Gaussian(), MLP(shapes, 2 * outputs, (8,)), (outputs,), shapes)


def vae(prior: nn.Module | None = None, **parts: Any) -> LatentVariable:
    return LatentVariable(prior or StandardNormal((Z,)), parts.get("likelihood", gaussian((Z,), D)), gaussian((D,), Z))


def deep() -> LatentVariable:
    """A VAE whose prior is a VAE over the codes."""
    return vae(LatentVariable(StandardNormal((1,)), gaussian((1,), Z), gaussian((Z,), 1)))


def play(model: nn.Module, rows: int = 6) -> Play:
    return Play(model, Batch(torch.randn(rows, D)))


# -- terms ------------------------------------------------------------------------------------------------------------


def test_every_group_of_a_nested_model_is_a_term() -> None:
    x = torch.randn(5, D)
    trace = deep()().trace(x, 3)
    assert [term.name for term in trace.terms] == ["z", "z/z"]
    assert trace.terms[1].z.shape == (3, 5, 1) and trace.terms[1].kl is not None and trace.terms[1].kl.shape == (3, 5, 1)
    weights = trace.log_weights()
    assert weights.value.shape == (3, 5) and weights.kind is Kind.LOWER and weights.proper
    noisy = vae(likelihood=LatentVariable(StandardNormal((1,)), gaussian((1, Z), D), gaussian((D, Z), 1), context_shapes=((Z,),)))
    assert [term.name for term in noisy().trace(x, 1).terms] == ["z", "x/z"]


def test_the_bound_of_nested_terms_is_that_of_their_densities() -> None:
    """E of the surfaced bound is E of log p(x|z) + density(prior, z) - log r(z|x): the same noise, other bookkeeping."""
    model, x = deep(), torch.randn(5, D)
    torch.manual_seed(1)
    surfaced = model().trace(x, 1).log_weights().value
    torch.manual_seed(1)
    encoding = model().infer(x)
    z = encoding.rsample((1,))
    inside = density(model.prior(), z).value
    by_hand = density(model().decode(z), x[None]).value + inside - density(encoding, z).value
    torch.testing.assert_close(surfaced, by_hand, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", sorted(every_case()))
def test_importance_weighting_meets_the_truth_under_every_nesting(name: str) -> None:
    case, x = every_case()[name], torch.tensor([[0.4], [-1.1]])
    with torch.no_grad():
        found = ImportanceWeighted(20_000)(case.model(), x)
    assert found.kind is Kind.LOWER and found.proper, "a proper lower bound as a prior may be averaged"
    assert (found.value - case.truth(x)).abs().max() < 0.03


def test_kl_is_per_element_and_knows_torch() -> None:
    q, p = (
        GaussianDistribution(torch.randn(5, 3), torch.rand(5, 3) + 0.5, 1),
        GaussianDistribution(torch.zeros(3), torch.ones(3), 1),
    )
    plain = (Independent(Normal(d.loc, d.scale), 1) for d in (q, p))
    elements = kl_divergence(Normal(q.loc, q.scale), Normal(p.loc, p.scale))
    torch.testing.assert_close(kl(q, p), elements)
    torch.testing.assert_close(kl(*plain), elements)
    assert kl(Normal(0.0, 1.0), torch.distributions.StudentT(3.0)) is None and kl(q, deep()()) is None


def test_free_bits_are_three_choices() -> None:
    divergence = torch.tensor([[0.1, 0.5], [0.3, 0.1]])
    assert float(PerGroup(0.8).charged(divergence)) == pytest.approx(0.8) and PerGroup(0.1).charged(divergence) == 0.5
    assert float(PerDimension(0.25).charged(divergence)) == pytest.approx(0.25 + 0.3)
    assert float(PerRow(0.5).charged(divergence)) == pytest.approx((0.6 + 0.5) / 2)
    assert ELBO(free_bits=PerGroup(1.0)).couples and not ELBO(free_bits=PerRow(1.0)).couples and not ELBO().couples


def test_the_sampled_kl_has_the_closed_form_as_its_mean() -> None:
    model, x = vae(), torch.randn(4, D)
    with torch.no_grad():
        closed = ELBO()(Play(model, Batch(x))) * 0
        values = {}
        for analytic in (True, False):
            at = Play(model, Batch(x))
            ELBO(samples=20_000, analytic=analytic)(at)
            values[analytic] = float(at.terms["kl/z"])
    assert values[True] == pytest.approx(values[False], abs=0.02) and closed == 0


def test_terms_are_noted_by_name() -> None:
    at = play(deep())
    loss = (ELBO() + 0.5 * ELBO())(at)
    assert {"reconstruction", "kl/z", "kl/z/z", "reconstruction 2", "ELBO()", "0.5 * ELBO()"} <= set(at.terms)
    named = at.terms["reconstruction"] + at.terms["kl/z"] + at.terms["kl/z/z"]
    torch.testing.assert_close(at.terms["ELBO()"], named)
    torch.testing.assert_close(loss.detach(), 1.5 * named)


# -- one encoding -----------------------------------------------------------------------------------------------------


def test_all_terms_share_one_pass_through_the_encoder() -> None:
    model, passes = vae(), []
    model.posterior.network.register_forward_hook(lambda *_: passes.append(1))
    at = play(model)
    critic = Critic(MLP(((Z,),), 1, (8,)))
    (ELBO() + Reconstruction() + ImportanceWeightedBound(3) + Adversarial(critic, real=Prior(), fake=Encode()))(at)
    assert len(passes) == 1


# -- what a bound cannot do -------------------------------------------------------------------------------------------


class Rounded(nn.Module):
    """A code 0 or 1 from the first entry of x."""

    def forward(self, x: Tensor) -> Tensor:
        return (x[..., :1] > 0).float()


def coded() -> LatentVariable:
    prior = Conditional(Bernoulli(), MLP(((),), 1, ()), (1,), ((),))
    uniform = Unconditional(Fixed(prior))
    return LatentVariable(uniform, gaussian((1,), D), Deterministic(Rounded(), (1,), ((D,),), discrete=True))


class Fixed(Part):
    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, context: Any = None) -> Any:
        return self.part(torch.zeros(()))


@torch.no_grad()
def test_a_deterministic_posterior_says_that_it_cannot_tighten() -> None:
    model, x = coded(), torch.randn(6, D)
    found = ImportanceWeighted(100)(model(), x)
    codes = torch.tensor([0.0, 1.0])
    joint = [density(model().decode(c.expand(6, 1)), x).value + density(model().prior, c.expand(6, 1)).value for c in codes]
    truth = torch.logsumexp(torch.stack(joint), 0)
    assert found.kind is Kind.LOWER and found.proper and not found.covers and bool((found.value < truth).all())
    assert "cannot tighten" in found.how and "effective" not in str(importance_curve(model(), x, (100,)).convergence)
    assert density(model(), x).covers is False and density(vae()(), x).covers is True


def test_a_point_mass_over_reals_has_no_density() -> None:
    model = LatentVariable(StandardNormal((Z,)), gaussian((Z,), D), Deterministic(MLP(((D,),), Z, (8,)), (Z,), ((D,),)))
    assert density(model(), torch.randn(3, D)).kind is Kind.NONE
    with pytest.raises(Unavailable, match=r"log r\(z\) has no density \(a point mass"):
        list(fit(model, ELBO(), [Batch(torch.randn(8, D))]))
    assert next(iter(fit(model, Reconstruction(), [Batch(torch.randn(8, D))]))).losses["model"] > 0, "an autoencoder trains"


def test_a_prior_without_a_density_is_refused_in_words() -> None:
    prior = Implicit(StandardNormal((Z,)), MLP(((Z,),), Z, (8,)), (Z,))
    with pytest.raises(Unavailable, match=r"log p\(z\) has no density"):
        list(fit(vae(prior), ELBO(), [Batch(torch.randn(8, D))]))


def test_an_encoder_that_no_gradient_reaches_is_named() -> None:
    class Argmax(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(D, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x).argmax(-1, keepdim=True).float()

    prior = Unconditional(Fixed(Conditional(Categorical(3), MLP(((),), 3, ()), (1,), ((),))))
    model = LatentVariable(prior, gaussian((1,), D), Deterministic(Argmax(), (1,), ((D,),), discrete=True))
    with pytest.warns(UserWarning, match=r"no gradient of ELBO\(\) reaches the posterior \(15 parameters\)"):
        list(fit(model, ELBO(), [Batch(torch.randn(8, D))]))


class Constant:
    """An estimator that says 7 nats, LOWER and proper."""

    def __call__(self, distribution: Any, x: Tensor) -> Evidence:
        return Evidence(torch.full(x.shape[: x.dim() - 1], 7.0), Kind.LOWER, "seven", True, None, lebesgue(D))


@torch.no_grad()
def test_an_estimator_of_its_own_is_not_passed_over() -> None:
    part, x = Estimated(vae(), Constant()), torch.randn(5, D)
    torch.testing.assert_close(ImportanceWeighted(4)(part(), x).value, torch.full((5,), 7.0))
    assert traced(part(), x) is None and traced(part.part(), x) is not None
    assert part.event_shape == (D,) and part.measure == lebesgue(D)


# -- declared ---------------------------------------------------------------------------------------------------------


def test_nothing_is_decoded_to_learn_measure_or_gradients() -> None:
    """Batch statistics would take up that pass."""
    network = nn.Sequential(nn.Linear(Z, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2 * D))
    model = vae(likelihood=Conditional(Gaussian(), network, (D,), ((Z,),)))
    before, passes = network[1].running_mean.clone(), []
    network.register_forward_hook(lambda *_: passes.append(1))
    distribution = model()
    assert distribution.measure == lebesgue(D) and distribution.has_rsample and not passes

    class Undeclared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.event_shape = network, (D,)

        def forward(self, z: Tensor) -> Any:
            mean, raw = self.network(z.reshape(-1, Z)).chunk(2, -1)
            return GaussianDistribution(mean, raw.exp(), 1)

    asked = LatentVariable(StandardNormal((Z,)), Undeclared(), gaussian((D,), Z)).train()()
    asked.missing = (2,)
    assert asked.measure == lebesgue(D) and passes and torch.equal(network[1].running_mean, before) and network.training


def test_a_point_mass_is_stored() -> None:
    part = Deterministic(MLP(((D,),), Z, (8,)), (Z,), ((D,),))
    again, x = from_spec(*to_spec(part)), torch.randn(3, D)
    torch.testing.assert_close(again(x).sample(), part(x).sample())


# -- the panel --------------------------------------------------------------------------------------------------------


def metric(panel: dict[str, Any], name: str) -> Number:
    assert panel[name].known, panel[name]
    return panel[name]


def test_the_panel_sums_over_all_groups() -> None:
    model, x = deep(), torch.randn(300, D)
    panel = latent_panel(model, x, samples=50, refine=5)
    with torch.no_grad():
        trace = model().trace(x, 200)
        groups = [float((t.log_posterior.value - t.log_prior.value).mean()) for t in trace.terms]
    assert metric(panel, "kl").value == pytest.approx(sum(groups), abs=0.2)
    assert "over 2 groups (z " in panel["kl"].how and "z/z " in panel["kl"].how and "an upper bound" in panel["marginal_kl"].how
    total = metric(panel, "mutual_information").value + metric(panel, "marginal_kl").value
    assert total == pytest.approx(metric(panel, "kl").value, abs=1e-4)


def test_the_panel_names_what_is_not_exact() -> None:
    hidden = LatentVariable(StandardNormal((1,)), gaussian((1, D), Z), gaussian((Z, D), 1), context_shapes=((D,),))
    panel = latent_panel(
        LatentVariable(StandardNormal((Z,)), gaussian((Z,), D), hidden), torch.randn(60, D), samples=10, refine=5
    )
    assert "log r(z) is UPPER" in metric(panel, "kl").how


def test_the_panel_takes_conditional_and_discrete_models() -> None:
    prior, likelihood, posterior = gaussian((3,), Z), gaussian((Z, 3), D), gaussian((D, 3), Z)
    conditional = LatentVariable(prior, likelihood, posterior, context_shapes=((3,),))
    x, c = torch.randn(60, D), torch.randn(60, 3)
    panel = latent_panel(conditional, x, samples=10, refine=5, context=c)
    assert math.isfinite(metric(panel, "elbo").value) and math.isfinite(metric(panel, "mutual_information").value)
    assert panel["marginal_kl"].missing and panel["amortisation_gap"].missing
    bits = Conditional(Bernoulli(), MLP(((D,),), 3, (8,)), (3,), ((D,),))
    even = Unconditional(Fixed(Conditional(Bernoulli(), MLP(((),), 3, ()), (3,), ((),))))
    panel = latent_panel(LatentVariable(even, gaussian((3,), D), bits), x, samples=10, refine=5)
    assert math.isfinite(metric(panel, "kl").value) and metric(panel, "active_units").value <= 3


def test_one_trace_serves_objectives_of_one_k() -> None:
    at = play(vae())
    assert batch_trace(at, 2) is batch_trace(at, 2) and batch_trace(at, 3) is not batch_trace(at, 2)


def test_a_point_is_compared_with_every_row_of_a_batch() -> None:
    distribution = Deterministic(nn.Identity(), (2,), ((2,),), discrete=True)(torch.tensor([[0.0, 1.0], [1.0, 1.0]]))
    assert distribution.density(torch.tensor([1.0, 1.0])).value.tolist() == [-math.inf, 0.0]
