"""Law: save, load, deepcopy and repr keep a composition: same text, same numbers, shared things still shared."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genalloy.core.distribution import density
from genalloy.core.isolation import Stream
from genalloy.core.spec import to_spec
from genalloy.laws.subject import Subject, check
from genalloy.training.checkpoint import load, save


def stores(subject: Subject, trust: tuple[str, ...] = ()) -> None:
    """A part's file rebuilds it: text, parameters, buffers, sharing, and the density of the same points and noise."""
    context, x = subject.context(), subject.points(5)
    keeps(subject.part, lambda part: _seeded(part, context, x), trust)


def _seeded(part: Any, context: Any, x: Tensor) -> Tensor:
    with Stream(), torch.no_grad():
        torch.manual_seed(3)
        return density(part(context), x).value


def keeps(module: nn.Module, outcome: Callable[[Any], Tensor], trust: tuple[str, ...] = ()) -> nn.Module:
    """The loaded copy of any composition, after text, tensors, sharing and `outcome` were compared."""
    with tempfile.TemporaryDirectory() as folder:
        loaded = load(save(module, Path(folder) / "composition.safetensors"), trust)
    for word, twin in (("load", loaded), ("deepcopy", copy.deepcopy(module))):
        name = type(module).__name__
        check(repr(twin) == repr(module), f"{name}: {word} prints {twin!r} instead of {module!r}")
        _same_tensors(module, twin, f"{name} after {word}")
        a, b = outcome(module), outcome(twin)
        check(torch.equal(a.nan_to_num(), b.nan_to_num()), f"{name}: other numbers after {word}")
        check(twin.training == module.training or word == "load", f"{name}: {word} changed the mode")
    first, second = len(to_spec(module)[1]), len(to_spec(loaded)[1])
    check(first == second, f"{type(module).__name__}: {first} tensors were stored, the loaded copy stores {second}")
    return loaded


def _same_tensors(module: nn.Module, twin: nn.Module, words: str) -> None:
    pairs = ((dict(module.named_parameters()), dict(twin.named_parameters())), (module.state_dict(), twin.state_dict()))
    for here, there in pairs:
        check(here.keys() == there.keys(), f"{words}: names or sharing differ: {sorted(here.keys() ^ there.keys())}")
        for key, tensor in here.items():
            same = tensor.dtype == there[key].dtype and torch.equal(tensor, there[key])
            check(same, f"{words}: {key} changed")
            check(tensor.requires_grad == there[key].requires_grad, f"{words}: {key} changed whether it is trained")
