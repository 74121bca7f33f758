"""Contractions: the measured Lipschitz constant at the limit, operator norms, buffers that stand still, contexts."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from genalloy.core.spec import from_spec, to_spec
from genalloy.laws.subject import perturb_parameters
from genalloy.networks.lipschitz import (
    BoundedConv,
    BoundedLinear,
    ConcatenatedLipSwish,
    Contraction,
    Elu,
    LipschitzConv,
    LipschitzMLP,
    LipSwish,
)

IMAGE = (2, 3, 4)
CONTEXT = ((3,), ())


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def networks(lipschitz: float = 0.9) -> dict[str, Contraction]:
    return {
        "dense": LipschitzMLP((3,), (16, 16), lipschitz=lipschitz),
        "dense, elu": LipschitzMLP((3,), (16, 16), (), Elu(), lipschitz),
        "dense, concatenated": LipschitzMLP((3,), (16, 16), (), ConcatenatedLipSwish(), lipschitz),
        "dense, context": LipschitzMLP((3,), (16,), CONTEXT, lipschitz=lipschitz),
        "dense, image": LipschitzMLP(IMAGE, (16,), lipschitz=lipschitz),
        "conv": LipschitzConv(IMAGE, (8, 8), (3, 1, 3), lipschitz=lipschitz),
        "conv, concatenated": LipschitzConv(IMAGE, (8, 8), activation=ConcatenatedLipSwish(), lipschitz=lipschitz),
        "conv, context": LipschitzConv(IMAGE, (8,), (3, 3), CONTEXT, lipschitz=lipschitz),
    }


def context(rows: int) -> tuple[Tensor, Tensor]:
    return torch.randn(rows, 3), torch.randn(rows)


def jacobians(network: Contraction, x: Tensor, c: tuple[Tensor, ...] | None) -> Tensor:
    """By autograd, (N, D, D), with graph."""
    x = x.detach().requires_grad_()
    y = network(x, c).flatten(1)
    rows = [torch.autograd.grad(y[:, i].sum(), x, create_graph=True)[0].flatten(1) for i in range(y.shape[1])]
    return torch.stack(rows, 1)


def stretched(network: Contraction, x: Tensor, c: tuple[Tensor, ...] | None) -> Contraction:
    """Trained to stretch as much as it can, so that its bound is tight."""
    optimizer = torch.optim.Adam(network.parameters(), 0.1)
    for _ in range(25):
        loss = -jacobians(network, x, c).square().flatten(1).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


@pytest.mark.parametrize("name", networks())
def test_the_measured_lipschitz_constant_stays_within_the_bound(name: str) -> None:
    network = networks()[name]
    x = torch.randn(8, *network.event_shape)
    c = context(8) if network.context_shapes else None
    tight = stretched(network, x, c)
    found = []
    for model in (tight, perturb_parameters(tight, 1.0), perturb_parameters(tight, 20.0), copy.deepcopy(tight).eval()):
        points = torch.cat([scale * torch.randn(30, *network.event_shape) for scale in (0.1, 1.0, 20.0)])
        found.append(float(torch.linalg.matrix_norm(jacobians(model, points, context(90) if c else None).detach(), 2).max()))
    assert max(found) < 0.905
    assert found[0] > 0.7, "the bound is not tight: the network cannot use what it is allowed"


MAPS = (lambda: BoundedLinear(5, 7), lambda: BoundedConv(IMAGE, 5, 3), lambda: BoundedConv(IMAGE, 1, 1))


@pytest.mark.parametrize("make", MAPS)
def test_weights_are_shrunk_to_the_operator_norm_of_the_whole_map(make) -> None:
    layer = make()
    event = tuple(layer.v.shape[1:])
    with torch.no_grad():
        layer.weight.mul_(30)
        weight = layer.within(0.8, 1e-6)
        matrix = layer.apply_weight(torch.eye(layer.v[0].numel()).reshape(-1, *event), weight)
        layer.weight.mul_(1e-4)
        assert torch.equal(layer.within(0.8, 1e-6), layer.weight), "a small map is left as it is"
    assert float(torch.linalg.matrix_norm(matrix.flatten(1), 2)) == pytest.approx(0.8, abs=1e-3)


def test_a_convolution_s_norm_is_not_that_of_its_kernel() -> None:
    layer = BoundedConv((1, 6, 6), 1, 3)
    torch.nn.init.constant_(layer.weight, 1.0)
    sigma = float((layer.weight / layer.within(1e-6, 1e-6)).detach().mean()) * 1e-6
    assert sigma > 7, "a kernel of nine ones almost sums nine pixels; its reshaped norm would be 3"


@pytest.mark.parametrize("make", MAPS)
def test_adjoints(make) -> None:
    layer = make()
    x = torch.randn_like(layer.v)
    y = torch.randn_like(layer.apply_weight(x, layer.weight))
    left = (layer.apply_weight(x, layer.weight) * y).sum()
    torch.testing.assert_close(left, (x * layer.adjoint(y, layer.weight)).sum())


def test_a_singular_value_that_overtakes_another_is_noticed() -> None:
    """One direction of power iteration would stay with the former largest, and leave a norm of 4 / 3 of the limit."""
    layer = BoundedLinear(8, 8)
    for stretch in (torch.arange(8, 0, -1.0), torch.tensor([6.0, 8, 1, 1, 1, 1, 1, 1]), torch.tensor([6.0, 6, 8, 1, 1, 1, 1, 1])):
        layer.weight.data = stretch.diag()
        for _ in range(3):
            weight = layer.within(0.8, 1e-4)
        assert float(torch.linalg.matrix_norm(weight.detach(), 2)) == pytest.approx(0.8, rel=5e-3)


@pytest.mark.parametrize("activation", [LipSwish(), Elu()])
def test_activations_have_the_slope_that_they_say(activation) -> None:
    h = torch.linspace(-12, 12, 4001, dtype=torch.float64, requires_grad=True)
    for learned in (torch.tensor(-2.0), torch.tensor(0.5), torch.tensor(4.0)):
        value, slope = activation(h, learned.double())
        torch.testing.assert_close(slope, torch.autograd.grad(value.sum(), h)[0])
        assert float(slope.detach().abs().max()) <= 1.0


def test_concatenated_lipswish_has_slopes_of_norm_one() -> None:
    """Side by side the slopes keep nearly all of the norm, everywhere; one LipSwish keeps half of it at 0."""
    h = torch.linspace(-50, 50, 4001, dtype=torch.float64).reshape(1, 1, -1).requires_grad_()
    for learned in (torch.tensor(-2.0), torch.tensor(0.5), torch.tensor(4.0)):
        value, slope = ConcatenatedLipSwish()(h, learned.double())
        assert value.shape == slope.shape == (1, 2, 4001)
        for side in (0, 1):
            torch.testing.assert_close(slope[:, side], torch.autograd.grad(value[:, side].sum(), h, retain_graph=True)[0][:, 0])
        norm = slope.detach().norm(dim=1)
        assert float(norm.min()) > 0.64 and 0.999 < float(norm.max()) <= 1.0
        up = LipSwish()(h, learned.double())[0]
        torch.testing.assert_close(value[:, :1], up / 1.004)


def test_lipswish_is_the_published_function() -> None:
    h, learned = torch.randn(50), torch.tensor(0.3)
    torch.testing.assert_close(LipSwish()(h, learned)[0], h * torch.sigmoid(F.softplus(learned) * h) / 1.1)


@pytest.mark.parametrize("name", networks())
def test_tangents_are_those_of_autograd(name: str) -> None:
    network = perturb_parameters(networks()[name]).double()
    x = torch.randn(4, *network.event_shape, dtype=torch.float64)
    c = tuple(part.double() for part in context(4)) if network.context_shapes else None
    y, tangent = network.linearise(x, network.bind(c, (4,)))
    torch.testing.assert_close(y, network(x, c))
    t = torch.randn(2, *x.shape, dtype=torch.float64)
    expected = torch.einsum("nij,knj->kni", jacobians(network, x, c), t.flatten(2)).reshape(t.shape)
    torch.testing.assert_close(tangent(t), expected)


def buffers(module: torch.nn.Module) -> list[Tensor]:
    return [b.clone() for b in module.buffers()]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


def test_buffers_move_in_training_under_gradients_only() -> None:
    network, x = networks()["dense"], torch.randn(4, 3)
    start = buffers(network)
    with torch.no_grad():
        before = network(x)
    network.eval()
    network(x)
    assert same(start, buffers(network))
    network.train()
    torch.testing.assert_close(network(x), before, rtol=2e-2, atol=1e-3)
    moved = buffers(network)
    assert not same(start, moved)
    again = network(x)
    torch.testing.assert_close(network(x), again, rtol=0, atol=0)
    assert same(moved, buffers(network)), "the same weights need no further iteration"
    torch.testing.assert_close(network.eval()(x), again, rtol=2e-2, atol=1e-3)
    torch.testing.assert_close(network(x), network(x), rtol=0, atol=0)


def test_loaded_and_averaged_weights_get_a_norm_of_their_own() -> None:
    network = networks()["dense"]
    network(torch.randn(4, 3)).sum().backward()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(10 * torch.randn(parameter.shape))
    x = torch.randn(50, 3)
    assert float(torch.linalg.matrix_norm(jacobians(network.eval(), x, None).detach(), 2).max()) < 0.9


def test_gradients_survive_a_second_forward_pass() -> None:
    network, x = networks()["conv"], torch.randn(4, *IMAGE)
    first = network(x).square().sum()
    with torch.no_grad():
        for layer in network.maps:
            layer.v.copy_(torch.randn_like(layer.v))
    first.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("name", ["dense, context", "conv, context"])
def test_the_context_is_unconstrained_and_broadcasts(name: str) -> None:
    network = networks()[name].eval()
    x, (a, b) = torch.randn(5, 2, *network.event_shape), context(2)
    whole = network(x, (a, b))
    rows = torch.stack([network(x[:, i], (a[i], b[i])) for i in range(2)], 1)
    torch.testing.assert_close(whole, rows)
    far = (network(x, (100 * a, b)) - whole).detach().abs().max()
    assert float(far) > 2.0


@pytest.mark.parametrize("name", networks())
def test_saved_and_rebuilt(name: str) -> None:
    network = networks()[name].eval()
    x, c = torch.randn(3, *network.event_shape), context(3) if network.context_shapes else None
    again = from_spec(*to_spec(network)).eval()
    torch.testing.assert_close(again(x, c), network(x, c), rtol=0, atol=0)
    assert repr(again) == repr(network)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="expected one inside"):
        LipschitzMLP((2,), lipschitz=1.0)
    with pytest.raises(ValueError, match="odd sizes"):
        LipschitzConv(IMAGE, (4,), (3, 2))
