"""Everything that can fail before step 0, and the data-dependent initialisation."""

from __future__ import annotations

from typing import Any

import torch

from genalloy.core.batch import Batch
from genalloy.objectives.objective import Objective, Play
from genalloy.training.devices import World
from genalloy.training.options import Training
from genalloy.training.seeding import seed_all
from genalloy.training.slots import Slot, players, put_back, snapshot
from genalloy.training.state import State


def prepare(
    model: Any, objective: Objective, batch: Batch, training: Training, state: State, world: World
) -> list[Slot]:
    """The players, after ownership, capabilities and shards were checked. Raises ValueError (Unavailable) otherwise."""
    shards = max(training.shards, world.size)
    coupled = [m for m in objective.modules() if getattr(m, "couples", False)]
    if shards > 1 and coupled:
        raise ValueError(f"{coupled[0]!r} couples the rows of a batch, so its shards do not add up; use shards=1, one process")
    alone = [m for m in objective.modules() if getattr(m, "local", False)]
    if world.size > 1 and alone:
        raise ValueError(f"{alone[0]!r} keeps state that only one process sees; use one process")
    model.train()
    objective.train()
    seed_all(training.seed, state.step, -1)
    if state.step == 0 and hasattr(model, "initialise"):
        with torch.no_grad():
            model.initialise(batch.x, batch.context)
    world.spread(model, objective)
    team = players(model, objective)
    buffers = tuple(b for m in (model, objective) for b in m.buffers())
    still = snapshot(buffers)
    objective.check(Play(model, batch, state.step))
    put_back(buffers, still)
    state.prepare(team, training)
    return team
