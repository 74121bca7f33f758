r"""PixelSNAIL: gated causal convolutions for what is near, attention for what is far (Chen, Mishra, Rohaninejad & Abbeel, 2018).

With the network's input x (the strict first layer's output), the place map c and :math:`\phi(h) = \text{elu}([h, -h])`, a
block is `repeats` gated residuals with a masked convolution (mask B), attention over all pixels so far, and one more gated
residual:

.. math:: h \leftarrow h + a \odot \sigma(b), \quad (a, b) = W_2\, \phi(W_1 * \phi(h)), \\
          q_t = Q [h_t, c_t], \quad k_s = K [x_s, h_s, c_s], \quad v_s = V [x_s, h_s, c_s], \quad
          m_t = \sum_{s \le t} \text{softmax}_s(q_t \cdot k_s / \sqrt{d})\, v_s, \\
          h \leftarrow h + a \odot \sigma(b), \quad (a, b) = W_4\, \phi(W_3 \phi(h) + W_5 \phi(m)).

:math:`x_s` holds the pixels before s only, so that s = t is allowed and no row of the softmax is empty. Behind
``MaskedStart(wrap=True)`` one block sees every pixel before its own: attention has no blind spot and no bound. (With zeros
around the image no feature of a row has seen that row's last pixel, and the next row's first pixels miss it.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genalloy.core.spec import Module, Value
from genalloy.networks.causal.convolution import PixelCache, Size
from genalloy.networks.causal.network import CausalLayer
from genalloy.networks.causal.pixelcnn import MaskedConv
from genalloy.networks.convolution import concat_elu


@dataclass(frozen=True)
class PixelSNAILStack(Value):
    """Blocks, gated convolutions in each, odd kernel, attention heads, features of a head (of its keys and values), dropout."""

    blocks: int = 2
    repeats: int = 2
    kernel: int = 3
    heads: int = 2
    size: int = 16
    dropout: float = 0.0


class GatedResidual(Module):
    """h + a sigmoid(b), (a, b) = W_2 phi(W_1 * phi(h)); (N, H, W, width)."""

    def __init__(self, width: int, kernel: int = 3, dropout: float = 0.0) -> None:
        super().__init__()
        self.width, self.kernel, self.dropout = width, kernel, dropout
        self.near = MaskedConv(2 * width, width, kernel)
        self.gates = nn.Linear(2 * width, 2 * width)
        self.drop = nn.Dropout(dropout)

    def forward(self, h: Tensor) -> Tensor:
        return h + F.glu(self.gates(self.drop(concat_elu(self.near(concat_elu(h))))))

    def step(self, cache: PixelCache, h: Tensor, j: int) -> Tensor:
        """Output (N, width) at pixel j of a row from the input there."""
        return h + F.glu(self.gates(concat_elu(cache.next(concat_elu(h), j))))


class Attended(NamedTuple):
    """Cache of attention: weight and bias of queries, keys and values from [h, x, c]; keys and values (N, heads, T, size)."""

    weight: Tensor
    bias: Tensor
    keys: Tensor
    values: Tensor


class PixelSNAILAttention(Module):
    """(x, h, c) -> m of the module's text, (N, T, width) and (N, T, heads * size)."""

    def __init__(self, width: int, heads: int, size: int) -> None:
        super().__init__()
        self.width, self.heads, self.size = width, heads, size
        each = heads * size
        self.from_features = nn.Linear(width, 3 * each)
        self.from_input = nn.Linear(width, 2 * each, bias=False)
        self.from_places = nn.Linear(width, 3 * each, bias=False)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> Tensor:
        total = self.from_features(h) + self.from_places(c) + F.pad(self.from_input(x), (self.heads * self.size, 0))
        q, k, v = total.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)

    def init_state(self, n: int, tokens: int, like: Tensor) -> Attended:
        unseen = (0, 0, self.heads * self.size, 0)  # queries do not read x
        parts = (self.from_features.weight, F.pad(self.from_input.weight, unseen), self.from_places.weight)
        empty = like.new_empty(n, self.heads, tokens, self.size)
        return Attended(torch.cat(parts, 1).t().contiguous(), self.from_features.bias, empty, torch.empty_like(empty))

    def step(self, state: Attended, x: Tensor, h: Tensor, t: int, c: Tensor) -> Tensor:
        total = torch.addmm(state.bias, torch.cat([h, x, c.expand_as(h)], 1), state.weight)
        q, k, v = total.view(-1, 3, self.heads, 1, self.size).unbind(1)
        state.keys[:, :, t : t + 1], state.values[:, :, t : t + 1] = k, v
        return F.scaled_dot_product_attention(q, state.keys[:, :, : t + 1], state.values[:, :, : t + 1]).flatten(1)


BlockState = tuple[tuple[PixelCache, ...], Attended]


class PixelSNAILBlock(Module):
    """Gated convolutions, attention, and the gated residual that joins them: (x, h, c) -> (N, T, width)."""

    def __init__(self, width: int, grid: Size, snail: PixelSNAILStack = PixelSNAILStack()) -> None:
        super().__init__()
        self.width, self.grid, self.snail = width, (grid[0], grid[1]), snail
        self.near = nn.ModuleList(GatedResidual(width, snail.kernel, snail.dropout) for _ in range(snail.repeats))
        self.far = PixelSNAILAttention(width, snail.heads, snail.size)
        self.join = nn.Linear(2 * (width + snail.heads * snail.size), width)
        self.gates = nn.Linear(2 * width, 2 * width)
        self.drop = nn.Dropout(snail.dropout)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> Tensor:
        image = h.unflatten(1, self.grid)
        for layer in self.near:
            image = layer(image)
        h = image.flatten(1, 2)
        return self._joined(h, self.far(x, h, c))

    def _joined(self, h: Tensor, m: Tensor) -> Tensor:
        inner = self.join(torch.cat([concat_elu(h), concat_elu(m)], -1))
        return h + F.glu(self.gates(self.drop(concat_elu(inner))))

    def init_state(self, n: int, like: Tensor) -> BlockState:
        layers: list[Any] = list(self.near)
        height, width = self.grid
        return tuple(layer.near.cache(n, width) for layer in layers), self.far.init_state(n, height * width, like)

    def step(self, state: BlockState, x: Tensor, h: Tensor, t: int, c: Tensor) -> Tensor:
        """Output (N, width) of pixel t."""
        layers: list[Any] = list(self.near)
        for layer, cache in zip(layers, state[0], strict=True):
            h = layer.step(cache, h, t % self.grid[1])
        return self._joined(h, self.far.step(state[1], x, h, t, c))


class PixelSNAIL(CausalLayer):
    """All blocks of a PixelSNAIL on a grid (H, W): they share their first input x, which every one of them attends over."""

    def __init__(self, width: int, grid: Size, snail: PixelSNAILStack = PixelSNAILStack()) -> None:
        super().__init__()
        self.width, self.grid, self.snail = width, (grid[0], grid[1]), snail
        self.blocks = nn.ModuleList(PixelSNAILBlock(width, self.grid, snail) for _ in range(snail.blocks))

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        x = h
        for block in self.blocks:
            h = block(x, h, c)
        return h

    def init_state(self, n: int, like: Tensor) -> tuple[BlockState, ...]:
        return tuple(block.init_state(n, like) for block in self._blocks())

    def step(self, state: tuple[BlockState, ...], h: Tensor, t: int, c: Tensor) -> tuple[tuple[BlockState, ...], Tensor]:
        x = h
        for block, cache in zip(self._blocks(), state, strict=True):
            h = block.step(cache, x, h, t, c)
        return state, h

    def _blocks(self) -> list[PixelSNAILBlock]:
        return list(self.blocks)  # type: ignore[arg-type]
