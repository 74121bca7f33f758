"""Row LSTM and Diagonal BiLSTM: what each pixel may see, exactly; LSTM against torch's; steps against the parallel pass."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from genalloy.core.spec import from_spec, to_spec
from genalloy.heads.discrete import Categorical
from genalloy.laws.stepwise import cached_equals_naive
from genalloy.laws.subject import Subject, perturb_parameters
from genalloy.models.autoregressive import Autoregressive
from genalloy.networks.causal.network import CausalLayer, CausalNet, Pixels
from genalloy.networks.causal.pixel_rnn import DiagonalBiLSTM, RowLSTM, cell, skewed, unskewed
from genalloy.networks.causal.pixelcnn import MaskedStart
from genalloy.networks.causal.positions import PositionalEmbedding
from genalloy.networks.input_embedding import OneHot, ScaledInput

SIZE = (5, 9)
Shape = tuple[int, ...]


def start(size: Shape, reach: int, wrap: bool = False) -> Tensor:
    """Sets of pixels (H, W, H, W) that the first layer's outputs see."""
    height, width = size
    seen = torch.zeros(*size, *size, dtype=torch.bool)
    taps = [(-a, d) for a in range(1, reach + 1) for d in range(-reach, reach + 1)] + [(0, -d) for d in range(1, reach + 1)]
    for i in range(height):
        for j in range(width):
            for row, column in ((i + a, j + d) for a, d in taps):
                if wrap and column == -1 and row >= 1:
                    row, column = row - 1, width - 1
                if row >= 0 and 0 <= column < width:
                    seen[i, j, row, column] = True
    return seen


def after_rows(seen: Tensor, reach: int) -> Tensor:
    """Through a Row LSTM: its own inputs from the left, states above within reach, by recursion."""
    height, width = seen.shape[:2]
    states = torch.zeros_like(seen)
    for i in range(height):
        for j in range(width):
            states[i, j] = seen[i, max(0, j - reach) : j + 1].any(0)
            if i > 0:
                states[i, j] |= states[i - 1, max(0, j - reach) : j + reach + 1].any(0)
    return states


def after_diagonals(seen: Tensor) -> Tensor:
    """Through a Diagonal BiLSTM: all above and left, and all above the row before and right, as rectangles."""
    result = torch.zeros_like(seen)
    for i in range(seen.shape[0]):
        for j in range(seen.shape[1]):
            result[i, j] = seen[: i + 1, : j + 1].flatten(0, 1).any(0)
            if i > 0:
                result[i, j] |= seen[:i, j:].flatten(0, 1).any(0)
    return result


def build(
    layers: list[CausalLayer],
    event: Shape,
    kernel: int = 3,
    wrap: bool = False,
    contexts: tuple[Shape, ...] = (),
    levels: int = 0,
) -> CausalNet:
    size, entry = event[1:], OneHot(levels) if levels else ScaledInput()
    every: list[torch.nn.Module] = list(layers)
    return CausalNet(event, 3, MaskedStart(4, size, kernel, wrap), every, PositionalEmbedding(size, 4, contexts), Pixels(), entry)


def found(network: CausalNet) -> Tensor:
    """Which entries of the Jacobian are not zero, under positive weights."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.1 + 0.2 * parameter.abs())
    x = torch.rand(1, *SIZE, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(network.double().eval(), x, vectorize=True)
    return jacobian.abs().sum(3)[0, :, :, 0] > 0


def before() -> Tensor:
    area = SIZE[0] * SIZE[1]
    return torch.ones(area, area, dtype=torch.bool).tril(-1).view(*SIZE, *SIZE)


@pytest.mark.parametrize(("first", "kernels"), [(3, (3,)), (7, (3,)), (3, (5,)), (3, (3, 3))])
def test_row_lstm_sees_exactly_its_triangle(first: int, kernels: tuple[int, ...]) -> None:
    network = build([RowLSTM(4, SIZE, k) for k in kernels], (1, *SIZE), first)
    expected = start(SIZE, first // 2)
    for kernel in kernels:
        expected = after_rows(expected, kernel // 2) | expected  # the residual
    assert torch.equal(found(network), expected)
    if kernels == (3,) and first == 3:  # the widening triangle itself: one more column a row at the right
        assert [int(expected[4, 3, row].nonzero().max()) for row in range(4)] == [7, 6, 5, 4]
    assert not expected[4, 0, 3, 8]


@pytest.mark.parametrize("depth", [1, 2])
def test_diagonal_bilstm_sees_all_previous_pixels(depth: int) -> None:
    layers = [DiagonalBiLSTM(4, SIZE) for _ in range(depth)]
    assert torch.equal(found(build(layers, (1, *SIZE), 3, wrap=True)), before())


@pytest.mark.parametrize("depth", [1, 2])
def test_without_wrapping_the_last_pixel_of_the_row_before_is_missed(depth: int) -> None:
    layers = [DiagonalBiLSTM(4, SIZE) for _ in range(depth)]
    expected = start(SIZE, 1)
    for _ in range(depth):
        expected = after_diagonals(expected) | expected
    assert torch.equal(found(build(layers, (1, *SIZE), 3)), expected)
    missed = (before() & ~expected).nonzero()
    assert len(missed) > 0 and all(r == i - 1 and c == SIZE[1] - 1 for i, _, r, c in missed.tolist())


def test_wrapped_start_is_as_predicted() -> None:
    assert torch.equal(found(build([], (1, *SIZE), 5, wrap=True)), start(SIZE, 2, wrap=True))


def test_skewing_moves_row_i_by_i_places() -> None:
    x = torch.randn(2, 3, 4, 5)
    y = skewed(x)
    assert y.shape == (2, 3, 6, 5)
    assert torch.equal(y[:, 2, 2:], x[:, 2]) and (y[:, 2, :2] == 0).all() and (y[:, 0, 4:] == 0).all()
    assert torch.equal(unskewed(y), x)


def test_cell_equals_torchs() -> None:
    theirs = torch.nn.LSTMCell(3, 2).double()
    x, state, memory = torch.randn(5, 3).double(), torch.randn(5, 2).double(), torch.randn(5, 2).double()
    expected = theirs(x, (state, memory))
    gates = x @ theirs.weight_ih.t() + theirs.bias_ih + state @ theirs.weight_hh.t() + theirs.bias_hh
    i, f, g, o = gates.chunk(4, 1)
    torch.testing.assert_close(cell(torch.cat([o, f, i, g], 1), memory, 1), expected)


def test_diagonal_scan_equals_the_recurrence_pixel_by_pixel() -> None:
    layer, (height, width) = DiagonalBiLSTM(4, (3, 4), hidden=2).double(), (3, 4)
    h = torch.randn(2, 12, 4, dtype=torch.float64)
    gates = layer.enter(h).view(2, 3, 4, 2, 8)
    sums = torch.zeros(2, 3, 4, 2, dtype=torch.float64)
    for way, columns, down in ((0, range(width), 0), (1, range(width - 1, -1, -1), 1)):
        states = torch.zeros(2, height + 1, width, 2, dtype=torch.float64)  # a row of zeros first
        for i in range(height):
            state = memory = torch.zeros(2, 2, dtype=torch.float64)
            for j in columns:
                near = torch.cat([state, states[:, i, j]], -1)
                state, memory = cell(gates[:, i, j, way] + near @ layer.recurrent[way], memory, 1)
                states[:, i + 1, j] = state
        sums += states[:, :height] if down else states[:, 1:]
    torch.testing.assert_close(layer(h, h), h + layer.up(sums.flatten(1, 2)))


def rows(size: Shape) -> list[CausalLayer]:
    return [RowLSTM(4, size), RowLSTM(4, size, 5, 3)]


def diagonals(size: Shape) -> list[CausalLayer]:
    return [DiagonalBiLSTM(4, size), DiagonalBiLSTM(4, size, 3)]


@pytest.mark.parametrize("make", [rows, diagonals])
@pytest.mark.parametrize("event", [(1, 4, 5), (3, 3, 4), (2, 1, 4), (1, 4, 1)])
@pytest.mark.parametrize("contexts", [(), ((3,), (1, 2, 2))])
def test_steps_equal_the_parallel_pass(make, event: Shape, contexts: tuple[Shape, ...]) -> None:
    torch.manual_seed(1)
    network = build(make(event[1:]), event, wrap=True, contexts=contexts, levels=3)
    part = perturb_parameters(Autoregressive(network, Categorical(3), event, contexts)).eval()
    cached_equals_naive(Subject(part, event, contexts, True, 3))


@pytest.mark.parametrize("layer", [RowLSTM(4, (4, 4), 3, 3), DiagonalBiLSTM(4, (4, 4), 3)], ids=["row", "diagonal"])
def test_saved_and_rebuilt(layer: CausalLayer) -> None:
    network = build([layer], (1, 4, 4)).eval()
    x = torch.rand(2, 1, 4, 4)
    torch.testing.assert_close(from_spec(*to_spec(network)).eval()(x), network(x))
