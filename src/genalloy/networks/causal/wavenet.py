r"""Causal convolutions along a sequence, dilated, with ring buffers: the raster CNN's layer and WaveNet's blocks.

A convolution of kernel k and dilation d sees :math:`h_t, h_{t-d}, \dots, h_{t-(k-1)d}`, zeros before the start. Behind a
strict first layer, L of them see exactly the

.. math:: 1 + \sum_l (k_l - 1)\, d_l

tokens before t. WaveNet (van den Oord et al., 2016) stacks gated blocks whose dilations double,

.. math:: z = \tanh(W_f * h + V_f c) \odot \sigma(W_g * h + V_g c), \qquad h \leftarrow h + R z, \qquad
          s = b + \textstyle\sum_l S_l z_l,

with the map c of the context (local where it varies along the sequence, global where it does not) in every gate. Biases of R
are left out: h enters gates linearly, so that the gates' own biases hold them.

Step by step only columns up to :math:`(k - 1) d` back are kept, in a ring. What the past adds to the gates of *all* blocks of a
token does not depend on the token, so that it is one gather and one batched product; then each block is one product, its
gate, and one product for h.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genalloy.networks.causal.network import CausalLayer


class Ring(NamedTuple):
    """Cache of a convolution: last columns (N, span, width), distances of the taps (k,), weight (k * width, out) in place."""

    columns: Tensor
    back: Tensor
    weight: Tensor


class CausalConvolution(CausalLayer):
    r"""h_t + W silu(b + sum_j K_j n_{t - j d}), j < kernel, with n = LayerNorm(h): (N, T, width) -> (N, T, width).

    kernel: number of taps; dilation: tokens between them. dropout: on what is added. Raises ValueError where one is below 1.
    """

    def __init__(self, width: int, kernel: int = 3, dilation: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        _check(kernel, (dilation,))
        self.width, self.kernel, self.dilation, self.dropout = width, kernel, dilation, dropout
        self.norm = nn.LayerNorm(width)
        # of one row: channels-last memory is faster for images than for sequences
        self.taps = nn.Conv2d(width, width, (1, kernel), dilation=(1, dilation))
        self.leave = nn.Linear(width, width)

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        seen = F.pad(self.norm(h), (0, 0, (self.kernel - 1) * self.dilation, 0))
        added = self.leave(F.silu(self.taps(seen.transpose(1, 2).unsqueeze(2)).squeeze(2).transpose(1, 2)))
        return h + F.dropout(added, self.dropout, self.training)

    def init_state(self, n: int, like: Tensor) -> Ring:
        back = torch.arange(self.kernel - 1, -1, -1, device=like.device) * self.dilation
        span = (self.kernel - 1) * self.dilation + 1
        weight = self.taps.weight.squeeze(2).permute(2, 1, 0).reshape(-1, self.width)
        return Ring(like.new_zeros(n, span, self.width), back, weight)

    def step(self, state: Ring, h: Tensor, t: int, c: Tensor) -> tuple[Ring, Tensor]:
        columns, back, weight = state
        span = columns.shape[1]
        columns[:, t % span] = self.norm(h)
        seen = columns.index_select(1, (t - back) % span).flatten(1)
        return state, h + self.leave(F.silu(torch.addmm(self.taps.bias, seen, weight)))  # type: ignore[arg-type]


def doubling(length: int, repeats: int = 1) -> tuple[int, ...]:
    """1, 2, 4, ..., 2^(length - 1), the whole `repeats` times: WaveNet's dilations."""
    return tuple(2**i for i in range(length)) * repeats


def reach(dilations: tuple[int, ...], kernel: int) -> int:
    """Earlier tokens that are seen behind a strict first layer, that layer's one included."""
    return 1 + (kernel - 1) * sum(dilations)


class Rings(NamedTuple):
    """Cache of all blocks: past inputs (slots, N, width), where taps lie (L, kernel - 1): first slot, distance and number of
    slots of each; the weights as the steps use them, a list over blocks where they are used one at a time."""

    columns: Tensor
    first: Tensor
    back: Tensor
    spans: Tensor
    past: Tensor
    given: Tensor | None
    now: tuple[Tensor, ...]
    residual: tuple[Tensor, ...]


class WaveNet(CausalLayer):
    r"""All gated blocks as one layer: h, c -> the sum of their skips, (N, T, width); see the module's text.

    dilations: one block each; kernel: taps of a block. conditioned: whether c enters the gates. dropout: on the blocks' inputs.
    Raises ValueError where kernel or a dilation is below 1, or without a block. van den Oord et al., 2016.
    """

    def __init__(
        self, width: int, dilations: tuple[int, ...], kernel: int = 2, conditioned: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        _check(kernel, dilations)
        self.width, self.dilations, self.kernel = width, tuple(dilations), kernel
        self.conditioned, self.dropout = conditioned, dropout
        blocks = len(self.dilations)
        self.gates = _uniform((blocks, kernel * width, 2 * width), kernel * width)
        self.bias = nn.Parameter(torch.zeros(blocks, 2 * width))
        self.given = _uniform((blocks, width, 2 * width), width) if conditioned else None
        self.residual = _uniform((blocks - 1, width, width), width)
        self.skip = _uniform((blocks, width, width), blocks * width)
        self.skip_bias = nn.Parameter(torch.zeros(width))

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        c = c[:, :1] if c.stride(1) == 0 else c
        total = self.skip_bias.expand(math.prod(h.shape[:2]), -1)
        for block, dilation in enumerate(self.dilations):
            z = self._gated(h, c, block, dilation).flatten(0, 1)
            total = torch.addmm(total, z, self.skip[block])
            if block < len(self.residual):
                h = torch.addmm(h.flatten(0, 1), z, self.residual[block]).view(h.shape)
        return total.view(h.shape)

    def _gated(self, h: Tensor, c: Tensor, block: int, dilation: int) -> Tensor:
        """z (N, T, width). Taps, and c where it varies, are one product; a constant c is added."""
        h, steps = F.dropout(h, self.dropout, self.training), h.shape[1]
        padded = F.pad(h, (0, 0, (self.kernel - 1) * dilation, 0))
        seen = [padded[:, i * dilation : i * dilation + steps] for i in range(self.kernel - 1)]
        weight, bias = self.gates[block], self.bias[block]
        if self.given is None:
            return _gate(torch.addmm(bias, _joined([*seen, h]), weight).unflatten(0, h.shape[:2]))
        if c.shape[:2] == h.shape[:2]:
            weight = torch.cat([weight, self.given[block]])
            return _gate(torch.addmm(bias, _joined([*seen, h, c]), weight).unflatten(0, h.shape[:2]))
        return _gate((_joined([*seen, h]) @ weight).unflatten(0, h.shape[:2]) + (c @ self.given[block] + bias))

    def init_state(self, n: int, like: Tensor) -> Rings:
        device = like.device
        dilation = torch.tensor(self.dilations, device=device)[:, None]
        spans = (self.kernel - 1) * dilation
        first = spans.cumsum(0) - spans
        back = dilation * torch.arange(self.kernel - 1, 0, -1, device=device)
        past, now = self.gates.split([(self.kernel - 1) * self.width, self.width], 1)
        columns = like.new_zeros(int(spans.sum()), n, self.width)
        given = None if self.given is None else self.given.transpose(0, 1).flatten(1)
        return Rings(columns, first, back, spans.clamp(min=1), past, given, now.unbind(0), self.residual.unbind(0))

    def step(self, state: Rings, h: Tensor, t: int, c: Tensor) -> tuple[Rings, Tensor]:
        slots = state.first + (t - state.back) % state.spans
        gates = self._known(state, slots, len(h), c)
        inputs, outputs, views = [], [], zip(gates, gates.narrow(-1, 0, self.width), strict=True)
        for block, (gate, filtered) in enumerate(views):
            inputs.append(h)
            gate.addmm_(h, state.now[block])
            filtered.tanh_()
            outputs.append(F.glu(gate))
            if block < len(state.residual):
                h = torch.addmm(h, outputs[-1], state.residual[block])
        if self.kernel > 1:
            # the farthest tap has just been read for the last time
            state.columns.index_copy_(0, slots[:, 0], torch.stack(inputs))
        return state, torch.addmm(self.skip_bias, torch.cat(outputs, 1), self.skip.flatten(0, 1))

    def _known(self, state: Rings, slots: Tensor, n: int, c: Tensor) -> Tensor:
        """What past and context add to the gates of every block, (L, n, 2 width), to be added to in place."""
        start = self.bias.unsqueeze(1)
        if state.given is not None:
            start = torch.addmm(self.bias.flatten(), c, state.given).unflatten(1, self.bias.shape).transpose(0, 1)
        start = start.expand(-1, n, -1)
        if self.kernel == 1:
            return start.clone()
        seen = state.columns.index_select(0, slots.flatten()).unflatten(0, slots.shape)
        return torch.baddbmm(start, seen.transpose(1, 2).flatten(2), state.past)


def _gate(a: Tensor) -> Tensor:
    """tanh of the first half times sigmoid of the second, (..., 2 width) -> (..., width)."""
    filtered, gate = a.chunk(2, -1)
    return torch.tanh(filtered) * torch.sigmoid(gate)


def _joined(columns: list[Tensor]) -> Tensor:
    """(N, T, a), (N, T, b), ... -> (N * T, a + b + ...)."""
    return torch.cat(columns, -1).flatten(0, 1)


def _uniform(shape: tuple[int, ...], inputs: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape).uniform_(-(inputs**-0.5), inputs**-0.5))


def _check(kernel: int, dilations: tuple[int, ...]) -> None:
    if kernel < 1 or not dilations or min(dilations) < 1:
        raise ValueError(f"found kernel {kernel} and dilations {dilations}, expected numbers of at least 1, one dilation a block")
