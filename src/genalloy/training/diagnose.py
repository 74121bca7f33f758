"""What went wrong in words: the step, the term and the parameter of a non-finite number."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from genalloy.core.batch import Batch
from genalloy.objectives.objective import Play
from genalloy.training.finite import not_finite
from genalloy.training.seeding import seed_all
from genalloy.training.slots import Slot


def diagnose(player: Slot, model: nn.Module, batch: Batch, key: tuple[int, ...]) -> str:
    """What became non-finite first: a weight before the step, else by replaying it the term and the gradient."""
    weight = not_finite(model) or not_finite(_owner(player))
    if weight is not None:
        return (
            f"step {key[1]}: {weight} before the step of player {player.name!r}. The last good checkpoint is kept: lower the "
            "learning rate or clip gradients; weights that were loaded need another source"
        )
    where = _parameter(player, model)
    return (
        f"step {key[1]}: {_term(player, model, batch, key)} of player {player.name!r} is not finite; first non-finite "
        f"parameter or gradient: {where}. The last good checkpoint is kept: lower the learning rate or clip gradients"
    )


def _term(player: Slot, model: nn.Module, batch: Batch, key: tuple[int, ...]) -> str:
    owner = _owner(player)
    for term in getattr(owner, "objectives", (owner,)):
        seed_all(*key, 0)
        call = term if hasattr(term, "check") else term.loss
        with torch.enable_grad():
            if not bool(torch.isfinite(call(Play(model, batch, key[1]))).all()):
                return f"the term {term!r}"
    return f"the gradient of {owner!r}"


def _parameter(player: Slot, model: nn.Module) -> str:
    owner = _owner(player)
    names = {id(p): f"{player.name}'s {n}" for n, p in owner.named_parameters()}
    names |= {id(p): n for n, p in model.named_parameters()}
    for index, parameter in enumerate(player.parameters):
        if not (_finite(parameter) and _finite(parameter.grad)):
            return names.get(id(parameter), f"{player.name}'s parameter {index} of shape {tuple(parameter.shape)}")
    return "none (the loss alone)"


def _owner(player: Slot) -> Any:
    """The objective or rival whose loss the player minimises."""
    return getattr(player.loss, "__self__", player.loss)


def _finite(tensor: Tensor | None) -> bool:
    return tensor is None or bool(torch.isfinite(tensor).all())
