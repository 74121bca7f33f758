"""The laws of one part at a time, over every part."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from genalloy.core.contexts import shapes_of
from genalloy.core.distribution import density, draw, measure_of
from genalloy.laws.contexts import contexts_by_name
from genalloy.laws.determinism import determinism
from genalloy.laws.draws import draw_reports_density, draws_follow_density
from genalloy.laws.every import every_part
from genalloy.laws.every_transform import ListedTransform, every_transform
from genalloy.laws.gradients import gradients
from genalloy.laws.invertible import SCALES, invertible, layers_invert
from genalloy.laws.listed import Listed
from genalloy.laws.shapes import shapes
from genalloy.laws.stepwise import cached_equals_naive
from genalloy.laws.storing import stores
from genalloy.laws.subject import NotApplicable, Subject, perturb_parameters
from genalloy.laws.total_mass import total_mass

PARTS = {listed.name: listed for listed in every_part()}
EVERY_LAW = (
    shapes, total_mass, draws_follow_density, draw_reports_density, determinism, cached_equals_naive, stores, layers_invert
)  # fmt: skip
LAWS = {law.__name__: law for law in EVERY_LAW}
APPLIES = {
    "total_mass": {n for n, p in PARTS.items() if p.kind.value in ("EXACT", "LOWER") and p.event_shape != (1, 2, 2)},
    "draws_follow_density": {n for n, p in PARTS.items() if p.claims.density.proper},
    "draw_reports_density": {n for n, p in PARTS.items() if p.claims.draw.proper},
    "cached_equals_naive": {
        "made",
        "made, mixture",
        "made, categorical",
        "raster cnn",
        "raster lstm",
        "raster gru",
        "wavenet",
        "linear prediction",
        "gated pixelcnn",
        "pixelcnn++",
        "made, filtered",
        "pixelcnn",
        "pixelsnail",
        "row lstm",
        "diagonal bilstm",
        "transformer",
        "sparse transformer",
    },
    "layers_invert": {
        "residual",
        "residual, roulette",
        "residual, truncated",
        "planar and radial",
        "sylvester",
        "realnvp",
        "maf",
        "iaf",
        "dequantised",
    },
}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def subject(name: str) -> Subject:
    listed = PARTS[name]
    return listed.subject(perturb_parameters(listed.build()))


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("name", PARTS)
def test_law_holds(name: str, law: str) -> None:
    try:
        LAWS[law](subject(name))
        decided = True
    except NotApplicable:
        decided = False
    assert decided or name not in APPLIES.get(law, PARTS), f"{law} could not decide about {name}"


@pytest.mark.parametrize("name", [name for name, listed in PARTS.items() if listed.conditional])
def test_contexts_are_read_by_name(name: str) -> None:
    listed, shapes = PARTS[name], shapes_of({"near": (3,), "far": (3,)})
    part = perturb_parameters(listed.make(listed.event_shape, shapes))
    contexts_by_name(Subject(part, listed.event_shape, shapes, listed.discrete, listed.levels))


@pytest.mark.parametrize("name", PARTS)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    try:
        gradients(subject(name), PARTS[name].frozen)
    except NotApplicable:
        assert name in ("fitted gaussian", "importance weighted", "uniform levels", "memory", "n-gram")


@pytest.mark.parametrize("name", PARTS)
def test_labels_are_those_listed(name: str) -> None:
    listed: Listed = PARTS[name]
    distribution = subject(name).distribution((2,) if listed.conditional else ())
    with torch.no_grad():
        x, own = draw(distribution, (3,))
        listed.claims.draw.matches(own, f"draw() of {name}")
        listed.claims.density.matches(density(distribution, x), f"density() of {name}")
    assert distribution.has_rsample == listed.carries_gradient
    part = subject(name).part
    assert part.has_rsample in (None, distribution.has_rsample)
    assert part.measure in (None, measure_of(distribution))
    if listed.carries_gradient:
        assert distribution.rsample((2,)).requires_grad or not list(listed.build().parameters())


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("listed", every_transform(), ids=lambda t: t.name)
def test_transforms_invert(listed: ListedTransform, scale: float) -> None:
    transform = perturb_parameters(listed.build())
    x = listed.inside(scale * torch.randn(6, *listed.event))
    context = torch.randn(6, 3) if listed.conditional else None
    invertible(transform, x, context)


@pytest.mark.parametrize("name", PARTS)
def test_what_a_part_declares_is_what_its_distributions_have(name: str) -> None:
    """Event shape, base measure and gradients through samples are known before any pass."""
    part: Any = subject(name).part
    distribution = subject(name).distribution()
    assert tuple(part.event_shape) == tuple(distribution.event_shape)
    assert part.measure == measure_of(distribution) and part.has_rsample == distribution.has_rsample
