"""Recurrent layers: what came before reaches everything after it, and a step is the cell of the parallel pass."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from genalloy.core.spec import from_spec, to_spec
from genalloy.heads.discrete import Categorical
from genalloy.laws.stepwise import cached_equals_naive
from genalloy.laws.subject import Subject, perturb_parameters
from genalloy.models.autoregressive import Autoregressive
from genalloy.networks.causal.network import CausalNet, Shift
from genalloy.networks.causal.positions import PositionalEmbedding
from genalloy.networks.causal.recurrent import GRU, LSTM, Recurrent
from genalloy.networks.input_embedding import OneHot, ScaledInput

T, WIDTH = 20, 4
CELLS = {"lstm": LSTM(), "gru": GRU()}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("cell", CELLS)
def test_every_element_sees_all_elements_before(cell: str) -> None:
    places = PositionalEmbedding((T,), WIDTH, positions=False)
    network = CausalNet((T,), 3, Shift(WIDTH), [Recurrent(WIDTH, CELLS[cell])], places, entry=ScaledInput()).double()
    for parameter in network.parameters():
        parameter.data = parameter.data.abs() / 2 + 0.05
    x = torch.rand(T, dtype=torch.float64) / 10
    found = torch.autograd.functional.jacobian(network, x, vectorize=True).abs().sum(1) > 0
    assert torch.equal(found, torch.ones(T, T, dtype=torch.bool).tril(-1))


@pytest.mark.parametrize("contexts", [(), ((3,), ())])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_steps_equal_the_parallel_pass(cell: str, layers: int, contexts: tuple[tuple[int, ...], ...]) -> None:
    stack = [Recurrent(WIDTH, CELLS[cell], hidden=3 + layer) for layer in range(layers)]
    network = CausalNet((9,), 3, Shift(WIDTH), stack, PositionalEmbedding((9,), WIDTH, contexts), entry=OneHot(3))
    part = perturb_parameters(Autoregressive(network, Categorical(3), (9,), contexts))
    cached_equals_naive(Subject(part, (9,), contexts, True, 3))


def lstm(layer: Recurrent, n: Tensor) -> Tensor:
    """The module's text, token by token: n (T, width) -> s (T, hidden)."""
    w, u, b, d = layer.recurrence.all_weights[0]
    s, m, out = torch.zeros(layer.size), torch.zeros(layer.size), []
    for row in n:
        i, f, g, o = (w @ row + b + u @ s + d).chunk(4)
        m = torch.sigmoid(f) * m + torch.sigmoid(i) * torch.tanh(g)
        s = torch.sigmoid(o) * torch.tanh(m)
        out.append(s)
    return torch.stack(out)


def gru(layer: Recurrent, n: Tensor) -> Tensor:
    """The module's text, token by token."""
    w, u, b, d = layer.recurrence.all_weights[0]
    s, out = torch.zeros(layer.size), []
    for row in n:
        (r, z, g), (r2, z2, s2) = (w @ row + b).chunk(3), (u @ s + d).chunk(3)
        r, z = torch.sigmoid(r + r2), torch.sigmoid(z + z2)
        s = (1 - z) * torch.tanh(g + r * s2) + z * s
        out.append(s)
    return torch.stack(out)


@pytest.mark.parametrize("formula", [lstm, gru])
@torch.no_grad()
def test_layers_are_their_formulas(formula) -> None:
    layer, h = Recurrent(WIDTH, CELLS[formula.__name__], hidden=5), torch.randn(2, T, WIDTH)
    expected = h + layer.leave(torch.stack([formula(layer, n) for n in layer.norm(h)]))
    torch.testing.assert_close(layer(h, h), expected, rtol=1e-4, atol=1e-5)


def test_a_new_lstm_remembers() -> None:
    """The forget gate's two biases sum to the given one."""
    recurrence = Recurrent(WIDTH, LSTM(forget=1.5)).recurrence
    total = recurrence.bias_ih_l0 + recurrence.bias_hh_l0
    torch.testing.assert_close(total[WIDTH : 2 * WIDTH], torch.full((WIDTH,), 1.5))


@pytest.mark.parametrize("cell", CELLS)
def test_saved_and_rebuilt(cell: str) -> None:
    layer, h = Recurrent(WIDTH, CELLS[cell], hidden=3), torch.randn(2, T, WIDTH)
    again = from_spec(*to_spec(layer))
    assert again.cell == layer.cell and again.hidden == 3
    torch.testing.assert_close(again(h, h), layer(h, h))


def test_dropout_is_for_training_alone() -> None:
    layer, h = Recurrent(WIDTH, dropout=0.5), torch.randn(1, T, WIDTH)
    assert not torch.equal(layer(h, h), layer(h, h))
    layer.eval()
    assert torch.equal(layer(h, h), layer(h, h))
