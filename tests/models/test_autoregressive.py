"""Autoregressive parts: exact densities, cached samples, gradients, storage."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
import torch
from scipy import integrate
from torch import Tensor

from genalloy.core.evidence import Kind, Measure
from genalloy.core.spec import from_spec, to_spec
from genalloy.heads.discrete import Categorical, LogisticMixture
from genalloy.heads.gaussian import Gaussian
from genalloy.heads.mixture import GaussianMixture
from genalloy.models.autoregressive import Autoregressive, naive_sample
from genalloy.networks.causal.gated_pixelcnn import GatedPixelCNN, GatedStack
from genalloy.networks.causal.made import MADE
from genalloy.networks.input_embedding import OneHot
from genalloy.networks.mlp import Hidden

CONTEXT = ((2,),)


def discrete(name: str, conditional: bool = False) -> Autoregressive:
    torch.manual_seed(0)
    shapes = CONTEXT if conditional else ()
    head = LogisticMixture(3, 2) if name == "made-logistic" else Categorical(3)
    events = {"made": (5,), "made-logistic": (5,), "pixel-1": (1, 2, 3), "pixel-2": (2, 2, 2), "pixel-3": (3, 1, 2)}
    event = events[name]
    if name.startswith("made"):
        network: Any = MADE(event, head.width, Hidden((16, 16)), (3, 1, 0, 4, 2), shapes, OneHot(3))
    else:
        network = GatedPixelCNN(event, head.width, GatedStack(7, 2), shapes, OneHot(3))
    return sharpened(Autoregressive(network, head, event, shapes))


def continuous(head: Any, conditional: bool = False) -> Autoregressive:
    torch.manual_seed(0)
    shapes = CONTEXT if conditional else ()
    return Autoregressive(MADE((3,), head.width, Hidden((16, 16)), (2, 0, 1), shapes), head, (3,), shapes).double().eval()


def sharpened(part: Autoregressive) -> Autoregressive:
    """Parameters away from their small start, so that conditionals differ."""
    for p in part.parameters():
        p.data.mul_(2.0)
    return part.double().eval()


DISCRETE = ["made", "made-logistic", "pixel-1", "pixel-2", "pixel-3"]


@pytest.mark.parametrize("name", DISCRETE)
def test_masses_sum_to_one(name: str) -> None:
    distribution = discrete(name)()
    event = tuple(distribution.event_shape)
    everything = torch.tensor(list(product(range(3), repeat=math.prod(event)))).double().unflatten(-1, event)
    evidence = distribution.density(everything)
    assert evidence.kind is Kind.EXACT and evidence.measure == Measure(0, math.prod(event))
    assert evidence.value.std() > 0.1
    torch.testing.assert_close(evidence.value.logsumexp(0).item(), 0.0, rtol=0, atol=1e-9)


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("name", DISCRETE)
def test_cached_samples_are_the_naive_ones(name: str, conditional: bool) -> None:
    distribution = discrete(name, conditional)(torch.randn(2, 2).double() if conditional else None)
    torch.manual_seed(3)
    cached = distribution.sample((6,))
    torch.manual_seed(3)
    assert torch.equal(cached, naive_sample(distribution, (6,)))
    assert cached.shape == (6, *distribution.batch_shape, *distribution.event_shape)


def test_samples_follow_the_mass_function() -> None:
    part = sharpened(Autoregressive(MADE((2,), 3, Hidden((8,)), (1, 0), (), OneHot(3)), Categorical(3), (2,)))
    x = part().sample((40_000,))
    counts = torch.bincount((x[:, 0] * 3 + x[:, 1]).long(), minlength=9) / len(x)
    grid = torch.tensor(list(product(range(3), repeat=2))).double()
    torch.testing.assert_close(counts.double(), part().log_prob(grid).exp(), rtol=0, atol=0.015)


@pytest.mark.parametrize("head", [Gaussian(), GaussianMixture(3)])
def test_continuous_density_integrates_to_one(head: Any) -> None:
    torch.manual_seed(0)
    part = Autoregressive(MADE((2,), head.width, Hidden((8,)), (1, 0)), head, (2,)).double()
    axis = torch.linspace(-12, 12, 601, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1)
    density = part().log_prob(grid).exp().detach().numpy()
    total = integrate.trapezoid(integrate.trapezoid(density, axis.numpy()), axis.numpy())
    assert abs(total - 1) < 2e-5


@pytest.mark.parametrize("head", [Gaussian(), GaussianMixture(3, spread=3.0)])
def test_samples_follow_the_head_s_density(head: Any) -> None:
    factor = head(torch.randn(head.width, generator=torch.Generator().manual_seed(0)).double(), 0)
    x = factor.sample((40_000,)).double()
    grid = torch.linspace(-15, 15, 3001, dtype=torch.float64)
    below = torch.cumulative_trapezoid(factor.log_prob(grid).exp(), grid)
    for quantile in (0.1, 0.5, 0.9):
        place = grid[1:][below >= quantile][0]
        assert abs((x < place).double().mean().item() - quantile) < 0.012


@pytest.mark.parametrize("head", [Gaussian(), GaussianMixture(3)])
def test_draw_is_sample_and_density_in_one_pass(head: Any) -> None:
    distribution = continuous(head, conditional=True)(torch.randn(2, 2).double())
    with torch.no_grad():
        x, evidence = distribution.draw((4,))
        torch.testing.assert_close(evidence.value, distribution.density(x).value)
    assert x.shape == (4, 2, 3) and evidence.kind is Kind.EXACT and evidence.measure == Measure(3, 0)
    y, evidence = distribution.draw((4,))
    torch.testing.assert_close(evidence.value, distribution.density(y).value)
    assert evidence.value.requires_grad


def test_reparameterised_samples_carry_the_gradient_of_the_noise_map() -> None:
    part = continuous(Gaussian())
    weight = part.network.direct.weight

    def total() -> Tensor:
        torch.manual_seed(1)
        return part().rsample((5,)).square().sum()

    assert part().has_rsample
    slope = torch.autograd.grad(total(), weight)[0]
    step = 1e-6 * torch.randn_like(weight) * part.network.direct.mask
    with torch.no_grad():
        above, below = (weight.add_(move) is not None and total() for move in (step, -2 * step))
    torch.testing.assert_close((slope * step).sum(), (above - below) / 2, rtol=1e-5, atol=1e-10)


def test_mixtures_and_masses_say_that_their_samples_carry_none() -> None:
    assert not continuous(GaussianMixture(2))().has_rsample
    assert not discrete("made")().has_rsample
    assert not discrete("pixel-1")().rsample().requires_grad


def test_a_row_does_not_see_its_neighbours() -> None:
    distribution = discrete("pixel-2", conditional=True)(torch.randn(3, 2).double())
    x = distribution.sample()
    whole = distribution.density(x).value
    for row in range(3):
        alone = discrete("pixel-2", conditional=True)(distribution.context[row]).density(x[row]).value
        torch.testing.assert_close(alone, whole[row])


@pytest.mark.parametrize("name", ["made", "pixel-2"])
def test_saved_and_rebuilt(name: str) -> None:
    part = discrete(name, conditional=True).float()
    c = torch.randn(2, 2)
    x = part(c).sample()
    torch.testing.assert_close(from_spec(*to_spec(part)).eval()(c).log_prob(x), part(c).log_prob(x))
    assert "Autoregressive(" in repr(part)


def test_disagreeing_head_and_network_are_refused() -> None:
    with pytest.raises(ValueError, match=r"2 parameters for each of 3 elements.*expects 5 for each of 3"):
        Autoregressive(MADE((3,), 2), Categorical(5), (3,))
