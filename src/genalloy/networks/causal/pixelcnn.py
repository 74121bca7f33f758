r"""Masked convolutions over the pixels so far, and the plain PixelCNN (van den Oord, Kalchbrenner & Kavukcuoglu, 2016).

Pixels are tokens in raster order on a grid (H, W). A masked convolution reads the rows above its pixel whole and its own row
to the left, without the pixel itself (mask A, strict) or with it (mask B),

.. math:: y_{ij} = b + \sum_{a=1}^{r} \sum_{|d| \le r} K_{a,d}\, h_{i-a,\,j+d} + \sum_{d \le 0} L_d\, h_{i,\,j+d},
          \qquad r = (\text{kernel} - 1) / 2.

The plain PixelCNN is one 7x7 convolution of mask A and residual blocks :math:`h + W_3 \phi(K * \phi(W_1 \phi(h)))`, K of
mask B, :math:`\phi` = relu. It has a *blind spot*: d pixels to the right are only seen through at least d / r rows above, so a
wedge of pixels right of the output's column never enters, however deep the network is.

Step by step, see :class:`genalloy.networks.causal.convolution.PixelCache`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genalloy.core.spec import Module
from genalloy.networks.causal.convolution import PixelCache, Size
from genalloy.networks.causal.network import CausalLayer


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
    def cache(self, n: int, width: int) -> PixelCache:
        """Of n images of that width."""
        sides = (self.reach, self.reach)
        return PixelCache(self.above, self.beside, self.bias, sides, n, width, itself=self.own, wrap=self.wrap)


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

    def init_state(self, n: int, like: Tensor) -> PixelCache:
        return self.near.cache(n, self.size[1])

    def step(self, state: PixelCache, h: Tensor | None, t: int, c: Tensor) -> tuple[PixelCache, Tensor]:  # type: ignore[override]
        width = self.size[1]
        if h is not None:
            state.store(h, (t - 1) % width)
        if t % width == 0:
            state.begin()
        return state, state.read(t % width)


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

    def init_state(self, n: int, like: Tensor) -> PixelCache:
        return self.near.cache(n, self.size[1])

    def step(self, state: PixelCache, h: Tensor, t: int, c: Tensor) -> tuple[PixelCache, Tensor]:
        inner = state.next(F.relu(self.down(F.relu(h))), t % self.size[1])
        return state, h + self.up(F.relu(inner))
