"""Contexts of any shape and records: how they travel, and the part that learns features of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from genalloy.core.batch import Batch
from genalloy.core.contexts import batch_of, both, flat, join, parts, shapes_of, tree_map
from genalloy.core.distribution import density
from genalloy.core.part import Conditional, Embedded, Unconditional
from genalloy.core.spec import from_spec, to_spec
from genalloy.heads.gaussian import Gaussian, StandardNormal
from genalloy.laws.every import every_part
from genalloy.laws.subject import perturb_parameters
from genalloy.models.latent import LatentVariable
from genalloy.networks.labels import LabelEmbedding
from genalloy.networks.mlp import MLP
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.training.fit import fit

SHAPES = ((1, 4, 4), ())
NAMED = {"picture": (1, 4, 4), "label": ()}
MAF = next(listed for listed in every_part() if listed.name == "maf")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def part(shapes: Any = SHAPES) -> Embedded:
    """A MAF of pairs given three features of a picture and a label."""
    return perturb_parameters(Embedded(MAF.make((2,), ((3,),)), MLP(shapes, 3, (8,)), shapes))


def context(*batch: int) -> tuple[Tensor, Tensor]:
    return torch.randn(*batch, 1, 4, 4), torch.randn(*batch)


def test_named_parts_keep_their_names_on_the_way_in() -> None:
    picture, label = context(3)
    named, x = {"label": label, "picture": picture}, torch.zeros(3, 2)
    inside = both(x, named)
    assert inside[0] is x and inside[1] == named and both(None, named) is named
    assert both(both(x, {"label": label}), {"picture": picture})[1].keys() == named.keys()
    with pytest.raises(ValueError, match="two contexts bring a part named 'label'"):
        both(named, {"label": label})
    torch.testing.assert_close(join(named, NAMED), join((picture, label), SHAPES))
    torch.testing.assert_close(join(inside, ((2,), *shapes_of(NAMED))), join((x, picture, label), ((2,), *SHAPES)))
    assert batch_of(named, NAMED) == (3,) and flat(shapes_of(NAMED)) == SHAPES
    some = Batch(x, named).rows(slice(1, 3)).context
    assert some["picture"].shape == (2, 1, 4, 4)
    assert tree_map(lambda t: t[0], inside)[1]["label"].shape == ()


@pytest.mark.parametrize(
    ("given", "declared", "words"),
    [
        ({"label": 0}, NAMED, r"the parts \['label'\], expected the parts \['label', 'picture'\]"),
        ({"label": 0, "picture": 1, "more": 2}, NAMED, "'more'"),
        ({"label": 0, "sketch": 1}, NAMED, "'sketch'"),
        ({"a": 0, "b": 1}, ((), ()), r"the parts \['a', 'b'\], expected 2 unnamed"),
        ((0, 1, 2), NAMED, "3 unnamed, expected the parts"),
        (None, ((),), "0 unnamed, expected 1 unnamed"),
    ],
)
def test_parts_that_are_missing_or_left_over_are_refused(given: Any, declared: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parts(given, declared)


def test_a_record_is_read_by_its_names() -> None:
    picture, label = context(3)
    x, named = torch.randn(3, 2), part(NAMED)
    for given in ({"label": label, "picture": picture}, {"picture": picture, "label": label}, (picture, label)):
        torch.testing.assert_close(density(named(given), x).value, density(named((picture, label)), x).value)
    again = from_spec(*to_spec(named))
    assert again.context_shapes == shapes_of(NAMED) and again.network.inputs == shapes_of(NAMED)
    with pytest.raises(ValueError, match="expected the parts"):
        named({"label": label})


def test_a_posterior_reads_its_context_by_name_too() -> None:
    """Two parts of one shape: by their order alone nothing would tell them apart."""
    shapes = {"wind": (2,), "rain": (2,)}
    encoder = Conditional(Gaussian(), MLP(((3,), shapes), 2 * 2, (8,)), (2,), ((3,), shapes))
    decoder = Conditional(Gaussian(), MLP(((2,), shapes), 2 * 3, (8,)), (3,), ((2,), shapes))
    model = perturb_parameters(LatentVariable(Unconditional(StandardNormal((2,))), decoder, encoder, context_shapes=shapes))
    x, wind, rain = torch.randn(5, 3), torch.randn(5, 2), torch.randn(5, 2)

    def value(context: dict[str, Tensor]) -> Tensor:
        torch.manual_seed(1)
        return density(model(context), x).value

    here = value({"wind": wind, "rain": rain})
    torch.testing.assert_close(value({"rain": rain, "wind": wind}), here)
    assert (value({"wind": rain, "rain": wind}) - here).abs().max() > 1e-3


def test_the_network_is_called_once_and_learns_with_the_part() -> None:
    model, calls = part(), []
    model.network.register_forward_pre_hook(lambda *_: calls.append(1))
    before = [p.clone() for p in model.network.parameters()]
    batch = Batch(torch.randn(6, 2), context(6))
    for _ in fit(model, MaximumLikelihood(), [batch] * 2):
        pass
    assert len(calls) == 2 + 2, "once a step, once for the initialisation and once for the checks"
    assert all(not torch.equal(a, b) for a, b in zip(before, model.network.parameters(), strict=True))


def test_batches_of_contexts_broadcast_and_every_row_meets_its_own() -> None:
    model, c = part(), context(5)
    distribution = model(c)
    assert distribution.batch_shape == (5,) and distribution.sample((7,)).shape == (7, 5, 2)
    x = torch.randn(5, 2)
    alone = [density(model(tree_map(lambda t, i=i: t[i], c)), x[i]).value for i in range(5)]
    torch.testing.assert_close(density(distribution, x).value, torch.stack(alone))
    again = from_spec(*to_spec(part()))
    assert again.context_shapes == SHAPES


def test_labels_are_embedded_by_class() -> None:
    network = LabelEmbedding(3, 4)
    labels = torch.tensor([[0.0, 2.0], [1.0, 2.0]])
    found = network(labels)
    assert found.shape == (2, 2, 4)
    assert torch.equal(found[0, 1], network.weight[2]) and torch.equal(found[1, 1], network.weight[2])
    with pytest.raises(ValueError, match=r"labels from 0 to 3, expected 0..2"):
        network(torch.tensor([0.0, 3.0]))
