"""Surjections: what is exact integrates to one, what is a bound is proper and on its side, wrong bases are refused."""

from __future__ import annotations

import math

import pytest
import torch

from genalloy.core.distribution import Shape, density, draw
from genalloy.core.evidence import Kind, Unavailable
from genalloy.core.part import Conditional
from genalloy.core.spec import from_spec, to_spec
from genalloy.estimators.importance_weighted import ImportanceWeighted
from genalloy.heads.discrete import Bernoulli
from genalloy.heads.gaussian import Gaussian, StandardNormal
from genalloy.laws.draws import draw_reports_density, draws_follow_density
from genalloy.laws.gradients import gradients
from genalloy.laws.invertible import SCALES, invertible
from genalloy.laws.shapes import shapes
from genalloy.laws.storing import stores
from genalloy.laws.subject import Subject, perturb_parameters
from genalloy.laws.total_mass import total_mass
from genalloy.models.flow import Flow
from genalloy.networks.mlp import MLP, Hidden
from genalloy.transforms.coupling import alternating, coupling
from genalloy.transforms.layer import Layer
from genalloy.transforms.observation import Standardise
from genalloy.transforms.surjection import Extend, Ordered, Positive, Reduce, Signs, Slices, Sort, augment, shuffle

CONTEXT = ((3,),)
SMALL = Hidden((8,))


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def given(head: Gaussian | Bernoulli, seen: tuple[Shape, ...], event: Shape) -> Conditional:
    return Conditional(head, MLP(seen, math.prod(event) * head.width, (8,)), event, seen)


def stack(*layers: object, inner: int = 2) -> Flow:
    """The layers, two conditional couplings and N(0, I), under contexts of three numbers."""
    couplings = [coupling(alternating(inner, odd), SMALL, CONTEXT) for odd in (False, True)]
    return Flow(StandardNormal((inner,)), [*layers, *couplings], (2,), CONTEXT)  # type: ignore[list-item]


def sliced() -> Flow:
    """Split off one of two: the rest given the first and the context."""
    rest = given(Gaussian(), ((1,), (3,)), (1,))
    layers = [coupling(alternating(2), SMALL, CONTEXT), Reduce(Slices((2,), 1), rest)]
    return Flow(given(Gaussian(), CONTEXT, (1,)), layers, (2,), CONTEXT)


FLOWS = {
    "slice": sliced,
    "abs": lambda: stack(Reduce(Signs((2,)), given(Bernoulli(), ((2,), (3,)), (2,))), Positive()),
    "abs, even": lambda: stack(Reduce(Signs((2,))), Positive()),
    "sort": lambda: stack(Reduce(Sort((2,))), Ordered()),
    "augment": lambda: stack(augment((2,), 1), inner=3),
    "augment, learned": lambda: stack(augment((2,), 1, given(Gaussian(1.0), ((2,), (3,)), (1,))), inner=3),
    "augment, by x alone": lambda: stack(augment((2,), 1, given(Gaussian(), ((2,),), (1,))), inner=3),
    "shuffle": lambda: stack(*shuffle(2)),
}
EXACT = ("slice", "abs", "abs, even", "sort")


def subject(name: str) -> Subject:
    """Shaken little where the density has a pole at zero that a coarse grid misses."""
    return Subject(perturb_parameters(FLOWS[name](), 0.1 if name == "abs, even" else 0.3), (2,), CONTEXT)


LAWS = (shapes, total_mass, draws_follow_density, draw_reports_density, stores)


@pytest.mark.parametrize("law", LAWS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", [n for n in FLOWS if n != "augment, learned"])
def test_laws(name: str, law) -> None:
    law(subject(name))


@pytest.mark.parametrize("name", FLOWS)
def test_labels(name: str) -> None:
    distribution = subject(name).distribution()
    x, own = draw(distribution, (4,))
    found = density(distribution, x)
    kinds = (Kind.EXACT, Kind.EXACT) if name in EXACT else (Kind.LOWER, Kind.UPPER)
    assert (found.kind, own.kind) == kinds and found.proper and own.proper
    assert found.measure == own.measure == distribution.measure


@pytest.mark.parametrize("name", FLOWS)
def test_every_parameter_learns(name: str) -> None:
    gradients(subject(name), ())


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("transform", [Positive(), Ordered()], ids=["positive", "ordered"])
def test_maps_into_cores(transform, scale: float) -> None:
    x = scale * torch.randn(6, 4)
    invertible(transform, x.abs() if type(transform) is Positive else x.sort(-1).values)
    x, _ = transform.decode(x)
    assert (x >= 0).all() if type(transform) is Positive else (x.diff(dim=-1) >= 0).all()
    assert all(torch.isfinite(t).all() for t in transform.encode(torch.zeros(2, 4)))


@pytest.mark.parametrize("fold", [Slices((3, 2, 2), 1), Signs((3,)), Sort((4,))], ids=lambda f: type(f).__name__)
def test_folds_come_together(fold) -> None:
    y = torch.randn(5, 2, *fold.whole)
    core, rest = fold.apart(y)
    assert torch.equal(fold.together(core, rest), y) and fold.holds(core).all() and fold.holds(core).shape == (5, 2)
    assert core.shape[2:] == fold.core_shape and rest.shape[2:] == fold.rest_shape


@pytest.mark.parametrize("name", ["augment", "augment, learned", "augment, by x alone"])
@torch.no_grad()
def test_importance_weights_close_the_gap_of_augmentation(name: str) -> None:
    flow = perturb_parameters(FLOWS[name](), 0.15)
    c, x = torch.randn(3), torch.randn(6, 2)
    grid = torch.linspace(-10, 10, 4001)
    triples = torch.cat([x[:, None].expand(-1, 4001, -1), grid.expand(6, -1)[..., None]], -1)
    joint = Flow(flow.base, list(flow.layers)[1:], (3,), CONTEXT)(c)
    truth = joint.log_prob(triples).logsumexp(-1) + math.log(20 / 4000)
    single = flow(c).density(x.expand(400, 6, 2)).value
    assert (single.mean(0) < truth).all()
    many = ImportanceWeighted(20000)(flow(c), x)
    assert many.kind is Kind.LOWER
    torch.testing.assert_close(many.value, truth, atol=0.05, rtol=0)


@torch.no_grad()
def test_a_symmetric_base_under_a_dropped_sign_is_the_folded_normal() -> None:
    flow = Flow(StandardNormal((1,)), [Extend(Signs((1,)))], (1,))
    x = torch.tensor([[0.3], [2.0], [-1.0]])
    value = flow().density(x).value
    torch.testing.assert_close(value[:2], math.log(2) + torch.distributions.Normal(0.0, 1.0).log_prob(x[:2, 0]))
    assert value[2] == -torch.inf and (flow().sample((50,)) >= 0).all()


@torch.no_grad()
def test_dropping_the_order_of_an_exchangeable_base_counts_orders() -> None:
    flow = Flow(StandardNormal((3,)), [Extend(Sort((3,)))], (3,))
    x = torch.tensor([[-1.0, 0.2, 0.9], [0.2, -1.0, 0.9]])
    value = flow().density(x).value
    torch.testing.assert_close(value[0], math.log(6) + StandardNormal((3,))().log_prob(x)[0])
    assert value[1] == -torch.inf and (flow().sample((20,)).diff(dim=-1) >= 0).all()


def test_a_shuffled_flow_does_not_know_the_order() -> None:
    shift = Standardise(torch.tensor([3.0, -3.0]), torch.ones(2))
    flow = Flow(StandardNormal((2,)), [*shuffle(2), shift], (2,))
    x = flow().sample((2000,))
    assert abs(float((x[:, 0] > 0).float().mean()) - 0.5) < 0.05
    with torch.no_grad():
        point = torch.tensor([[3.0, -3.0]])
        mean = torch.stack([flow().density(point).value for _ in range(2000)]).exp().mean()
    torch.testing.assert_close(mean.log(), torch.tensor(-math.log(2 * math.pi) - math.log(2)), atol=0.1, rtol=0)


def test_a_base_outside_of_the_cores_is_refused() -> None:
    for layer in (Reduce(Signs((2,))), Reduce(Sort((2,)))):
        with pytest.raises(ValueError, match="follow it by Positive or Ordered"):
            Flow(StandardNormal((2,)), [layer], (2,))().sample((20,))


def test_what_cannot_be_even_or_differentiated_is_refused() -> None:
    with pytest.raises(ValueError, match="give a part"):
        Reduce(Slices((2,), 1))
    with pytest.raises(ValueError, match="some of them"):
        Slices((2,), 2)
    with pytest.raises(Unavailable, match="carry no gradient"):
        Extend(Signs((2,)), given(Bernoulli(), ((2,),), (2,))).encode(torch.rand(3, 2))
    assert not Reduce(Signs((2,)), given(Bernoulli(), ((2,),), (2,))).differentiable


@pytest.mark.parametrize("layer", [augment((4, 2, 2), 3), Reduce(Sort((3,))), *shuffle(2)], ids=repr)
def test_saved_and_rebuilt(layer: Layer) -> None:
    assert repr(from_spec(*to_spec(layer))) == repr(layer)


def test_images_are_augmented_by_channels() -> None:
    layer = augment((1, 2, 2), 3)
    z, evidence = layer.encode(torch.rand(5, 1, 2, 2))
    assert z.shape == (5, 4, 2, 2) and layer.out_shape((1, 2, 2)) == (4, 2, 2) and evidence.measure == (-12, 0)
    assert layer.decode(z)[0].shape == (5, 1, 2, 2)
