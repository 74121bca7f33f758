r"""What a causal network knows of a place before it sees any value: learned positions, and the context.

A map over the grid of tokens (H, W) or (T,). A part of the context that lies on that grid, or on a coarser one whose sides
divide its sides, enters through a 3-wide convolution at its own place; any other part (a label, a vector, an image of another
size) through one linear layer, either into a map of its own or into the same features everywhere.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genalloy.core.contexts import Context, Shapes, flat, join, parts, shapes_of
from genalloy.core.observations import leading
from genalloy.core.shapes import broadcast_shapes
from genalloy.core.spec import Module

Shape = tuple[int, ...]


class PositionalEmbedding(Module):
    r"""context -> (\*B, features, \*grid), grid (T,) or (H, W); see the module's text.

    positions: whether places have learned features of their own (positional embeddings). spread: whether vectors and labels
    become a map (True) or the same features at every place (False: for long sequences). Raises ValueError where the context
    is not as declared.
    """

    def __init__(
        self,
        grid: Shape,
        features: int,
        context_shapes: Shapes = (),
        positions: bool = True,
        spread: bool = True,
    ) -> None:
        super().__init__()
        self.grid, self.features, self.context_shapes = tuple(grid), features, shapes_of(context_shapes)
        self.positions, self.spread = positions, spread
        self.learned = nn.Parameter(0.3 * torch.randn(features, *self.grid)) if positions else None
        # tells dtype and device where nothing else does
        self.register_buffer("zero", torch.zeros(()), persistent=False)
        self.aligned = tuple(_on(s, self.grid) for s in flat(self.context_shapes))
        planes = sum(s[0] for s, on in zip(flat(self.context_shapes), self.aligned, strict=True) if on)
        size = sum(math.prod(s) for s in self._vectors())
        convolution = nn.Conv1d if len(self.grid) == 1 else nn.Conv2d
        self.near = convolution(planes, features, 3, padding=1) if planes else None
        self.far = nn.Linear(size, features * (math.prod(self.grid) if spread else 1), bias=False) if size else None

    def forward(self, context: Context = None) -> Tensor:
        known = list(zip(parts(context, self.context_shapes), flat(self.context_shapes), self.aligned, strict=True))
        total = self.zero.expand(self.features, *(1 for _ in self.grid)) if self.learned is None else self.learned
        maps = [(part, shape) for part, shape, on in known if on]
        if self.near is not None:
            total = total + self._near(maps, total.dtype)
        if self.far is not None:
            far = self.far(join(tuple(part for part, _, on in known if not on), self._vectors()).to(total.dtype))
            size = self.grid if self.spread else (1,) * len(self.grid)
            total = total + far.unflatten(-1, (self.features, *size))
        # where nothing varies over the grid the map is a view of one place: layers can tell by its strides
        return total.expand(*total.shape[: -len(self.grid)], *self.grid)

    def _near(self, maps: list[tuple[Tensor, Shape]], dtype: torch.dtype) -> Tensor:
        """The parts on the grid, brought to its size, convolved."""
        lead = broadcast_shapes(*(leading(part, shape) for part, shape in maps))
        planes = [self._whole(part.to(dtype).expand(*lead, *shape).reshape(-1, *shape)) for part, shape in maps]
        return self.near(torch.cat(planes, 1)).reshape(*lead, self.features, *self.grid)  # type: ignore[misc]

    def _whole(self, part: Tensor) -> Tensor:
        return part if part.shape[2:] == self.grid else F.interpolate(part, self.grid, mode="nearest")

    def _vectors(self) -> tuple[Shape, ...]:
        return tuple(s for s, on in zip(flat(self.context_shapes), self.aligned, strict=True) if not on)


def batched(place: Tensor, lead: Shape) -> Tensor:
    r"""A map over an image (\*B, features, H, W) as (N, features, H, W), N = prod(lead), or (1, ...) where it has no batch."""
    return place.unsqueeze(0) if place.dim() == 3 else place.expand(*lead, *place.shape[-3:]).reshape(-1, *place.shape[-3:])


def _on(shape: Shape, grid: Shape) -> bool:
    """Whether a context of this shape lies on the grid, or on a coarser one of more than a single place."""
    sides = shape[1:]
    return len(sides) == len(grid) and math.prod(sides) > 1 and all(n % m == 0 for n, m in zip(grid, sides, strict=True))
