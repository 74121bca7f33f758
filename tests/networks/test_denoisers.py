"""Denoising networks: shapes, zero start, context, independence of rows, storing."""

import pytest
import torch

from genalloy.core.spec import from_spec, to_spec
from genalloy.networks.denoiser import DenoiserMLP
from genalloy.networks.unet import UNet

NETWORKS = {
    "mlp": lambda: DenoiserMLP(((1, 4, 4), (), (3,), ()), 5, 16, 2, 0.1),
    "unet": lambda: UNet(((1, 4, 4), (), (3,), ()), 5, 8, 2, 1, 0.1),
}


def inputs(*batch):
    return torch.randn(*batch, 1, 4, 4), torch.randn(batch), torch.randn(*batch, 3), torch.randn(batch)


@pytest.fixture(params=NETWORKS)
def network(request):
    torch.manual_seed(0)
    net = NETWORKS[request.param]().eval()
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return net


@pytest.mark.parametrize("name", NETWORKS)
def test_zero_at_the_start(name):
    assert NETWORKS[name]()(inputs(3)).abs().max() == 0


def test_shapes_and_batches(network):
    given = inputs(2, 3)
    out = network(given)
    assert out.shape == (2, 3, 1, 4, 4, 5)
    single = network(tuple(g[1, 2] for g in given))
    torch.testing.assert_close(single, out[1, 2], rtol=1e-4, atol=1e-4)


def test_rows_are_independent(network):
    given = inputs(6)
    torch.testing.assert_close(network(given)[:2], network(tuple(g[:2] for g in given)), rtol=1e-4, atol=1e-4)


def test_context_broadcasts_and_matters(network):
    x, level, c, label = inputs(4)
    wide = network((x.expand(2, 4, 1, 4, 4), level.expand(2, 4), c, label))
    torch.testing.assert_close(wide[1], network((x, level, c, label)), rtol=1e-4, atol=1e-4)
    for changed in ((x, level + 1, c, label), (x, level, c + 1, label), (x, level, c, label + 1), (x + 1, level, c, label)):
        assert (network(changed) - network((x, level, c, label))).abs().max() > 1e-4


def test_order_of_outputs(network):
    """Output (i, j, k) belongs to element (i, j): the last layer's bias shows where each one lands."""
    with torch.no_grad():
        network.leave.weight.zero_()
        network.leave.bias.copy_(torch.arange(float(network.leave.bias.numel())))
    out = network(inputs(1))[0]
    assert torch.equal(out[0, 0, 0], torch.arange(5.0))
    if network.leave.bias.numel() > 5:
        assert torch.equal(out.flatten(), torch.arange(80.0))


def test_stored(network):
    given = inputs(3)
    again = from_spec(*to_spec(network)).eval()
    assert repr(again) == repr(network)
    torch.testing.assert_close(again(given), network(given))


def test_odd_images_are_not_halved():
    assert UNet(((3, 7, 7), ()), channels=8, depth=2).levels == 0
    assert UNet(((1, 28, 28), ()), channels=8, depth=3)((torch.randn(2, 1, 28, 28), torch.zeros(2))).shape == (2, 1, 28, 28, 1)
