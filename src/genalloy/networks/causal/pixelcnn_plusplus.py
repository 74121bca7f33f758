r"""PixelCNN++ as a pixel network (Salimans, Karpathy, Chen & Kingma, 2017): two streams at several resolutions.

The down stream u at (i, j) sees rows above i; the downright stream h sees these and the pixels left of j in row i. With
:math:`f(x) = \text{elu}([x, -x])`, place maps p (positions and context) and stream kernels K that look up (2 x 3) or up and left
(2 x 2), a gated block maps x, given features a beside it, to

.. math:: r = K_1 * f(x) + W_a f(a), \quad [v, w] = K_2 * f(r) + W_p p, \quad g(x; a) = x + v \odot \sigma(w).

On the way down, u' = g(u) and h' = g(h; u'); on the way up, shortcuts from the way down come in mirrored order, u' = g(u; u_s)
and h' = g(h; [u', h_s]). Convolutions of stride 2 lead to the half resolution and transposed ones back: features at (i', j') of
the half resolution are made where (2i', 2j') are, and serve the pixels (2i' .. 2i'+1, 2j' .. 2j'+1). Odd sides are allowed.

The network is written once and walked in three ways (:mod:`genalloy.networks.causal.convolution`): when a row begins, u is
computed for the whole row, at a half resolution in every second row only; at each pixel, h is computed in one column through
all blocks, at a half resolution at even places only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genalloy.core.contexts import Context, Shapes, shapes_of
from genalloy.core.shapes import broadcast_shapes
from genalloy.core.spec import Module, Value
from genalloy.networks.causal.convolution import WHOLE, CausalConv2d, PixelWalk, RowWalk, Size, Walk
from genalloy.networks.causal.positions import PositionalEmbedding, batched
from genalloy.networks.convolution import concat_elu
from genalloy.networks.input_embedding import Entry, ScaledInput, as_planes

Shape = tuple[int, ...]
ABOVE, LEFT = (1, 1), (1, 0)
"""Columns (left, right) that the kernels of the two streams see."""


@dataclass(frozen=True)
class PixelCNNPlusPlusStack(Value):
    """Features of both streams, gated blocks at each resolution, resolutions (1: none but the full one), dropout, size of the
    place map. The paper has 160 features, 5 blocks and 3 resolutions."""

    features: int = 64
    blocks: int = 2
    resolutions: int = 2
    dropout: float = 0.0
    places: int = 8


class PixelCNNPlusPlusBlock(Module):
    """g of the module's text. columns: of the stream's kernel; across, skip: whether u and a shortcut lie beside x."""

    def __init__(self, streams: PixelCNNPlusPlusStack, columns: tuple[int, int], across: bool, skip: bool) -> None:
        super().__init__()
        self.streams, self.columns = streams, columns
        f = streams.features
        self.first = CausalConv2d(2 * f, f, 2, columns)
        self.second = CausalConv2d(2 * f, 2 * f, 2, columns)
        self.across: Any = nn.Conv2d(2 * f, f, 1, bias=False) if across else None
        self.skip: Any = nn.Conv2d(2 * f, f, 1, bias=False) if skip else None
        self.place = nn.Conv2d(streams.places, 2 * f, 1, bias=False)
        self.drop = nn.Dropout(streams.dropout)
        with torch.no_grad():
            self.second.weight.mul_(0.3)  # blocks start near the identity

    def forward(self, x: Tensor, place: Tensor, walk: Walk, u: Tensor | None = None, skip: Tensor | None = None) -> Tensor:
        r = walk.conv(self.first, concat_elu(x, 1))
        r = r if u is None else r + walk.beside(self.across, lambda: self.across(concat_elu(u, 1)))
        r = r if skip is None else r + walk.point(self.skip, concat_elu(skip, 1))
        f = concat_elu(r, 1)
        v, w = (walk.conv(self.second, self.drop(f) if self.training else f) + walk.place(self.place, place)).chunk(2, 1)
        return x + v * torch.sigmoid(w)


class Resampling(Module):
    """Of one stream, to the half resolution and back: a convolution of stride 2 and a transposed one.

    (N, features, H, W) -> (N, features, ceil(H / 2), ceil(W / 2)): place (i', j') sees up to (2i', 2j').
    """

    def __init__(self, features: int, columns: tuple[int, int]) -> None:
        super().__init__()
        self.features, self.columns = features, columns
        self.shrink = CausalConv2d(features, features, 2, columns, stride=2)
        self.grow = nn.ConvTranspose2d(features, features, (2, 1 + sum(columns)), stride=2)


class Resolution(Module):
    """One resolution: blocks on the way down, the coarser ones where there are any, blocks on the way up."""

    def __init__(self, streams: PixelCNNPlusPlusStack) -> None:
        super().__init__()
        self.streams = streams
        n, f, inside = streams.blocks, streams.features, streams.resolutions > 1
        self.down_u = nn.ModuleList(PixelCNNPlusPlusBlock(streams, ABOVE, False, False) for _ in range(n))
        self.down_h = nn.ModuleList(PixelCNNPlusPlusBlock(streams, LEFT, True, False) for _ in range(n))
        # at the coarsest resolution the last features turn round; elsewhere they are a shortcut as well
        self.up_u = nn.ModuleList(PixelCNNPlusPlusBlock(streams, ABOVE, False, True) for _ in range(n + inside))
        self.up_h = nn.ModuleList(PixelCNNPlusPlusBlock(streams, LEFT, True, True) for _ in range(n + inside))
        self.half_u: Any = Resampling(f, ABOVE) if inside else None
        self.half_h: Any = Resampling(f, LEFT) if inside else None
        self.coarser: Any = Resolution(replace(streams, resolutions=streams.resolutions - 1)) if inside else None

    def down(self, u: Tensor, places: Places, walk: Walk) -> tuple[Tensor, Handed]:
        """The down stream through all blocks, and what it hands to those of the other; places: at each resolution from here."""
        skips, seen, inner = [u], [], None
        for block in self.down_u:
            u = block(u, places[0], walk)
            skips.append(u)
            seen.append(u)
        if self.coarser is None:
            u = skips.pop()
        else:
            small = walk.shrink(self.half_u.shrink, u)
            low, inner = walk.half(self, small, lambda walk: self.coarser.down(small, places[1:], walk))
            u = walk.grow(self.half_u.grow, low, size(places[0]), ABOVE[1])
        for block in self.up_u:
            u = block(u, places[0], walk, skip=skips.pop())
            seen.append(u)
        return u, (seen, inner)

    def right(self, h: Tensor, handed: Handed, places: Places, walk: Walk) -> Tensor:
        """The downright stream through all blocks."""
        skips, (seen, inner) = [h], handed
        for block, u in zip(self.down_h, seen):
            h = block(h, places[0], walk, u)
            skips.append(h)
        if self.coarser is None:
            h = skips.pop()
        else:
            small = walk.shrink(self.half_h.shrink, h)
            low = walk.half(self, small, lambda walk: self.coarser.right(small, inner, places[1:], walk))
            h = walk.grow(self.half_h.grow, low, size(places[0]), LEFT[1])
        for block, u in zip(self.up_h, seen[len(self.down_h) :]):
            h = block(h, places[0], walk, u, skips.pop())
        return h


Places = tuple[Tensor, ...]
"""The place map (1 or N, places, H, W) at each resolution."""

Handed = tuple[list[Tensor], Any]
"""u after each block, and what the half resolution hands."""


def size(place: Tensor) -> Size:
    """(H, W) of a map."""
    return place.shape[-2], place.shape[-1]


class PlusPlusState(NamedTuple):
    """Cache of a pass over N images: the pixel in turn, the place maps, the row so far (N, inputs, 1, W), what the rows above
    hand to the downright stream in this one, and the caches of both streams by layer."""

    pixel: int
    shape: Shape
    places: Places
    row: Tensor
    handed: Any
    rows: dict[Any, Any]
    pixels: dict[Any, Any]


class PixelCNNPlusPlus(Module):
    r"""Pixel network: x (\*B, C, H, W), context -> (\*B, H, W, width), seeing the pixels before in raster order.

    width: parameters a pixel; see :mod:`genalloy.networks.causal.pixel_channels` for what they mean and how elements come
    of them. The
    context (parts of shapes `context_shapes`) enters every block as a map. entry: how elements enter, OneHot or Scaled.
    Raises ValueError where there are more resolutions than the image can be halved.
    """

    def __init__(
        self,
        event_shape: Shape,
        width: int,
        streams: PixelCNNPlusPlusStack = PixelCNNPlusPlusStack(),
        context_shapes: Shapes = (),
        entry: Entry = ScaledInput(),
    ) -> None:
        super().__init__()
        self.event_shape, self.width, self.streams, self.entry = tuple(event_shape), width, streams, entry
        self.context_shapes = shapes_of(context_shapes)
        channels, height, columns = self.event_shape
        most = 1 + math.ceil(math.log2(max(height, columns)))
        if not 1 <= streams.resolutions <= most:
            raise ValueError(f"found {streams.resolutions} resolutions, expected 1 to {most} for images {self.event_shape}")
        inputs, f = channels * entry.features, streams.features
        self.start_u = CausalConv2d(inputs, f, 2, ABOVE, up=1)
        self.start_h = CausalConv2d(inputs, f, 1, ABOVE, up=1)
        self.left = nn.Conv2d(inputs, f, 1, bias=False)
        self.places = PositionalEmbedding((height, columns), streams.places, self.context_shapes)
        self.level = Resolution(streams)
        self.leave = nn.Conv2d(f, width, 1)

    def forward(self, x: Tensor, context: Context = None) -> Tensor:
        place = self.places(context)
        lead = broadcast_shapes(x.shape[:-3], place.shape[:-3])
        places = self._pyramid(batched(place, lead))
        image = as_planes(self.entry(x.expand(*lead, *self.event_shape).reshape(-1, *self.event_shape).to(place.dtype)))
        out = self._right(F.pad(image, (1, -1)), self._down(image, places, WHOLE), places, WHOLE).movedim(1, -1)
        return out.reshape(*lead, *out.shape[1:])

    def _pyramid(self, place: Tensor) -> Places:
        maps = [place]
        for _ in range(self.streams.resolutions - 1):
            maps.append(F.avg_pool2d(maps[-1], 2, ceil_mode=True))
        return tuple(maps)

    def _down(self, image: Tensor, places: Places, walk: Walk) -> tuple[Tensor, Handed]:
        """What the rows above give the downright stream: at its start, and at each block."""
        return walk.conv(self.start_h, image), self.level.down(walk.conv(self.start_u, image), places, walk)[1]

    def _right(self, before: Tensor, handed: tuple[Tensor, Handed], places: Places, walk: Walk) -> Tensor:
        """The downright stream and the parameters, from the pixels one to the left."""
        h = walk.beside(self.start_h, lambda: handed[0]) + walk.point(self.left, before)
        return walk.point(self.leave, F.elu(self.level.right(h, handed[1], places, walk)))

    @torch.no_grad()
    def init_state(self, shape: Shape, context: Context = None) -> PlusPlusState:
        r"""Empty cache for images (\*shape, C, H, W); the context's batch broadcasts to `shape`."""
        place = batched(self.places(context), shape)
        row = place.new_zeros(math.prod(shape), self.start_u.inputs, 1, self.event_shape[2])
        return PlusPlusState(0, tuple(shape), self._pyramid(place), row, None, {}, {})

    @torch.no_grad()
    def step(self, state: PlusPlusState, previous: Tensor | None) -> tuple[PlusPlusState, Tensor]:
        r"""Parameters (\*shape, width) of the next pixel, given the values (\*shape, C) of the one before.

        Uses its state up: caches are written in place.
        """
        width = self.event_shape[2]
        i, j = divmod(state.pixel, width)
        if previous is not None:
            values = previous.reshape(-1, self.event_shape[0]).to(state.row.dtype)
            state.row[:, :, 0, j - 1] = self.entry(values).flatten(1)
        if j == 0:
            state = state._replace(handed=self._down(state.row, state.places, RowWalk(i, width, state.rows)))
        before = state.row[:, :, 0, j - 1] if j > 0 else torch.zeros_like(state.row[:, :, 0, 0])
        out = self._right(before, state.handed, state.places, PixelWalk(i, j, 0, width, state.pixels))
        return state._replace(pixel=state.pixel + 1), out.reshape(*state.shape, self.width)
