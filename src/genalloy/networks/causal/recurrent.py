r"""Recurrent layers along a sequence: what a token may see is bounded by nothing, at the price of T steps a pass.

With n = LayerNorm(h), a long short-term memory (Hochreiter & Schmidhuber, 1997; Gers, Schmidhuber & Cummins, 2000),

.. math:: i, f, g, o = W n_t + U s_{t-1} + b, \qquad m_t = \sigma(f) m_{t-1} + \sigma(i) \tanh(g), \qquad
          s_t = \sigma(o) \tanh(m_t),

or a gated recurrent unit (Cho et al., 2014),

.. math:: r, u = \sigma(W n_t + U s_{t-1} + b), \qquad g = \tanh(W_g n_t + b_g + r \odot (U_g s_{t-1} + b_s)), \qquad
          s_t = (1 - u)\, g + u\, s_{t-1},

and the layer's output is :math:`h_t + V s_t`. The parallel pass is torch's fused recurrence; a step is the same cell once, on
the same weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genalloy.core.spec import Value
from genalloy.networks.causal.network import CausalLayer

Memory = tuple[Tensor, ...]


@dataclass(frozen=True)
class LSTM(Value):
    """A long short-term memory (Hochreiter & Schmidhuber, 1997; Gers, Schmidhuber & Cummins, 2000); see the module's text.

    forget: the forget gate's bias at the start, so that a new layer remembers about exp(forget) tokens.
    """

    forget: float = 2.0

    def module(self, width: int, hidden: int) -> nn.LSTM:
        """torch's layer, (N, T, width) -> (N, T, hidden)."""
        lstm = nn.LSTM(width, hidden, batch_first=True)
        with torch.no_grad():
            for bias, value in zip(lstm.all_weights[0][2:], (self.forget, 0.0), strict=True):
                bias[hidden : 2 * hidden] = value
        return lstm

    def start(self, n: int, hidden: int, like: Tensor) -> Memory:
        """Output and memory before the first token."""
        return like.new_zeros(n, hidden), like.new_zeros(n, hidden)

    def cell(self, x: Tensor, memory: Memory, weights: Sequence[Tensor]) -> Memory:
        """One token; the first entry is the output."""
        return torch.lstm_cell(x, memory, *weights)


@dataclass(frozen=True)
class GRU(Value):
    """A gated recurrent unit (Cho et al., 2014, arXiv:1406.1078); see the module's text."""

    def module(self, width: int, hidden: int) -> nn.GRU:
        """torch's layer, (N, T, width) -> (N, T, hidden)."""
        return nn.GRU(width, hidden, batch_first=True)

    def start(self, n: int, hidden: int, like: Tensor) -> Memory:
        """Output before the first token."""
        return (like.new_zeros(n, hidden),)

    def cell(self, x: Tensor, memory: Memory, weights: Sequence[Tensor]) -> Memory:
        """One token."""
        return (torch.gru_cell(x, memory[0], *weights),)


class Recurrent(CausalLayer):
    r"""h_t + V cell(LayerNorm(h)_t, the state before): (N, T, width) -> (N, T, width); see the module's text.

    cell: LSTM() or GRU(); hidden: size of its state, `width` where 0. dropout: on what is added.
    """

    def __init__(self, width: int, cell: LSTM | GRU = LSTM(), hidden: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        self.width, self.cell, self.hidden, self.dropout = width, cell, hidden, dropout
        self.size = hidden or width
        self.norm = nn.LayerNorm(width)
        self.recurrence = cell.module(width, self.size)
        self.leave = nn.Linear(self.size, width)

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        """h (N, T, width) -> the same shape, by torch's fused recurrence; c is not used."""
        added = self.leave(self.recurrence(self.norm(h))[0])
        return h + F.dropout(added, self.dropout, self.training)

    def init_state(self, n: int, like: Tensor) -> Memory:
        """The cell's state before the first token of n sequences: zeros, each (n, hidden)."""
        return self.cell.start(n, self.size, like)

    def step(self, state: Memory, h: Tensor, t: int, c: Tensor) -> tuple[Memory, Tensor]:
        """The cell's next state, and the output (N, width) of token t from h (N, width); without dropout; c is not used."""
        state = self.cell.cell(self.norm(h), state, self.recurrence.all_weights[0])
        return state, h + self.leave(state[0])
