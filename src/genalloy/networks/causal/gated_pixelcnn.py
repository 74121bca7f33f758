r"""PixelCNN with two stacks (van den Oord et al., 2016, "Conditional image generation with PixelCNN decoders").

Pixels are generated row by row, within a pixel channel by channel. The vertical stack at (i, j) sees the rows above i, the
horizontal stack the pixels left of j in row i and the channels before its own, and the vertical stack feeds the horizontal
one, so there is no blind spot. A layer maps features v, h with a place map p (learned positions plus the context) to

.. math:: a = K_v * v + W_p p, \quad b = K_h * h + W_a a, \quad g([u, w]) = \tanh u \odot \sigma(w),
          \quad v' = v + W_v\, g(a), \quad h' = h + W_h\, g(b).

Channels of h come in C groups; group g may see the image channels before g at its own pixel (mask A, first layer) and the
groups up to g (mask B, later layers). Nothing normalises over pixels, and everything is smooth in x.

The network is written once and walked in three ways (:mod:`genalloy.networks.causal.convolution`): when a row begins, the
vertical stack is computed for the whole row; at each element, the horizontal stack in one column of one group.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genalloy.core.contexts import Context, Shapes, shapes_of
from genalloy.core.shapes import broadcast_shapes
from genalloy.core.spec import Module, Value
from genalloy.networks.causal.convolution import WHOLE, CausalConv2d, PixelWalk, RowWalk, Walk
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


def gate(x: Tensor) -> Tensor:
    """tanh of the first half of the channels (axis 1) times the logistic function of the second."""
    a, b = x.chunk(2, 1)
    return torch.tanh(a) * torch.sigmoid(b)


class GatedLayer(Module):
    """One layer of both stacks, with the symbols of the module's text; `last`: the vertical stack ends here."""

    def __init__(self, stack: GatedStack, groups: int = 1, last: bool = False) -> None:
        super().__init__()
        self.stack, self.groups, self.last = stack, groups, last
        f, reach = stack.channels, stack.kernel // 2
        self.vertical = CausalConv2d(f, 2 * f, reach + 1, (reach, reach))
        self.horizontal = CausalConv2d(f, 2 * f, 1, (reach, 0), groups=groups, halves=2)
        self.place = nn.Conv2d(stack.places, 2 * f, 1, bias=False)
        self.across = nn.Conv2d(2 * f, 2 * f, 1, bias=False)
        self.mix_v = None if last else nn.Conv2d(f, f, 1)
        self.mix_h = CausalConv2d(f, f, groups=groups)
        self.drop = nn.Dropout(stack.dropout)

    def down(self, v: Tensor, place: Tensor, walk: Walk) -> tuple[Tensor, Tensor]:
        """The vertical stack: v' and a."""
        a = walk.conv(self.vertical, v) + walk.place(self.place, place)
        return v if self.mix_v is None else v + walk.point(self.mix_v, self._dropped(gate(a))), a

    def right(self, h: Tensor, a: Tensor, walk: Walk) -> Tensor:
        """The horizontal stack: h'."""
        b = walk.conv(self.horizontal, h) + walk.beside(self.across, lambda: self.across(a), self.horizontal)
        return h + walk.conv(self.mix_h, self._dropped(gate(b)))

    def _dropped(self, x: Tensor) -> Tensor:
        return self.drop(x) if self.training else x


class PixelState(NamedTuple):
    """Cache of a pass over N images: the element in turn, the place map, the row so far (N, inputs, 1, W), what the vertical
    stack hands to each layer in this row, and the caches of both stacks by layer."""

    element: int
    shape: Shape
    place: Tensor
    row: Tensor
    handed: tuple[Tensor, ...]
    rows: dict[Any, Any]
    pixels: dict[Any, Any]


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
        self.start_v = CausalConv2d(inputs, f, reach + 1, (reach, reach), up=1)
        self.start_h = CausalConv2d(inputs, f, 1, (reach, 0), groups=channels, strict=True)
        self.layers = nn.ModuleList(GatedLayer(stack, channels, i == stack.layers - 1) for i in range(stack.layers))
        self.inner = CausalConv2d(f, f, groups=channels)
        self.outer = CausalConv2d(f, channels * width, groups=channels)
        self.places = PositionalEmbedding((height, columns), stack.places, self.context_shapes)

    def forward(self, x: Tensor, context: Context = None) -> Tensor:
        place = self.places(context)
        lead = broadcast_shapes(x.shape[:-3], place.shape[:-3])
        place = batched(place, lead)
        features = as_planes(self.entry(x.expand(*lead, *self.event_shape).reshape(-1, *self.event_shape)))
        out = self._right(features, self._down(features, place, WHOLE), WHOLE)
        out = out.unflatten(1, (self.event_shape[0], self.width)).movedim(2, -1)
        return out.reshape(*lead, *self.event_shape, self.width)

    def _down(self, image: Tensor, place: Tensor, walk: Walk) -> tuple[Tensor, ...]:
        """The vertical stack: what it hands to each layer of the horizontal one."""
        v, handed = walk.conv(self.start_v, image), []
        for layer in self._layers:
            v, a = layer.down(v, place, walk)
            handed.append(a)
        return tuple(handed)

    def _right(self, image: Tensor, handed: tuple[Tensor, ...], walk: Walk) -> Tensor:
        """The horizontal stack and the parameters."""
        h = walk.strict(self.start_h, image)
        for layer, a in zip(self._layers, handed, strict=True):
            h = layer.right(h, a, walk)
        return walk.conv(self.outer, F.silu(walk.conv(self.inner, F.silu(h))))

    @property
    def _layers(self) -> list[GatedLayer]:
        return list(self.layers)  # type: ignore[arg-type]

    @torch.no_grad()
    def init_state(self, shape: Shape, context: Context = None) -> PixelState:
        r"""Empty cache for images (\*shape, C, H, W); the context's batch broadcasts to `shape`."""
        place = batched(self.places(context), shape)
        row = place.new_zeros(math.prod(shape), self.start_v.inputs, 1, self.event_shape[2])
        return PixelState(0, tuple(shape), place, row, (), {}, {})

    @torch.no_grad()
    def step(self, state: PixelState, previous: Tensor | None) -> tuple[PixelState, Tensor]:
        r"""Parameters (\*shape, width) of the next element in `sequence`, given the value (\*shape) of the one before.

        Uses its state up: caches are written in place.
        """
        channels, _, width = self.event_shape
        pixel, group = divmod(state.element, channels)
        i, j = divmod(pixel, width)
        features = state.row[:, : self.entry.features, 0, 0] if previous is None else self._entered(state, previous)
        if j == 0 and group == 0:
            handed = self._down(state.row, state.place, RowWalk(i, width, state.rows))
            state = state._replace(handed=handed)
        out = self._right(features, state.handed, PixelWalk(i, j, group, width, state.pixels))
        return state._replace(element=state.element + 1), out.reshape(*state.shape, self.width)

    def _entered(self, state: PixelState, previous: Tensor) -> Tensor:
        """Features (N, entry) of the element before, which become a part of the row."""
        pixel, channel = divmod(state.element - 1, self.event_shape[0])
        features, k = self.entry(previous.reshape(-1).to(state.row.dtype)), self.entry.features
        state.row[:, channel * k : (channel + 1) * k, 0, pixel % self.event_shape[2]] = features
        return features
