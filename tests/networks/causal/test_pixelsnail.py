"""PixelSNAIL: every pixel sees every pixel before it and no other, and steps against the parallel pass."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from genalloy.core.spec import from_spec, to_spec
from genalloy.heads.discrete import Categorical
from genalloy.laws.stepwise import cached_equals_naive
from genalloy.laws.subject import Subject, perturb_parameters
from genalloy.models.autoregressive import Autoregressive
from genalloy.networks.causal.network import CausalNet, Pixels
from genalloy.networks.causal.pixelcnn import MaskedStart
from genalloy.networks.causal.pixelsnail import PixelSNAIL, PixelSNAILAttention, PixelSNAILStack
from genalloy.networks.causal.positions import PositionalEmbedding
from genalloy.networks.input_embedding import OneHot, ScaledInput


def build(
    event: tuple[int, ...], snail: PixelSNAILStack, contexts: tuple[tuple[int, ...], ...] = (), levels: int = 0, wrap: bool = True
) -> CausalNet:
    torch.manual_seed(0)
    size, entry = event[1:], OneHot(levels) if levels else ScaledInput()
    layers = [PixelSNAIL(4, size, snail)]
    return CausalNet(event, 3, MaskedStart(4, size, 3, wrap), layers, PositionalEmbedding(size, 4, contexts), Pixels(), entry)


@pytest.mark.parametrize("wrap", [True, False])
@pytest.mark.parametrize("repeats", [0, 2])
@pytest.mark.parametrize("channels", [1, 2])
def test_every_pixel_sees_every_pixel_before_it(channels: int, repeats: int, wrap: bool) -> None:
    size, area = (5, 8), 40
    network = build((channels, *size), PixelSNAILStack(1, repeats, 3, 2, 3), wrap=wrap).double().eval()
    x = torch.rand(channels, *size, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(network, x, vectorize=True).abs().sum(3)
    seen = jacobian.reshape(channels, area, channels, area) > 0
    rank = torch.tensor(network.sequence).argsort().view(channels, area)
    expected = rank[:, :, None, None] > rank
    if not wrap:  # attention reads features, and none so far has seen the last pixel of the row before
        assert _unread(size).any()
        expected &= ~_unread(size)[None, :, None, :]
    assert torch.equal(seen, expected)


def _unread(size: tuple[int, int]) -> torch.Tensor:
    """(outputs, pixels) where no feature s <= t of a 3x3 start sees the pixel."""
    height, width = size
    area = height * width
    start = torch.zeros(area, area, dtype=torch.bool)
    for i in range(height):
        for j in range(width):
            for a, d in ((0, -1), (-1, -1), (-1, 0), (-1, 1)):
                if i + a >= 0 and 0 <= j + d < width:
                    start[i * width + j, (i + a) * width + j + d] = True
    return (start.cumsum(0) == 0) & torch.ones(area, area, dtype=torch.bool).tril(-1)


def test_attention_equals_its_formula() -> None:
    layer = PixelSNAILAttention(4, 2, 3).double()
    x, h, c = (torch.randn(2, 5, 4, dtype=torch.float64) for _ in range(3))
    every = layer.from_features(h) + layer.from_places(c)
    q, k, v = every.chunk(3, -1)
    more_k, more_v = layer.from_input(x).chunk(2, -1)
    q, k, v = (part.unflatten(-1, (2, 3)) for part in (q, k + more_k, v + more_v))
    scores = torch.einsum("nthd,nshd->nhts", q, k) / 3**0.5
    weights = F.softmax(scores.masked_fill(torch.ones(5, 5).triu(1) > 0, -torch.inf), -1)
    torch.testing.assert_close(layer(x, h, c), torch.einsum("nhts,nshd->nthd", weights, v).flatten(2))


@pytest.mark.parametrize("event", [(1, 4, 5), (3, 3, 4), (2, 1, 4)])
@pytest.mark.parametrize("contexts", [(), ((3,), (1, 1, 2))])
def test_steps_equal_the_parallel_pass(event: tuple[int, ...], contexts: tuple[tuple[int, ...], ...]) -> None:
    network = build(event, PixelSNAILStack(2, 2, 3, 2, 3), contexts, 3)
    part = perturb_parameters(Autoregressive(network, Categorical(3), event, contexts)).eval()
    cached_equals_naive(Subject(part, event, contexts, True, 3))


def test_saved_and_rebuilt() -> None:
    network = build((1, 4, 4), PixelSNAILStack(2, 1, 3, 2, 3)).eval()
    x = torch.rand(2, 1, 4, 4)
    torch.testing.assert_close(from_spec(*to_spec(network)).eval()(x), network(x))
