"""The residual network of critics, generators and energies."""

from __future__ import annotations

import torch
from torch import nn

from genalloy.core.spec import from_spec, to_spec
from genalloy.networks.mlp import ResidualMLP


def test_rows_do_not_mix_and_every_parameter_learns() -> None:
    torch.manual_seed(0)
    network = ResidualMLP(((1, 2, 2), ()), 3, 8, 2)
    x, c = torch.randn(6, 1, 2, 2), torch.randn(6)
    out = network((x, c))
    assert out.shape == (6, 3)
    assert torch.allclose(network((x[:1], c[:1])), out[:1], atol=1e-6)
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        network((x, c)).square().sum().backward()
        optimizer.step()
    assert all(bool(p.grad.abs().sum() > 0) for p in network.parameters())


def test_zero_starts_at_zero_and_the_network_is_stored() -> None:
    network = ResidualMLP(((2,),), 1, 8, 1, nn.SiLU, zero=True)
    assert torch.equal(network(torch.randn(4, 2)), torch.zeros(4, 1))
    nn.init.normal_(network.leave[1].weight)
    again, x = from_spec(*to_spec(network)), torch.randn(4, 2)
    assert torch.equal(again(x), network(x))
