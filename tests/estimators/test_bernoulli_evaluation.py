"""Log-probability of bits without gradients: products of sigmoids, against the plain formula in double precision."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from genalloy.heads.discrete import BernoulliDistribution, bits_log_prob

SHAPES = {
    "rows": ((7, 784), (7, 784)),
    "draws of rows": ((30, 20, 784), (1, 20, 784)),
    "many rows": ((3, 900, 784), (900, 784)),
    "odd length": ((5, 3, 131), (3, 131)),
    "one": ((784,), (784,)),
    "wider bits": ((2, 784), (9, 1, 784)),
}


def plain(logits: Tensor, bits: Tensor) -> Tensor:
    """-sum softplus(-(2x - 1) l)."""
    s = (2 * bits.double() - 1) * logits.double()
    return -torch.logaddexp(torch.zeros(()).double(), -s).sum(-1)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 5.0, 50.0, 1e4])
@pytest.mark.parametrize("name", SHAPES)
def test_equals_the_plain_formula(name: str, scale: float) -> None:
    torch.manual_seed(0)
    logits, bits = torch.randn(SHAPES[name][0]) * scale, (torch.rand(SHAPES[name][1]) < 0.3).float()
    found = bits_log_prob(logits, bits)
    torch.testing.assert_close(found.double(), plain(logits, bits), rtol=1e-5, atol=0)


@pytest.mark.parametrize("logit", [10.0, 19.0, 21.0, 50.0, 1e4])
def test_certain_bits_keep_their_small_losses(logit: float) -> None:
    """Near zero nats the products would round to one."""
    bits = torch.tensor([0.0, 1.0]).repeat(3, 392)
    right = (2 * bits - 1) * logit
    torch.testing.assert_close(bits_log_prob(right, bits).double(), plain(right, bits), rtol=1e-5, atol=1e-30)
    torch.testing.assert_close(bits_log_prob(-right, bits).double(), plain(-right, bits), rtol=1e-5, atol=0)
    right[0, 5] *= -1
    torch.testing.assert_close(bits_log_prob(right, bits).double(), plain(right, bits), rtol=1e-5, atol=1e-30)


def test_infinite_and_undefined_logits() -> None:
    bits = torch.tensor([1.0, 0.0]).unsqueeze(-1).expand(2, 64)
    assert bits_log_prob(torch.full((2, 64), math.inf), bits).tolist() == [0.0, -math.inf]
    logits = torch.full((3, 64), -100.0)
    logits[0, 3] = math.nan
    found = bits_log_prob(logits, torch.ones(3, 64))
    assert math.isnan(found[0]) and found[1:].tolist() == [-6400.0, -6400.0], "an undefined row must not spoil others"


def test_gradients_take_the_differentiable_path_to_the_same_number() -> None:
    torch.manual_seed(0)
    logits, bits = torch.randn(6, 784, requires_grad=True), (torch.rand(6, 784) < 0.5).float()
    value = BernoulliDistribution(logits, 1).density(bits).value
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    torch.testing.assert_close(gradient, bits - torch.sigmoid(logits), rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(BernoulliDistribution(logits, 1).density(bits).value, value, rtol=1e-6, atol=0)


def test_the_logits_are_left_alone_and_grey_values_stay_impossible() -> None:
    torch.manual_seed(0)
    logits = torch.randn(5, 4, 28, 28) * 30
    kept = logits.clone()
    head = BernoulliDistribution(logits, 2)
    x = (torch.rand(4, 28, 28) < 0.5).float()
    shape = head.density(x.expand(5, 4, 28, 28)).value.shape
    assert torch.equal(logits, kept) and shape == (5, 4)
    x[1, 3, 3] = 0.5
    assert bool(head.density(x.expand(5, 4, 28, 28)).value[:, 1].isneginf().all())
