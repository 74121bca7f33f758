"""Variational objectives: right means, no noise at the optimum, and refusals before step 0."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from genalloy.core.batch import Batch
from genalloy.core.distribution import draw
from genalloy.core.evidence import Unavailable
from genalloy.core.part import Conditional
from genalloy.core.schedules import Linear
from genalloy.core.spec import from_spec, to_spec
from genalloy.data.energies import U1
from genalloy.heads.discrete import Bernoulli
from genalloy.heads.gaussian import Gaussian, StandardNormal
from genalloy.laws.subject import perturb_parameters
from genalloy.models.flow import Flow
from genalloy.models.latent import LatentVariable
from genalloy.networks.mlp import MLP, Hidden
from genalloy.objectives.divergences import AlphaDivergence, ReverseKL, unnormalised
from genalloy.objectives.objective import Objective, Play
from genalloy.training.fit import fit
from genalloy.training.options import Adam, Training
from genalloy.transforms.layer import Inverse
from genalloy.transforms.linear import ActNorm
from genalloy.transforms.planar import Planar


def affine(shift: float = 0.0, log_scale: float = 0.0) -> Flow:
    """N(shift, e^(2 log_scale)) in one dimension, in double precision."""
    layer = Inverse(ActNorm((1,)))
    flow = Flow(StandardNormal((1,)), [layer], (1,)).double()
    layer.transform.shift.data.fill_(-shift * math.exp(-log_scale))
    layer.transform.log_scale.data.fill_(log_scale)
    return flow


def play(model: nn.Module, rows: int, step: int = 0) -> Play:
    return Play(model, Batch(torch.zeros(rows, 1)), step)


def slopes(objective: Objective, model: nn.Module, rows: int) -> Tensor:
    """Gradient of the mean over `rows` draws."""
    grads = torch.autograd.grad(objective(play(model, rows)), list(model.parameters()))
    return torch.cat([g.flatten() for g in grads])


class Quadratic(nn.Module):
    """An unnormalised normal: energy (x - 1)^2 / 2 / 0.25 + 3."""

    def energy(self, x: Tensor) -> Tensor:
        return 2 * (x - 1).square().sum(-1) + 3


OPTIMUM = (1.0, math.log(0.5))
LOG_Z = math.log(0.5 * math.sqrt(2 * math.pi)) - 3


def test_the_value_is_the_divergence_less_ln_z() -> None:
    torch.manual_seed(0)
    for path in (True, False):
        value = float(ReverseKL(Quadratic(), path)(play(affine(0.5, 0.2), 100_000)).detach())
        kl = math.log(0.5) - 0.2 + (math.exp(0.4) + 0.25) / (2 * 0.25) - 0.5
        assert value == pytest.approx(kl - LOG_Z, abs=0.05)


def test_at_the_optimum_the_path_gradient_has_no_noise() -> None:
    for objective in (ReverseKL(Quadratic()), AlphaDivergence(Quadratic(), 0.5, 4), AlphaDivergence(Quadratic(), -1.0, 4)):
        assert slopes(objective, affine(*OPTIMUM), 3).abs().max() < 1e-12
    assert slopes(ReverseKL(Quadratic(), path=False), affine(*OPTIMUM), 3).abs().max() > 1e-3


def test_both_gradients_have_the_same_mean() -> None:
    torch.manual_seed(0)
    model = affine(0.3, -0.2)
    path, whole = (slopes(ReverseKL(Quadratic(), p), model, 200_000) for p in (True, False))
    torch.testing.assert_close(path, whole, atol=0.03, rtol=0)


@pytest.mark.parametrize("alpha", [0.5, 2.0, -1.0])
def test_the_doubly_reparameterised_gradient_is_that_of_the_bound(alpha: float) -> None:
    """Against plain autograd through every w, whose mean is the same."""
    torch.manual_seed(0)
    model, groups, k = affine(0.8, -0.9), 200_000, 3
    x, evidence = draw(model(), (k, groups))
    scaled = (1 - alpha) * (unnormalised(Quadratic(), x) - evidence.value)
    bound = (scaled.logsumexp(0) - math.log(k)).mean() / (1 - alpha)
    plain = torch.cat([g.flatten() for g in torch.autograd.grad(-bound if alpha > 0 else bound, list(model.parameters()))])
    ours = slopes(AlphaDivergence(Quadratic(), alpha, k), model, groups)
    assert plain.abs().max() > 0.1
    torch.testing.assert_close(ours, plain, atol=0.02, rtol=0)


@pytest.mark.parametrize("alpha", [0.5, -1.0])
def test_alpha_bounds_lie_on_their_sides(alpha: float) -> None:
    torch.manual_seed(0)
    value = float(AlphaDivergence(Quadratic(), alpha, 2000)(play(affine(0.8, -0.9), 50)).detach())
    assert (-value < LOG_Z) if alpha > 0 else (value > LOG_Z)
    assert abs(abs(value) - abs(LOG_Z)) < 0.3


def test_the_temperature_is_annealed() -> None:
    objective = ReverseKL(Quadratic(), beta=Linear(0.0, 1.0, 10))
    values = []
    for step in (0, 10):
        torch.manual_seed(0)
        values.append(float(objective(play(affine(), 1000, step)).detach()))
    torch.manual_seed(0)
    assert values[0] == pytest.approx(float(affine()().draw((1000,))[1].value.mean().detach()))
    assert values[1] > values[0] + 3


def test_targets_that_are_parts_and_contexts() -> None:
    """A part's density as target, each row of a batch against its own context."""
    torch.manual_seed(0)
    target = Conditional(Gaussian(), MLP(((1,),), 2, (4,)), (1,), ((1,),)).requires_grad_(False)
    model = Conditional(Gaussian(), MLP(((1,),), 2, (4,)), (1,), ((1,),))
    model.load_state_dict(target.state_dict())
    at = Play(model, Batch(torch.zeros(6, 1), torch.randn(6, 1)))
    objective = ReverseKL(target, samples=5)
    objective.check(at)
    assert float(objective(at).detach()) == pytest.approx(0.0, abs=1e-5)
    assert max(g.abs().max() for g in torch.autograd.grad(objective(at), list(model.parameters()))) < 1e-5


def test_planar_layers_learn_an_energy() -> None:
    torch.manual_seed(0)
    flow = Flow(StandardNormal((2,)), [*(Inverse(Planar(2)) for _ in range(4)), Inverse(ActNorm((2,)))], (2,))
    batches = (Batch(torch.zeros(64, 2)) for _ in range(250))
    for _ in fit(flow, ReverseKL(U1(), path=False, beta=Linear(0.1, 1.0, 100)), batches, training=Training(Adam(1e-2))):
        pass
    x, log_q = flow().draw((4000,))
    kl = float((log_q.value + U1().energy(x)).mean().detach()) + U1().log_normaliser()
    assert 0 < kl < 0.6


def test_path_gradients_pass_through_certified_inverses() -> None:
    """The density of own draws needs every layer's root; the mean gradient is the ordinary one."""
    torch.manual_seed(0)
    flow = perturb_parameters(
        Flow(StandardNormal((2,)), [Inverse(Planar(2, Hidden((4,)))) for _ in range(2)], (2,)), 0.5
    ).double()
    path, whole = (
        torch.cat([g.flatten() for g in torch.autograd.grad(ReverseKL(U1(), p)(play(flow, 20_000)), list(flow.parameters()))])
        for p in (True, False)
    )
    assert torch.nn.functional.cosine_similarity(path, whole, dim=0) > 0.98


def test_refusals_come_before_the_first_step() -> None:
    bits = Conditional(Bernoulli(), MLP(((1,),), 1, (4,)), (1,), ((1,),))
    with pytest.raises(Unavailable, match="carry no gradient"):
        ReverseKL(Quadratic()).check(Play(bits, Batch(torch.zeros(4, 1), torch.randn(4, 1))))
    with pytest.raises(Unavailable, match="freeze it"):
        ReverseKL(affine()).check(play(affine(), 4))
    gaussian = lambda: Conditional(Gaussian(), MLP(((1,),), 2, (4,)), (1,), ((1,),))  # noqa: E731
    vae = LatentVariable(StandardNormal((1,)), gaussian(), gaussian())
    with pytest.raises(Unavailable, match="path gradients need an EXACT density; found LOWER"):
        ReverseKL(Quadratic()).check(play(vae, 4))
    ReverseKL(Quadratic(), path=False).check(play(vae, 4))
    with pytest.raises(ValueError, match="alpha = 1 is ReverseKL"):
        AlphaDivergence(Quadratic(), 1.0)


def test_a_target_that_is_a_value_is_stored() -> None:
    again = from_spec(*to_spec(ReverseKL(U1(), beta=Linear(0.01, 1.0, 5))))
    assert repr(again) == repr(ReverseKL(U1(), beta=Linear(0.01, 1.0, 5)))
