"""Diffusion: processes and samplers, steered models, tables, and errors and units that are stated instead of silent."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal, Uniform

from genalloy.core.batch import Batch
from genalloy.core.distribution import density
from genalloy.core.evidence import Kind, Unavailable
from genalloy.core.spec import from_spec, to_spec
from genalloy.diffusion.parameterisations import X0, Edm, Eps, Score, V
from genalloy.diffusion.paths import LinearPath, VarianceExploding, VariancePreserving, expand_time
from genalloy.diffusion.process import Process
from genalloy.diffusion.tabled import CosineBetas, LinearBetas, Tabled
from genalloy.diffusion.weights import Likelihood, Unit
from genalloy.estimators.probability_flow import ProbabilityFlowLikelihood
from genalloy.laws.diffusion import check_diffusion
from genalloy.mcmc.langevin import Langevin
from genalloy.models.analytic import AnalyticNetwork, centres, mixture_denoiser, mixture_log_density, mixture_sample
from genalloy.models.diffusion import ContinuousData, Diffusion
from genalloy.models.steered import Classifier, ClassifierFree, Inpainting, Steered
from genalloy.networks.denoiser import DenoiserMLP
from genalloy.networks.mlp import MLP
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.objectives.objective import Play
from genalloy.objectives.score import DenoisingScoreMatching, noised_batch
from genalloy.samplers.ancestral import DDIM, Ancestral
from genalloy.samplers.ode import AdamsBashforth, ProbabilityFlow
from genalloy.samplers.predictor_corrector import Corrector, PredictorCorrector
from genalloy.samplers.sampler import Sampler
from genalloy.samplers.sde import EulerMaruyama
from genalloy.samplers.spacing import EvenLambda, EvenRoot, EvenTime
from genalloy.samplers.wrappers import OnPath
from genalloy.training.fit import fit

PATHS = [LinearPath(), VariancePreserving(), VarianceExploding(), Tabled(), Tabled(CosineBetas(400))]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def small(**choices: Any) -> Diffusion:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Diffusion(MLP(((2,), ()), 2, (8,)), (2,), **choices)


def exact(**choices: Any) -> Diffusion:
    """The mixture of four Gaussians, its denoiser in closed form."""
    part = small(**choices)
    return part.swapped(AnalyticNetwork(part.path, part.parameterisation), part.parameterisation, 0)


def process(path: Any) -> Process:
    def denoise(x: Tensor, t: Tensor) -> Tensor:
        times = expand_time(t, x, 1)
        return mixture_denoiser(x / path.scale(times), path.lam(times).clamp(-30, 30))

    return Process(denoise, path, path.clip((-4.5, 6.0)))


# -- samplers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS, ids=repr)
@pytest.mark.parametrize("sampler", [EulerMaruyama(300), PredictorCorrector(EulerMaruyama(100), Corrector(0.1))], ids=repr)
def test_random_samplers_follow_the_law(path: Any, sampler: Sampler) -> None:
    run = process(path)
    y = sampler(run, torch.randn(4000, 2, dtype=torch.float64)) / path.alpha(torch.tensor(run.span[1], dtype=torch.float64))
    found, true = mixture_log_density(y), mixture_log_density(mixture_sample(4000))
    assert abs(float(y.square().mean()) - 1) < 0.07
    assert abs(float(found.mean() - true.mean())) < 0.12
    corner = (y[:, 0] > 0).long() * 2 + (y[:, 1] > 0).long()
    assert float((torch.bincount(corner, minlength=4) / len(y) - 0.25).abs().max()) < 4 * (0.25 * 0.75 / len(y)) ** 0.5


@pytest.mark.parametrize("spacing", [EvenTime(), EvenLambda(), EvenRoot(7.0)], ids=repr)
@pytest.mark.parametrize("path", PATHS, ids=repr)
def test_spacings_cover_the_window_and_keep_the_order(path: Any, spacing: Any) -> None:
    run, noise = process(path), torch.randn(100, 2, dtype=torch.float64)
    times = spacing(run, 10)
    assert times.shape == (11,) and bool((times.diff() < 0).all())
    torch.testing.assert_close(times[[0, -1]], torch.tensor(run.span, dtype=torch.float64), atol=1e-9, rtol=1e-9)
    reference = ProbabilityFlow(steps=400)(run, noise)
    errors = [float((DDIM(n, spacing=spacing)(run, noise) - reference).square().mean().sqrt()) for n in (80, 160)]
    assert 0.6 < math.log2(errors[0] / errors[1]) < 1.4


@pytest.mark.parametrize("own", PATHS, ids=repr)
def test_any_sampler_runs_on_any_path(own: Any) -> None:
    run, noise = process(own), torch.randn(50, 2, dtype=torch.float64)
    reference = ProbabilityFlow(steps=400)(run, noise)
    moved = OnPath(AdamsBashforth(160), LinearPath())(run, noise)
    assert OnPath(AdamsBashforth(), LinearPath()).order == 2
    assert float((moved - reference).abs().max()) < 0.03 * float(own.scale(torch.tensor(run.span[1])))


def test_a_correctors_step_is_one_for_the_batch_and_needs_the_events_axes() -> None:
    """Norms are of events: a picture of four pixels is not four events."""
    seen = []

    class Watched(Process):
        def score(self, x: Tensor, t: Tensor) -> Tensor:
            seen.append(self.event_dims)
            return -x

    x = torch.randn(500, 2, 2, dtype=torch.float64)
    run = Watched(lambda x, t: x, VariancePreserving(), (-4.5, 4.0), 2)
    moved = Corrector(0.2)(run, x, torch.tensor(0.9, dtype=torch.float64))
    size = 2 * float(run.path.alpha(torch.tensor(0.9, dtype=torch.float64))) ** 2 * 0.2**2
    assert seen == [2]
    assert float((moved - x * (1 - size)).square().mean()) == pytest.approx(2 * size, rel=0.1)


class Zeros(Sampler):
    """A sampler that returns zeros, and says that it is random."""

    steps = 20

    def __call__(self, process: Process, noise: Tensor) -> Tensor:
        return torch.zeros_like(noise)


def test_the_law_fails_a_sampler_that_returns_zeros() -> None:
    bad = [found for found in check_diffusion(small(sampler=Zeros())) if not found.ok]
    assert any("mean square" in found.what and found.value == 0 for found in bad)
    assert [f for f in check_diffusion(small(sampler=EulerMaruyama(200))) if not f.ok] == []
    assert [f for f in check_diffusion(small(sampler=OnPath(AdamsBashforth(40), LinearPath()))) if not f.ok] == []


def test_a_learned_transition_is_what_the_ancestral_sampler_takes() -> None:
    run = process(VariancePreserving())
    own = Process(run.denoise, run.path, run.window, 1, lambda x, t, s: x * 0)
    assert bool((Ancestral(3)(own, torch.randn(4, 2)) == 0).all()) and own.steered(run.denoise).transition is None


# -- tables -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [Tabled(), Tabled(CosineBetas()), Tabled(LinearBetas(50, 1e-3, 0.2))], ids=repr)
def test_a_table_has_an_exact_inverse_at_every_step(path: Any) -> None:
    t = torch.arange(1, path.steps + 1, dtype=torch.float64) / path.steps
    survival = path.betas.survival()
    torch.testing.assert_close(path.alpha(t), survival.sqrt(), rtol=1e-10, atol=0)
    torch.testing.assert_close(path.sigma(t), (1 - survival).sqrt(), rtol=1e-8, atol=0)
    torch.testing.assert_close(path.time(path.lam(t)), t, rtol=0, atol=1e-12)
    assert torch.equal(path.step(t), torch.arange(1, path.steps + 1))
    between = t[:-1] + 0.3 / path.steps
    slope = torch.autograd.functional.jacobian(lambda v: path.alpha(v).sum(), between)
    torch.testing.assert_close(path.rates(between)[0], slope)


def test_every_step_of_a_table_reaches_the_network() -> None:
    """The window is the table's: the last steps are not taken for an earlier one."""
    seen: list[Tensor] = []

    class Watched(nn.Module):
        inputs = ((2,), ())

        def forward(self, context: Any) -> Tensor:
            seen.append(context[1])
            return torch.zeros_like(context[0])

    part = Diffusion(Watched(), (2,), path=Tabled(), parameterisation=V())
    for step in (1, 942, 990, 1000):
        part().denoise(torch.zeros(1, 2), torch.tensor([step / 1000]))
    steps = part.path.step(part.path.time(-4 * torch.cat(seen).double())).tolist()
    assert steps == [1, 942, 990, 1000]


def test_times_outside_the_window_are_refused() -> None:
    with pytest.raises(ValueError, match="lambda outside the window"):
        small()().denoise(torch.zeros(3, 2), torch.tensor([0.999, 0.5, 0.5]))


# -- what is stated ------------------------------------------------------------------------------------------------------


def test_amplified_errors_are_warned_of() -> None:
    """eps on the variance-preserving path: D = x/alpha - sigma/alpha F; a step that uses D itself sees 90 times F's error."""
    make = lambda **c: Diffusion(MLP(((2,), ()), 2, (8,)), (2,), path=VariancePreserving(), **c)  # noqa: E731
    with pytest.warns(UserWarning, match="multiplies an error of the network by up to 90"):
        make(parameterisation=Eps())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(parameterisation=V())
        make(parameterisation=Eps(), sampler=DDIM())

    class Disturbed(AnalyticNetwork):
        def forward(self, context: Any) -> Tensor:
            return super().forward(context) + 0.05 * torch.sin(7 * context[0])

    noise = torch.randn(300, 2, dtype=torch.float64)
    errors = {}
    for head, sampler in ((Eps(), AdamsBashforth(20)), (V(), AdamsBashforth(20)), (Eps(), DDIM(20))):
        part = small(path=VariancePreserving(), parameterisation=head, sampler=sampler)
        wrong, right = (part.swapped(net(part.path, head), head, 0)() for net in (Disturbed, AnalyticNetwork))
        errors[head, sampler] = float((sampler(wrong.process, noise) - sampler(right.process, noise)).square().mean().sqrt())
    assert errors[Eps(), AdamsBashforth(20)] > 3 * errors[V(), AdamsBashforth(20)]


@pytest.mark.parametrize(
    ("head", "path", "end"),
    [(X0(), VariancePreserving(), "low"), (Score(), VarianceExploding(), "high"), (X0(), LinearPath(), "low")],
)
def test_starved_ends_are_warned_of_on_every_path(head: Any, path: Any, end: str) -> None:
    part, batch = small(path=path, parameterisation=head), Batch(torch.randn(8, 2))
    with pytest.warns(UserWarning, match=f"gives {end} noise levels"):
        DenoisingScoreMatching(Unit()).check(Play(part, batch))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DenoisingScoreMatching(Likelihood()).check(Play(part, batch))
        DenoisingScoreMatching(Unit()).check(Play(small(parameterisation=Edm()), batch))


def test_the_score_speaks_in_the_units_of_x() -> None:
    """x = 5 + 20 y: the slope of log p(x) is that of log p(y) over 20."""
    part = exact(observation=ContinuousData(standardise=False))
    part.shift.fill_(5.0)
    part.scale.fill_(20.0)
    y = mixture_sample(50).requires_grad_()
    (slope,) = torch.autograd.grad(mixture_log_density(y).sum(), y)
    found = part().score(5 + 20 * y.detach())
    torch.testing.assert_close(found, slope / 20, rtol=2e-2, atol=5e-3)


@pytest.mark.parametrize("steps", [4, 8, 32])
def test_flow_likelihoods_state_their_solvers_error(steps: int) -> None:
    part, y = exact(), mixture_sample(300)
    found = ProbabilityFlowLikelihood(steps)(part(), y)
    error = (found.value - mixture_log_density(y)).abs()
    assert found.stderr is not None and "solver error up to" in found.how
    # row by row where the grid resolves the flow; at four steps no two solutions are near the truth, and the sizes agree
    covered = float((error <= found.stderr + 0.01).double().mean())
    assert covered > (0.9 if steps > 4 else 0.6)
    assert float(error.mean()) < 1.5 * float(found.stderr.mean()) + 0.01
    assert float(error.max()) < 3 * float(found.stderr.max()) + 0.02


@pytest.mark.parametrize("step_size", [0.05, 0.5])
def test_langevin_stays_in_a_bounded_support(step_size: float) -> None:
    box = Independent(Uniform(-torch.ones(2), torch.ones(2), validate_args=False), 1)

    def energy(x: Tensor) -> Tensor:
        return -density(box, x).value + 1e-6 * x.sum(-1)

    chains = Langevin(100, step_size).run(energy, torch.zeros(4000, 2))
    assert bool((chains.x.abs() <= 1).all()) and 0 < float(chains.accepted.mean()) < 1
    assert float(chains.x.square().mean()) == pytest.approx(1 / 3, abs=0.02)
    free = Langevin(60, 0.1).run(lambda x: 0.5 * x.square().sum(-1), torch.randn(4000, 2))
    assert float(free.accepted.min()) == 1


def test_terms_share_one_noised_evaluation() -> None:
    part = small()
    passes: list[int] = []
    part.network.register_forward_hook(lambda *_: passes.append(1))
    play = Play(part, Batch(torch.randn(8, 2)))
    total = (DenoisingScoreMatching() + 0.5 * DenoisingScoreMatching(Unit()))(play)
    assert len(passes) == 1 and bool(total.isfinite())
    assert noised_batch(play, DenoisingScoreMatching().times).x_t.shape == (8, 2)


# -- steered ----------------------------------------------------------------------------------------------------------


class Corners(nn.Module):
    """The exact denoiser of one of the four Gaussians, or of all of them where the label is 9, as an Edm output."""

    inputs = ((2,), (), ())

    def forward(self, context: Any) -> Tensor:
        w, level, label = context
        lam = (-4 * level).unsqueeze(-1)
        a, s = torch.sigmoid(2 * lam).sqrt(), torch.sigmoid(-2 * lam).sqrt()
        variance = (1 - 0.9**2) * a.square() + s.square()
        chosen = centres(w)[label.long().clamp(max=3)]
        own = chosen + a * (1 - 0.9**2) / variance * (w - a * chosen)
        clean = torch.where((label == 9).unsqueeze(-1), mixture_denoiser(w, lam), own)
        return (clean - a * w) / s


def corners() -> Diffusion:
    return Diffusion(Corners(), (2,), ContinuousData(standardise=False), sampler=AdamsBashforth(60)).double()


def test_classifier_free_guidance_moves_away_from_the_rest() -> None:
    part, labels = corners(), torch.zeros(500, dtype=torch.float64)
    plain = part(labels).sample()
    assert float((plain.mean(0) - 0.9).abs().max()) < 0.1
    none = Steered(part, ClassifierFree(0.0, null=9.0))(labels)
    strong = Steered(part, ClassifierFree(3.0, null=9.0))(labels)
    assert float((none.sample().mean(0) - 0.9).abs().max()) < 0.1
    assert float(strong.sample().mean()) > float(plain.mean()) + 0.1
    assert density(strong, plain).kind is Kind.NONE and "ClassifierFree changes the law" in density(strong, plain).how


class Side(nn.Module):
    """p(x_1 > 0 | x_t) of the mixture, to first order in the noised coordinate."""

    def forward(self, context: Any) -> Tensor:
        w, lam = context
        a, s = torch.sigmoid(2 * lam).sqrt(), torch.sigmoid(-2 * lam).sqrt()
        variance = (1 - 0.9**2) * a.square() + s.square()
        log_odds = 2 * 0.9 * a * w[..., 0] / variance
        return torch.stack([torch.zeros_like(log_odds), log_odds], -1)


def test_a_classifier_steers_to_its_label() -> None:
    y = Steered(exact(sampler=AdamsBashforth(60)), Classifier(Side(), 1))().sample((1000,))
    assert float((y[:, 0] > 0).double().mean()) > 0.98
    assert float((y[:, 1] > 0).double().mean()) == pytest.approx(0.5, abs=0.06)
    torch.testing.assert_close(y[:, 0].mean(), torch.tensor(0.9, dtype=torch.float64), atol=0.05, rtol=0)


def test_inpainting_keeps_what_is_known() -> None:
    part = exact(sampler=Ancestral(200))
    known, mask = torch.tensor([0.9, 0.0], dtype=torch.float64), torch.tensor([True, False])
    y = Steered(part, Inpainting(known, mask))().sample((1000,))
    torch.testing.assert_close(y[:, 0], torch.full((1000,), 0.9, dtype=torch.float64), atol=0.02, rtol=0)
    assert float((y[:, 1].abs() - 0.9).abs().mean()) < 0.45 and float((y[:, 1] > 0).double().mean()) == pytest.approx(
        0.5, abs=0.07
    )


def test_a_steered_model_cannot_be_trained_through_and_is_stored() -> None:
    part = Diffusion(DenoiserMLP(((2,), (), ()), 1, 8, 1), (2,))
    model = Steered(part, ClassifierFree(1.0, null=9.0))
    with pytest.raises(Unavailable, match="no density"):
        list(fit(model, MaximumLikelihood(), [Batch(torch.randn(4, 2), torch.zeros(4))]))
    again = from_spec(*to_spec(model))
    torch.manual_seed(1)
    here = model(torch.zeros(3)).sample()
    torch.manual_seed(1)
    torch.testing.assert_close(again(torch.zeros(3)).sample(), here)
    assert Normal(0.0, 1.0).has_rsample and not model(torch.zeros(3)).has_rsample
