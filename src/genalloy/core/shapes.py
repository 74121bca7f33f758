"""Shapes that broadcast."""

from __future__ import annotations

from collections.abc import Sequence

import torch

Shape = tuple[int, ...]


def broadcast_shapes(*shapes: Sequence[int]) -> Shape:
    """The common shape, as torch's function of the name, which takes fifty microseconds where most shapes are equal.

    Raises RuntimeError where they do not broadcast.
    """
    common = tuple(shapes[0]) if shapes else ()
    if all(tuple(shape) == common for shape in shapes[1:]):
        return common
    sizes = [1] * max(map(len, shapes))
    for shape in shapes:
        for place, size in zip(range(len(sizes) - len(shape), len(sizes)), shape, strict=True):
            if size != 1 and sizes[place] not in (1, size):
                return tuple(torch.broadcast_shapes(*map(tuple, shapes)))  # its words of refusal
            sizes[place] = sizes[place] if size == 1 else size
    return tuple(sizes)
