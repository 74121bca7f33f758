r"""The recurrences of PixelRNN: Row LSTM and Diagonal BiLSTM (van den Oord, Kalchbrenner & Kavukcuoglu, 2016).

Both are residual layers over maps of features x behind a strict first layer: an LSTM of `hidden` units at every pixel, and a
1x1 convolution back to the width of x,

.. math:: [o, f, i] = \sigma(\cdot), \quad g = \tanh(\cdot), \quad (\cdot) = K_{is} * x + K_{ss} * s, \qquad
          c' = f \odot c + i \odot g, \quad s' = o \odot \tanh c', \qquad x' = x + W s' + b.

*Row LSTM* goes down the image, all pixels of a row at once: K_is is a masked k x 1 convolution along the row (mask B), K_ss an
unmasked one over the states s of the row above, c the cell above. Its context is a triangle above the pixel that widens by
(k - 1) / 2 a row, and what the first layer sees from there.

*Diagonal BiLSTM* goes along the diagonals: the state at (i, j) follows those at (i, j - 1), whose cell it goes on from, and
(i - 1, j); a second LSTM goes from right to left, (i, j + 1) and (i - 1, j). Each row shifted by one against the row above turns
diagonals into columns, computed at once in both directions. The second one's states are taken from the row above, so that
nothing later is seen:

.. math:: x'_{ij} = x_{ij} + W (s^{\to}_{ij} + s^{\leftarrow}_{i-1,j}) + b.

Its context is everything before the pixel, but for one exception: features are strict, so none in the row above has
seen that row's last pixel. With zeros around the image, it is missed by all pixels of the next row that are further from it
than the first layer reaches. ``MaskedStart(wrap=True)`` puts it left of the next row's first pixel, and nothing is missed.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genalloy.networks.causal.convolution import PixelCache, Size
from genalloy.networks.causal.network import CausalLayer
from genalloy.networks.causal.pixelcnn import MaskedConv


def cell(gates: Tensor, c: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """LSTM: gates (o, f, i, g along `axis`, 4 hidden) and cell -> state and cell."""
    hidden = c.shape[axis]
    opened, g = gates.split([3 * hidden, hidden], axis)
    o, f, i = torch.sigmoid(opened).chunk(3, axis)
    c = torch.addcmul(f * c, i, torch.tanh(g))
    return o * torch.tanh(c), c


def _remembering(bias: Tensor, hidden: int) -> None:
    """Forget gates start open."""
    with torch.no_grad():
        bias.view(-1, 4, hidden)[:, 1] += 1.0


class RowLSTMState(NamedTuple):
    """Cache of a Row LSTM, images last: of the masked convolution (its `sums` hold what the states above add), padded states
    (W + k - 1, hidden, N) and cells (W, hidden, N), of this row up to the pixel in turn, of the row above from there."""

    enter: PixelCache
    states: Tensor
    cells: Tensor
    weight: Tensor
    up: tuple[Tensor, Tensor]


class RowLSTM(CausalLayer):
    """See the module's text; (N, T, width). kernel: odd k of both convolutions. hidden: units, width / 2 where 0."""

    def __init__(self, width: int, size: Size, kernel: int = 3, hidden: int = 0) -> None:
        super().__init__()
        self.width, self.size, self.kernel, self.hidden = width, (size[0], size[1]), kernel, hidden
        self.units = hidden or width // 2
        self.enter = MaskedConv(width, 4 * self.units, kernel, rows=0)
        bound = (kernel * self.units) ** -0.5
        self.recurrent = nn.Parameter(torch.empty(kernel * self.units, 4 * self.units).uniform_(-bound, bound))
        self.up = nn.Linear(self.units, width)
        _remembering(self.enter.bias, self.units)

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        rows = self.enter(h.unflatten(1, self.size)).transpose(0, 1).flatten(1, 2).unbind(0)
        n, width = len(h), self.size[1]
        state = memory = h.new_zeros(n * width, self.units)
        states = []
        for i, gates in enumerate(rows):
            if i > 0:
                gates = torch.addmm(gates, self._window(state.view(n, width, -1)), self.recurrent)
            state, memory = cell(gates, memory, 1)
            states.append(state)
        out = torch.stack(states, 0).unflatten(1, (n, width)).transpose(0, 1).flatten(1, 2)
        return h + self.up(out)

    def _window(self, state: Tensor) -> Tensor:
        """(N, W, hidden) -> the states around each pixel, (N W, k hidden)."""
        reach, width = self.kernel // 2, state.shape[1]
        padded = F.pad(state, (0, 0, reach, reach))
        return torch.cat([padded[:, k : k + width] for k in range(self.kernel)], -1).flatten(0, 1)

    def init_state(self, n: int, like: Tensor) -> RowLSTMState:
        width = self.size[1]
        states = like.new_zeros(width + self.kernel - 1, self.units, n)
        cells = like.new_zeros(width, self.units, n)
        up = (self.up.weight.t(), self.up.bias)
        return RowLSTMState(self.enter.cache(n, width), states, cells, self.recurrent.t(), up)

    def step(self, state: RowLSTMState, h: Tensor, t: int, c: Tensor) -> tuple[RowLSTMState, Tensor]:
        i, j = divmod(t, self.size[1])
        if j == 0 and i > 0:
            self._begin(state)
        hidden, memory = cell(state.enter.next(h, j).t(), state.cells[j], 0)
        state.cells[j] = memory
        state.states[j + self.kernel // 2] = hidden
        weight, bias = state.up
        return state, torch.addmm(bias, hidden.t(), weight).add_(h)

    def _begin(self, state: RowLSTMState) -> None:
        """What the row above adds to the gates of all pixels of this one."""
        width = self.size[1]
        window = torch.cat([state.states[k : k + width] for k in range(self.kernel)], 1)
        state.enter.sums[0].copy_(torch.matmul(state.weight, window).transpose(1, 2)).add_(self.enter.bias)


# -- along the diagonals ----------------------------------------------------------------------------------------------


class DiagonalWeights(NamedTuple):
    """Weights as matrices on images last. near: (4 hidden, width + hidden), of x and the state at the left, bias; above: of the
    state above. The same from right to left: enter of x, beside of the state at the right, above. up: of the output."""

    near: Tensor
    bias: Tensor
    above: Tensor
    enter_back: Tensor
    bias_back: Tensor
    beside_back: Tensor
    above_back: Tensor
    up: tuple[Tensor, Tensor]


class DiagonalState(NamedTuple):
    """Cache of a Diagonal BiLSTM, images last.

    inputs (W, width, N) of this row; states of this row up to the pixel in turn and of the row above from there, and of the
    LSTM from right to left in the row above, both (W, hidden, N); what the row above adds to this row's gates; state and cell
    in turn.
    """

    weights: DiagonalWeights
    inputs: Tensor
    states: Tensor
    back: Tensor
    above: Tensor
    hidden: Tensor
    memory: Tensor


class DiagonalBiLSTM(CausalLayer):
    """See the module's text; (N, T, width). hidden: units of each direction, width / 2 where 0."""

    def __init__(self, width: int, size: Size, hidden: int = 0) -> None:
        super().__init__()
        self.width, self.size, self.hidden = width, (size[0], size[1]), hidden
        self.units = hidden or width // 2
        self.enter = nn.Linear(width, 8 * self.units)
        bound = (2 * self.units) ** -0.5
        self.recurrent = nn.Parameter(torch.empty(2, 2 * self.units, 4 * self.units).uniform_(-bound, bound))
        self.up = nn.Linear(self.units, width)
        _remembering(self.enter.bias, self.units)

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        gates = self.enter(h).unflatten(-1, (2, -1)).unflatten(1, self.size).permute(3, 0, 1, 2, 4)
        ahead, back = self._scan(skewed(torch.stack([gates[0], gates[1].flip(2)])))
        shifted = F.pad(back.flip(2), (0, 0, 0, 0, 1, 0))[:, :-1]
        return h + self.up((ahead + shifted).flatten(1, 2))

    def _scan(self, gates: Tensor) -> Tensor:
        """Both LSTMs over skewed inputs to their gates (2, N, H, D, 4 hidden) -> states (2, N, H, W, hidden)."""
        _, n, height, _, _ = gates.shape
        state = gates.new_zeros(2, height, n, self.units)
        memory = state.flatten(1, 2)
        states = []
        # where a column leaves the image its gates are zeros, and so are the states that come of it
        for column in gates.permute(3, 0, 2, 1, 4).flatten(2, 3).contiguous().unbind(0):
            above = F.pad(state, (0, 0, 0, 0, 1, 0))[:, :-1]
            window = torch.cat([state, above], -1).flatten(1, 2)
            flat, memory = cell(torch.baddbmm(column, window, self.recurrent), memory, 2)
            state = flat.unflatten(1, (height, n))
            states.append(state)
        return unskewed(torch.stack(states).permute(1, 3, 2, 0, 4))

    @torch.no_grad()
    def init_state(self, n: int, like: Tensor) -> DiagonalState:
        width, units = self.size[1], self.units
        hidden = like.new_zeros(width, units, n)
        zero = like.new_zeros(units, n)
        above = self.enter.bias[: 4 * units, None].expand(width, -1, n).contiguous()
        inputs = like.new_zeros(width, self.width, n)
        return DiagonalState(self._weights(), inputs, hidden, torch.zeros_like(hidden), above, zero, zero)

    def _weights(self) -> DiagonalWeights:
        enter, enter_back = self.enter.weight.chunk(2)
        bias, bias_back = self.enter.bias[:, None].chunk(2)
        (beside, above), (beside_back, above_back) = (r.t().chunk(2, 1) for r in self.recurrent)
        near, up = torch.cat([enter, beside], 1), (self.up.weight.t(), self.up.bias)
        return DiagonalWeights(near, bias, above, enter_back, bias_back, beside_back, above_back, up)

    def step(self, state: DiagonalState, h: Tensor, t: int, c: Tensor) -> tuple[DiagonalState, Tensor]:
        i, j = divmod(t, self.size[1])
        weights = state.weights
        if j == 0 and i > 0:
            state = self._begin(state)
        state.inputs[j] = h.t()
        gates = torch.addmm(state.above[j], weights.near, torch.cat([state.inputs[j], state.hidden]))
        hidden, memory = cell(gates, state.memory, 0)
        state.states[j] = hidden
        weight, bias = weights.up
        out = torch.addmm(bias, (hidden + state.back[j]).t(), weight).add_(h)
        return state._replace(hidden=hidden, memory=memory), out

    def _begin(self, state: DiagonalState) -> DiagonalState:
        """The LSTM from right to left along the row that ended, and what that row adds to the gates of the new one."""
        weights, zero = state.weights, torch.zeros_like(state.hidden)
        gates = torch.matmul(weights.enter_back, state.inputs) + weights.bias_back + torch.matmul(weights.above_back, state.back)
        hidden, memory = zero, zero
        for j in range(self.size[1] - 1, -1, -1):
            hidden, memory = cell(torch.addmm(gates[j], weights.beside_back, hidden), memory, 0)
            state.back[j] = hidden
        torch.add(torch.matmul(weights.above, state.states), weights.bias, out=state.above)
        return state._replace(hidden=zero, memory=zero)


def skewed(x: Tensor) -> Tensor:
    """Maps (..., H, W, F) -> (..., H, H + W - 1, F), row i moved i places to the right: diagonals become columns."""
    height, width = x.shape[-3:-1]
    longer = F.pad(x, (0, 0, 0, height)).flatten(-3, -2)
    return longer[..., : height * (height + width - 1), :].unflatten(-2, (height, height + width - 1))


def unskewed(x: Tensor) -> Tensor:
    """The inverse of :func:`skewed`."""
    height = x.shape[-3]
    width = x.shape[-2] + 1 - height
    longer = F.pad(x.flatten(-3, -2), (0, 0, 0, height)).unflatten(-2, (height, height + width))
    return longer[..., :width, :]
