r"""Convolutional networks that give the parameters of couplings and of split-off channels.

Two kinds, by one description: the plain one of Glow (Kingma & Dhariwal, 2018), 3x3, 1x1 (`blocks` times), 3x3, and a residual
one, 3x3, then `blocks` of h + 1x1(3x3(h)), then 3x3. The last layer may start at zero. Instead of one bias a channel, the first
layer has one a channel and pixel, because convolutions this few cannot tell where on the image they are.

The context enters behind the first layer: parts of the image's own height and width as further channels, all others (labels,
vectors, images of other sizes) through one linear layer as a shift of every channel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genalloy.core.contexts import Context, Shapes, flat, join, parts, shapes_of
from genalloy.core.observations import leading
from genalloy.core.shapes import broadcast_shapes
from genalloy.core.spec import Module, Value

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Filters(Value):
    """Channels, number of blocks, a torch.nn activation class, skip connections around blocks, dropout of channels in them."""

    channels: int = 64
    blocks: int = 1
    activation: type[nn.Module] = nn.ReLU
    residual: bool = False
    dropout: float = 0.0


class ConvNet(Module):
    r"""(still (\*B, C, H, W), \*context) -> features (\*B, outputs, H, W); the plain kind is Glow's (Kingma & Dhariwal, 2018,
    arXiv:1807.03039).

    inputs: ((C, H, W), \*context shapes); batches broadcast. zero: start at outputs of 0.
    Raises ValueError where the number of context parts or their shapes are others.
    """

    def __init__(self, inputs: Shapes, outputs: int, filters: Filters = Filters(), zero: bool = False) -> None:
        super().__init__()
        self.inputs, self.outputs, self.filters, self.zero = shapes_of(inputs), outputs, filters, zero
        channels, size = filters.channels, self.inputs[0][1:]
        self.spatial = tuple(len(s) == 3 and s[1:] == size for s in flat(self.inputs)[1:])
        planes = sum(s[0] for s, on in zip(flat(self.inputs), (True, *self.spatial), strict=True) if on)
        vectors = sum(math.prod(s) for s in self._vectors())
        self.enter = nn.Conv2d(planes, channels, 3, padding=1, bias=False)
        self.place = nn.Parameter(torch.zeros(channels, *size))
        self.shift = nn.Linear(vectors, channels, bias=False) if vectors else None
        self.blocks = nn.ModuleList(_block(filters) for _ in range(filters.blocks))
        self.leave = nn.Conv2d(channels, outputs, 3, padding=1)
        self.activation = filters.activation()
        if zero:
            nn.init.zeros_(self.leave.weight)
            nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(self, context: Context) -> Tensor:
        r"""Features (\*B, outputs, H, W) of (still (\*B, C, H, W), \*context); batches broadcast."""
        given = parts(context, self.inputs)
        on_grid = (True, *self.spatial)
        images = [(c, s) for c, s, on in zip(given, flat(self.inputs), on_grid, strict=True) if on]
        shift = self._shift(tuple(c for c, on in zip(given, on_grid, strict=True) if not on))
        lead = broadcast_shapes(*(leading(c, s) for c, s in images), shift.shape[:-3])
        x = torch.cat([c.to(shift.dtype).expand(*lead, *s) for c, s in images], -3)
        features = self._convolve(x.reshape(-1, *x.shape[-3:]), shift.expand(*lead, -1, 1, 1).reshape(-1, *shift.shape[-3:]))
        return features.reshape(*lead, *features.shape[1:])

    def _vectors(self) -> tuple[Shape, ...]:
        """Shapes of the context's parts that enter through the linear layer."""
        return tuple(s for s, on in zip(flat(self.inputs)[1:], self.spatial, strict=True) if not on)

    def _shift(self, vectors: tuple[Tensor, ...]) -> Tensor:
        r"""What the context adds to every channel, (\*B, channels, 1, 1)."""
        if self.shift is None:
            return self.place.new_zeros(self.filters.channels, 1, 1)
        return self.shift(join(vectors, self._vectors()).to(self.place.dtype))[..., None, None]

    def _convolve(self, x: Tensor, shift: Tensor) -> Tensor:
        # channels last: half the time of the other layout on a CPU
        h = self.enter(x.contiguous(memory_format=torch.channels_last)) + (self.place + shift)
        for block in self.blocks:
            h = h + block(h) if self.filters.residual else block(h)
        return self.leave(self.activation(h))


def _block(filters: Filters) -> nn.Sequential:
    """The activation, then 1x1; in residual networks a 3x3 convolution and another activation before it."""
    channels, dropout = filters.channels, [nn.Dropout2d(filters.dropout)] if filters.dropout else []
    before = [filters.activation(), nn.Conv2d(channels, channels, 3, padding=1)] if filters.residual else []
    return nn.Sequential(*before, filters.activation(), *dropout, nn.Conv2d(channels, channels, 1))


class Elements(Module):
    r"""Image features as parameters of elements: (\*B, width C, H, W) -> (\*B, C H W width), what a head's network gives.

    network: gives `width` groups of C channels. So `Conditional(Gaussian(), Elements(ConvNet(inputs, 2 * C), 2), (C, H, W),
    inputs)`.
    """

    def __init__(self, network: nn.Module, width: int) -> None:
        super().__init__()
        self.network, self.width = network, width

    def forward(self, context: Context) -> Tensor:
        r"""Parameters (\*B, C H W width) of the context's elements, those of one element side by side."""
        return self.network(context).unflatten(-3, (self.width, -1)).movedim(-4, -1).flatten(-4)


def concat_elu(x: Tensor, axis: int = -1) -> Tensor:
    """elu([x, -x]) along an axis, twice as long: both signs pass. Shang et al., 2016, arXiv:1603.05201, with elu for relu."""
    return F.elu(torch.cat([x, -x], axis))
