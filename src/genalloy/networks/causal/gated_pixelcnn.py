r"""PixelCNN with two stacks (van den Oord et al., 2016, "Conditional image generation with PixelCNN decoders").

Pixels are generated row by row, within a pixel channel by channel. The vertical stack at (i, j) sees the rows above i, the
horizontal stack the pixels left of j in row i and the channels before its own, and the vertical stack feeds the horizontal
one, so there is no blind spot. A layer maps features v, h with a place map p (learned positions plus the context) to

.. math:: a = K_v * v + W_p p, \quad b = K_h * h + W_a a, \quad g([u, w]) = \tanh u \odot \sigma(w),
          \quad v' = v + W_v\, g(a), \quad h' = h + W_h\, g(b).

Channels of h come in C groups; group g may see the image channels before g at its own pixel (mask A, first layer) and the
groups up to g (mask B, later layers). Nothing normalises over pixels, and everything is smooth in x.

Sampling computes each feature once. The vertical stack is computed a row at a time when a row begins; at each element, the
horizontal stack computes one column of one group through all layers, out of a window of cached columns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genalloy.core.contexts import Context, Shapes, shapes_of
from genalloy.core.spec import Module, Value
from genalloy.networks.causal.network import Pixels
from genalloy.networks.causal.positions import PositionalEmbedding, batched
from genalloy.networks.input_embedding import Entry, ScaledInput, as_planes

Shape = tuple[int, ...]


@dataclass(frozen=True)
class GatedStack(Value):
    """Features (channels) of both stacks, number of layers, odd kernel size, dropout, size of the place map."""

    channels: int = 64
    layers: int = 6
    kernel: int = 3
    dropout: float = 0.0
    places: int = 8


class CausalConv(Module):
    r"""Convolution over rows above and columns left: (N, inputs, H, W) -> (N, outputs, H, W).

    rows, left, right: taps above (its own row included), left (its own column excluded) and right. up: extra rows by which
    the input is pushed down (1: strictly above). mask: (outputs, inputs) of what the own pixel's tap may see, None for all.
    """

    def __init__(
        self, inputs: int, outputs: int, rows: int = 1, columns: tuple[int, int] = (0, 0), up: int = 0, mask: Tensor | None = None
    ) -> None:
        super().__init__()
        self.inputs, self.outputs, self.rows, self.columns, self.up = inputs, outputs, rows, columns, up
        left, right = columns
        convolution = nn.Conv2d(inputs, outputs, (rows, left + 1 + right))
        self.weight, self.bias = convolution.weight, convolution.bias
        taps = torch.ones_like(self.weight)
        if mask is not None:
            taps[:, :, -1, left] = mask.float()
        self.register_buffer("mask", mask)
        self.register_buffer("taps", None if mask is None or bool(mask.all()) else taps, persistent=False)

    def kernel(self) -> Tensor:
        return self.weight if self.taps is None else self.weight * self.taps

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(self.padded(x), self.kernel(), self.bias)

    def padded(self, x: Tensor) -> Tensor:
        left, right = self.columns
        padding = (left, right, self.rows - 1 + self.up, -self.up)
        return F.pad(x, padding) if any(padding) else x

    def row(self, padded: Tensor, i: int) -> Tensor:
        """Row i of the output, (N, outputs, 1, W), from the padded input."""
        return F.conv2d(padded[:, :, i : i + self.rows], self.kernel(), self.bias)


def gate(x: Tensor) -> Tensor:
    """tanh of the first half of the channels (axis 1) times the logistic function of the second."""
    a, b = x.chunk(2, 1)
    return torch.tanh(a) * torch.sigmoid(b)


def groups_of(features: int, groups: int) -> Tensor:
    """Group of each feature: equal shares, in order."""
    return torch.arange(features) * groups // features


class GatedLayer(Module):
    """One layer of both stacks, with the symbols of the module's text; `last`: the vertical stack ends here."""

    def __init__(self, stack: GatedStack, groups: int = 1, last: bool = False) -> None:
        super().__init__()
        self.stack, self.groups, self.last = stack, groups, last
        f, reach = stack.channels, stack.kernel // 2
        own = groups_of(f, groups)
        self.vertical = CausalConv(f, 2 * f, reach + 1, (reach, reach))
        self.horizontal = CausalConv(f, 2 * f, 1, (reach, 0), mask=own.repeat(2)[:, None] >= own)
        self.place = nn.Conv2d(stack.places, 2 * f, 1, bias=False)
        self.across = nn.Conv2d(2 * f, 2 * f, 1, bias=False)
        self.mix_v = None if last else nn.Conv2d(f, f, 1)
        self.mix_h = CausalConv(f, f, mask=own[:, None] >= own)
        self.dropout = nn.Dropout(stack.dropout)

    def forward(self, v: Tensor, h: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        a = self.vertical(v) + self.place(place)
        b = self.horizontal(h) + self.across(a)
        if self.mix_v is not None:
            v = v + self.mix_v(self.dropout(gate(a)))
        return v, h + self.mix_h(self.dropout(gate(b)))

    def row(self, padded: Tensor, v: Tensor, place: Tensor, i: int) -> tuple[Tensor, Tensor]:
        """Row i: the next layer's v and what goes across, both (N, features, 1, W), from the padded cache of v."""
        a = self.vertical.row(padded, i) + place
        return (v if self.mix_v is None else v + self.mix_v(gate(a))), self.across(a)


class Columns(NamedTuple):
    """Weights of the horizontal stack as matrices over a window of columns: for each group, (weight, bias) of every layer."""

    start: tuple[Tensor, Tensor]
    layers: tuple[tuple[Tensor, Tensor, Tensor, Tensor], ...]
    inner: tuple[Tensor, Tensor]
    outer: tuple[Tensor, Tensor]


class PixelState(NamedTuple):
    """Cache of a pass over N images: the element in turn and every feature computed so far that is still needed.

    image, vertical: padded inputs of the vertical convolutions (N, features, rows, columns), whole images.
    columns: inputs of the horizontal convolutions (W + reach, features, N), current row only; across: (W, 2, F, N) a layer.
    gated: gates of the current pixel (F, N) a layer, then the two hidden layers of the output; places: (1 or N, 2F, H, W).
    """

    element: int
    shape: Shape
    image: Tensor
    vertical: tuple[Tensor, ...]
    columns: tuple[Tensor, ...]
    across: tuple[Tensor, ...]
    gated: tuple[Tensor, ...]
    places: tuple[Tensor, ...]
    weights: tuple[Columns, ...]


class GatedPixelCNN(Module):
    r"""Two-stack gated PixelCNN: x (\*B, C, H, W), context -> (\*B, C, H, W, width).

    width: parameters an element (the head's). The context (parts of shapes `context_shapes`) becomes a map of features by
    :class:`genalloy.networks.causal.positions.Places`. entry: how elements enter, OneHot(levels) or Scaled(shift, scale).
    Raises ValueError where the channels of `stack` do not split into C groups, or its kernel is even.
    """

    differentiable_steps = False

    def __init__(
        self,
        event_shape: Shape,
        width: int,
        stack: GatedStack = GatedStack(),
        context_shapes: Shapes = (),
        entry: Entry = ScaledInput(),
    ) -> None:
        super().__init__()
        self.event_shape, self.width, self.stack, self.entry = tuple(event_shape), width, stack, entry
        self.context_shapes = shapes_of(context_shapes)
        channels, height, columns = self.event_shape
        if stack.channels < channels or stack.kernel % 2 == 0:
            raise ValueError(f"found {stack}, expected an odd kernel and at least {channels} channels for {event_shape} images")
        self.sequence = tuple(Pixels().cut(self.event_shape).order.flatten().tolist())
        f, reach, inputs = stack.channels, stack.kernel // 2, channels * entry.features
        own, seen = groups_of(f, channels), groups_of(inputs, channels)
        self.start_v = CausalConv(inputs, f, reach + 1, (reach, reach), up=1)
        self.start_h = CausalConv(inputs, f, 1, (reach, 0), mask=own[:, None] > seen)
        self.layers = nn.ModuleList(GatedLayer(stack, channels, i == stack.layers - 1) for i in range(stack.layers))
        self.inner = CausalConv(f, f, mask=own[:, None] >= own)
        self.outer = CausalConv(f, channels * width, mask=groups_of(channels * width, channels)[:, None] >= own)
        self.places = PositionalEmbedding((height, columns), stack.places, self.context_shapes)

    def forward(self, x: Tensor, context: Context = None) -> Tensor:
        place = self.places(context)
        lead = torch.broadcast_shapes(x.shape[:-3], place.shape[:-3])
        place = batched(place, lead)
        features = as_planes(self.entry(x.expand(*lead, *self.event_shape).reshape(-1, *self.event_shape)))
        v, h = self.start_v(features), self.start_h(features)
        for layer in self.layers:
            v, h = layer(v, h, place)
        out = self.outer(F.silu(self.inner(F.silu(h))))
        out = out.unflatten(1, (self.event_shape[0], self.width)).movedim(2, -1)
        return out.reshape(*lead, *self.event_shape, self.width)

    @torch.no_grad()
    def init_state(self, shape: Shape, context: Context = None) -> PixelState:
        r"""Empty cache for images (\*shape, C, H, W); the context's batch broadcasts to `shape`."""
        place = batched(self.places(context), shape)
        n, f, reach, new = math.prod(shape), self.stack.channels, self.stack.kernel // 2, place.new_zeros
        _, height, width = self.event_shape
        depth, inputs = range(self.stack.layers), self.start_v.inputs
        blocks: Any = self.layers
        return PixelState(
            0,
            shape,
            new(n, inputs, height + reach + 1, width + 2 * reach),
            tuple(new(n, f, height + reach, width + 2 * reach) for _ in depth),
            tuple(new(width + reach, features, n) for features in (inputs, *(f for _ in depth))),
            tuple(new(width, 2, f, n) for _ in depth),
            tuple(new(f, n) for _ in range(self.stack.layers + 2)),
            tuple(layer.place(place) for layer in blocks),
            tuple(self._columns(group) for group in range(self.event_shape[0])),
        )

    def _columns(self, group: int) -> Columns:
        own = groups_of(self.stack.channels, self.event_shape[0]) == group
        both = own.repeat(2)
        out = slice(group * self.width, (group + 1) * self.width)
        blocks: Any = self.layers
        layers = ((*_matrix(layer.horizontal, both), *_matrix(layer.mix_h, own)) for layer in blocks)
        return Columns(_matrix(self.start_h, own), tuple(layers), _matrix(self.inner, own), _matrix(self.outer, out))

    @torch.no_grad()
    def step(self, state: PixelState, previous: Tensor | None) -> tuple[PixelState, Tensor]:
        r"""Parameters (\*shape, width) of the next element in `sequence`, given the value (\*shape) of the one before.

        Uses its state up: buffers are written in place.
        """
        channels, _, width = self.event_shape
        if previous is not None:
            self._enter(state, previous)
        pixel, group = divmod(state.element, channels)
        i, j = divmod(pixel, width)
        if j == 0 and group == 0:
            self._row(state, i)
        h = self._column(state, j, group)
        return state._replace(element=state.element + 1), h.t().reshape(*state.shape, self.width)

    def _enter(self, state: PixelState, previous: Tensor) -> None:
        """Write the features of the element before into both stacks' inputs."""
        pixel, channel = divmod(state.element - 1, self.event_shape[0])
        i, j = divmod(pixel, self.event_shape[2])
        reach, k = self.stack.kernel // 2, self.entry.features
        features = self.entry(previous.reshape(-1).to(state.image.dtype))
        rows = slice(channel * k, (channel + 1) * k)
        state.image[:, rows, i + reach + 1, j + reach] = features
        state.columns[0][j + reach, rows] = features.t()

    def _row(self, state: PixelState, i: int) -> None:
        """The vertical stack's row i, through all layers, and what it hands to the horizontal stack."""
        reach, width = self.stack.kernel // 2, self.event_shape[2]
        v = self.start_v.row(state.image, i)
        blocks: Any = self.layers
        caches = zip(blocks, state.vertical, state.places, state.across, strict=True)
        for layer, cache, place, across in caches:
            cache[:, :, i + reach, reach : reach + width] = v[:, :, 0]
            v, handed = layer.row(cache, v, place[:, :, i : i + 1], i)
            across.copy_(handed[:, :, 0].permute(2, 1, 0).reshape(across.shape))

    def _column(self, state: PixelState, j: int, group: int) -> Tensor:
        """The horizontal stack's column j of one group, through all layers: parameters (width, N)."""
        reach, weights = self.stack.kernel // 2, state.weights[group]
        own = _share(self.stack.channels, self.event_shape[0], group)
        h = _affine(weights.start, state.columns[0][j : j + reach + 1])
        for index, (weight, bias, mix, mix_bias) in enumerate(weights.layers):
            columns, gated = state.columns[index + 1], state.gated[index]
            columns[j + reach, own] = h
            pre = _affine((weight, bias), columns[j : j + reach + 1])
            a, b = pre.unflatten(0, (2, -1)) + state.across[index][j, :, own]
            gated[own] = torch.tanh(a) * torch.sigmoid(b)
            h = h + _affine((mix, mix_bias), gated)
        below, above = state.gated[-2:]
        below[own] = F.silu(h)
        above[own] = F.silu(_affine(weights.inner, below))
        return _affine(weights.outer, above)


def _share(features: int, groups: int, group: int) -> slice:
    """Where a group's features lie."""
    first = -(-group * features // groups)
    return slice(first, -(-(group + 1) * features // groups))


def _matrix(convolution: Any, rows: Tensor | slice) -> tuple[Tensor, Tensor]:
    """Some rows of a one-row convolution as a matrix over (taps, features), and their biases as a column."""
    weight = convolution.kernel()[rows].squeeze(2).transpose(1, 2).flatten(1)
    return weight.contiguous(), convolution.bias[rows].unsqueeze(1)


def _affine(weights: tuple[Tensor, Tensor], columns: Tensor) -> Tensor:
    """Weights times columns (features, N), or a window (taps, features, N) of them."""
    return torch.addmm(weights[1], weights[0], columns.flatten(0, -2))
