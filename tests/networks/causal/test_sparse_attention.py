"""Attention patterns: what a place sees, alone and after two layers, whole and step by step."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from genalloy.networks.causal.sparse_attention import (
    ColumnAttention,
    DenseAttention,
    Factor,
    FixedAttention,
    LocalAttention,
    LocalBlocks,
    LocalPatches,
    Pattern,
    StridedAttention,
    SummaryAttention,
    _plan,
    side,
)
from genalloy.networks.causal.transformer import Attention, TransformerBlock

T = 12


def dense(t: int, j: int) -> bool:
    return j <= t


def local(t: int, j: int) -> bool:
    return 0 <= t - j <= 2


def blocks(t: int, j: int) -> bool:
    return j <= t and j // 5 * 5 >= t // 5 * 5 - 5 and j >= t // 5 * 5 - 2


def patches(t: int, j: int) -> bool:
    """Rectangles of 2 x 2 on rows of 4, one row above and one column on either side."""
    (row, column), (r, c) = divmod(t, 4), divmod(j, 4)
    top, left = row - row % 2, column - column % 2
    return j <= t and top - 1 <= r and left - 1 <= c <= left + 2


def columns(t: int, j: int) -> bool:
    return j <= t and (t - j) % 5 == 0


def summaries(t: int, j: int) -> bool:
    return j == t or (j < t and j % 5 in (3, 4))


CASES = {
    "dense": (DenseAttention(), dense),
    "local": (LocalAttention(3), local),
    "blocks": (LocalBlocks(5, 2), blocks),
    "patches": (LocalPatches(4, (2, 2), (1, 1)), patches),
    "columns": (ColumnAttention(5), columns),
    "summaries": (SummaryAttention(5, 2), summaries),
}


def predicted(law, length: int = T) -> Tensor:
    return torch.tensor([[law(t, j) for j in range(length)] for t in range(length)])


def positive(pattern: Pattern, layer: int = 0, length: int = T, heads: int = 2) -> TransformerBlock:
    """A block whose paths cannot cancel: only values carry, with positive weights; keys and queries are equal everywhere."""
    torch.manual_seed(layer)
    block = TransformerBlock(8, length, Attention(heads, pattern), layer).double()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.abs_()
        block.attend.weight[:16] = 0.0
        block.dense[2].weight.zero_()
    block.first = block.second = torch.nn.Identity()
    return block


def reached(layers: list[TransformerBlock], length: int = T) -> Tensor:
    """Non-zero pairs (output place, input place) of the Jacobian."""

    def run(h: Tensor) -> Tensor:
        for layer in layers:
            h = layer(h[None], h[None])[0]
        return h

    jacobian = torch.autograd.functional.jacobian(run, torch.rand(length, 8, dtype=torch.float64))
    return jacobian.abs().sum((1, 3)) > 0


@pytest.mark.parametrize("name", CASES)
def test_a_layer_sees_exactly_its_pattern(name: str) -> None:
    pattern, law = CASES[name]
    assert torch.equal(reached([positive(pattern)]), predicted(law))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("length", [1, 4, T, 13])
def test_all_places_at_once_equal_masked_attention(name: str, length: int) -> None:
    pattern, law = CASES[name]
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, length, 2, 4, dtype=torch.float64)
    heads = (part.transpose(1, 2) for part in (q, k, v))
    expected = torch.nn.functional.scaled_dot_product_attention(*heads, attn_mask=predicted(law, length)).transpose(1, 2)
    torch.testing.assert_close(pattern.attend(q, k, v), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_the_places_that_a_step_reads(name: str) -> None:
    pattern, law = CASES[name]
    for t in range(T):
        assert torch.arange(T)[pattern.seen(t)].tolist() == predicted(law)[t].nonzero().flatten().tolist()


@pytest.mark.parametrize("heads", [False, True])
@pytest.mark.parametrize("stride", [1, 3, 4, 5])
@pytest.mark.parametrize("two", [StridedAttention, lambda stride, heads: FixedAttention(stride, 1, heads)])
def test_two_layers_of_two_factors_reach_every_earlier_place(two, stride: int, heads: bool) -> None:
    pattern = two(stride, heads=heads)
    everything = torch.ones(T, T).tril().bool()
    assert torch.equal(reached([positive(pattern, 0), positive(pattern, 1)]), everything)


def test_the_order_of_the_factors_counts_where_summaries_come_first() -> None:
    everything = torch.ones(T, T).tril().bool()
    assert torch.equal(reached([positive(StridedAttention(4), 1), positive(StridedAttention(4), 2)]), everything)
    # what is no summary of an earlier block stays unseen
    law = predicted(lambda t, j: j <= t and (j // 4 == t // 4 or j % 4 == 3))
    assert torch.equal(reached([positive(FixedAttention(4), 1), positive(FixedAttention(4), 2)]), law)


@pytest.mark.parametrize("pattern", [StridedAttention(4), FixedAttention(4, 2)])
def test_factors_take_turns(pattern: Pattern) -> None:
    first, second = pattern.factors(0), pattern.factors(1)
    assert len(first) == len(second) == 1 and first != second and pattern.factors(2) == first
    reach = [reached([positive(pattern, layer)]) for layer in (0, 1)]
    assert all(not torch.equal(r, torch.ones(T, T).tril().bool()) for r in reach)


def test_heads_take_one_factor_each() -> None:
    block = positive(StridedAttention(4, heads=True))
    with torch.no_grad():
        block.attend.weight[20:] = 0.0  # the second head carries nothing
        block.attend.bias.zero_()
    assert torch.equal(reached([block]), predicted(lambda t, j: 0 <= t - j <= 3))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_local_window_grows_with_depth(depth: int) -> None:
    layers = [positive(LocalAttention(3), layer) for layer in range(depth)]
    assert torch.equal(reached(layers), predicted(lambda t, j: 0 <= t - j <= 2 * depth))


def test_blocks_read_no_more_keys_than_they_see() -> None:
    """The work that is saved: keys a query meets, of 64 places."""
    kept = {p: _plan(p, 64).mask.shape[-1] for p in (LocalAttention(8), LocalBlocks(8, 4), LocalPatches(8, (4, 4), (2, 2)))}
    assert list(kept.values()) == [15, 12, 36]


@pytest.mark.parametrize(
    "make", [lambda: LocalAttention(0), lambda: LocalBlocks(4, -1), lambda: ColumnAttention(0), lambda: SummaryAttention(3, 4)]
)
def test_impossible_sizes_are_refused(make) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        make()


def test_factors_that_heads_cannot_share_are_refused() -> None:
    with pytest.raises(ValueError, match="2 factors"):
        TransformerBlock(6, T, Attention(3, StridedAttention(4, heads=True)))


def test_a_stride_near_the_root() -> None:
    assert [side(n) for n in (1, 2, 64, 200)] == [1, 1, 8, 14]


def test_a_factor_is_a_pattern_of_itself() -> None:
    factor: Factor = LocalAttention(3)
    assert factor.factors(5) == (factor,)
