"""The energy-based and adversarial recipes: they build, train a few steps, print and are stored."""

from __future__ import annotations

import pytest
import torch

from genalloy.core.batch import Batch
from genalloy.core.distribution import density
from genalloy.core.evidence import Kind
from genalloy.core.spec import from_spec, to_spec
from genalloy.data.space import Space
from genalloy.objectives.sources import Points
from genalloy.recipes.adversarial import aae_critic, flow_critic, r3gan
from genalloy.recipes.composition import Composition, Target
from genalloy.recipes.energy import ebm, ebm_nce
from genalloy.training.fit import fit

SPACES = {"points": Space((2,)), "images": Space((1, 2, 2), "image", levels=5)}


def data(space: Space) -> torch.Tensor:
    torch.manual_seed(0)
    x = torch.randn(64, *space.shape)
    return x if space.levels is None else (2 * x).round().clamp(0, space.levels - 1)


@pytest.mark.parametrize("space", SPACES.values(), ids=list(SPACES))
@pytest.mark.parametrize("build", [r3gan, ebm, ebm_nce], ids=lambda b: b.__name__)
def test_recipes_train_sample_and_are_stored(build: type, space: Space) -> None:
    x = data(space)
    composition: Composition = build(Target(space, x.mean(0), x.std(0).clamp(min=1e-6), len(x)))
    phase = composition.phases[0]
    before = [p.clone() for p in composition.model.parameters()]
    steps = list(fit(composition.model, phase.objective, [Batch(x)] * 3, training=phase.planned(3, 0)))
    assert all(torch.isfinite(torch.tensor(list(s.losses.values()))).all() for s in steps)
    assert any(not torch.equal(a, b) for a, b in zip(before, composition.model.parameters(), strict=True))
    distribution = composition.model()
    sample = distribution.sample((5,))
    assert sample.shape == (5, *space.shape)
    assert density(distribution, sample).kind is Kind.NONE
    if space.levels is not None:
        assert torch.equal(sample, sample.round().clamp(0, space.levels - 1))
    again = from_spec(*to_spec(composition))
    torch.manual_seed(1)
    expected = distribution.sample((4,))
    torch.manual_seed(1)
    assert torch.allclose(again.model().sample((4,)), expected)


def test_one_buffer_is_shared_by_model_and_objective_also_when_read_back() -> None:
    x = data(SPACES["points"])
    composition = from_spec(*to_spec(ebm(Target(SPACES["points"], x.mean(0), x.std(0), 64))))
    assert composition.model.base.buffer is composition.phases[0].objective.buffer


def test_critics_for_combinations_score_their_spaces() -> None:
    assert flow_critic((1, 2, 2)).score(Points(torch.randn(3, 1, 2, 2))).shape == (3,)
    assert aae_critic(4, gamma=0.5).score(Points(torch.randn(3, 4))).shape == (3,)
