r"""Masked convolutions over the pixels so far, and the plain PixelCNN (van den Oord, Kalchbrenner & Kavukcuoglu, 2016).

Pixels are tokens in raster order on a grid (H, W). A masked convolution reads the rows above its pixel whole and its own row
to the left, without the pixel itself (mask A, strict) or with it (mask B),

.. math:: y_{ij} = b + \sum_{a=1}^{r} \sum_{|d| \le r} K_{a,d}\, h_{i-a,\,j+d} + \sum_{d \le 0} L_d\, h_{i,\,j+d},
          \qquad r = (\text{kernel} - 1) / 2.

The plain PixelCNN is one 7x7 convolution of mask A and residual blocks :math:`h + W_3 \phi(K * \phi(W_1 \phi(h)))`, K of
mask B, :math:`\phi` = relu. It has a *blind spot*: d pixels to the right are only seen through at least d / r rows above, so a
wedge of pixels right of the output's column never enters, however deep the network is.

Step by step, what a row receives from the rows above is computed for the whole row when it begins, and each pixel adds one
product over the few pixels at its left. No feature is computed twice.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genalloy.core.spec import Module
from genalloy.networks.causal.network import CausalLayer

Size = tuple[int, int]


class RowState(NamedTuple):
    """Cache of one masked convolution, images last: weights of the own row as a matrix (outputs, taps * inputs), padded inputs
    (rows + H, W + 2r, inputs, N), and what the pixels of the current row receive from the rows above (W, outputs, N)."""

    weight: Tensor
    past: Tensor
    above: Tensor


class MaskedConv(Module):
    r"""Convolution over the pixels so far, (N, H, W, inputs) -> (N, H, W, outputs); see the module's text.

    kernel: odd width. rows: how many rows above are seen, None for (kernel - 1) / 2. own: whether the pixel itself is (mask B).
    wrap: the place left of a row's first pixel holds the last pixel of the row above, instead of zeros.
    Raises ValueError on an even kernel, or where nothing is seen.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, rows: int | None = None, own: bool = True, wrap: bool = False
    ) -> None:
        super().__init__()
        self.inputs, self.outputs, self.kernel, self.rows, self.own, self.wrap = inputs, outputs, kernel, rows, own, wrap
        self.reach, left = kernel // 2, kernel // 2 + own
        self.up = self.reach if rows is None else rows
        if kernel % 2 == 0 or left == 0:
            raise ValueError(f"found kernel {kernel}, expected an odd one, of at least 3 where the pixel itself is not seen")
        bound = (inputs * (self.up * kernel + left)) ** -0.5
        self.above = nn.Parameter(torch.empty(outputs, inputs, self.up, kernel).uniform_(-bound, bound)) if self.up else None
        self.beside = nn.Parameter(torch.empty(outputs, inputs, 1, left).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound))

    def forward(self, h: Tensor) -> Tensor:
        # channels last all along: on a CPU faster than the other layout, and tokens need no copy
        return F.conv2d(self._padded(h).permute(0, 3, 1, 2), self._whole(), self.bias).permute(0, 2, 3, 1)

    def _whole(self) -> Tensor:
        """The kernel over all taps (outputs, inputs, up + 1, kernel), zero where nothing is seen; without rows above, cropped."""
        if self.above is None:
            return self.beside
        return torch.cat([self.above, F.pad(self.beside, (0, self.kernel - self.beside.shape[-1]))], 2)

    def _padded(self, h: Tensor) -> Tensor:
        if self.above is None:
            lead = F.pad(h, (0, 0, self.reach, 0))
            return lead if self.own else lead[:, :, :-1]
        lead = F.pad(h, (0, 0, self.reach, self.reach, self.up, 0))
        if self.wrap:
            lead[:, self.up + 1 :, self.reach - 1] = h[:, :-1, -1]
        return lead

    @torch.no_grad()
    def init_state(self, n: int, size: Size, like: Tensor) -> RowState:
        """Empty cache for n images of that size; `like` gives dtype and device."""
        height, width = size
        past = like.new_zeros(self.up + height, width + 2 * self.reach, self.inputs, n)
        above = self.bias[:, None].expand(width, -1, n).contiguous()
        return RowState(self.beside.squeeze(2).transpose(1, 2).flatten(1).contiguous(), past, above)

    def begin(self, state: RowState, i: int) -> None:
        """Row i begins: what its pixels receive from the rows above."""
        if self.above is not None:
            window = state.past[i : i + self.up].permute(3, 2, 0, 1)
            state.above.copy_(F.conv2d(window, self.above, self.bias)[:, :, 0].permute(2, 1, 0))
            if self.wrap and i > 0:
                state.past[self.up + i, self.reach - 1] = state.past[self.up + i - 1, -self.reach - 1]

    def store(self, state: RowState, h: Tensor, i: int, j: int) -> None:
        """Pixel (i, j) enters as h (inputs, N)."""
        state.past[self.up + i, self.reach + j] = h

    def read(self, state: RowState, i: int, j: int) -> Tensor:
        """Output (outputs, N) at (i, j), whose row has begun and whose inputs have entered: one product over a window."""
        window = state.past[self.up + i, j : j + self.reach + self.own].flatten(0, 1)
        return torch.addmm(state.above[j], state.weight, window)


class MaskedStart(CausalLayer):
    """The first layer of a raster network on a grid (H, W): a masked convolution that does not see its own pixel (mask A).

    inputs = outputs = width. wrap: see :class:`MaskedConv`.
    """

    def __init__(self, width: int, size: Size, kernel: int = 7, wrap: bool = False) -> None:
        super().__init__()
        self.width, self.size, self.kernel, self.wrap = width, (size[0], size[1]), kernel, wrap
        self.near = MaskedConv(width, width, kernel, own=False, wrap=wrap)

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        return self.near(h.unflatten(1, self.size)).flatten(1, 2)

    def init_state(self, n: int, like: Tensor) -> RowState:
        return self.near.init_state(n, self.size, like)

    def step(self, state: RowState, h: Tensor | None, t: int, c: Tensor) -> tuple[RowState, Tensor]:  # type: ignore[override]
        i, j = divmod(t, self.size[1])
        if h is not None:
            self.near.store(state, h.t(), *divmod(t - 1, self.size[1]))
        if j == 0:
            self.near.begin(state, i)
        return state, self.near.read(state, i, j).t()


class BlockState(NamedTuple):
    """Cache of a residual block: of its convolution; weights and biases of the layers before and after it."""

    near: RowState
    down: tuple[Tensor, Tensor]
    up: tuple[Tensor, Tensor]


class ResidualBlock(CausalLayer):
    r"""h + W_3 relu(K * relu(W_1 relu(h))) on half the width, K a masked convolution of mask B; (N, T, width).

    Raises ValueError on an odd width.
    """

    def __init__(self, width: int, size: Size, kernel: int = 3, dropout: float = 0.0) -> None:
        super().__init__()
        self.width, self.size, self.kernel, self.dropout = width, (size[0], size[1]), kernel, dropout
        if width % 2:
            raise ValueError(f"found width {width}, expected an even one: blocks work on half of it")
        self.down, self.up = nn.Linear(width, width // 2), nn.Linear(width // 2, width)
        self.near = MaskedConv(width // 2, width // 2, kernel)
        self.drop = nn.Dropout(dropout)

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        inner = self.near(F.relu(self.down(F.relu(h))).unflatten(1, self.size)).flatten(1, 2)
        return h + self.up(self.drop(F.relu(inner)))

    def init_state(self, n: int, like: Tensor) -> BlockState:
        down, up = (self.down.weight, self.down.bias[:, None]), (self.up.weight.t(), self.up.bias)
        return BlockState(self.near.init_state(n, self.size, like), down, up)

    def step(self, state: BlockState, h: Tensor, t: int, c: Tensor) -> tuple[BlockState, Tensor]:
        near, (i, j) = self.near, divmod(t, self.size[1])
        if j == 0:
            near.begin(state.near, i)
        weight, bias = state.down
        near.store(state.near, torch.addmm(bias, weight, h.t().relu()).relu_(), i, j)
        weight, bias = state.up
        return state, torch.addmm(bias, near.read(state.near, i, j).relu_().t(), weight).add_(h)
