"""Convolutional networks of couplings: shapes, contexts of every kind, zero starts."""

from __future__ import annotations

import pytest
import torch

from genalloy.core.part import Conditional
from genalloy.core.spec import from_spec, to_spec
from genalloy.heads.gaussian import Gaussian
from genalloy.networks.convolution import ConvNet, Elements, Filters

IMAGE = (2, 4, 6)
SMALL = Filters(5, 2)
KINDS = {"plain": SMALL, "residual": Filters(5, 2, residual=True)}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("filters", KINDS.values(), ids=list(KINDS))
def test_any_batch_row_by_row(filters: Filters) -> None:
    network = ConvNet((IMAGE, (3,), (), (1, 4, 6), (1, 2, 2)), 3, filters)
    x = torch.randn(4, 2, *IMAGE)
    context = torch.randn(2, 3), torch.randn(4, 1), torch.randn(1, 1, 4, 6), torch.randn(2, 1, 2, 2)
    out = network((x, *context))
    assert out.shape == (4, 2, 3, 4, 6)
    row = network((x[3, 1], context[0][1], context[1][3, 0], context[2][0], context[3][1]))
    torch.testing.assert_close(out[3, 1], row)
    torch.testing.assert_close(from_spec(*to_spec(network))((x, *context)), out)


@pytest.mark.parametrize("part", range(5))
def test_every_input_counts(part: int) -> None:
    inputs = (IMAGE, (3,), (), (1, 4, 6), (1, 2, 2))
    network = ConvNet(inputs, 3, SMALL)
    context = [torch.randn(2, *s, requires_grad=True) for s in inputs]
    network(tuple(context)).square().sum().backward()
    assert (context[part].grad != 0).all()


def test_labels_may_be_integers() -> None:
    network = ConvNet((IMAGE, ()), 3, SMALL)
    a, b = (network((torch.ones(IMAGE), torch.tensor(n))) for n in (0, 1))
    assert (a != b).any()


def test_places_differ_once_they_have_learned() -> None:
    network = ConvNet((IMAGE,), 1, SMALL)
    flat = torch.ones(IMAGE)
    assert torch.allclose(network(flat)[0, 2, 2:4], network(flat)[0, 2, 2])
    network.place.data.normal_()
    assert not torch.allclose(network(flat)[0, 2, 2:4], network(flat)[0, 2, 2])


def test_zero_start() -> None:
    assert (ConvNet((IMAGE,), 3, SMALL, zero=True)(torch.randn(2, *IMAGE)) == 0).all()
    assert (ConvNet((IMAGE,), 3, SMALL)(torch.randn(2, *IMAGE)) != 0).any()


def test_dropout_is_off_in_evaluation() -> None:
    network, x = ConvNet((IMAGE,), 3, Filters(5, 2, dropout=0.5)), torch.randn(2, *IMAGE)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


def test_wrong_inputs_are_named() -> None:
    with pytest.raises(ValueError, match="found a context of 1 unnamed, expected 2 unnamed"):
        ConvNet((IMAGE, ()), 3, SMALL)(torch.randn(IMAGE))
    with pytest.raises(ValueError, match=r"expected one that ends in \(2, 4, 6\)"):
        ConvNet((IMAGE,), 3, SMALL)(torch.randn(2, 4, 5))


def test_as_the_network_of_a_head() -> None:
    network = ConvNet(((1, 4, 6), (3,)), 2 * 2, SMALL)
    part = Conditional(Gaussian(), Elements(network, 2), IMAGE, ((1, 4, 6), (3,)))
    context = torch.randn(5, 1, 4, 6), torch.randn(5, 3)
    gaussian = part(context)
    assert gaussian.batch_shape == (5,) and gaussian.event_shape == IMAGE
    torch.testing.assert_close(gaussian.mean, network(context)[:, :2])
