"""Transformer recipes: what they build for images, text, sequences and tables, with and without labels, and what they refuse."""

from __future__ import annotations

import pytest
import torch

from genalloy.core.evidence import Kind
from genalloy.data.space import Column, Space
from genalloy.heads.discrete import Categorical
from genalloy.networks.causal.network import Frames, Pixels, Shift
from genalloy.networks.causal.pixelcnn import MaskedStart
from genalloy.networks.causal.sparse_attention import DenseAttention, FixedAttention, LocalPatches, Pattern, StridedAttention
from genalloy.networks.causal.transformer import TransformerBlock
from genalloy.networks.input_embedding import OneHot
from genalloy.recipes.composition import Composition, Target
from genalloy.recipes.transformers import image_transformer, sparse_transformer, transformer_lm

IMAGE = Space((1, 6, 5), "image", 2)
COLOUR = Space((3, 2, 2), "image", 256)
TEXT = Space((12,), "text", 40, (Column("character", "category", "str", tuple(map(chr, range(40))), 0.0, 39.0),))
SEQUENCE = Space((9, 2), "sequence", 5)
TABLE = Space((4,), "table", None, tuple(Column(n) for n in "abcd"))
SMALL = {"width": 16, "layers": 2}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def target(space: Space, classes: int = 0) -> tuple[Target, torch.Tensor]:
    x = torch.randn(6, *space.shape)
    x = x if space.levels is None else (space.levels * torch.rand(x.shape)).floor()
    return Target(space, x.mean(0), x.std(0).clamp(min=1e-6), len(x), classes), x


def patterns(composition: Composition) -> set[Pattern]:
    return {m.attention.pattern for m in composition.model.modules() if isinstance(m, TransformerBlock)}


@pytest.mark.parametrize("make", [image_transformer, sparse_transformer, transformer_lm])
@pytest.mark.parametrize("space", [IMAGE, COLOUR, TEXT, SEQUENCE, TABLE], ids=["image", "colour", "text", "sequence", "table"])
def test_exact_on_whatever_it_takes(make, space: Space) -> None:
    known, x = target(space)
    if make is image_transformer and space.kind != "image":
        with pytest.raises(ValueError, match="needs images"):
            make(known, **SMALL)
        return
    model = make(known, **SMALL).model
    found = model().density(x)
    assert found.kind is Kind.EXACT and found.value.shape == (6,) and found.value.isfinite().all()
    drawn = model().sample((2,))
    assert drawn.shape == (2, *space.shape)
    if space.levels is not None:
        assert ((drawn == drawn.round()) & (drawn >= 0) & (drawn < space.levels)).all()


@pytest.mark.parametrize("make", [image_transformer, sparse_transformer, transformer_lm])
def test_the_label_changes_the_density(make) -> None:
    known, x = target(IMAGE, classes=3)
    composition = make(known, conditional=True, **SMALL)
    assert composition.context is not None and composition.context.classes == 3
    labels = torch.tensor([0.0, 1.0, 2.0, 0.0, 1.0, 2.0])
    model = composition.model.eval()
    assert (model(labels).density(x).value != model((labels + 1) % 3).density(x).value).all()
    assert model(labels[:2]).sample((3,)).shape == (3, 2, 1, 6, 5)
    with pytest.raises(ValueError, match="needs labels"):
        make(target(IMAGE)[0], conditional=True, **SMALL)


def test_patterns_of_the_recipes() -> None:
    assert patterns(image_transformer(target(IMAGE)[0], **SMALL)) == {DenseAttention()}
    assert patterns(image_transformer(target(IMAGE)[0], block=4, **SMALL)) == {LocalPatches(5, (4, 4), (2, 2))}
    assert patterns(sparse_transformer(target(IMAGE)[0], **SMALL)) == {StridedAttention(5)}
    assert patterns(sparse_transformer(target(TEXT)[0], **SMALL)) == {FixedAttention(3, 1)}
    assert patterns(sparse_transformer(target(TEXT)[0], stride=4, **SMALL)) == {FixedAttention(4, 1)}
    assert patterns(transformer_lm(target(TEXT)[0], **SMALL)) == {DenseAttention()}


def test_pixels_enter_through_a_convolution_or_one_by_one() -> None:
    near, before = (image_transformer(target(IMAGE)[0], near=n, **SMALL).model.network.first for n in (3, 0))
    assert type(near) is MaskedStart and near.kernel == 3 and type(before) is Shift


def test_rows_of_a_sequence_are_places() -> None:
    few, many = (transformer_lm(target(Space((5, n), "sequence", 2))[0], **SMALL).model.network for n in (3, 20))
    assert few.tokens == Pixels() and many.tokens == Frames() and few.places.grid == many.places.grid == (5,)


def test_letters_are_classes_of_their_own() -> None:
    net = transformer_lm(target(TEXT)[0], **SMALL).model
    assert net.head.levels == 40 and type(net.head) is Categorical
    assert net.network.entry == OneHot(40) and net.network.places.learned is None
