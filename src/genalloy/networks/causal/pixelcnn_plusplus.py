r"""PixelCNN++ as a pixel network (Salimans, Karpathy, Chen & Kingma, 2017): two streams at several resolutions.

The down stream u at (i, j) sees rows above i; the downright stream h sees these and the pixels left of j in row i. With
:math:`f(x) = \text{elu}([x, -x])`, place maps p (positions and context) and stream kernels K that look up (2 x 3) or up and left
(2 x 2), a gated block maps x, given features a beside it, to

.. math:: r = K_1 * f(x) + W_a f(a), \quad [v, w] = K_2 * f(r) + W_p p, \quad g(x; a) = x + v \odot \sigma(w).

On the way down, u' = g(u) and h' = g(h; u'); on the way up, shortcuts from the way down come in mirrored order, u' = g(u; u_s)
and h' = g(h; [u', h_s]). Convolutions of stride 2 lead to the half resolution and transposed ones back: features at (i', j') of
the half resolution are made where (2i', 2j') are, and serve the pixels (2i' .. 2i'+1, 2j' .. 2j'+1). Odd sides are allowed.

Sampling computes each feature once. When a row begins, u is computed for the whole row, at a half resolution in every second
row only; at each pixel, h is computed in one column through all blocks, at a half resolution at even places only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genalloy.core.contexts import Context, Shapes, shapes_of
from genalloy.core.spec import Module, Value
from genalloy.networks.causal.gated_pixelcnn import CausalConv
from genalloy.networks.causal.positions import PositionalEmbedding, batched
from genalloy.networks.convolution import concat_elu
from genalloy.networks.input_embedding import Entry, ScaledInput, as_planes

Shape = tuple[int, ...]
ABOVE, LEFT = (1, 1), (1, 0)
"""Columns (left, right) that the kernels of the two streams see."""


@dataclass(frozen=True)
class Streams(Value):
    """Features of both streams, gated blocks at each resolution, resolutions (1: none but the full one), dropout, size of the
    place map. The paper has 160 features, 5 blocks and 3 resolutions."""

    features: int = 64
    blocks: int = 2
    resolutions: int = 2
    dropout: float = 0.0
    places: int = 8


class Row(NamedTuple):
    """Cache of a block of the down stream: inputs of its convolutions one row before (N, 2 features, 1, W), and its place map."""

    first: Tensor
    second: Tensor
    place: Tensor


class Column(NamedTuple):
    """Cache of a block of the downright stream: the last two rows of its convolutions' inputs (2, W + 1, 2 features, N), what u
    adds to r in this row (W, features, N), its place map (H, W, 2 features, 1 or N), and its weights as matrices."""

    first: Tensor
    second: Tensor
    across: Tensor
    place: Tensor
    weights: tuple[Tensor, Tensor]

    def __call__(self, x: Tensor, i: int, j: int, skip: Tensor | None = None) -> Tensor:
        """The block at one pixel: x and its shortcut (features, N)."""
        window = _seen(self.first, x, j)
        window = window if skip is None else torch.cat([window, concat_elu(skip, 0)])
        r = torch.addmm(self.across[j], self.weights[0], window)
        v, w = torch.addmm(self.place[i, j], self.weights[1], _seen(self.second, r, j)).chunk(2)
        return x + v * torch.sigmoid(w)


def _seen(rows: Tensor, x: Tensor, j: int) -> Tensor:
    """Writes f(x) at column j of the current row; the 2 x 2 window that a kernel sees there, (8 features, N)."""
    here, f = rows[1, j + 1], len(x)
    here[:f] = x
    torch.neg(x, out=here[f:])
    F.elu_(here)
    return rows[:, j : j + 2].reshape(8 * f, -1)


class PixelCNNPlusPlusBlock(Module):
    """g of the module's text. columns: of the stream's kernel; across, skip: whether u and a shortcut lie beside x."""

    def __init__(self, streams: Streams, columns: tuple[int, int], across: bool, skip: bool) -> None:
        super().__init__()
        self.streams, self.columns = streams, columns
        f = streams.features
        self.first = CausalConv(2 * f, f, 2, columns)
        self.second = CausalConv(2 * f, 2 * f, 2, columns)
        self.across: Any = nn.Conv2d(2 * f, f, 1, bias=False) if across else None
        self.skip: Any = nn.Conv2d(2 * f, f, 1, bias=False) if skip else None
        self.place = nn.Conv2d(streams.places, 2 * f, 1, bias=False)
        self.dropout = nn.Dropout(streams.dropout)
        with torch.no_grad():
            self.second.weight.mul_(0.3)  # blocks start near the identity

    def forward(self, x: Tensor, place: Tensor, u: Tensor | None = None, skip: Tensor | None = None) -> Tensor:
        r = self.first(concat_elu(x, 1))
        r = r if u is None else r + self.across(concat_elu(u, 1))
        r = r if skip is None else r + self.skip(concat_elu(skip, 1))
        v, w = (self.second(self.dropout(concat_elu(r, 1))) + self.place(place)).chunk(2, 1)
        return x + v * torch.sigmoid(w)

    def row(self, x: Tensor, cache: Row, i: int, skip: Tensor | None = None) -> Tensor:
        """A row (N, features, 1, W) of the down stream."""
        r = _below(self.first, cache.first, concat_elu(x, 1))
        r = r if skip is None else r + self.skip(concat_elu(skip, 1))
        v, w = (_below(self.second, cache.second, concat_elu(r, 1)) + cache.place[:, :, i : i + 1]).chunk(2, 1)
        return x + v * torch.sigmoid(w)

    def row_cache(self, place: Tensor, n: int) -> Row:
        """Empty cache of the down stream for n images; place (1 or n, places, H, W)."""
        before = [place.new_zeros(n, 2 * self.streams.features, 1, place.shape[-1]) for _ in range(2)]
        return Row(before[0], before[1], self.place(place))

    def column_cache(self, place: Tensor, n: int) -> Column:
        """Empty cache of the downright stream."""
        f, width, new = self.streams.features, place.shape[-1], place.new_zeros
        here = (self.place(place) + _bias(self.second)[..., None]).permute(2, 3, 1, 0).contiguous()
        first = _matrix(self.first)
        first = first if self.skip is None else torch.cat([first, self.skip.weight.flatten(1)], 1)
        windows = [new(2, width + 1, 2 * f, n) for _ in range(2)]
        return Column(windows[0], windows[1], new(width, f, n), here, (first, _matrix(self.second)))

    def begin(self, cache: Column, u: Tensor) -> None:
        """A row of the downright stream begins beside the row u of the down stream."""
        across = F.conv2d(concat_elu(u, 1), self.across.weight, self.first.bias)
        cache.across.copy_(across[:, :, 0].permute(2, 1, 0))
        for window in (cache.first, cache.second):
            window[0] = window[1]


def _below(convolution: CausalConv, before: Tensor, row: Tensor) -> Tensor:
    """A row of a two-row convolution; the input's row before is replaced by this one."""
    both = F.pad(torch.cat([before, row], 2), (*convolution.columns, 0, 0))
    before.copy_(row)
    return F.conv2d(both, convolution.weight, convolution.bias)


def _matrix(convolution: CausalConv) -> Tensor:
    """A 2 x 2 convolution over windows (rows, columns, features)."""
    return convolution.weight.permute(0, 2, 3, 1).flatten(1).contiguous()


def _bias(layer: Any) -> Tensor:
    return layer.bias.unsqueeze(1)


class Half(Module):
    """To the half resolution and back, for one stream: a convolution of stride 2 and a transposed one."""

    def __init__(self, features: int, columns: tuple[int, int]) -> None:
        super().__init__()
        self.features, self.columns = features, columns
        self.shrink = CausalConv(features, features, 2, columns)
        self.grow = nn.ConvTranspose2d(features, features, (2, 1 + sum(columns)), stride=2)

    def down(self, x: Tensor) -> Tensor:
        """(N, features, H, W) -> (N, features, ceil(H / 2), ceil(W / 2)): place (i', j') sees up to (2i', 2j')."""
        return F.conv2d(self.shrink.padded(x), self.shrink.weight, self.shrink.bias, stride=2)

    def up(self, x: Tensor, height: int, width: int) -> Tensor:
        """Back to (N, features, height, width)."""
        right = self.columns[1]
        return self.grow(x)[:, :, :height, right : right + width]

    def row_down(self, before: Tensor, row: Tensor) -> Tensor:
        """A row of the half resolution from rows 2i'-1 and 2i'."""
        both = F.pad(torch.cat([before, row], 2), (*self.columns, 0, 0))
        return F.conv2d(both, self.shrink.weight, self.shrink.bias, stride=2)

    def row_up(self, row: Tensor, i: int, width: int) -> Tensor:
        """Row i of the full resolution from row i // 2 of the half one."""
        right, kernel = self.columns[1], self.grow.weight[:, :, i % 2 : i % 2 + 1]
        return F.conv_transpose2d(row, kernel, self.grow.bias, stride=(1, 2))[..., right : right + width]


class InsideState(NamedTuple):
    """Cache between a resolution and its half.

    above: the row before of u (N, features, 1, W); window: the last two rows of h (2, W + 1, features, N). low_u (N, features,
    1, W') and low_h (W', features, N): the row that came back. shrink: matrix and bias of h; grow: matrices of the four
    places, and the bias. level: cache of the half resolution.
    """

    above: Tensor
    window: Tensor
    low_u: Tensor
    low_h: Tensor
    shrink: tuple[Tensor, Tensor]
    grow: tuple[Tensor, Tensor]
    level: LevelState


class LevelState(NamedTuple):
    """Cache of one resolution: its blocks of both streams, down then up, and what lies inside."""

    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    inside: InsideState | None


class Inside(Module):
    """The coarser resolutions as seen from a finer one."""

    def __init__(self, streams: Streams) -> None:
        super().__init__()
        self.streams = streams
        self.half_u, self.half_h = Half(streams.features, ABOVE), Half(streams.features, LEFT)
        self.level = Level(streams)

    def forward(self, u: Tensor, h: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        size = (u.shape[-2], u.shape[-1])
        low_u, low_h = self.level(self.half_u.down(u), self.half_h.down(h), _pooled(place))
        return self.half_u.up(low_u, *size), self.half_h.up(low_h, *size)

    def init_state(self, place: Tensor, n: int) -> InsideState:
        f, width, new = self.streams.features, place.shape[-1], place.new_zeros
        half, shrink, grow = (width + 1) // 2, self.half_h.shrink, self.half_h.grow
        return InsideState(
            new(n, f, 1, width),
            new(2, width + 1, f, n),
            new(n, f, 1, half),
            new(half, f, n),
            (_matrix(shrink), _bias(shrink)),
            (grow.weight.permute(2, 3, 1, 0).contiguous(), _bias(grow)),
            self.level.init_state(_pooled(place), n),
        )

    def row(self, state: InsideState, u: Tensor, i: int) -> Tensor:
        """What comes back to row i of u; the half resolution has a row of its own where i is even."""
        if i % 2 == 0:
            state.low_u.copy_(self.level.row(state.level, self.half_u.row_down(state.above, u), i // 2))
        state.above.copy_(u)
        state.window[0] = state.window[1]
        return self.half_u.row_up(state.low_u, i, u.shape[-1])

    def pixel(self, state: InsideState, h: Tensor, i: int, j: int) -> Tensor:
        """What comes back to h (features, N) at a pixel; the half resolution has one of its own where i and j are even."""
        state.window[1, j + 1] = h
        if i % 2 == 0 and j % 2 == 0:
            low = torch.addmm(state.shrink[1], state.shrink[0], state.window[:, j : j + 2].flatten(0, 2))
            state.low_h[j // 2] = self.level.pixel(state.level, low, i // 2, j // 2)
        return torch.addmm(state.grow[1], state.grow[0][i % 2, j % 2], state.low_h[j // 2])


def _pooled(place: Tensor) -> Tensor:
    """The place map at the half resolution."""
    return F.avg_pool2d(place, 2, ceil_mode=True)


class Level(Module):
    """One resolution: blocks on the way down, the coarser ones where there are any, blocks on the way up."""

    def __init__(self, streams: Streams) -> None:
        super().__init__()
        self.streams = streams
        coarser = replace(streams, resolutions=streams.resolutions - 1)
        n, inside = streams.blocks, coarser.resolutions > 0
        self.down_u = nn.ModuleList(PixelCNNPlusPlusBlock(streams, ABOVE, False, False) for _ in range(n))
        self.down_h = nn.ModuleList(PixelCNNPlusPlusBlock(streams, LEFT, True, False) for _ in range(n))
        # at the coarsest resolution the last features turn round; elsewhere they are a shortcut as well
        self.up_u = nn.ModuleList(PixelCNNPlusPlusBlock(streams, ABOVE, False, True) for _ in range(n + inside))
        self.up_h = nn.ModuleList(PixelCNNPlusPlusBlock(streams, LEFT, True, True) for _ in range(n + inside))
        self.inside = Inside(coarser) if inside else None

    def forward(self, u: Tensor, h: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        skips = [(u, h)]
        for block_u, block_h in zip(self.down_u, self.down_h, strict=True):
            u = block_u(u, place)
            h = block_h(h, place, u)
            skips.append((u, h))
        u, h = skips.pop() if self.inside is None else self.inside(u, h, place)
        for block_u, block_h in zip(self.up_u, self.up_h, strict=True):
            skip_u, skip_h = skips.pop()
            u = block_u(u, place, skip=skip_u)
            h = block_h(h, place, u, skip_h)
        return u, h

    def init_state(self, place: Tensor, n: int) -> LevelState:
        """Empty caches for n images; place (1 or n, places, H, W)."""
        blocks_u: Any = (*self.down_u, *self.up_u)
        blocks_h: Any = (*self.down_h, *self.up_h)
        rows = tuple(block.row_cache(place, n) for block in blocks_u)
        columns = tuple(block.column_cache(place, n) for block in blocks_h)
        return LevelState(rows, columns, None if self.inside is None else self.inside.init_state(place, n))

    def row(self, state: LevelState, u: Tensor, i: int) -> Tensor:
        """Row i of the down stream through all blocks, (N, features, 1, W); the downright stream's row begins."""
        skips, caches = [u], iter(zip(state.rows, state.columns, strict=True))
        pairs: Any = (zip(self.down_u, self.down_h, strict=True), zip(self.up_u, self.up_h, strict=True))
        for (block_u, block_h), (row, column) in zip(pairs[0], caches):
            u = block_u.row(u, row, i)
            block_h.begin(column, u)
            skips.append(u)
        u = skips.pop() if state.inside is None else self.inside.row(state.inside, u, i)  # type: ignore[union-attr]
        for (block_u, block_h), (row, column) in zip(pairs[1], caches):
            u = block_u.row(u, row, i, skips.pop())
            block_h.begin(column, u)
        return u

    def pixel(self, state: LevelState, h: Tensor, i: int, j: int) -> Tensor:
        """The downright stream at one pixel through all blocks, (features, N)."""
        skips, n = [h], len(self.down_h)
        for block in state.columns[:n]:
            h = block(h, i, j)
            skips.append(h)
        h = skips.pop() if state.inside is None else self.inside.pixel(state.inside, h, i, j)  # type: ignore[union-attr]
        for block in state.columns[n:]:
            h = block(h, i, j, skips.pop())
        return h


class PlusState(NamedTuple):
    """Cache of a pass over N images: the pixel in turn; image (N, inputs, 3, W + 2), the current row and two above it; above
    (W, features, N), what the rows above give h; weights of the pixel before, of the output and its bias."""

    pixel: int
    shape: Shape
    image: Tensor
    above: Tensor
    level: LevelState
    left: Tensor
    leave: tuple[Tensor, Tensor]


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
        streams: Streams = Streams(),
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
        self.start_u = CausalConv(inputs, f, 2, ABOVE, up=1)
        self.start_h = CausalConv(inputs, f, 1, ABOVE, up=1)
        self.left = nn.Conv2d(inputs, f, 1, bias=False)
        self.places = PositionalEmbedding((height, columns), streams.places, self.context_shapes)
        self.level = Level(streams)
        self.leave = nn.Conv2d(f, width, 1)

    def forward(self, x: Tensor, context: Context = None) -> Tensor:
        place = self.places(context)
        lead = torch.broadcast_shapes(x.shape[:-3], place.shape[:-3])
        place = batched(place, lead)
        image = as_planes(self.entry(x.expand(*lead, *self.event_shape).reshape(-1, *self.event_shape).to(place.dtype)))
        h = self.start_h(image) + F.pad(self.left(image), (1, -1))
        _, h = self.level(self.start_u(image), h, place)
        out = self.leave(F.elu(h)).movedim(1, -1)
        return out.reshape(*lead, *out.shape[1:])

    @torch.no_grad()
    def init_state(self, shape: Shape, context: Context = None) -> PlusState:
        r"""Empty cache for images (\*shape, C, H, W); the context's batch broadcasts to `shape`."""
        place, n = batched(self.places(context), shape), math.prod(shape)
        width, inputs, new = self.event_shape[2], self.start_u.inputs, place.new_zeros
        left, leave = self.left.weight.flatten(1), (self.leave.weight.flatten(1), _bias(self.leave))
        image, above = new(n, inputs, 3, width + 2), new(width, self.streams.features, n)
        return PlusState(0, tuple(shape), image, above, self.level.init_state(place, n), left, leave)

    @torch.no_grad()
    def step(self, state: PlusState, previous: Tensor | None) -> tuple[PlusState, Tensor]:
        r"""Parameters (\*shape, width) of the next pixel, given the values (\*shape, C) of the one before.

        Uses its state up: buffers are written in place.
        """
        i, j = divmod(state.pixel, self.event_shape[2])
        left = None if previous is None else self._enter(state, previous)
        if j == 0:
            self._row(state, i)
        h = state.above[j] if j == 0 or left is None else torch.addmm(state.above[j], state.left, left)
        h = self.level.pixel(state.level, h, i, j)
        out = torch.addmm(state.leave[1], state.leave[0], F.elu(h))
        return state._replace(pixel=state.pixel + 1), out.t().reshape(*state.shape, self.width)

    def _enter(self, state: PlusState, previous: Tensor) -> Tensor:
        """Writes the pixel before into the image; its features (inputs, N)."""
        values = previous.reshape(-1, self.event_shape[0]).to(state.image.dtype)
        features = self.entry(values).flatten(1)
        state.image[:, :, 2, (state.pixel - 1) % self.event_shape[2] + 1] = features
        return features.t()

    def _row(self, state: PlusState, i: int) -> None:
        """Row i of the down stream, and what the rows above give the downright one."""
        image = state.image
        if i > 0:
            image[:, :, :2] = image[:, :, 1:].clone()
            image[:, :, 2] = 0.0
        start = self.start_h
        above = F.conv2d(image[:, :, 1:2], start.weight, start.bias)
        state.above.copy_(above[:, :, 0].permute(2, 1, 0))
        self.level.row(state.level, F.conv2d(image[:, :, :2], self.start_u.weight, self.start_u.bias), i)
