"""The recipe of autoregressive diffusion: which network it takes, that it learns, and the law that a budget makes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from genalloy.core.batch import Batch
from genalloy.core.capabilities import reach
from genalloy.core.distribution import density
from genalloy.core.evidence import Kind
from genalloy.core.spec import from_spec, to_spec
from genalloy.data.space import Space
from genalloy.heads.discrete import Bernoulli, Categorical, LogisticMixture
from genalloy.heads.mixture import GaussianMixture
from genalloy.models.any_order import AnyOrder, Parallel
from genalloy.networks.input_embedding import CompressedInput, OneHot, ScaledInput
from genalloy.networks.order_agnostic import OrderAgnosticAttention, OrderAgnosticMLP, OrderAgnosticUNet
from genalloy.recipes.any_order import ardm
from genalloy.recipes.composition import Composition, Target
from genalloy.training.fit import fit

SMALL = {"size": 8, "blocks": 1}
CASES: dict[str, Any] = {
    "digits": (Space((1, 4, 4), "image", 17), OrderAgnosticUNet, Categorical, OneHot(17)),
    "bytes": (Space((3, 4, 4), "image", 256), OrderAgnosticUNet, LogisticMixture, ScaledInput(127.5, 127.5)),
    "bits": (Space((9,), "points", 2), OrderAgnosticMLP, Bernoulli, ScaledInput(0.5, 0.5)),
    "text": (Space((10,), "text", 40), OrderAgnosticAttention, Categorical, OneHot(40)),
    "points": (Space((2,), "points"), OrderAgnosticMLP, GaussianMixture, CompressedInput()),
    "series": (Space((12,), "sequence"), OrderAgnosticAttention, GaussianMixture, CompressedInput()),
}


def target(space: Space) -> Target:
    return Target(space, torch.full(space.shape, 3.0), torch.full(space.shape, 2.0), 100)


def rows(space: Space, count: int) -> Tensor:
    shape = (count, *space.shape)
    return torch.randint(space.levels, shape).float() if space.levels else 3 + 2 * torch.randn(shape)


def core(composition: Composition, x: Tensor) -> tuple[Any, Tensor]:
    """The any-order distribution inside, and x as it sees it."""
    inner, seen, _ = reach(composition.model(), x, "complete")
    return inner, seen


@pytest.mark.parametrize("name", CASES)
def test_each_kind_of_data_gets_its_network_and_trains(name: str) -> None:
    torch.manual_seed(0)
    space, network, head, entry = CASES[name]
    composition, x = ardm(target(space), **SMALL), rows(space, 16)
    inner, seen = core(composition, x)
    assert type(inner.network) is network and type(inner.head) is head and inner.network.entry == entry
    taken = list(fit(composition.model, composition.each()[0].objective, [Batch(x)] * 3))
    assert len(taken) == 3
    with torch.no_grad():
        evidence = density(composition.model(), x)
    assert evidence.kind is Kind.LOWER and "4 random steps" in evidence.how and evidence.stderr is not None
    assert bool(evidence.value.isfinite().all())
    drawn = composition.model().sample((3,))
    assert drawn.shape == (3, *space.shape) and (space.levels is None or bool((drawn == drawn.round()).all()))
    known = torch.rand(space.shape) < 0.5
    assert bool((inner.complete(seen, known) == seen)[:, known].all())
    again = from_spec(*to_spec(composition))
    assert repr(again.model) == repr(composition.model)


def test_a_budget_changes_the_law_and_says_so() -> None:
    torch.manual_seed(0)
    composition = ardm(target(CASES["bits"][0]), budget=4, **SMALL)
    assert isinstance(composition.model, AnyOrder) and composition.model.generation == Parallel((2, 2, 2, 3))
    evidence = composition.model().density(rows(CASES["bits"][0], 4))
    assert evidence.how == "1 random step of a random order, in 4 parallel steps"


def test_it_learns_what_bits_have_in_common() -> None:
    """Eight copies of one fair bit: log p = -log 2, of which independent bits know nothing (-8 log 2 = -5.5)."""
    torch.manual_seed(0)
    composition = ardm(target(Space((8,), "points", 2)), size=32, blocks=1, dropout=0.0)
    phase = composition.each()[0]
    batches = (Batch((torch.rand(64, 1) < 0.5).float().expand(64, 8)) for _ in range(250))
    for _ in fit(composition.model, phase.objective, batches, training=phase.planned(250, 0)):
        pass
    model, x = composition.model.eval(), torch.tensor([0.0, 1.0]).repeat(100)[:, None].expand(-1, 8)
    with torch.no_grad():
        assert -1.0 < float(model().density(x).value.mean()) < -0.6
        losses = model.step_losses(x)
    assert float(losses[0]) > 0.6 and float(losses[1:].max()) < 0.1
    made = model().complete(x[:2], torch.arange(8) == 3, (50,))
    assert float((made == x[:2]).float().mean()) > 0.95
