"""What an act costs: seconds, memory, and network evaluations.

These are calls of a model's networks for one batch, whatever its size. A network here is a module of `genalloy.networks` that is
no part of a larger one; a cached step of an autoregressive network counts like a call, though it costs far less.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn

from genalloy.core.isolation import Stream
from genalloy.runs.memory import peak_megabytes, reset_peak


class Cost(NamedTuple):
    """What an act returned, its wall-clock seconds, and the process's peak resident memory during it in MiB."""

    result: Any
    seconds: float
    megabytes: float


def spend(act: Callable[[], Any]) -> Cost:
    """Act once and say what it cost."""
    reset_peak()
    began = time.monotonic()
    result = act()
    return Cost(result, time.monotonic() - began, peak_megabytes())


class Calls:
    """A counter."""

    count = 0

    def __call__(self, *_: Any) -> None:
        self.count += 1


def networks(model: nn.Module) -> Iterator[nn.Module]:
    """Outermost networks of a model, each once."""
    inside: set[int] = set()
    for module in model.modules():
        if id(module) not in inside and type(module).__module__.startswith("genalloy.networks"):
            inside |= {id(part) for part in module.modules()}
            yield module


@contextmanager
def counted(model: nn.Module) -> Iterator[Calls]:
    """Count the networks' calls and cached steps inside the block."""
    calls, modules = Calls(), list(networks(model))
    hooks = [network.register_forward_pre_hook(calls) for network in modules]
    stepping = [network for network in modules if hasattr(network, "step")]
    for network in stepping:
        step: Any = network.step
        network.__dict__["step"] = _counting(step, calls)
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()
        for network in stepping:
            del network.__dict__["step"]


def _counting(step: Callable[..., Any], calls: Calls) -> Callable[..., Any]:
    def counting(*args: Any, **kwargs: Any) -> Any:
        calls()
        return step(*args, **kwargs)

    return counting


@torch.no_grad()
def evaluations(model: nn.Module, act: Callable[[], Any]) -> int:
    """Network calls of `act()`."""
    with Stream(model), counted(model) as calls:
        act()
    return calls.count
