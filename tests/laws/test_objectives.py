"""The laws of the game, over every objective."""

from __future__ import annotations

import math

import pytest
import torch

from genalloy.core.batch import Batch
from genalloy.laws.adding import additive
from genalloy.laws.every_objective import ListedObjective, every_objective
from genalloy.laws.ownership import one_owner, rivals_leave_model_alone
from genalloy.laws.storing import keeps
from genalloy.laws.subject import perturb_parameters
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.objectives.objective import Objective
from genalloy.training.checkpoint import Pair
from genalloy.training.fit import fit
from genalloy.training.options import Training

EVERY = every_objective()


class Decay(Objective):
    """A second term for any model."""

    def forward(self, play):
        return sum(p.square().sum() for p in play.model.parameters())


@pytest.fixture(params=EVERY, ids=lambda o: o.name)
def listed(request) -> ListedObjective:
    torch.manual_seed(0)
    return request.param


def batch() -> Batch:
    return Batch(torch.randn(16, 2))


def test_three_finite_steps_that_move_the_model(listed: ListedObjective) -> None:
    model, objective = perturb_parameters(listed.model(), 0.1), listed.make()
    before = [p.clone() for p in model.parameters()]
    losses = [step.losses for step in fit(model, objective, [batch()] * 3)]
    assert all(math.isfinite(v) for step in losses for v in step.values())
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_one_owner_and_rivals_at_a_distance(listed: ListedObjective) -> None:
    model, objective = perturb_parameters(listed.model(), 0.1), listed.make()
    one_owner(model, objective)
    if any(hasattr(m, "owns") for m in objective.modules()):
        rivals_leave_model_alone(model, objective, batch())


def test_adds_term_by_term(listed: ListedObjective) -> None:
    additive(perturb_parameters(listed.model(), 0.1), Decay(), listed.make(), batch())
    if listed.part in ("maf", "realnvp"):
        additive(perturb_parameters(listed.model(), 0.1), MaximumLikelihood(), listed.make(), batch())


def test_shards_train_or_are_refused(listed: ListedObjective) -> None:
    model, objective = listed.model(), listed.make()
    if any(getattr(m, "couples", False) for m in objective.modules()):
        with pytest.raises(ValueError, match="couples the rows"):
            list(fit(model, objective, [batch()], training=Training(shards=2)))
    else:
        assert len(list(fit(model, objective, [batch()], training=Training(shards=2)))) == 1


def test_stored_with_its_model_it_goes_on_as_before(listed: ListedObjective) -> None:
    pair = Pair(listed.model(), listed.make())
    list(fit(pair.model, pair.objective, [batch()]))
    rows = batch()

    state = {k: v.clone() for k, v in pair.state_dict().items()}

    def trained(twin) -> torch.Tensor:
        twin.load_state_dict(state)
        list(fit(twin.model, twin.objective, [rows] * 2))
        return torch.cat([p.detach().reshape(-1) for p in twin.parameters()])

    loaded = keeps(pair, lambda twin: torch.zeros(1))
    assert repr(loaded.objective) == repr(pair.objective)
    torch.testing.assert_close(trained(loaded), trained(pair), rtol=0, atol=0)
