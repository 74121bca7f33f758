"""What the next step needs: optimisers, averaged weights, the step's index. All of it tensors and JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
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
    """Optimisers by player, the average of the model, the index of the next step and the number of batches taken so far.

    The average is of all that the model holds, whoever moves it: parameters, and buffers such as batch statistics, by name.
    """

    step: int = 0
    taken: int = 0
    optimizers: dict[str, Optimizer] = field(default_factory=dict)
    average: dict[str, Tensor] = field(default_factory=dict)
    averaged: dict[str, Tensor] = field(default_factory=dict)
    stored: dict[str, Tensor] = field(default_factory=dict)

    def prepare(self, model: nn.Module, players: list[Slot], training: Training) -> None:
        """Build what a fresh state lacks, and fill it with stored tensors where there are some."""
        for player in players:
            if player.name not in self.optimizers:
                options = player.options or training.optimizer
                self.optimizers[player.name] = options.build(player.parameters, player.rate)
                _fill(self.optimizers[player.name], self.stored, f"optimizer/{player.name}")
        if training.ema is not None and not self.average:
            self.averaged = dict(model.state_dict(keep_vars=True))
            odd = next((n for n in self.stored if n.startswith("average/") and n[8:] not in self.averaged), None)
            if odd is not None:
                raise ValueError(f"the training state holds {odd[:80]!r}, which the model has not; the file is damaged")
            for name, tensor in self.averaged.items():
                average = self.stored.get(f"average/{name}")
                _checked(f"average/{name}", tensor if average is None else average, tensor)
                self.average[name] = (tensor.detach() if average is None else average).clone()
        self.stored = {}

    def set_rate(self, factor: float) -> None:
        """Every player's learning rate as a multiple of its own."""
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group.setdefault("initial_lr", group["lr"])
                group["lr"] = group["initial_lr"] * factor

    @torch.no_grad()
    def update_average(self, decay: float) -> None:
        """Exponential average with a warm-up: min(decay, (1 + n) / (10 + n)) at step n; whole numbers are copied."""
        weight = 1.0 - min(decay, (1 + self.step) / (10 + self.step))
        floats = [name for name, tensor in self.averaged.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([self.average[n] for n in floats], [self.averaged[n].detach() for n in floats], weight)
        for name in self.averaged.keys() - set(floats):
            self.average[name].copy_(self.averaged[name])

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Inside, the model holds its averaged weights."""
        held = {name: tensor.detach().clone() for name, tensor in self.averaged.items()}
        self.take(self.average)
        try:
            yield
        finally:
            self.take(held)

    @torch.no_grad()
    def take(self, tensors: Mapping[str, Tensor]) -> None:
        """Put tensors into the model by their names."""
        for name, tensor in self.averaged.items():
            tensor.copy_(tensors[name])

    def tensors(self) -> dict[str, Tensor]:
        """Everything to be stored, by name."""
        result = {f"average/{name}": tensor for name, tensor in self.average.items()}
        for name, optimizer in self.optimizers.items():
            for i, entries in optimizer.state_dict()["state"].items():
                result |= {f"optimizer/{name}/{i}/{k}": torch.as_tensor(v) for k, v in entries.items()}
        return result

    @staticmethod
    def from_tensors(step: int, tensors: dict[str, Tensor], taken: int) -> State:
        """A state that `prepare` completes once the players are known. Raises ValueError on a tensor that no state holds."""
        odd = next((name for name in tensors if not _NAMES.fullmatch(name)), None)
        if odd is not None:
            raise ValueError(f"the training state holds {odd[:80]!r}, not averages and optimisers' entries; the file is damaged")
        return State(step=step, taken=taken, stored=dict(tensors))


_NAMES = re.compile(r"average/[^/]+|optimizer/[^/]+/\d{1,9}/[^/]+")


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
