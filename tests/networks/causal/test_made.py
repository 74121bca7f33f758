"""MADE: what each output may see, and steps against the parallel pass."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from genalloy.core.spec import from_spec, to_spec
from genalloy.networks.causal.made import MADE, MaskedLinear
from genalloy.networks.input_embedding import OneHot, ScaledInput
from genalloy.networks.mlp import Hidden

ORDER = (3, 1, 0, 4, 2)
CONTEXT = ((3,), ())


def build(order: tuple[int, ...] | None = ORDER, residual: bool = False, conditional: bool = False) -> MADE:
    torch.manual_seed(0)
    hidden = Hidden((17, 17, 13), residual=residual)
    return MADE((5,), 2, hidden, order, CONTEXT if conditional else ()).double()


def context() -> tuple[Tensor, Tensor]:
    return torch.randn(2, 3, dtype=torch.float64), torch.randn(2, dtype=torch.float64)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("order", [None, ORDER])
def test_parameters_see_exactly_the_variables_before(order: tuple[int, ...] | None, residual: bool) -> None:
    network = build(order, residual)
    x = torch.randn(5, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(network, x).abs().sum(1)
    rank = torch.tensor(network.sequence).argsort()
    before = rank[None, :] < rank[:, None]
    assert (jacobian[~before] == 0).all()
    assert (jacobian[before] > 0).all()


def test_every_parameter_sees_the_context() -> None:
    network = build(conditional=True)
    x, (c, label) = torch.randn(5, dtype=torch.float64), context()
    jacobian = torch.autograd.functional.jacobian(lambda v: network(x, (v, label[0])), c[0])
    assert (jacobian.abs().sum((1, 2)) > 0).all()


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("gradients", [False, True])
def test_steps_equal_the_parallel_pass(residual: bool, conditional: bool, gradients: bool) -> None:
    network, c = build(residual=residual, conditional=conditional), context() if conditional else None
    x = torch.randn(4, 2, 5, dtype=torch.float64)
    with torch.set_grad_enabled(gradients):
        state, previous = network.init_state((4, 2), c), None
        expected = network(x, c)
        for index in network.sequence:
            state, parameters = network.step(state, previous)
            torch.testing.assert_close(parameters, expected[..., index, :], rtol=0, atol=1e-12)
            previous = x[..., index]


def test_gradients_through_steps_equal_those_of_the_parallel_pass() -> None:
    network = build()
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    state, previous, total = network.init_state((3,)), None, torch.zeros((), dtype=torch.float64)
    for index in network.sequence:
        state, parameters = network.step(state, previous)
        total = total + parameters.sin().sum()
        previous = x[..., index]
    wanted = [x, *network.parameters()]
    stepwise = torch.autograd.grad(total, wanted)
    parallel = torch.autograd.grad(network(x).sin().sum(), wanted)
    for a, b in zip(stepwise, parallel, strict=True):
        torch.testing.assert_close(a, b)


def test_every_hidden_unit_is_computed_once() -> None:
    network = build()
    assert all(ends[0] == 0 and ends[-1] == width for ends, width in zip(network.ends, network.hidden.widths, strict=True))


def test_entries() -> None:
    x = torch.tensor([0.0, 2.0])
    assert OneHot(3)(x).tolist() == [[1, 0, 0, -1], [0, 0, 1, 1]]
    assert ScaledInput(1.0, 2.0)(x).tolist() == [[-0.5], [0.5]]
    with pytest.raises(ValueError, match=r"expected integers 0\.\.2"):
        OneHot(3)(torch.tensor([3.0]))


def test_bad_orders_are_refused() -> None:
    with pytest.raises(ValueError, match="permutation"):
        MADE((3,), 1, order=(0, 0, 1))


def test_saved_and_rebuilt() -> None:
    network = build(conditional=True)
    x, c = torch.randn(2, 5, dtype=torch.float64), context()
    again = from_spec(*to_spec(network)).double()
    for p, q in zip(network.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-7)
    torch.testing.assert_close(again(x, c), network(x, c), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dims", [1, 2, 7])
def test_few_variables_and_few_units(dims: int) -> None:
    network = MADE((dims,), 3, Hidden((4,), nn.ReLU))
    assert network(torch.randn(2, dims)).shape == (2, dims, 3)
    _, parameters = network.step(network.init_state((2,)), None)
    assert parameters.shape == (2, 3)
    assert math.isfinite(parameters.sum().item())


def test_wide_layers_in_bands_equal_the_whole_product() -> None:
    degrees = torch.arange(600) * 40 // 600
    layer = MaskedLinear(degrees[:, None] >= torch.arange(300) * 40 // 300)
    layer.weight.data.normal_()  # what the mask hides must not matter
    x = torch.randn(5, 300, requires_grad=True)
    assert len(layer._bands) > 1 and layer._bands[0][1] < 300
    whole = torch.nn.functional.linear(x, layer.mask * layer.weight, layer.bias)
    torch.testing.assert_close(layer(x), whole, rtol=1e-4, atol=1e-4)
    for a, b in zip(*(torch.autograd.grad(y.sin().sum(), (x, layer.weight)) for y in (layer(x), whole)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
