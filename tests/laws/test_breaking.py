"""The laws catch what they are for: each is shown a part with one deliberate mistake."""

from __future__ import annotations

import math

import pytest
import torch

from genalloy.core.batch import Batch
from genalloy.core.contexts import shapes_of
from genalloy.core.distribution import density, draw
from genalloy.core.evidence import Evidence, Kind, Measure
from genalloy.core.part import Conditional, Part
from genalloy.heads.gaussian import Gaussian, GaussianDistribution, StandardNormal
from genalloy.laws.adding import additive
from genalloy.laws.claims import Claim
from genalloy.laws.contexts import contexts_by_name
from genalloy.laws.determinism import determinism
from genalloy.laws.draws import draw_reports_density, draws_follow_density
from genalloy.laws.every import every_part
from genalloy.laws.gradients import gradients
from genalloy.laws.invertible import invertible, layers_invert
from genalloy.laws.run import check_part
from genalloy.laws.shapes import shapes
from genalloy.laws.stepwise import cached_equals_naive
from genalloy.laws.storing import stores
from genalloy.laws.subject import Subject, perturb_parameters
from genalloy.laws.total_mass import total_mass
from genalloy.models.autoregressive import Autoregressive
from genalloy.models.energy import EnergyModel
from genalloy.models.flow import Flow
from genalloy.models.implicit import Implicit
from genalloy.networks.causal.made import MADE
from genalloy.networks.mlp import MLP, Hidden
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.objectives.objective import Objective, Scaled
from genalloy.transforms.layer import Transform

PARTS = {listed.name: listed for listed in every_part()}


class Skewed(GaussianDistribution):
    """A normal whose density, samples or report are wrong by one of three knobs."""

    def __init__(self, mass: float = 0.0, stretch: float = 1.0, report: float = 0.0) -> None:
        super().__init__(torch.zeros(2), torch.ones(2), 1)
        self.mass, self.stretch, self.report = mass, stretch, report

    def density(self, x):
        evidence = super().density(x)
        return Evidence.exact(evidence.value + self.mass, "skewed", evidence.measure)

    def rsample(self, sample_shape=()):
        return super().rsample(sample_shape) * self.stretch

    def draw(self, sample_shape=()):
        x = self.rsample(sample_shape)
        evidence = self.density(x)
        return x, Evidence.exact(evidence.value + self.report, "skewed", evidence.measure)


class Knobs(Part):
    def __init__(self, mass: float = 0.0, stretch: float = 1.0, report: float = 0.0) -> None:
        super().__init__()
        self.mass, self.stretch, self.report = mass, stretch, report

    def forward(self, context=None):
        return Skewed(self.mass, self.stretch, self.report)


@pytest.mark.parametrize(
    ("law", "knobs"),
    [
        (total_mass, {"mass": 0.05}),
        (total_mass, {"mass": -0.05}),
        (draws_follow_density, {"stretch": 1.15}),
        (draw_reports_density, {"report": 0.05}),
        (draw_reports_density, {"report": -0.05}),
    ],
)
def test_wrong_densities_are_caught(law, knobs) -> None:
    torch.manual_seed(0)
    law(Subject(Knobs(), (2,)))
    with pytest.raises(AssertionError):
        law(Subject(Knobs(**knobs), (2,)))


class Swapped(Part):
    """Joins its context in the wrong order along the batch."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.context_shapes = ((3,),)

    def forward(self, context=None):
        return self.inner(context.flip(0) if context.dim() > 1 else context)


def test_mixed_up_contexts_are_caught() -> None:
    torch.manual_seed(0)
    inner = Conditional(Gaussian(), MLP(((3,),), 4, (8,)), (2,), ((3,),))
    shapes(Subject(inner, (2,), ((3,),)))
    with pytest.raises(AssertionError, match="one by one"):
        shapes(Subject(Swapped(inner), (2,), ((3,),)))
    with pytest.raises(AssertionError, match="event_shape"):
        shapes(Subject(inner, (3,), ((3,),)))


class Wrong(Transform):
    """z = 2 x, with one of its three answers wrong."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def encode(self, x, context=None):
        volume = math.log(2.0) * x.shape[-1]
        return 2 * x, torch.full(x.shape[:-1], volume * (1.1 if self.what in ("volume", "both") else 1.0), dtype=x.dtype)

    def decode(self, z, context=None):
        volume = -math.log(2.0) * z.shape[-1] * (1.1 if self.what == "both" else 1.0)
        back = z / (2.1 if self.what == "inverse" else 2.0)
        return back, torch.full(z.shape[:-1], volume, dtype=z.dtype)


def test_wrong_transforms_are_caught() -> None:
    x = torch.randn(5, 3)
    invertible(Wrong("nothing"), x)
    for what, words in (("inverse", "off by"), ("volume", "differ"), ("both", "Jacobian")):
        with pytest.raises(AssertionError, match=words):
            invertible(Wrong(what), x)
        with pytest.raises(AssertionError, match=words):
            layers_invert(Subject(Flow(StandardNormal((3,)), [Wrong(what)], (3,)), (3,)))


class Idle(Part):
    """Has a parameter that does nothing, a seed of its own, or an argument that it forgets."""

    def __init__(self, inner: torch.nn.Module, deaf: bool = False, forgets: float = 1.0) -> None:
        super().__init__()
        self.inner, self.deaf = inner, deaf
        self.unused = torch.nn.Parameter(torch.zeros(3))

    def forward(self, context=None):
        if self.deaf:
            torch.manual_seed(1)
        return self.inner(context)


def test_idle_parameters_fixed_seeds_and_forgotten_arguments_are_caught() -> None:
    subject = PARTS["realnvp"].subject
    with pytest.raises(AssertionError, match="unused gets no gradient"):
        gradients(subject(Idle(PARTS["realnvp"].build())))
    gradients(subject(Idle(perturb_parameters(PARTS["realnvp"].build()))), listed=("unused",))
    with pytest.raises(AssertionError, match="do not depend on the seed"):
        determinism(Subject(Idle(PARTS["fitted gaussian"].build(), True), (2,)))
    with pytest.raises(ValueError, match="'forgets'"):
        stores(subject(Idle(PARTS["realnvp"].build())))


class Peeking(MADE):
    """One weight lets a variable see itself."""

    def forward(self, x, context=None):
        return super().forward(x, context) + 0.1 * x.unsqueeze(-1)


def test_a_network_that_peeks_is_caught() -> None:
    torch.manual_seed(0)
    peeking = Autoregressive(Peeking((2,), 2, Hidden((8,))), Gaussian(), (2,))
    with pytest.raises(AssertionError, match="cached parameters"):
        cached_equals_naive(Subject(peeking, (2,)))


class Spread(Objective):
    """A quadratic in every parameter, with noise."""

    def forward(self, play):
        return sum((p - torch.randn_like(p)).square().sum() for p in play.model.parameters())


def test_a_weight_that_is_not_linear_is_caught(monkeypatch) -> None:
    torch.manual_seed(0)
    model, batch = PARTS["realnvp"].make((2,), ()), Batch(torch.randn(4, 2))
    additive(model, MaximumLikelihood(), Spread(), batch)
    monkeypatch.setattr(Scaled, "forward", lambda self, play: self.weight**2 * self.term(play))
    with pytest.raises(AssertionError):
        additive(model, MaximumLikelihood(), Spread(), batch)


def test_a_wrong_label_is_caught() -> None:
    evidence = Evidence(torch.zeros(2), Kind.LOWER, "ELBO", True, None, Measure(2, 0))
    Claim.of(Kind.LOWER, True).matches(evidence, "this")
    for kind, proper in ((Kind.LOWER, False), (Kind.EXACT, True), (Kind.UPPER, True)):
        with pytest.raises(AssertionError, match="the algebra predicts"):
            Claim.of(kind, proper).matches(evidence, "this")


def test_check_part_reports_without_raising() -> None:
    part = perturb_parameters(PARTS["maf"].build())
    state = torch.get_rng_state()
    good = check_part(part, (2,), ((3,), ()))
    assert torch.equal(state, torch.get_rng_state())
    assert all(f.ok for f in good), good
    assert {f.law: f.words for f in good}["cached sampling equals naive"].startswith("does not apply")
    bad = {f.law: f for f in check_part(Knobs(mass=0.2), (2,))}
    assert not bad["total mass is one"].ok and "1.22" in bad["total mass is one"].words
    assert not {f.law: f for f in check_part(Knobs(), (3,))}["shapes and contexts"].ok
    x, own = draw(Skewed(), (3,))
    assert torch.equal(own.value, density(Skewed(), x).value)


class ByPlace(Part):
    """A part that flattens a caller's dict in the caller's order."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = perturb_parameters(Conditional(Gaussian(), MLP(((3,), (3,)), 4, (8,)), (2,), ((3,), (3,))))

    def forward(self, context=None):
        return self.inner(tuple(context[-1].values()))


def test_a_context_read_by_its_order_is_found():
    subject = Subject(ByPlace(), (2,), ({"near": (3,), "far": (3,)},))
    with pytest.raises(AssertionError, match="a dict in another order changes the law"):
        contexts_by_name(subject)


@pytest.mark.parametrize("kind", ["energy", "implicit"])
@pytest.mark.parametrize("order", ["given", "declared"])
def test_an_order_is_found_where_there_is_no_density(kind, order):
    network = MLP(((2,), (3,), (3,)), 1 if kind == "energy" else 2, (8,))
    if order == "given":
        network.forward = lambda c: MLP.forward(network, (c[0], *c[-1].values()))
    else:
        network.inputs = shapes_of(((2,), {"near": (3,), "far": (3,)}))
    shapes = shapes_of({"near": (3,), "far": (3,)})
    make = {"energy": EnergyModel, "implicit": lambda n, base, e, context_shapes: Implicit(base, n, e, context_shapes)}[kind]
    subject = Subject(make(network, StandardNormal((2,)), (2,), context_shapes=shapes), (2,), shapes)
    if order == "declared":
        contexts_by_name(subject)
    else:
        with pytest.raises(AssertionError, match="a dict in another order changes the law"):
            contexts_by_name(subject)
