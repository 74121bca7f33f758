"""GatedPixelCNN: what each pixel and channel may see, and the cache against the parallel pass."""

from __future__ import annotations

import pytest
import torch

from genalloy.core.spec import from_spec, to_spec
from genalloy.networks.causal.gated_pixelcnn import GatedPixelCNN, GatedStack
from genalloy.networks.input_embedding import OneHot, ScaledInput


def build(channels: int, conditional: bool = False, levels: int | None = None, kernel: int = 3) -> GatedPixelCNN:
    torch.manual_seed(channels)
    shapes = ((3,),) if conditional else ()
    entry = OneHot(levels) if levels else ScaledInput()
    return GatedPixelCNN((channels, 4, 5), 2, GatedStack(8, 3, kernel), shapes, entry).double().eval()


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_each_element_sees_exactly_the_elements_before(channels: int, kernel: int) -> None:
    network = build(channels, kernel=kernel)
    x = torch.randn(channels, 4, 5, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(network, x).abs().sum(3).reshape(channels * 20, channels * 20)
    rank = torch.tensor(network.sequence).argsort()
    before = rank[None, :] < rank[:, None]
    assert (jacobian[~before] == 0).all()
    # the receptive field: three layers and the start, each one row up; no blind spot on this size
    assert (jacobian[before] > 0).all()


def test_sequence_takes_channels_within_a_pixel() -> None:
    assert build(2).sequence[:4] == (0, 20, 1, 21)


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_steps_equal_the_parallel_pass(channels: int, conditional: bool) -> None:
    network = build(channels, conditional, levels=4)
    x = torch.randint(4, (3, 2, channels, 4, 5)).double()
    c = torch.randn(2, 3, dtype=torch.float64) if conditional else None
    expected = network(x, c).flatten(2, 4)
    state, previous = network.init_state((3, 2), c), None
    for index in network.sequence:
        state, parameters = network.step(state, previous)
        torch.testing.assert_close(parameters, expected[..., index, :].detach(), rtol=0, atol=1e-10)
        previous = x.flatten(2)[..., index]


def test_steps_equal_the_parallel_pass_in_single_precision() -> None:
    network = GatedPixelCNN((1, 8, 8), 5, GatedStack(32, 8)).eval()
    x = torch.rand(4, 1, 8, 8)
    expected = network(x).flatten(1, 3)
    state, previous = network.init_state((4,)), None
    for index in network.sequence:
        state, parameters = network.step(state, previous)
        torch.testing.assert_close(parameters, expected[:, index].detach(), rtol=0, atol=1e-5)
        previous = x.flatten(1)[:, index]


def test_context_reaches_every_element_and_batches_broadcast() -> None:
    network = build(1, conditional=True)
    x, c = torch.randn(1, 4, 5, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda v: network(x, v), c[0])
    assert (jacobian.abs().sum((-1, -2)) > 0).all()
    both = network(x.expand(4, 2, 1, 4, 5), c)
    torch.testing.assert_close(both[3, 1], network(x, c[1]))


def test_every_parameter_gets_a_gradient() -> None:
    network = build(2, conditional=True)
    network(torch.randn(2, 2, 4, 5, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_saved_and_rebuilt() -> None:
    network = build(2, conditional=True).float()
    x, c = torch.randn(2, 2, 4, 5), torch.randn(2, 3)
    again = from_spec(*to_spec(network)).eval()
    torch.testing.assert_close(again(x, c), network(x, c))


def test_bad_stacks_are_refused() -> None:
    with pytest.raises(ValueError, match="odd kernel"):
        GatedPixelCNN((1, 4, 4), 1, GatedStack(8, 2, 4))
    with pytest.raises(ValueError, match="at least 3 channels"):
        GatedPixelCNN((3, 4, 4), 1, GatedStack(2, 2, 3))
