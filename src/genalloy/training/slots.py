"""Players of the game: who owns which parameter, and which buffers stand still during whose turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from genalloy.objectives.objective import Objective, Play, Player


@dataclass(frozen=True)
class Slot:
    """One owner of parameters. `others` are buffers of the other players, restored after its turn."""

    name: str
    parameters: tuple[nn.Parameter, ...]
    loss: Callable[[Play], Tensor]
    turns: int
    rate: float
    others: tuple[Tensor, ...]


def players(model: nn.Module, objective: Objective) -> list[Slot]:
    """The rivals, in the order of the formula, then the model.

    Raises ValueError where a parameter has two owners.
    """
    rivals: list[Player] = [m for m in objective.modules() if hasattr(m, "owns")]  # type: ignore[misc]
    names = _names(model, objective)
    owner: dict[int, str] = {}
    result = []
    for index, rival in enumerate(rivals):
        label = f"{type(rival).__name__.lower()}{index or ''}"
        own = tuple(p for p in rival.owns(model) if p.requires_grad)
        for parameter in own:
            if id(parameter) in owner:
                raise ValueError(
                    f"{names.get(id(parameter), 'a parameter')} is owned by {owner[id(parameter)]} and {label}; "
                    "give every rival networks of its own"
                )
            owner[id(parameter)] = label
        result.append(Slot(label, own, rival.loss, rival.turns, rival.rate, _buffers_except(model, objective, rival)))
    rest = tuple(p for p in _parameters(model, objective) if p.requires_grad and id(p) not in owner)
    others = tuple(b for rival in rivals for b in _moving(rival))
    result.append(Slot("model", rest, objective, 1, 1.0, others))
    return [player for player in result if player.parameters]


def _parameters(model: nn.Module, objective: nn.Module) -> Iterator[nn.Parameter]:
    seen: set[int] = set()
    for parameter in (*model.parameters(), *objective.parameters()):
        if id(parameter) not in seen:
            seen.add(id(parameter))
            yield parameter


def _names(model: nn.Module, objective: nn.Module) -> dict[int, str]:
    pairs = (("model", model), ("objective", objective))
    return {id(p): f"{root}.{name}" for root, m in pairs for name, p in m.named_parameters()}


def _moving(module: nn.Module) -> list[Tensor]:
    """Buffers that belong to the state; those that a constructor rebuilds are constants."""
    return [b for m in module.modules() for n, b in m.named_buffers(recurse=False) if n not in m._non_persistent_buffers_set]


def _buffers_except(model: nn.Module, objective: nn.Module, rival: nn.Module) -> tuple[Tensor, ...]:
    own = {id(b) for b in _moving(rival)}
    return tuple(b for b in (*_moving(model), *_moving(objective)) if id(b) not in own)


def snapshot(buffers: tuple[Tensor, ...]) -> list[Tensor]:
    """Copies to restore after another player's turn."""
    return [b.clone() for b in buffers]


def put_back(buffers: tuple[Tensor, ...], copies: list[Tensor]) -> None:
    with torch.no_grad():
        for buffer, copy in zip(buffers, copies, strict=True):
            buffer.copy_(copy)
