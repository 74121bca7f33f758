"""The players of a game and what each moves: parameters have one owner, and buffers stand still in everybody else's turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from genalloy.core.schedules import Number, number
from genalloy.objectives.objective import Objective, Play, Player


@dataclass(frozen=True)
class Slot:
    """One owner of parameters. `others` are buffers of the other players, put back after its turn.

    loss: of a play, a scalar. turns: steps in a round. rate: multiplies its learning rate. options: its own optimiser, None for
    the run's. after: called behind each of its steps.
    """

    name: str
    parameters: tuple[nn.Parameter, ...]
    loss: Callable[[Play], Tensor]
    turns: Number
    rate: float
    options: Any
    after: Callable[[], None]
    others: tuple[Tensor, ...]

    def turns_at(self, step: int) -> int:
        """Steps that it takes in this round. Raises ValueError where a schedule gives less than none."""
        turns = round(number(self.turns, step))
        if turns < 0:
            raise ValueError(f"player {self.name!r} has {turns} turns at step {step}; expected 0 or more")
        return turns


def players(model: nn.Module, objective: Objective) -> list[Slot]:
    """The other players, in the order of the formula, then the model.

    Raises ValueError where a parameter has two owners.
    """
    others: list[Player] = [m for m in objective.modules() if isinstance(m, Player)]
    modules = {id(player): _own_modules(player, model, others) for player in others}
    names, owner = _names(model, objective), dict[int, str]()
    result, everything = [], (*_moving([*model.modules(), *objective.modules()]),)
    for index, player in enumerate(others):
        label, own = f"{type(player).__name__.lower()}{index or ''}", modules[id(player)]
        parameters = tuple(p for m in own for p in m.parameters(recurse=False) if p.requires_grad)
        for parameter in parameters:
            if id(parameter) in owner:
                raise ValueError(
                    f"{names.get(id(parameter), 'a parameter')} is owned by {owner[id(parameter)]} and {label}; "
                    "give every player networks of its own"
                )
            owner[id(parameter)] = label
        held = {id(b) for b in _moving(own)}
        still = tuple(b for b in everything if id(b) not in held)
        result.append(Slot(label, parameters, player.loss, player.turns, player.rate, player.options, player.after, still))
    rest = tuple(p for p in _parameters(model, objective) if p.requires_grad and id(p) not in owner)
    theirs = tuple(_moving([m for own in modules.values() for m in own]))
    result.append(Slot("model", rest, objective, 1, 1.0, None, lambda: None, theirs))
    return [slot for slot in result if slot.parameters]


def _own_modules(player: Player, model: nn.Module, others: list[Player]) -> list[nn.Module]:
    """What a player moves, without what belongs to players inside it."""
    inner = {id(m) for other in others if other is not player and other in player.modules() for m in other.modules()}
    return [m for root in player.moves(model) for m in root.modules() if id(m) not in inner]


def _parameters(model: nn.Module, objective: nn.Module) -> Iterator[nn.Parameter]:
    seen: set[int] = set()
    for parameter in (*model.parameters(), *objective.parameters()):
        if id(parameter) not in seen:
            seen.add(id(parameter))
            yield parameter


def _names(model: nn.Module, objective: nn.Module) -> dict[int, str]:
    pairs = (("model", model), ("objective", objective))
    return {id(p): f"{root}.{name}" for root, m in pairs for name, p in m.named_parameters()}


def _moving(modules: list[nn.Module]) -> list[Tensor]:
    """Buffers that belong to the state; those that a constructor rebuilds are constants."""
    return [b for m in modules for n, b in m.named_buffers(recurse=False) if n not in m._non_persistent_buffers_set]


def snapshot(buffers: tuple[Tensor, ...]) -> list[Tensor]:
    """Copies, in order, to put back after another player's turn."""
    return [b.clone() for b in buffers]


def put_back(buffers: tuple[Tensor, ...], copies: list[Tensor]) -> None:
    """The copies' values written into the buffers, in place and without gradients; `copies` as of :func:`snapshot`."""
    with torch.no_grad():
        for buffer, copy in zip(buffers, copies, strict=True):
            buffer.copy_(copy)
