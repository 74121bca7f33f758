"""Laws of the game: one owner for each parameter, and rivals leave the model alone."""

from __future__ import annotations

import copy
from typing import Any

import torch

from genalloy.core.batch import Batch
from genalloy.laws.subject import check
from genalloy.objectives.objective import Objective, Player
from genalloy.training.fit import fit
from genalloy.training.slots import players


def one_owner(model: Any, objective: Objective) -> None:
    """Every trainable parameter of model and objective belongs to one player. Raises ValueError where two claim one."""
    owned = [id(p) for player in players(model, objective) for p in player.parameters]
    wanted = {id(p) for m in (model, objective) for p in m.parameters() if p.requires_grad}
    check(len(owned) == len(set(owned)), f"{objective!r}: a parameter has two owners")
    check(set(owned) == wanted, f"{objective!r}: {len(wanted - set(owned))} trainable parameters have no owner")


def rivals_leave_model_alone(model: Any, objective: Objective, batch: Batch, steps: int = 2) -> None:
    """With the model's own parameters frozen, training moves no tensor of the model, but for those a rival owns."""
    model, objective = copy.deepcopy((model, objective))
    if hasattr(model, "initialise"):
        model.initialise(batch.x, batch.context)
    rivals: list[Any] = [m for m in objective.modules() if isinstance(m, Player)]
    given = {id(p) for rival in rivals for part in rival.moves(model) for p in (*part.parameters(), *part.buffers())}
    theirs = {n for n, p in model.state_dict(keep_vars=True).items() if id(p) in given}
    before = {k: v.clone() for k, v in model.state_dict().items()}
    critics = {id(p): p.detach().clone() for rival in rivals for p in rival.parameters()}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in given)
    most = max((slot.turns_at(0) for slot in players(model, objective)), default=1)
    for _ in fit(model, objective, [batch] * (steps * most)):
        pass
    for name, tensor in model.state_dict().items():
        check(name in theirs or torch.equal(tensor, before[name]), f"{objective!r}: a rival's turn moved the model's {name}")
    moved = any(not torch.equal(p, critics[id(p)]) for rival in rivals for p in rival.parameters())
    check(moved or not critics, f"{objective!r}: no rival learned anything")
