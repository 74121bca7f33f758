"""Masked convolutions and the plain PixelCNN: what each pixel may see, blind spot included; steps against the parallel pass."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from genalloy.core.spec import from_spec, to_spec
from genalloy.heads.discrete import Categorical
from genalloy.laws.stepwise import cached_equals_naive
from genalloy.laws.subject import Subject, perturb_parameters
from genalloy.models.autoregressive import Autoregressive
from genalloy.networks.causal.network import CausalNet, Pixels
from genalloy.networks.causal.pixelcnn import MaskedConv, MaskedStart, ResidualBlock
from genalloy.networks.causal.positions import PositionalEmbedding
from genalloy.networks.input_embedding import OneHot, ScaledInput

SIZE = (6, 9)


def above(reach: int) -> list[tuple[int, int]]:
    return [(-a, d) for a in range(1, reach + 1) for d in range(-reach, reach + 1)]


def left(reach: int) -> list[tuple[int, int]]:
    return [(0, -d) for d in range(1, reach + 1)]


def dilated(seen: Tensor, taps: list[tuple[int, int]]) -> Tensor:
    """Sets of pixels (H, W, H, W), one of each output; the new output at (i, j) sees what the old ones at (i, j) + taps saw."""
    height, width = seen.shape[:2]
    result = torch.zeros_like(seen)
    for i in range(height):
        for j in range(width):
            for a, d in taps:
                if 0 <= i + a < height and 0 <= j + d < width:
                    result[i, j] |= seen[i + a, j + d]
    return result


def predicted(size: tuple[int, int], kernels: tuple[int, ...]) -> Tensor:
    """Start of the first kernel (mask A), blocks of the others (mask B)."""
    area = size[0] * size[1]
    seen = dilated(torch.eye(area, dtype=torch.bool).view(*size, *size), above(kernels[0] // 2) + left(kernels[0] // 2))
    for kernel in kernels[1:]:
        seen = dilated(seen, [(0, 0), *above(kernel // 2), *left(kernel // 2)])
    return seen


def positive(network: torch.nn.Module) -> torch.nn.Module:
    """No term cancels another, and no relu is closed."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.05 + 0.3 * parameter.abs())
    return network.double().eval()


def build(kernels: tuple[int, ...], channels: int = 1, size: tuple[int, int] = SIZE) -> CausalNet:
    torch.manual_seed(0)
    blocks = [ResidualBlock(4, size, k) for k in kernels[1:]]
    return CausalNet(
        (channels, *size), 2, MaskedStart(4, size, kernels[0]), blocks, PositionalEmbedding(size, 4), Pixels(), ScaledInput()
    )


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("kernels", [(3,), (5, 3), (3, 3, 5), (7, 3, 3, 3)])
def test_each_pixel_sees_the_predicted_set_minus_the_blind_spot(kernels: tuple[int, ...], channels: int) -> None:
    network = positive(build(kernels, channels))
    x = torch.rand(channels, *SIZE, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(network, x, vectorize=True).abs().sum(3)
    seen = predicted(SIZE, kernels)
    own = torch.eye(SIZE[0] * SIZE[1], dtype=torch.bool).view(*SIZE, *SIZE)
    for output in range(channels):
        for entry in range(channels):
            expected = seen | own if entry < output else seen
            assert torch.equal(jacobian[output, :, :, entry] > 0, expected)


def test_the_blind_spot_stays_however_deep() -> None:
    seen = predicted(SIZE, (3,) + (3,) * 12)
    # the row above, two to the right; a network of two stacks sees it
    assert not seen[3, 3, 2, 5] and seen[3, 3, 2, 4] and seen[3, 3, 0, 6] and not seen[3, 3, 0, 7]


def test_wrapped_rows_show_the_last_pixel_of_the_row_above() -> None:
    start = positive(MaskedStart(1, SIZE, 3, wrap=True))
    x, c = torch.rand(1, 54, 1, dtype=torch.float64), torch.zeros(1, 54, 1, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda v: start(v, c), x)[0, :, 0, 0, :, 0]
    assert jacobian[27, 26] > 0  # first of a row, last of the row before
    assert jacobian[28, 26] == 0
    assert (torch.triu(jacobian) == 0).all()


def test_masked_convolution_equals_a_masked_kernel() -> None:
    layer = MaskedConv(3, 4, 5).double()
    h = torch.randn(2, 6, 7, 3, dtype=torch.float64)
    kernel = torch.zeros(4, 3, 5, 5, dtype=torch.float64)
    kernel[:, :, :2], kernel[:, :, 2, :3] = layer.above.detach(), layer.beside.detach()[:, :, 0]
    expected = torch.nn.functional.conv2d(h.permute(0, 3, 1, 2), kernel, layer.bias, padding=2).permute(0, 2, 3, 1)
    torch.testing.assert_close(layer(h), expected)


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("event", [(1, 4, 5), (3, 3, 4), (2, 1, 4), (1, 4, 1)])
@pytest.mark.parametrize("contexts", [(), ((3,), (1, 2, 2))])
def test_steps_equal_the_parallel_pass(event: tuple[int, ...], wrap: bool, contexts: tuple[tuple[int, ...], ...]) -> None:
    torch.manual_seed(1)
    size = event[1:]
    layers = [ResidualBlock(8, size), ResidualBlock(8, size, 5)]
    network = CausalNet(
        event, 3, MaskedStart(8, size, 5, wrap), layers, PositionalEmbedding(size, 8, contexts), Pixels(), OneHot(3)
    )
    part = perturb_parameters(Autoregressive(network, Categorical(3), event, contexts)).eval()
    cached_equals_naive(Subject(part, event, contexts, True, 3))


def test_saved_and_rebuilt() -> None:
    network = build((5, 3)).eval()
    x = torch.rand(2, 1, *SIZE)
    torch.testing.assert_close(from_spec(*to_spec(network)).eval()(x), network(x))


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="odd one"):
        MaskedConv(2, 2, 4)
    with pytest.raises(ValueError, match="at least 3"):
        MaskedConv(2, 2, 1, own=False)
    with pytest.raises(ValueError, match="even one"):
        ResidualBlock(5, SIZE)
