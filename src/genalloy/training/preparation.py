"""Everything that can fail before step 0, and the data-dependent initialisation."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from genalloy.core.batch import Batch
from genalloy.objectives.objective import Objective, Play
from genalloy.training.devices import World
from genalloy.training.options import Training
from genalloy.training.seeding import seed_all
from genalloy.training.slots import Slot, players, put_back, snapshot
from genalloy.training.state import State


def prepare(model: Any, objective: Objective, batch: Batch, training: Training, state: State, world: World) -> list[Slot]:
    """The players, after ownership, capabilities and shards were checked. Raises ValueError (Unavailable) otherwise."""
    shards = max(training.shards, world.size)
    parts = [*objective.modules(), *model.modules()]
    coupled = [m for m in parts if getattr(m, "couples", False) or (isinstance(m, _BatchNorm) and shards > 1)]
    if shards > 1 and coupled:
        words = f"{_words(coupled[0])} couples the rows of a batch, so its shards do not add up"
        raise ValueError(f"{words}; use shards=1, one process")
    alone = [m for m in parts if getattr(m, "local", False)]
    if world.size > 1 and alone:
        raise ValueError(f"{_words(alone[0])} keeps state that only one process sees; use one process")
    model.train()
    objective.train()
    seed_all(training.seed, state.step, -1)
    if state.step == 0 and hasattr(model, "initialise"):
        with torch.no_grad():
            model.initialise(batch.x, batch.context)
    for term in (m for m in objective.modules() if isinstance(m, Objective)):
        term.initialise(model)
    world.spread(model, objective)
    team = players(model, objective)
    buffers = tuple(b for m in (model, objective) for b in m.buffers())
    still = snapshot(buffers)
    objective.check(Play(model, batch, state.step))
    if shards > 1:
        _refuse_moving(team, model, objective, batch, state.step)
    put_back(buffers, still)
    state.prepare(model, team, training)
    return team


def _refuse_moving(team: list[Slot], model: nn.Module, objective: nn.Module, batch: Batch, step: int) -> None:
    """Raise where a pass moves a buffer of a module that does not say (`couples`) that shards add up."""
    roots = (("model", model), ("objective", objective))
    silent = {f"{root}.{n}": m for root, tree in roots for n, m in tree.named_modules() if not hasattr(m, "couples")}
    buffers = {f"{path}.{name}": b for path, m in silent.items() for name, b in m.named_buffers(recurse=False)}
    before = {name: buffer.clone() for name, buffer in buffers.items()}
    for slot in team:
        slot.loss(Play(model, batch, step))
    for name, buffer in buffers.items():
        if not torch.equal(buffer, before[name]):
            raise ValueError(
                f"{name} moves in every pass (batch statistics, a power iteration, a codebook), so shards and processes would "
                "not agree on it; use shards=1, one process"
            )


def _words(module: nn.Module) -> str:
    return repr(module) if isinstance(module, Objective) else f"the model's {type(module).__name__}"
