"""The only training loop.

Every step, each player in turn (the others first, the model last) gets a fresh play, its loss, gradients of its own
parameters alone, and one optimiser step. Nothing here knows what kind of model or objective it drives.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from genalloy.core.batch import Batch
from genalloy.core.errors import Diverged
from genalloy.core.schedules import number
from genalloy.objectives.objective import Objective, Play
from genalloy.training.devices import World
from genalloy.training.diagnose import diagnose
from genalloy.training.options import Training
from genalloy.training.preparation import prepare
from genalloy.training.seeding import Stream, seed_all
from genalloy.training.slots import Slot, put_back, snapshot
from genalloy.training.state import State


@dataclass(frozen=True)
class Step:
    """What a person wants to see of one step: losses and gradient norms by player, and what their terms noted.

    terms: the model's under their own names, another player's under "player/name".
    """

    index: int
    losses: dict[str, float]
    norms: dict[str, float]
    terms: dict[str, Tensor]
    state: State


def fit(
    model: nn.Module,
    objective: Objective,
    batches: Iterable[Any],
    *,
    training: Training = Training(),
    state: State | None = None,
    fabric: Any = None,
) -> Iterator[Step]:
    """Minimise `objective` on `batches`, yielding after every step; `batches` sets the length.

    batches: of `Batch`, or what a torch DataLoader gives: rows, or rows and their labels. A step takes one, and one more for
    every further turn of the player that has most; `state.taken` counts them.
    Pass the state of an earlier step to continue to the same numbers. Raises ValueError before step 0 where a parameter
    has two owners or the model lacks what the objective needs, and :class:`Diverged` at the first non-finite number.
    """
    state, world = state or State(), World(fabric)
    team: list[Slot] = []
    timed: list[Any] = []
    waiting, started = map(Batch.of, batches), False
    for batch in waiting:
        with Stream(model):
            if not team:
                team = prepare(model, objective, batch, training, state, world)
                timed = [m for root in (model, objective) for m in root.modules() if callable(getattr(m, "at", None))]
            turns = [player.turns_at(state.step) for player in team]
            own = [batch, *islice(waiting, max(turns) - 1)]
            step = _round(team, turns, timed, model, objective, own, training, state, world) if len(own) == max(turns) else None
        if step is None:
            if not started:
                raise ValueError(f"a step of these players takes {max(turns)} batches; found {len(own)}: give more")
            return
        started = True
        yield step


def _round(
    team: list[Slot], turns: list[int], timed: list[Any], model: nn.Module, objective: Objective, batches: list[Batch],
    training: Training, state: State, world: World,
) -> Step:  # fmt: skip
    """Every player's turns, then the average; buffers of the others stand still."""
    losses, norms, terms = dict[str, float](), dict[str, float](), dict[str, Tensor]()
    state.set_rate(number(training.rate, state.step))
    for order, (player, count) in enumerate(zip(team, turns, strict=True)):
        for turn, batch in enumerate(batches[:count]):
            for module in timed:
                module.at(state.step)
            still = snapshot(player.others)
            key = (training.seed, state.step, order, turn)
            losses[player.name], norms[player.name], noted = _turn(player, model, batch, key, training, state, world)
            put_back(player.others, still)
            prefix = "" if player.name == "model" else f"{player.name}/"
            terms |= {f"{prefix}{name}": value for name, value in noted.items()}
    state.step, state.taken = state.step + 1, state.taken + len(batches)
    if training.ema is not None:
        state.update_average(training.ema)
    return Step(state.step - 1, losses, norms, terms, state)


def _turn(
    player: Slot, model: nn.Module, batch: Batch, key: tuple[int, ...], training: Training, state: State, world: World
) -> tuple[float, float, dict[str, Tensor]]:
    """One optimiser step of one player, its gradients summed over shards and processes, weighted by rows."""
    shards = max(training.shards, world.size)
    edges = [len(batch) * i // shards for i in range(shards + 1)]
    total, terms = torch.zeros(()), dict[str, Tensor]()
    for parameter in player.parameters:
        parameter.grad = None
    for shard in range(world.rank, shards, world.size):
        rows = edges[shard + 1] - edges[shard]
        if rows == 0:
            continue
        seed_all(*key, shard)
        part = batch if shards == 1 else batch.rows(slice(edges[shard], edges[shard + 1]))
        play = Play(model, part, key[1], shard, shards)
        with world.autocast():
            loss = player.loss(play) if shards == 1 else player.loss(play) * (rows / len(batch))
        loss.backward(inputs=player.parameters)
        total, terms = total + loss.detach(), play.terms
    gradients = world.add_up([p.grad for p in player.parameters], player.parameters)
    for parameter, gradient in zip(player.parameters, gradients, strict=True):
        parameter.grad = gradient
    there = [g for g in gradients if g is not None]
    norm = torch.nn.utils.get_total_norm(there, foreach=True)
    loss_value, norm_value = float(world.total(total)), float(norm)
    if not (math.isfinite(loss_value) and math.isfinite(norm_value)):
        raise Diverged(diagnose(player, model, batch, key))
    if training.clip is not None:
        torch.nn.utils.clip_grads_with_norm_(player.parameters, training.clip, norm, foreach=True)
    state.optimizers[player.name].step()
    player.after()
    return loss_value, norm_value, terms
