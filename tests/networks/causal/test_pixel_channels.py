"""Channels tied by a linear adjustment: enumeration, the joint formula, causality, and the cache."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from genalloy.core.spec import from_spec, to_spec
from genalloy.heads.discrete import Bernoulli, LogisticMixture
from genalloy.heads.filtered import Filtered, Temperature, TopK
from genalloy.heads.logistic import ContinuousLogisticMixture
from genalloy.heads.mixture import GaussianMixture
from genalloy.laws.stepwise import cached_equals_naive
from genalloy.laws.subject import Subject
from genalloy.models.autoregressive import Autoregressive
from genalloy.networks.causal.pixel_channels import Channels, LinearLogits, SharedMixture, logits_width, mixture_width
from genalloy.networks.causal.pixelcnn_plusplus import PixelCNNPlusPlus, PixelCNNPlusPlusStack
from genalloy.networks.input_embedding import ScaledInput

SMALL = PixelCNNPlusPlusStack(4, 1, 2)
LEVELS, M = 3, 2
HALF = ScaledInput((LEVELS - 1) / 2, (LEVELS - 1) / 2)


def logistics(shape: tuple[int, int, int], contexts: tuple = ()) -> Autoregressive:
    torch.manual_seed(1)
    head = LogisticMixture(LEVELS, M)
    pixels = PixelCNNPlusPlus(shape, mixture_width(shape[0], M), SMALL, contexts, HALF)
    with torch.no_grad():
        pixels.leave.weight.mul_(8)  # far from uniform
    return Autoregressive(SharedMixture(pixels, head, HALF), head, shape, contexts).double().eval()


def bits(shape: tuple[int, int, int], contexts: tuple = ()) -> Autoregressive:
    torch.manual_seed(1)
    pixels = PixelCNNPlusPlus(shape, logits_width(shape[0]), SMALL, contexts)
    return Autoregressive(LinearLogits(pixels), Bernoulli(), shape, contexts).double().eval()


def every(levels: int, shape: tuple[int, ...]) -> Tensor:
    return torch.cartesian_prod(*[torch.arange(float(levels), dtype=torch.float64)] * math.prod(shape)).reshape(-1, *shape)


@pytest.mark.parametrize(("model", "levels"), [(logistics, LEVELS), (bits, 2)])
@pytest.mark.parametrize("shape", [(3, 1, 2), (2, 1, 3), (1, 2, 3)])
@torch.no_grad()
def test_masses_sum_to_one(model, levels: int, shape: tuple[int, int, int]) -> None:
    density = model(shape)().density(every(levels, shape))
    assert density.kind.value == "EXACT"
    torch.testing.assert_close(density.value.exp().sum(), torch.ones((), dtype=torch.float64))


def joint(parameters: Tensor, x: Tensor, levels: int, components: int) -> Tensor:
    """log sum_m pi_m prod_c p_m(x_c | x_<c) written down for one pixel: parameters (P,), x (C,)."""
    c, half = len(x), (levels - 1) / 2
    table = parameters.reshape(-1, components)
    weights, means, raw = table[0].softmax(0), table[1 : 1 + c], table[1 + c : 1 + 2 * c]
    coefficients, e = torch.tanh(table[1 + 2 * c :]), (x - half) / half
    total = torch.zeros((), dtype=x.dtype)
    for m in range(components):
        term, index = weights[m], 0
        for i in range(c):
            mean = means[i, m]
            for j in range(i):
                mean, index = mean + coefficients[index, m] * e[j], index + 1
            scale = torch.nn.functional.softplus(raw[i, m]) * levels / 8 + 1e-2
            centre = half + half * mean
            upper = 1.0 if x[i] == levels - 1 else torch.sigmoid((x[i] + 0.5 - centre) / scale)
            lower = 0.0 if x[i] == 0 else torch.sigmoid((x[i] - 0.5 - centre) / scale)
            term = term * (upper - lower)
        total = total + term
    return total.log()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@torch.no_grad()
def test_the_product_of_elements_is_the_joint_mixture_of_each_pixel(channels: int) -> None:
    model = logistics((channels, 2, 2))
    x = torch.randint(LEVELS, (channels, 2, 2)).double()
    parameters = model.network.network(x)
    expected = sum(joint(parameters[i, j], x[:, i, j], LEVELS, M) for i in range(2) for j in range(2))
    torch.testing.assert_close(model().density(x).value, expected)


@pytest.mark.parametrize("head", [GaussianMixture(2), ContinuousLogisticMixture(2)])
@torch.no_grad()
def test_mixtures_over_reals_integrate_to_one(head) -> None:
    torch.manual_seed(0)
    pixels = PixelCNNPlusPlus((2, 1, 1), mixture_width(2, 2), PixelCNNPlusPlusStack(4, 1, 1))
    model = Autoregressive(SharedMixture(pixels, head), head, (2, 1, 1)).double()
    axis = torch.linspace(-25, 25, 161, dtype=torch.float64)
    x = torch.cartesian_prod(axis, axis).reshape(-1, 2, 1, 1)
    mass = model().density(x).value.exp().sum() * (axis[1] - axis[0]) ** 2
    torch.testing.assert_close(mass, torch.ones((), dtype=torch.float64), rtol=0, atol=1e-5)


@pytest.mark.parametrize("model", [logistics, bits])
def test_each_element_sees_exactly_the_elements_before(model) -> None:
    """Every element but those whose parameters are the network's alone sees the earlier channels of its own pixel."""
    network: Channels = model((3, 3, 3)).network
    x = 0.7 + 0.3 * torch.rand(3, 3, 3, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(network, x).abs().sum(3).reshape(27, 27)
    rank = torch.tensor(network.sequence).argsort()
    before = rank[None, :] < rank[:, None]
    assert network.sequence[:4] == (0, 9, 18, 1)
    assert (jacobian[~before] == 0).all() and (jacobian[before] > 0).all()


@pytest.mark.parametrize("model", [logistics, bits])
@pytest.mark.parametrize("contexts", [(), ((3,),), ((),), ((2, 3, 4), (3,))])
def test_cached_sampling_equals_naive(model, contexts: tuple) -> None:
    part = model((2, 3, 4), contexts).float()
    cached_equals_naive(Subject(part, (2, 3, 4), contexts, True))


@torch.no_grad()
def test_a_filter_acts_on_each_channel_given_those_before() -> None:
    shape = (3, 1, 2)
    model = logistics(shape)
    greedy = Autoregressive(model.network, Filtered(model.head, (TopK(1),)), shape)
    x, density = greedy().draw()
    assert float(density.value) == 0 and "not the trained law" in density.how
    for index in model.network.sequence:
        others = x.flatten().repeat(LEVELS, 1)
        others[:, index] = torch.arange(float(LEVELS))
        others = others.unflatten(1, shape)
        factor = model.head(model.network(others), 3).element_log_prob(others).flatten(1)[:, index]
        assert int(factor.argmax()) == int(x.flatten()[index])
    cool = Autoregressive(model.network, Filtered(model.head, (Temperature(0.5),)), shape)
    torch.testing.assert_close(cool().density(every(LEVELS, shape)).value.exp().sum(), torch.ones((), dtype=torch.float64))


def test_gradients_reach_every_parameter_and_the_head_is_saved_once() -> None:
    model = logistics((2, 4, 4))
    model().density(torch.randint(LEVELS, (3, 2, 4, 4)).double()).value.sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    again = from_spec(*to_spec(model))
    x = torch.randint(LEVELS, (2, 4, 4)).double()
    torch.testing.assert_close(again().density(x).value, model().density(x).value)
    assert again.head is again.network.head


def test_wrong_numbers_of_parameters_are_refused() -> None:
    pixels = PixelCNNPlusPlus((2, 4, 4), 7, SMALL)
    with pytest.raises(ValueError, match="found a network of 7 parameters a pixel, expected 12"):
        SharedMixture(pixels, LogisticMixture(LEVELS, M), HALF)
    with pytest.raises(ValueError, match="expected 3"):
        LinearLogits(pixels)
