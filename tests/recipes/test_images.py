"""Image flows of three kinds: shapes, equal couplings, what keeps volume, dense where there is no image."""

from __future__ import annotations

import pytest
import torch

from genalloy.core.distribution import density
from genalloy.core.evidence import Kind
from genalloy.core.part import Tempered
from genalloy.data.space import Space
from genalloy.laws.invertible import layers_invert
from genalloy.laws.subject import Subject, perturb_parameters
from genalloy.networks.convolution import ConvNet, Filters
from genalloy.recipes.composition import Composition, Target
from genalloy.recipes.flows import realnvp
from genalloy.recipes.images import glow, nice
from genalloy.recipes.multiscale import FlowSteps, Glow, Nice, RealNVP, image_flow, possible
from genalloy.transforms.coupling import Coupling, checkerboard
from genalloy.transforms.image import Haar, Shuffle, Squeeze
from genalloy.transforms.linear import ActNorm

KINDS = {"nice": Nice, "realnvp": RealNVP, "glow": Glow}
RECIPES = {"nice": nice, "realnvp": realnvp, "glow": glow}
IMAGE = (1, 8, 8)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def target(space: Space) -> tuple[Target, torch.Tensor]:
    x = torch.randn(64, *space.shape)
    x = x if space.levels is None else (2 * x).round().clamp(0, space.levels - 1)
    return Target(space, x.mean(0), x.std(0).clamp(min=1e-6), len(x)), x


@pytest.mark.parametrize("name", KINDS)
def test_equal_couplings_of_equal_networks_that_invert(name: str) -> None:
    steps: FlowSteps = KINDS[name](4, Filters(4))
    model = image_flow(IMAGE, steps, 2)
    couplings = [m for m in model.modules() if type(m) is Coupling]
    assert len(couplings) == 8 and {m.network.filters for m in couplings} == {Filters(4)}
    model = perturb_parameters(model, 0.1)
    layers_invert(Subject(model, IMAGE))
    x, evidence = model().draw((3,))
    torch.testing.assert_close(evidence.value, density(model(), x).value, rtol=1e-3, atol=1e-2)
    assert model().encode(x).shape == (3, 64)


@pytest.mark.parametrize("name", KINDS)
def test_conditional(name: str) -> None:
    model = perturb_parameters(image_flow(IMAGE, KINDS[name](2, Filters(4), ((),)), 2), 0.1)
    labels = torch.tensor([0.0, 1.0])
    x = model(labels).sample((3,))
    value = model(labels).density(x).value
    assert x.shape == (3, 2, *IMAGE) and (value != model(1 - labels).density(x).value).all()
    torch.testing.assert_close(model(labels[1]).density(x[:, 1]).value, value[:, 1], rtol=1e-3, atol=1e-2)


def test_nice_is_tempered_exactly_and_glow_is_not() -> None:
    cool = {
        name: Tempered(perturb_parameters(image_flow(IMAGE, kind(2, Filters(4)), 2), 0.1), 0.7)() for name, kind in KINDS.items()
    }
    x = torch.randn(3, *IMAGE)
    assert {name: c.density(x).kind for name, c in cool.items()} == {
        "nice": Kind.EXACT, "realnvp": Kind.NONE, "glow": Kind.NONE,
    }  # fmt: skip
    assert all(torch.isfinite(c.sample((2,))).all() for c in cool.values())


def test_realnvp_parts_by_checkerboard_first_and_by_rows_then() -> None:
    shape = (2, 4, 4)
    squeeze, there, *layers = RealNVP(4, Filters(4)).scale(shape)
    back = next(layer for layer in layers if type(layer) is Shuffle)
    boards = checkerboard(shape).float()
    z = there.encode(squeeze.encode(boards)[0])[0]
    assert (z[:4] == 1).all() and (z[4:] == 0).all()
    assert torch.equal(squeeze.decode(back.encode(z)[0])[0], boards)
    stays = [m.parting.second for m in layers if type(m) is Coupling]
    assert stays == [False, True, False, True] and layers.index(back) == 4


def test_glow_starts_as_the_realnvp_of_the_same_weights() -> None:
    glow_, realnvp_ = (
        image_flow(IMAGE, Glow(4, Filters(4)), 2),
        perturb_parameters(image_flow(IMAGE, RealNVP(4, Filters(4)), 2), 0.1),
    )
    of_glow, of_realnvp = ([m for m in flow.modules() if isinstance(m, ConvNet | ActNorm)] for flow in (glow_, realnvp_))
    assert len(of_glow) == len(of_realnvp)
    for mine, theirs in zip(of_glow, of_realnvp, strict=True):
        mine.load_state_dict(theirs.state_dict())
    x = torch.randn(5, *IMAGE)
    torch.testing.assert_close(density(glow_(), x).value, density(realnvp_(), x).value)
    mixed = perturb_parameters(glow_, 0.1)
    assert (density(mixed(), x).value - density(realnvp_(), x).value).abs().min() > 1e-3


@pytest.mark.parametrize(("levels", "start"), [(17, Squeeze), (32, Squeeze), (33, Haar), (256, Haar), (None, Haar)])
def test_glow_parts_pixels_of_few_levels_and_wavelets_of_many(levels: int | None, start: type) -> None:
    model = glow(target(Space(IMAGE, "image", levels=levels))[0], layers=2, width=4).model
    found = [type(m) for m in model.modules() if type(m) in (Haar, Squeeze)]
    assert found[0] is start and found.count(Haar) == (2 if start is Haar else 0)


def test_how_many_scales_an_image_admits() -> None:
    assert possible((1, 28, 28), 5) == 2 and possible((3, 32, 32), 3) == 3 and possible((1, 8, 8), 0) == 0
    assert possible((1, 7, 8), 2) == 0 and possible((64,), 2) == 0


SPACES = {
    "images": Space(IMAGE, "image", levels=5),
    "odd": Space((1, 3, 3), "image", levels=5),
    "real images": Space((2, 4, 4), "image"),
    "points": Space((2,)),
}


@pytest.mark.parametrize("space", SPACES.values(), ids=list(SPACES))
@pytest.mark.parametrize("name", RECIPES)
def test_recipes_build_for_every_space(name: str, space: Space) -> None:
    of, x = target(space)
    composition: Composition = RECIPES[name](of, scales=2, layers=2, width=4)
    convolutional = any(type(m).__name__ == "ConvNet" for m in composition.modules())
    assert convolutional == (len(space.shape) == 3 and space.shape[1] % 2 == 0)
    composition.model.initialise(x)
    evidence = density(composition.model(), x)
    assert evidence.kind is (Kind.EXACT if space.levels is None else Kind.LOWER)
    evidence.value.mean().backward()
    assert composition.model().sample((2,)).shape == (2, *space.shape)


def test_one_entry_cannot_be_coupled() -> None:
    for name in RECIPES:
        with pytest.raises(ValueError, match=f"{name} needs at least two entries"):
            RECIPES[name](target(Space((1,)))[0])
