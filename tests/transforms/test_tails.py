"""Logarithmic tails: nothing within, the logarithm beyond, exact both ways; what networks see far from the data."""

from __future__ import annotations

import math

import pytest
import torch

from genalloy.heads.gaussian import StandardNormal
from genalloy.laws.subject import perturb_parameters
from genalloy.models.flow import Flow
from genalloy.networks.input_embedding import CompressedInput, compress
from genalloy.networks.mlp import Hidden
from genalloy.transforms.coupling import EDGE, alternating, coupling
from genalloy.transforms.tails import MOST, LogTails, normalised


@pytest.mark.parametrize("scale", [1.0, 5.0, 20.0, 1e3, 1e6, 1e25])
def test_exact_both_ways(scale: float) -> None:
    torch.manual_seed(0)
    x, tails = scale * torch.randn(7, 4, dtype=torch.float64), LogTails()
    z, inward = tails.encode(x)
    back, outward = tails.decode(z)
    torch.testing.assert_close(back, x, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(inward, -outward)
    jacobian = torch.autograd.functional.jacobian(lambda v: tails.encode(v)[0], x[0])
    torch.testing.assert_close(torch.linalg.slogdet(jacobian)[1], inward[0])


def test_within_the_limit_nothing_changes_and_beyond_it_is_the_logarithm() -> None:
    x = torch.tensor([[-3.0, 0.0, 2.9]])
    z, ladj = LogTails().encode(x)
    assert torch.equal(z, x) and ladj == 0
    far = torch.tensor([1e3, -1e6, 1e30])
    expected = torch.tensor([1, -1, 1]) * (3 + torch.log(2 * (far.abs() - 3)))
    torch.testing.assert_close(compress(far, 3.0), expected)
    assert torch.isfinite(LogTails().encode(far)[1])


def test_codes_that_no_gaussian_has_stay_finite() -> None:
    x, ladj = LogTails().decode(torch.tensor([[500.0, -1e4]]))
    assert torch.isfinite(x).all() and torch.isfinite(ladj).all() and float(x.max()) == pytest.approx(math.sinh(MOST), rel=1e-3)


def test_the_law_integrates_to_one_and_is_next_to_normal() -> None:
    flow = Flow(StandardNormal((1,)), [LogTails()], (1,))
    x = torch.cat([torch.linspace(-40, 40, 400_001), torch.logspace(math.log10(40), 12, 100_001)[1:]]).double()[:, None]
    density = flow.double()().log_prob(x).exp()
    middle, right = density[:400_001], density[400_000:]
    total = torch.trapezoid(middle, x[:400_001, 0]) + 2 * torch.trapezoid(right, x[400_000:, 0])
    assert total.item() == pytest.approx(1, abs=1e-6)
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(x[:400_001, 0])
    kl = torch.trapezoid(normal.exp() * (normal - middle.log()), x[:400_001, 0])
    assert 0 < kl.item() < 3e-5


def test_a_network_sees_the_edge_of_the_data_from_afar() -> None:
    torch.manual_seed(0)
    layer = perturb_parameters(coupling(alternating(2), Hidden((16,))), 0.5)
    x = torch.tensor([[EDGE, 0.0], [1e3, 0.0], [1e6, 0.0]])
    z, ladj = layer.encode(x)
    assert (ladj.abs() <= layer.univariate.bound).all() and float(z[:, 1].detach().abs().max()) < 20
    torch.testing.assert_close(layer.decode(z)[0], x)
    assert CompressedInput()(torch.tensor([2.0, -4.0])).squeeze(-1).tolist() == [2.0, -4.0]


@pytest.mark.parametrize("scale", [1.0, 5.0, 20.0, 1e3])
def test_a_stack_comes_back(scale: float) -> None:
    torch.manual_seed(1)
    steps = [perturb_parameters(coupling(alternating(6, bool(i % 2)), Hidden((16, 16))), 0.1) for i in range(6)]
    flow = Flow(StandardNormal((6,)), [*steps, *normalised((6,))], (6,)).double()
    x = scale * torch.randn(50, 6, dtype=torch.float64)
    z = flow().encode(x)
    for layer in reversed(flow.layers):
        z, _ = layer.decode(z)
    torch.testing.assert_close(z, x, rtol=1e-6, atol=1e-6)
