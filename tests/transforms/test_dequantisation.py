"""Dequantisation, uniform and learned: labels, measures, propriety, and that learning the noise tightens the bound."""

from __future__ import annotations

import math

import pytest
import torch

from genalloy.core.batch import Batch
from genalloy.core.distribution import density, draw
from genalloy.core.evidence import Kind, Measure
from genalloy.heads.gaussian import StandardNormal
from genalloy.laws.draws import draw_reports_density, draws_follow_density
from genalloy.laws.shapes import shapes
from genalloy.laws.storing import stores
from genalloy.laws.subject import Subject, perturb_parameters
from genalloy.laws.total_mass import total_mass
from genalloy.models.flow import Flow
from genalloy.networks.mlp import Hidden
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.training.fit import fit
from genalloy.training.options import Adam, Training
from genalloy.transforms.coupling import alternating, coupling
from genalloy.transforms.observation import Dequantise, Logit, Standardise

SMALL = Hidden((8,))
CONTEXT = ((3,),)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def noise(count: int = 2, shapes: tuple[tuple[int, ...], ...] = ((2,), (3,))) -> Flow:
    """q(u | x, c) on (0, 1)."""
    couplings = [coupling(alternating(count, odd), SMALL, shapes) for odd in (False, True)]
    unit = [Logit(1.0, 0.0), Standardise(torch.zeros(count), torch.full((count,), 1.7))]
    return Flow(StandardNormal((count,)), [*unit, *couplings], (count,), shapes)


def flow(learned: bool = True) -> Flow:
    """Narrow enough that next to nothing is clipped."""
    every = torch.ones(2, dtype=torch.bool)
    dequantise = Dequantise(every, torch.zeros(2), torch.full((2,), 4.0), noise() if learned else None)
    inner = [coupling(alternating(2, odd), SMALL, CONTEXT) for odd in (False, True)]
    return Flow(
        StandardNormal((2,)), [dequantise, Standardise(torch.full((2,), 2.5), torch.full((2,), 0.6)), *inner], (2,), CONTEXT
    )


LAWS = (shapes, total_mass, draws_follow_density, draw_reports_density, stores)


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("law", LAWS, ids=lambda f: f.__name__)
def test_laws(law, learned: bool) -> None:
    law(Subject(perturb_parameters(flow(learned), 0.15), (2,), CONTEXT, True, 5))


@pytest.mark.parametrize("learned", [False, True])
def test_labels(learned: bool) -> None:
    distribution = perturb_parameters(flow(learned), 0.15)(torch.randn(3))
    x, own = draw(distribution, (4,))
    found = density(distribution, x)
    assert (found.kind, found.proper, found.measure) == (Kind.LOWER, True, Measure(0, 2))
    assert (own.kind, own.proper, own.measure) == (Kind.UPPER, True, Measure(0, 2))
    assert ("variational" in found.how) == learned and not distribution.has_rsample


def test_noise_is_a_density_within_the_cell() -> None:
    part = perturb_parameters(noise(), 0.3)
    distribution = part((torch.zeros(2), torch.randn(3)))
    u = distribution.sample((500,))
    assert (u > 0).all() and (u < 1).all()
    side = (torch.arange(200) + 0.5) / 200
    values = density(distribution, torch.cartesian_prod(side, side)).value
    torch.testing.assert_close(values.exp().mean(), torch.tensor(1.0), atol=0.01, rtol=0)


def test_the_start_is_next_to_uniform() -> None:
    u, evidence = noise()((torch.zeros(2), torch.zeros(3))).draw((2000,))
    assert evidence.value.mean() < 0.02
    assert (u.mean(0) - 0.5).abs().max() < 0.03 and (u.var(0) - 1 / 12).abs().max() < 0.01


def test_a_mixed_row_gets_noise_on_its_integers_only() -> None:
    discrete = torch.tensor([True, False, True])
    layer = Dequantise(discrete, torch.zeros(3), torch.full((3,), 4.0), perturb_parameters(noise(2, ((3,),)), 0.3))
    x = torch.tensor([[1.0, 0.3, 4.0], [0.0, -2.0, 2.0]]).expand(5, 2, 3)
    y, inward = layer.encode(x, torch.randn(3))
    assert torch.equal(y[..., 1], x[..., 1]) and torch.equal(y[..., discrete].floor(), x[..., discrete])
    back, outward = layer.decode(y)
    assert torch.equal(back, x) and inward.measure == Measure(-2, 2) == outward.measure
    torch.testing.assert_close(outward.value, inward.value, atol=1e-3, rtol=1e-3)


def test_learned_noise_tightens_the_bound_on_a_known_mass() -> None:
    """A density that leans within each cell: y ~ N(2.5, 0.25^2) on one integer and its neighbours."""
    lean = Standardise(torch.tensor([2.9, 2.5]), torch.tensor([0.25, 0.25]))
    every, low, high = torch.ones(2, dtype=torch.bool), torch.zeros(2), torch.full((2,), 5.0)
    learner = Flow(StandardNormal((2,)), [Dequantise(every, low, high, noise(2, ((2,),))), lean], (2,))
    uniform = Flow(StandardNormal((2,)), [Dequantise(every, low, high), lean], (2,))
    x = torch.tensor([[2.0, 2.0], [3.0, 2.0], [2.0, 3.0], [3.0, 1.0]]).repeat(16, 1)
    batches = [Batch(x)] * 80
    for _ in fit(learner, MaximumLikelihood(), batches, training=Training(Adam(3e-2))):
        pass
    cell = lambda n, mean: math.log(_mass(n, mean, 0.25))  # noqa: E731
    truth = torch.tensor([cell(a, 2.9) + cell(b, 2.5) for a, b in x[:4].tolist()])
    with torch.no_grad():
        tight, loose = (m().density(x[:4].expand(2000, 4, 2)).value.mean(0) for m in (learner, uniform))
    assert (tight <= truth + 0.02).all()
    assert ((truth - tight).mean() < 0.4 * (truth - loose).mean()) and (loose < truth).all()


def _mass(n: float, mean: float, scale: float) -> float:
    normal = torch.distributions.Normal(mean, scale)
    return float(normal.cdf(torch.tensor(n + 1)) - normal.cdf(torch.tensor(n)))
