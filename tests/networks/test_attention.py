"""Attention conditioner: shapes under any batch, contexts of both kinds, places told apart, zero start, storage."""

from __future__ import annotations

import pytest
import torch

from genalloy.core.spec import from_spec, to_spec
from genalloy.networks.attention import AttentionConfig, AttentionNet, Blocks

TINY = AttentionConfig(8, 1, 2)
INPUTS = ((2, 4, 4), (3,), (1, 4, 4))


def inputs(*batch: int) -> tuple[torch.Tensor, ...]:
    return tuple(torch.randn(*batch, *shape) for shape in INPUTS)


def test_batches_broadcast_and_rows_do_not_meet() -> None:
    torch.manual_seed(0)
    net = AttentionNet(INPUTS, 6, TINY)
    image, label, plane = inputs(5)
    whole = net((image.expand(3, 5, 2, 4, 4), label, plane))
    assert whole.shape == (3, 5, 6, 4, 4)
    for row in range(5):
        torch.testing.assert_close(net((image[row], label[row], plane[row])), whole[1, row], rtol=1e-4, atol=1e-5)


def test_every_place_sees_every_other_and_knows_where_it_is() -> None:
    torch.manual_seed(0)
    net = AttentionNet(((1, 8, 8),), 1, AttentionConfig(8, 1, 2))
    image = torch.zeros(1, 8, 8)
    far = image.clone()
    far[0, 7, 7] = 5.0
    assert (net((far,)) - net((image,)))[0, 0, 0].abs() > 1e-5
    assert net((image,))[0, 2:6, 2:6].std() > 1e-4


def test_every_parameter_learns_and_both_contexts_matter() -> None:
    torch.manual_seed(0)
    net = AttentionNet(INPUTS, 6, TINY)
    given = tuple(c.requires_grad_() for c in inputs(2))
    net(given).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
    assert all(c.grad is not None and c.grad.abs().sum() > 0 for c in given)


def test_zero_start_storage_and_refusal() -> None:
    net = AttentionNet(INPUTS, 6, TINY, zero=True)
    assert (net(inputs(2)) == 0).all()
    assert repr(from_spec(*to_spec(net))) == repr(net)
    with pytest.raises(ValueError, match="expected a divisor"):
        AttentionNet(INPUTS, 6, AttentionConfig(8, 1, 3))


def test_blocks_keep_every_pixel() -> None:
    image = torch.arange(32.0).reshape(2, 4, 4)
    small = Blocks(2)(image.expand(3, 2, 4, 4))
    assert small.shape == (3, 8, 2, 2) and small[0].flatten().sort().values.tolist() == list(range(32))
