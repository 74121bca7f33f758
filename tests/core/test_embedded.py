"""Contexts of any shape and records: how they travel, and the part that learns features of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from genalloy.core.capabilities import Batch, batch_of, both, join, ordered, tree_map
from genalloy.core.distribution import density
from genalloy.core.part import Embedded
from genalloy.core.spec import from_spec, to_spec
from genalloy.laws.every import every_part
from genalloy.laws.subject import perturb_parameters
from genalloy.networks.labels import LabelEmbedding
from genalloy.networks.mlp import MLP
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.training.fit import fit

SHAPES = ((1, 4, 4), ())
NAMES = ("picture", "label")
MAF = next(listed for listed in every_part() if listed.name == "maf")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def part(names: tuple[str, ...] = ()) -> Embedded:
    """A MAF of pairs given three features of a picture and a label."""
    return perturb_parameters(Embedded(MAF.make((2,), ((3,),)), MLP(SHAPES, 3, (8,)), SHAPES, names))


def context(*batch: int) -> tuple[Tensor, Tensor]:
    return torch.randn(*batch, 1, 4, 4), torch.randn(*batch)


def test_records_travel_like_tuples() -> None:
    picture, label = context(3)
    record = {"picture": picture, "label": label}
    torch.testing.assert_close(join(record, SHAPES), join((picture, label), SHAPES))
    assert batch_of(record, SHAPES) == (3,)
    assert [t.shape for t in both(torch.zeros(3, 2), record)] == [(3, 2), (3, 1, 4, 4), (3,)]
    some = Batch(torch.zeros(3, 2), record).rows(slice(1, 3)).context
    assert list(some) == list(NAMES) and some["picture"].shape == (2, 1, 4, 4)
    assert tree_map(lambda t: t[0], record)["label"].shape == ()


def test_a_record_is_read_by_its_names() -> None:
    picture, label = context(3)
    backwards = {"label": label, "picture": picture}
    assert ordered(backwards, NAMES)[0] is picture and ordered(picture, NAMES) is picture and ordered(backwards, ()) is backwards
    x, named = torch.randn(3, 2), part(NAMES)
    torch.testing.assert_close(density(named(backwards), x).value, density(named((picture, label)), x).value)
    with pytest.raises(ValueError, match=r"the parts \['label'\], expected \['label', 'picture'\]"):
        named({"label": label})
    with pytest.raises(ValueError, match="found 1 names for 2 context shapes"):
        Embedded(nn.Identity(), nn.Identity(), SHAPES, ("picture",))


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
    again = from_spec(*to_spec(part(NAMES)))
    assert again.names == NAMES and again.context_shapes == SHAPES


def test_labels_are_embedded_by_class() -> None:
    network = LabelEmbedding(3, 4)
    labels = torch.tensor([[0.0, 2.0], [1.0, 2.0]])
    found = network(labels)
    assert found.shape == (2, 2, 4)
    assert torch.equal(found[0, 1], network.weight[2]) and torch.equal(found[1, 1], network.weight[2])
    with pytest.raises(ValueError, match=r"labels from 0 to 3, expected 0..2"):
        network(torch.tensor([0.0, 3.0]))
