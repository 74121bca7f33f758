"""PixelCNN++: what each pixel sees, predicted apart from the network, and the cache against the parallel pass."""

from __future__ import annotations

import itertools
from functools import partial

import pytest
import torch
from torch import Tensor

from genalloy.core.spec import from_spec, to_spec
from genalloy.networks.causal.pixelcnn_plusplus import PixelCNNPlusPlus
from genalloy.networks.causal.pixelcnn_plusplus import PixelCNNPlusPlusStack as Stack
from genalloy.networks.input_embedding import OneHot, ScaledInput

Sets = list[list[set[tuple[int, int]]]]


def build(shape: tuple[int, int, int], streams: Stack, contexts: tuple = (), levels: int | None = None) -> PixelCNNPlusPlus:
    torch.manual_seed(sum(shape))
    entry = OneHot(levels) if levels else ScaledInput()
    return PixelCNNPlusPlus(shape, 3, streams, contexts, entry).double().eval()


# -- what each place of the output depends on, as sets of pixels ---------------------------------------------------------


def gather(sets: Sets, offsets: list[tuple[int, int]], stride: int = 1) -> Sets:
    """Union of the sets at place (stride i, stride j) + offset."""
    rows, columns = len(sets), len(sets[0])
    half = [[set() for _ in range(-(-columns // stride))] for _ in range(-(-rows // stride))]
    for i, j in itertools.product(range(len(half)), range(len(half[0]))):
        for a, b in offsets:
            if 0 <= stride * i + a < rows and 0 <= stride * j + b < columns:
                half[i][j] |= sets[stride * i + a][stride * j + b]
    return half


def union(*many: Sets) -> Sets:
    return [[set().union(*(s[i][j] for s in many)) for j in range(len(many[0][0]))] for i in range(len(many[0]))]


ABOVE = [(a, b) for a in (-1, 0) for b in (-1, 0, 1)]
LEFT = [(a, b) for a in (-1, 0) for b in (-1, 0)]


def block(x: Sets, offsets: list[tuple[int, int]], *beside: Sets) -> Sets:
    """Two convolutions; what lies beside enters between them."""
    return union(x, gather(union(gather(x, offsets), *beside), offsets))


def level(u: Sets, h: Sets, blocks: int, resolutions: int) -> tuple[Sets, Sets]:
    skips = [(u, h)]
    for _ in range(blocks):
        u = block(u, ABOVE)
        h = block(h, LEFT, u)
        skips.append((u, h))
    if resolutions == 1:
        u, h = skips.pop()
    else:
        rows, columns = len(u), len(u[0])
        lu, lh = level(gather(u, ABOVE, 2), gather(h, LEFT, 2), blocks, resolutions - 1)
        # a transposed kernel three wide: odd columns hear both neighbours, even ones their own
        u = [[lu[i // 2][j // 2] | (lu[i // 2][j // 2 + 1] if j % 2 and j // 2 + 1 < len(lu[0]) else set())
              for j in range(columns)] for i in range(rows)]  # fmt: skip
        h = [[lh[i // 2][j // 2] for j in range(columns)] for i in range(rows)]
    while skips:
        su, sh = skips.pop()
        u = block(u, ABOVE, su)
        h = block(h, LEFT, u, sh)
    return u, h


def predicted(rows: int, columns: int, streams: Stack) -> Tensor:
    """(rows * columns, rows * columns): whether the parameters of a pixel see another pixel."""
    image = [[{(i, j)} for j in range(columns)] for i in range(rows)]
    u = gather(image, [(a, b) for a in (-2, -1) for b in (-1, 0, 1)])
    h = gather(image, [(-1, -1), (-1, 0), (-1, 1), (0, -1)])
    _, h = level(u, h, streams.blocks, streams.resolutions)
    places = list(itertools.product(range(rows), range(columns)))
    return torch.tensor([[q in h[i][j] for q in places] for i, j in places])


@pytest.mark.parametrize(
    ("size", "streams"),
    [((5, 6), Stack(4, 1, 2)), ((8, 7), Stack(4, 1, 1)), ((9, 9), Stack(4, 0, 2)), ((6, 5), Stack(4, 1, 3)),
     ((7, 12), Stack(4, 0, 1))],
)  # fmt: skip
def test_each_pixel_sees_exactly_the_predicted_ones(size: tuple[int, int], streams: Stack) -> None:
    network, n = build((1, *size), streams), size[0] * size[1]
    expected = predicted(*size, streams)
    before = torch.arange(n)[None, :] < torch.arange(n)[:, None]
    assert not expected[~before].any()
    x = torch.randn(1, *size, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(network, x).abs().sum(2).reshape(n, n)
    assert (jacobian[~expected] == 0).all()
    assert (jacobian[expected] > 0).all()


def test_the_predictions_are_not_all_the_same() -> None:
    """Small networks miss pixels, deep ones see every pixel before: a test of the test."""
    n = 49
    before = torch.arange(n)[None, :] < torch.arange(n)[:, None]
    seen = [int(predicted(7, 7, s).sum()) for s in (Stack(4, 0, 1), Stack(4, 1, 1), Stack(4, 1, 2))]
    assert seen[0] < seen[1] < seen[2] == int(before.sum())


# -- the cache --------------------------------------------------------------------------------------------------------------

CASES = {
    "one resolution": ((1, 4, 5), Stack(4, 2, 1), ()),
    "odd sides": ((1, 5, 7), Stack(4, 1, 2), ()),
    "three resolutions": ((1, 9, 8), Stack(4, 1, 3), ()),
    "channels": ((3, 4, 6), Stack(4, 1, 2), ((3,),)),
    "label": ((1, 6, 6), Stack(4, 1, 2), ((),)),
    "image": ((1, 6, 5), Stack(4, 1, 2), ((2, 6, 5), (3,))),
}


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_steps_equal_the_parallel_pass(name: str) -> None:
    shape, streams, contexts = CASES[name]
    network = build(shape, streams, contexts, levels=4)
    x = torch.randint(4, (3, 2, *shape)).double()
    context = tuple(torch.randn(2, *s, dtype=torch.float64) for s in contexts) or None
    expected = network(x, context).flatten(2, 3)
    state, previous = network.init_state((3, 2), context), None
    for pixel in range(shape[1] * shape[2]):
        state, parameters = network.step(state, previous)
        torch.testing.assert_close(parameters, expected[:, :, pixel], rtol=0, atol=1e-10)
        previous = x.flatten(3)[..., pixel]


@torch.no_grad()
def test_single_precision_and_no_batch() -> None:
    network = PixelCNNPlusPlus((1, 8, 8), 5, Stack(32, 2, 2)).eval()
    x = torch.rand(1, 8, 8)
    expected = network(x).flatten(0, 1)
    state, previous = network.init_state(()), None
    for pixel in range(64):
        state, parameters = network.step(state, previous)
        torch.testing.assert_close(parameters, expected[pixel], rtol=0, atol=1e-5)
        previous = x.flatten(1)[:, pixel]


@pytest.mark.parametrize("name", ["channels", "label", "image"])
def test_contexts_reach_every_pixel_and_batches_broadcast(name: str) -> None:
    shape, streams, contexts = CASES[name]
    network = build(shape, streams, contexts)
    x = torch.randn(shape, dtype=torch.float64)
    parts = tuple(torch.randn(2, *s, dtype=torch.float64) for s in contexts)
    one = tuple(p[1] for p in parts)
    for k in range(len(parts)):
        jacobian = torch.autograd.functional.jacobian(lambda v, k=k: network(x, (*one[:k], v, *one[k + 1 :])), one[k])
        assert (jacobian.abs().flatten(2).sum(-1) > 0).all()
    both = network(x.expand(4, 2, *shape), parts)
    torch.testing.assert_close(both[3, 1], network(x, one))


def test_every_parameter_gets_a_gradient() -> None:
    network = build((2, 5, 5), Stack(4, 1, 2), ((3,),))
    network(torch.randn(2, 2, 5, 5, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_saved_and_rebuilt() -> None:
    network = build((2, 5, 4), Stack(6, 1, 2), ((3,),)).float()
    x, c = torch.randn(2, 2, 5, 4), torch.randn(2, 3)
    again = from_spec(*to_spec(network)).eval()
    torch.testing.assert_close(again(x, c), network(x, c))


def test_dropout_acts_in_training_only() -> None:
    network = build((1, 4, 4), Stack(8, 1, 1, dropout=0.5))
    x = torch.randn(1, 4, 4, dtype=torch.float64)
    same = partial(torch.equal, network(x))
    assert same(network(x))
    network.train()
    assert not same(network(x))


def test_more_resolutions_than_halvings_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 1 to 3"):
        build((1, 4, 3), Stack(4, 1, 4))
    with pytest.raises(ValueError, match="found 0 resolutions"):
        build((1, 4, 3), Stack(4, 1, 0))
