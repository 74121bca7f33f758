r"""Gated convolutions and self-attention for small images: the conditioner of Flow++ (Ho et al., 2019).

Each block is two gated residuals, each followed by layer normalisation over the channels of every pixel,

.. math:: h \leftarrow \text{norm}(h + a \odot \sigma(b)), \quad (a, b) = W_2\, \phi(W_1 * \phi(h)), \qquad
          h \leftarrow \text{norm}(h + a \odot \sigma(b)), \quad (a, b) = W_3\, \text{attention}(h + e),

with 3x3 convolutions :math:`W_1`, 1x1 ones :math:`W_2, W_3`, :math:`\phi(h) = \text{elu}([h, -h])` and a learned
embedding e of the places, without which attention does not know where on the image it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genalloy.core.contexts import Context, Shapes, shapes_of
from genalloy.core.spec import Module, Value
from genalloy.networks.convolution import ConvNet, Filters, concat_elu

Shape = tuple[int, ...]


@dataclass(frozen=True)
class AttentionConfig(Value):
    """Channels, number of blocks, heads (a divisor of the channels), dropout in the convolutions."""

    channels: int = 32
    blocks: int = 2
    heads: int = 4
    dropout: float = 0.0


class GatedConvolution(Module):
    r""":math:`\text{norm}(h + a \odot \sigma(b))`, a and b by convolutions, (N, H, W, C) -> the same; starts half open.

    Ho et al., 2019, arXiv:1902.00275; see the module's text.
    """

    def __init__(self, channels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.channels, self.dropout = channels, dropout
        self.near = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.gates = nn.Linear(2 * channels, 2 * channels)
        self.drop, self.norm = nn.Dropout(dropout), nn.LayerNorm(channels)

    def forward(self, h: Tensor) -> Tensor:
        """h (N, H, W, C) -> the same shape."""
        near = self.near(concat_elu(h).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.norm(h + F.glu(self.gates(self.drop(concat_elu(near)))))


class GatedAttention(Module):
    r""":math:`\text{norm}(h + a \odot \sigma(b))`, a and b by self-attention over all places, (N, H, W, C) -> the same.

    size: (H, W), whose places have learned embeddings. Ho et al., 2019, arXiv:1902.00275; see the module's text.
    """

    def __init__(self, channels: int, heads: int, size: Shape) -> None:
        super().__init__()
        self.channels, self.heads, self.size = channels, heads, tuple(size)
        self.place = nn.Parameter(0.5 * torch.randn(*self.size, channels))
        self.enter, self.gates = nn.Linear(channels, 3 * channels), nn.Linear(channels, 2 * channels)
        self.norm = nn.LayerNorm(channels)

    def forward(self, h: Tensor) -> Tensor:
        """h (N, H, W, C) -> the same shape; (H, W) is `size`."""
        apart = self.enter(h + self.place).flatten(1, 2).unflatten(-1, (3, self.heads, -1))
        q, k, v = apart.permute(2, 0, 3, 1, 4).unbind(0)
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(h.shape)
        return self.norm(h + F.glu(self.gates(seen)))


class Blocks(Module):
    r"""Images (\*B, C, H, W) with each `side` x `side` block of pixels as channels: (\*B, side^2 C, H / side, W / side).

    The squeeze of Dinh, Sohl-Dickstein & Bengio, 2017, arXiv:1605.08803.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, image: Tensor) -> Tensor:
        r"""(\*B, C, H, W) -> (\*B, side^2 C, H / side, W / side), the pixels of a block behind each other in every channel."""
        return F.pixel_unshuffle(image, self.side)


class AttentionNet(Module):
    r"""The conditioner of Flow++ (Ho et al., 2019, arXiv:1902.00275): (still (\*B, C, H, W), \*context) -> (\*B, outputs, H, W).

    inputs: ((C, H, W), \*context shapes), which enter as in :class:`genalloy.networks.convolution.ConvNet`. zero: start at
    outputs of 0. Raises ValueError where the heads do not divide the channels.
    """

    def __init__(self, inputs: Shapes, outputs: int, blocks: AttentionConfig = AttentionConfig(), zero: bool = False) -> None:
        super().__init__()
        self.inputs, self.outputs, self.zero = shapes_of(inputs), outputs, zero
        self.blocks = blocks
        if blocks.channels % blocks.heads:
            raise ValueError(f"found {blocks.heads} heads for {blocks.channels} channels, expected a divisor")
        self.enter = ConvNet(self.inputs, blocks.channels, Filters(blocks.channels, 0, nn.ELU))
        layers: list[nn.Module] = []
        for _ in range(blocks.blocks):
            layers.append(GatedConvolution(blocks.channels, blocks.dropout))
            layers.append(GatedAttention(blocks.channels, blocks.heads, self.inputs[0][1:]))
        self.layers = nn.Sequential(*layers)
        self.leave = nn.Conv2d(blocks.channels, outputs, 3, padding=1)
        if zero:
            nn.init.zeros_(self.leave.weight)
            nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(self, context: Context) -> Tensor:
        r"""(still (\*B, C, H, W), \*context) -> features (\*B, outputs, H, W)."""
        h = self.enter(context)
        flat = self.layers(h.reshape(-1, *h.shape[-3:]).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.leave(flat).reshape(*h.shape[:-3], self.outputs, *h.shape[-2:])
