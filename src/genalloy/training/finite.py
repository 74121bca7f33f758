"""Weights that are not finite, by name."""

from __future__ import annotations

from itertools import chain

import torch
from torch import Tensor, nn


def not_finite(module: nn.Module) -> str | None:
    """What is wrong with the first parameter that is not finite, or buffer that holds NaN, in words; None where all is well.

    Buffers may hold infinities: masks of attention do.
    """
    parameters, buffers = module.named_parameters(), module.named_buffers()
    tensors = chain((("parameter", *pair) for pair in parameters), (("buffer", *pair) for pair in buffers))
    return next((words for what, name, tensor in tensors if (words := _words(what, name, tensor))), None)


def _words(what: str, name: str, tensor: Tensor) -> str | None:
    if _sound(tensor, what == "parameter"):
        return None
    nan = int(torch.isnan(tensor).sum())
    infinite = int(torch.isinf(tensor).sum()) if what == "parameter" else 0
    kinds = [f"{count} {kind}" for count, kind in ((nan, "NaN"), (infinite, "infinite")) if count]
    return f"{what} {name} holds {' and '.join(kinds)} of {tensor.numel()} values" if kinds else None


def _sound(tensor: Tensor, finite: bool) -> bool:
    """Whether there is nothing to count, from the extremes alone: a copy of a large weight would cost as much memory again."""
    if tensor.numel() == 0 or not tensor.is_floating_point():
        return True
    low, high = tensor.detach().aminmax()
    return bool(torch.isfinite(low) & torch.isfinite(high)) if finite else not bool(torch.isnan(high))
