"""Dilated causal convolutions: what is seen is exactly what depth and kernels say, and rings hold the same numbers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from genalloy.heads.discrete import Categorical
from genalloy.laws.stepwise import cached_equals_naive
from genalloy.laws.subject import Subject, perturb_parameters
from genalloy.models.autoregressive import Autoregressive
from genalloy.networks.causal.network import CausalLayer, CausalNet, Shift
from genalloy.networks.causal.positions import PositionalEmbedding
from genalloy.networks.causal.wavenet import CausalConvolution, WaveNet, doubling, reach
from genalloy.networks.input_embedding import OneHot, ScaledInput

T, WIDTH = 24, 4
Kernels = tuple[tuple[int, int], ...]
"""Kernel and dilation of each convolution."""


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def net(layers: list[nn.Module], length: int = T, contexts: tuple[tuple[int, ...], ...] = (), spread: bool = False) -> CausalNet:
    places = PositionalEmbedding((length,), WIDTH, contexts, positions=spread, spread=spread)
    return CausalNet((length,), 3, Shift(WIDTH), layers, places, entry=ScaledInput())


def positive(network: nn.Module) -> nn.Module:
    """Positive weights: no path can cancel another."""
    for parameter in network.parameters():
        parameter.data = parameter.data.abs() + 0.05
    return network.double().eval()


def seen(network: CausalNet, x: Tensor) -> Tensor:
    """Which elements (T, T) each output depends on."""
    return torch.autograd.functional.jacobian(network, x, vectorize=True).abs().sum(1) > 0


def predicted(kernels: Kernels, length: int = T) -> Tensor:
    """Element s reaches output t where t - 1 - s is a sum of one tap's distance from each convolution."""
    distances = {0}
    for kernel, dilation in kernels:
        distances = {d + i * dilation for d in distances for i in range(kernel)}
    gap = torch.arange(length)[:, None] - 1 - torch.arange(length)
    return torch.isin(gap, torch.tensor(sorted(distances)))


CNNS: dict[str, Kernels] = {
    "one": ((3, 1),),
    "two": ((3, 1), (4, 1)),
    "dilated": ((2, 1), (3, 2)),
    "with holes": ((2, 4), (2, 9)),
    "pointwise": ((1, 1), (1, 3)),
}


@pytest.mark.parametrize("name", CNNS)
def test_convolutions_see_what_their_taps_reach(name: str) -> None:
    layers: list[nn.Module] = [CausalConvolution(WIDTH, kernel, dilation) for kernel, dilation in CNNS[name]]
    found = seen(positive(net(layers)), torch.rand(T, dtype=torch.float64))
    assert torch.equal(found, predicted(CNNS[name]))


@pytest.mark.parametrize(("dilations", "kernel"), [((1, 2, 4), 2), ((1, 2, 1, 2), 3), ((5,), 2), ((1, 2), 1), ((3, 1), 2)])
def test_wavenet_sees_what_its_taps_reach(dilations: tuple[int, ...], kernel: int) -> None:
    found = seen(positive(net([WaveNet(WIDTH, dilations, kernel, conditioned=False)])), torch.rand(T, dtype=torch.float64) / 10)
    # a block's skip leaves before the next one adds to the stream: sums over every number of first blocks
    expected = torch.stack([predicted(tuple((kernel, d) for d in dilations[: n + 1])) for n in range(len(dilations))]).any(0)
    assert torch.equal(found, expected)


@pytest.mark.parametrize(("depth", "repeats", "kernel"), [(3, 1, 2), (2, 2, 3), (4, 1, 2)])
def test_doubled_dilations_see_one_block_of_the_stated_length(depth: int, repeats: int, kernel: int) -> None:
    dilations = doubling(depth, repeats)
    found = seen(positive(net([WaveNet(WIDTH, dilations, kernel, conditioned=False)])), torch.rand(T, dtype=torch.float64) / 10)
    gap = torch.arange(T)[:, None] - torch.arange(T)
    length = 1 + sum((kernel - 1) * d for d in dilations)
    assert length == reach(dilations, kernel) < T
    assert torch.equal(found, (gap >= 1) & (gap <= length))


def test_doubling() -> None:
    assert doubling(3, 2) == (1, 2, 4, 1, 2, 4)


LAYERS = {
    "plain": lambda: [CausalConvolution(WIDTH, 3, 2), CausalConvolution(WIDTH, 2, 3)],
    "pointwise": lambda: [CausalConvolution(WIDTH, 1)],
    "wavenet": lambda: [WaveNet(WIDTH, (1, 2, 4))],
    "wavenet, three taps": lambda: [WaveNet(WIDTH, (1, 3), 3)],
    "wavenet, one tap": lambda: [WaveNet(WIDTH, (1, 2), 1)],
    "wavenet, one block": lambda: [WaveNet(WIDTH, (2,))],
    "two wavenets, no context in the gates": lambda: [WaveNet(WIDTH, (1, 2), conditioned=False), WaveNet(WIDTH, (4,))],
}
CONTEXTS: dict[str, tuple[tuple[int, ...], ...]] = {"none": (), "global": ((3,), ()), "local and global": ((2, 15), ())}


@pytest.mark.parametrize("contexts", CONTEXTS)
@pytest.mark.parametrize("layers", LAYERS)
def test_steps_equal_the_parallel_pass(layers: str, contexts: str) -> None:
    shapes = CONTEXTS[contexts]
    places = PositionalEmbedding((15,), WIDTH, shapes, positions=False, spread=False)
    network = CausalNet((15,), 3, Shift(WIDTH), LAYERS[layers](), places, entry=OneHot(3))
    part = perturb_parameters(Autoregressive(network, Categorical(3), (15,), shapes))
    cached_equals_naive(Subject(part, (15,), shapes, True, 3))


def test_one_row_leaves_the_weights_alone() -> None:
    """Steps work in place on their cache, never on a parameter."""
    for kernel in (1, 2):
        network = net([WaveNet(WIDTH, (1, 2), kernel, conditioned=False)])
        before = [p.clone() for p in network.parameters()]
        Autoregressive(network, Categorical(3), (T,))().sample()
        assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


def formula(layer: WaveNet, h: Tensor, c: Tensor) -> Tensor:
    """The module's text token by token: h, c (T, width)."""
    total = layer.skip_bias.expand(len(h), -1).clone()
    stream, width, k = h.clone(), layer.width, layer.kernel
    for block, dilation in enumerate(layer.dilations):
        inputs = stream.clone()
        for t in range(len(h)):
            a = layer.bias[block] + c[t] @ layer.given[block]
            for tap in range(k):
                at = t - (k - 1 - tap) * dilation
                a = a + inputs[at] @ layer.gates[block, tap * width : (tap + 1) * width] if at >= 0 else a
            z = torch.tanh(a[:width]) * torch.sigmoid(a[width:])
            total[t] += z @ layer.skip[block]
            if block < len(layer.dilations) - 1:
                stream[t] = inputs[t] + z @ layer.residual[block]
    return total


@pytest.mark.parametrize("kernel", [2, 3])
@pytest.mark.parametrize("kind", ["for each row", "for all rows", "constant"])
@torch.no_grad()
def test_wavenet_is_its_formula(kind: str, kernel: int) -> None:
    layer, h = WaveNet(WIDTH, (1, 2, 4), kernel).double(), torch.randn(2, 9, WIDTH, dtype=torch.float64)
    c = torch.randn(2, 9, WIDTH, dtype=torch.float64)
    c = {"for each row": c, "for all rows": c[:1], "constant": c[:, :1].expand(-1, 9, -1)}[kind]
    rows = [formula(layer, h[i], c[min(i, len(c) - 1)]) for i in range(2)]
    torch.testing.assert_close(layer(h, c), torch.stack(rows))


def test_local_context_enters_every_gate_at_its_own_place() -> None:
    """A block's own taps see its input alone: the first block's context travels on through the taps of the others."""
    layer = WaveNet(WIDTH, (1, 2, 4)).double()
    h, c = torch.randn(1, T, WIDTH, dtype=torch.float64), torch.randn(1, T, WIDTH, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda v: layer(h, v)[0].sum(1), c, vectorize=True).abs().sum((1, 3)) > 0
    gap = torch.arange(T)[:, None] - torch.arange(T)
    assert torch.equal(jacobian, torch.isin(gap, torch.tensor([0, 2, 4, 2 + 4])))


def test_a_constant_context_equals_the_same_context_written_out() -> None:
    network = net([WaveNet(WIDTH, (1, 2))], contexts=((3,),)).double()
    x, c = torch.rand(2, T, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    assert network._places(c).stride(-2) == 0
    constant = network(x, c)
    places = network.places
    network.places = Written(places)
    torch.testing.assert_close(network(x, c), constant)


class Written(nn.Module):
    """Places in memory of their own."""

    def __init__(self, places: PositionalEmbedding) -> None:
        super().__init__()
        self.inner, self.grid = places, places.grid

    def forward(self, context: Tensor) -> Tensor:
        return self.inner(context).contiguous()


@pytest.mark.parametrize("layers", LAYERS)
def test_every_parameter_gets_a_gradient(layers: str) -> None:
    stack: list[CausalLayer] = LAYERS[layers]()
    h = torch.randn(2, T, WIDTH)
    for layer in stack:
        h = layer(h, torch.randn(2, T, WIDTH))
    h.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for layer in stack for p in layer.parameters() if p.numel())


def test_dropout_is_for_training_alone() -> None:
    for layer in (CausalConvolution(WIDTH, 2, dropout=0.5), WaveNet(WIDTH, (1, 2), dropout=0.5)):
        h = torch.randn(1, T, WIDTH)
        assert not torch.equal(layer(h, h), layer(h, h))
        layer.eval()
        assert torch.equal(layer(h, h), layer(h, h))


@pytest.mark.parametrize("make", [lambda: CausalConvolution(4, 0), lambda: WaveNet(4, ()), lambda: WaveNet(4, (1, 0))])
def test_impossible_kernels_are_refused(make) -> None:
    with pytest.raises(ValueError, match=r"found kernel .* expected numbers"):
        make()


def test_the_cache_holds_no_more_than_the_taps_reach() -> None:
    state = WaveNet(WIDTH, doubling(4), 3).init_state(5, torch.zeros(()))
    assert state.columns.shape == (2 * sum(doubling(4)), 5, WIDTH)
    assert CausalConvolution(WIDTH, 3, 4).init_state(5, torch.zeros(())).columns.shape == (5, 9, WIDTH)
    assert math.prod(state.back.shape) == 8
