"""What the next step needs: optimisers, averaged weights, the step's index. All of it tensors and JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from genalloy.training.options import Training
from genalloy.training.slots import Slot


@dataclass
class State:
    """Optimisers by player, the average of the model player's parameters, and the index of the next step."""

    step: int = 0
    optimizers: dict[str, Optimizer] = field(default_factory=dict)
    average: list[Tensor] = field(default_factory=list)
    averaged: tuple[nn.Parameter, ...] = ()
    stored: dict[str, Tensor] = field(default_factory=dict)

    def prepare(self, players: list[Slot], training: Training) -> None:
        """Build what a fresh state lacks, and fill it with stored tensors where there are some."""
        for player in players:
            if player.name not in self.optimizers:
                self.optimizers[player.name] = training.optimizer.build(player.parameters, player.rate)
                _fill(self.optimizers[player.name], self.stored, f"optimizer/{player.name}")
        if training.ema is not None and not self.average:
            self.averaged = tuple(p for player in players if player.name == "model" for p in player.parameters)
            found = [self.stored.get(f"average/{i}") for i in range(len(self.averaged))]
            for i, (p, f) in enumerate(zip(self.averaged, found, strict=True)):
                _checked(f"average/{i}", p if f is None else f, p)
            self.average = [(p.detach() if f is None else f).clone() for p, f in zip(self.averaged, found, strict=True)]
        self.stored = {}

    def set_rate(self, factor: float) -> None:
        """Every player's learning rate as a multiple of its own."""
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group.setdefault("initial_lr", group["lr"])
                group["lr"] = group["initial_lr"] * factor

    @torch.no_grad()
    def update_average(self, decay: float) -> None:
        """Exponential average with a warm-up: min(decay, (1 + n) / (10 + n)) at step n."""
        weight = 1.0 - min(decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.averaged], weight)

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Inside, the model holds its averaged weights."""
        kept = [p.detach().clone() for p in self.averaged]
        with torch.no_grad():
            for p, a in zip(self.averaged, self.average, strict=True):
                p.copy_(a)
        try:
            yield
        finally:
            with torch.no_grad():
                for p, k in zip(self.averaged, kept, strict=True):
                    p.copy_(k)

    def tensors(self) -> dict[str, Tensor]:
        """Everything to be stored, by name."""
        result = {f"average/{i}": t for i, t in enumerate(self.average)}
        for name, optimizer in self.optimizers.items():
            for i, entries in optimizer.state_dict()["state"].items():
                result |= {f"optimizer/{name}/{i}/{k}": torch.as_tensor(v) for k, v in entries.items()}
        return result

    @staticmethod
    def from_tensors(step: int, tensors: dict[str, Tensor]) -> State:
        """A state that `prepare` completes once the players are known. Raises ValueError on a tensor that no state holds."""
        odd = next((name for name in tensors if not _NAMES.fullmatch(name)), None)
        if odd is not None:
            raise ValueError(f"the training state holds {odd[:80]!r}, not averages and optimisers' entries; the file is damaged")
        return State(step=step, stored=dict(tensors))


_NAMES = re.compile(r"average/\d{1,9}|optimizer/[^/]+/\d{1,9}/[^/]+")


def _checked(name: str, stored: Tensor, like: Tensor) -> None:
    """An optimiser's entry is a number, or one number for each of the parameter's."""
    if stored.shape not in (like.shape, torch.Size()):
        found, expected = tuple(stored.shape), tuple(like.shape)
        raise ValueError(f"the training state holds {name} of shape {found}, expected {expected}; the file is damaged")


def _fill(optimizer: Optimizer, stored: dict[str, Tensor], prefix: str) -> None:
    entries: dict[int, dict[str, Any]] = {}
    for key, tensor in stored.items():
        if key.startswith(prefix + "/"):
            index, name = key[len(prefix) + 1 :].split("/")
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            if int(index) >= len(parameters):
                raise ValueError(f"the training state holds {key}, but there are {len(parameters)} parameters")
            _checked(key, tensor, parameters[int(index)])
            entries.setdefault(int(index), {})[name] = tensor.clone()
    if entries:
        optimizer.load_state_dict({"state": entries, "param_groups": optimizer.state_dict()["param_groups"]})
