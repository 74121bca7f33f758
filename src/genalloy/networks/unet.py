r"""A small convolutional U-Net for images (Ronneberger et al., 2015; Ho et al., 2020), conditioned on the noise level.

Group normalisation only: no row of a batch sees another. The grid is halved while its sides are even, `depth` times at
most; at the bottom one fully connected layer sees all of it, because convolutions this few do not reach across. Outputs
are zero at the start.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from genalloy.core.contexts import Context, Shapes, shapes_of
from genalloy.core.spec import Module
from genalloy.networks.denoiser import Conditioning


class ConvBlock(Module):
    r"""Two 3x3 convolutions K beside a skip connection, modulated between them.

    .. math:: h + K_2 * \mathrm{drop}(\mathrm{silu}(\mathrm{norm}(K_1 * \mathrm{silu}(\mathrm{norm}(h)))\,(1 + a) + b))

    (a, b) is linear in c (N, conditioning), features of the noise level; h (N, channels, H, W). The second term starts at zero.
    """

    def __init__(self, channels: int, conditioning: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.channels, self.conditioning, self.dropout = channels, conditioning, dropout
        groups = max(channels // 8, 1)
        self.norm_in, self.norm_mid = nn.GroupNorm(groups, channels), nn.GroupNorm(groups, channels)
        self.first, self.last = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.modulate = nn.Linear(conditioning, 2 * channels)
        self.drop = nn.Dropout(dropout)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        """h (N, channels, H, W), c (N, conditioning) -> the shape of h."""
        scale, shift = self.modulate(c)[..., None, None].chunk(2, 1)
        inner = self.first(nn.functional.silu(self.norm_in(h)))
        inner = self.norm_mid(inner) * (1 + scale) + shift
        return h + self.last(self.drop(nn.functional.silu(inner)))


class GlobalBlock(Module):
    r""":math:`h + W_2\, \mathrm{drop}(\mathrm{silu}(W_1 \mathrm{norm}(h)\,(1 + a) + b))` on the whole grid as one vector.

    It lays out an image in one step. (a, b) is linear in c (N, conditioning). The second term starts at zero.
    """

    def __init__(self, size: int, conditioning: int, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.size, self.conditioning, self.width, self.dropout = size, conditioning, width, dropout
        self.norm = nn.LayerNorm(size)
        self.first, self.last = nn.Linear(size, width), nn.Linear(width, size)
        self.modulate = nn.Linear(conditioning, 2 * width)
        self.drop = nn.Dropout(dropout)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        """h (N, channels, H, W) of `size` entries a row, c (N, conditioning) -> the shape of h."""
        scale, shift = self.modulate(c).chunk(2, 1)
        inner = self.first(self.norm(h.flatten(1))) * (1 + scale) + shift
        return h + self.last(self.drop(nn.functional.silu(inner))).reshape(h.shape)


class UNet(Module):
    r"""Denoiser of images (Ronneberger et al., 2015, arXiv:1505.04597): (\*B, C, H, W) -> (\*B, C, H, W, per_element).

    inputs: ((C, H, W), (), \*context_shapes); channels double each time the grid is halved. depth: halvings at most. blocks: at
    each size. dropout: inside each block.
    """

    where: Tensor

    def __init__(
        self,
        inputs: Shapes,
        per_element: int = 1,
        channels: int = 32,
        depth: int = 1,
        blocks: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.inputs, self.per_element = shapes_of(inputs), per_element
        self.channels, self.depth, self.blocks, self.dropout = channels, depth, blocks, dropout
        colours, height, width = self.inputs[0]
        self.levels = _halvings(height, width, depth)
        widths = [channels * 2**k for k in range(self.levels + 1)]
        self.condition = Conditioning(self.inputs[2:], 4 * channels)
        # Two constant planes of coordinates: digits sit in the middle, and a convolution alone cannot know where it is.
        self.register_buffer("where", _coordinates(height, width), persistent=False)
        self.enter = nn.Conv2d(colours + 2, channels, 3, padding=1)
        bottom = widths[-1] * (height >> self.levels) * (width >> self.levels)
        self.middle = GlobalBlock(bottom, 4 * channels, 16 * channels, dropout)
        self.down = nn.ModuleList(self._stage(n) for n in widths)
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.grow = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(widths))
        self.up = nn.ModuleList(self._stage(n) for n in widths[:-1])
        self.norm = nn.GroupNorm(max(channels // 8, 1), channels)
        self.leave = nn.Conv2d(channels, colours * per_element, 1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def _stage(self, channels: int) -> nn.ModuleList:
        return nn.ModuleList(ConvBlock(channels, 4 * self.channels, self.dropout) for _ in range(self.blocks))

    def forward(self, context: Context) -> Tensor:
        r"""(x (\*B, C, H, W), noise level (\*B) or one that broadcasts, \*context) -> (\*B, C, H, W, per_element)."""
        x, level, *rest = context
        lead, shape = x.shape[:-3], x.shape[-3:]
        c = self.condition(level.expand(lead), tuple(rest)).expand(*lead, -1).reshape(-1, 4 * self.channels)
        out = self._convolve(x.reshape(-1, *shape), c)
        return out.unflatten(1, (shape[0], self.per_element)).movedim(2, -1).reshape(*lead, *shape, self.per_element)

    def _convolve(self, x: Tensor, c: Tensor) -> Tensor:
        h = self.enter(torch.cat([x, self.where.to(x.dtype).expand(x.shape[0], -1, -1, -1)], 1))
        skips: list[Tensor] = []
        for k, stage in enumerate(self.down):
            h = _run(stage, h, c)
            if k < self.levels:
                skips.append(h)
                h = self.shrink[k](h)
        h = self.middle(h, c)
        for k in reversed(range(self.levels)):
            h = nn.functional.interpolate(self.grow[k](h), scale_factor=2.0, mode="nearest")
            h = _run(self.up[k], h + skips[k], c)
        return self.leave(nn.functional.silu(self.norm(h)))


def _run(stage: nn.Module, h: Tensor, c: Tensor) -> Tensor:
    for block in stage.children():
        h = block(h, c)
    return h


def _halvings(height: int, width: int, depth: int) -> int:
    """How often both sides can be halved, at most `depth` times."""
    count = 0
    while count < depth and height % 2 == 0 and width % 2 == 0:
        height, width, count = height // 2, width // 2, count + 1
    return count


def _coordinates(height: int, width: int) -> Tensor:
    """(2, H, W) row and column in [-1, 1]."""
    rows, columns = torch.linspace(-1, 1, height), torch.linspace(-1, 1, width)
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
