"""Causal transformers: what each output sees, the cache against the parallel pass, contexts, positions, how they start."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from genalloy.core.spec import from_spec, to_spec
from genalloy.heads.discrete import Categorical
from genalloy.laws.stepwise import cached_equals_naive
from genalloy.laws.subject import Subject, perturb_parameters
from genalloy.models.autoregressive import Autoregressive
from genalloy.networks.causal.network import CausalNet, Pixels, Shift
from genalloy.networks.causal.positions import PositionalEmbedding
from genalloy.networks.causal.sparse_attention import (
    DenseAttention,
    FixedAttention,
    LocalAttention,
    LocalPatches,
    Pattern,
    StridedAttention,
)
from genalloy.networks.causal.transformer import Attention, CausalTransformer, TransformerBlock, blocks
from genalloy.networks.input_embedding import OneHot, ScaledInput
from genalloy.transforms.autoregressive import AutoregressiveTransform

TOKENS = (5, 3)


def network(context: tuple[tuple[int, ...], ...] = ()) -> CausalTransformer:
    torch.manual_seed(0)
    return perturb_parameters(CausalTransformer(TOKENS, 2, 16, 2, 2, context)).double()


def test_a_token_sees_exactly_the_tokens_before_it() -> None:
    made, x = network(), torch.randn(TOKENS, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(made, x)  # (T, F, per, T, F)
    seen = jacobian.abs().amax((1, 2, 4)) > 0
    assert torch.equal(seen, torch.ones(5, 5).tril(-1).bool())


@pytest.mark.parametrize("gradients", [False, True])
def test_steps_give_what_the_parallel_pass_gives(gradients: bool) -> None:
    made = network(((4,), ()))
    context = torch.randn(2, 4, dtype=torch.float64), torch.randn(2, dtype=torch.float64)
    x = torch.randn(3, 2, *TOKENS, dtype=torch.float64)
    with torch.set_grad_enabled(gradients):
        state, previous, outputs = made.init_state((3, 2), context), None, []
        for token in made.split(x):
            state, out = made.step(state, previous)
            outputs.append(out)
            previous = token
        torch.testing.assert_close(torch.stack(outputs, -3), made(x, context), rtol=1e-9, atol=1e-9)


def test_the_context_reaches_every_token() -> None:
    made, x = network(((4,),)), torch.randn(TOKENS, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda c: made(x, c), torch.randn(4, dtype=torch.float64))
    assert (jacobian.abs().amax((1, 2, 3)) > 0).all()


def test_gradients_through_the_inverse_are_those_of_the_implicit_function() -> None:
    layer = AutoregressiveTransform(network())
    z = torch.randn(4, *TOKENS, dtype=torch.float64, requires_grad=True)
    x, _ = layer.decode(z)
    (found,) = torch.autograd.grad(x.sin().sum(), z)
    rows = [_row(layer, x[i].detach()) for i in range(4)]
    torch.testing.assert_close(found, torch.stack(rows), rtol=1e-7, atol=1e-9)


def _row(layer: AutoregressiveTransform, x: Tensor) -> Tensor:
    """cos(x)^T (dz/dx)^-1 of one event."""
    jacobian = torch.autograd.functional.jacobian(lambda v: layer.encode(v)[0], x).reshape(15, 15)
    return torch.linalg.solve(jacobian.t(), x.cos().flatten()).reshape(TOKENS)


def test_a_width_that_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple"):
        CausalTransformer(TOKENS, 2, 10, 4)


# -- the same blocks in a causal network ---------------------------------------------------------------------------------

OPTIONS = {
    "dense": Attention(2),
    "rotary": Attention(2, rotary=True),
    "local": Attention(2, LocalAttention(3)),
    "patches": Attention(2, LocalPatches(3, (2, 2), (1, 1))),
    "strided, in turn": Attention(2, StridedAttention(3)),
    "strided, by heads": Attention(2, StridedAttention(3, heads=True), rotary=True),
    "fixed, by heads": Attention(4, FixedAttention(4, 2, heads=True)),
}


def net(attention: Attention, context: tuple[tuple[int, ...], ...] = (), shape: tuple[int, ...] = (1, 4, 3)) -> CausalNet:
    torch.manual_seed(0)
    grid = Pixels().cut(shape).grid
    layers = blocks(8, torch.Size(grid).numel(), 2, attention)
    return CausalNet(shape, 3, Shift(8), layers, PositionalEmbedding(grid, 8, context), Pixels(), OneHot(3))


CONTEXTS = {"dense": ((),), "rotary": ((3,), (2, 4, 3))}


@pytest.mark.parametrize("name", OPTIONS)
def test_cached_sampling_equals_naive(name: str) -> None:
    context = CONTEXTS.get(name, ())
    part = Autoregressive(perturb_parameters(net(OPTIONS[name], context), 0.1), Categorical(3), (1, 4, 3), context)
    cached_equals_naive(Subject(part, (1, 4, 3), context, True, 3))


def test_channels_follow_one_another_in_a_cached_pixel() -> None:
    shape = (2, 2, 3)
    part = Autoregressive(perturb_parameters(net(Attention(2), ((),), shape), 0.1), Categorical(3), shape, ((),))
    cached_equals_naive(Subject(part, shape, ((),), True, 3))


@pytest.mark.parametrize("name", OPTIONS)
def test_every_element_sees_only_elements_before_it(name: str) -> None:
    made = perturb_parameters(net(OPTIONS[name]), 0.1).double()
    made.entry, made.enter = ScaledInput(), torch.nn.Linear(1, 8).double()
    jacobian = torch.autograd.functional.jacobian(made, torch.randn(1, 4, 3, dtype=torch.float64))
    seen = jacobian.abs().sum(3).reshape(12, 12) > 0
    assert not seen.triu().any()
    if not name.startswith(("local", "patches")):
        assert torch.equal(seen, torch.ones(12, 12).tril(-1).bool())


def test_rotary_attention_depends_on_distances_alone() -> None:
    torch.manual_seed(0)
    block = TransformerBlock(8, 10, Attention(2, LocalAttention(3), rotary=True)).double()
    h = torch.randn(1, 7, 8, dtype=torch.float64)
    shifted = torch.cat([torch.randn(1, 3, 8, dtype=torch.float64), h], 1)
    # from the third on, a place's window lies inside the part that both have
    torch.testing.assert_close(block(h)[:, 2:], block(shifted)[:, 5:], rtol=1e-12, atol=1e-12)
    still = TransformerBlock(8, 10, Attention(2, DenseAttention(), rotary=True)).double()
    turned = h[:, [1, 0, 2]]
    assert not torch.allclose(still(h[:, :3])[:, 2], still(turned)[:, 2])  # an order of the past that it can tell


def test_what_blocks_add_starts_small() -> None:
    torch.manual_seed(0)
    deep, plain = blocks(64, 4, 8), TransformerBlock(64, 4)
    for made in deep:
        for small, usual in ((made.gather, plain.gather), (made.dense[2], plain.dense[2])):
            assert abs(float((small.weight.std() / usual.weight.std()).detach()) - 0.25) < 0.02 and not small.bias.any()
        assert abs(float((made.attend.weight.std() / plain.attend.weight.std()).detach()) - 1) < 0.05


def test_the_cache_is_allocated_once_and_written_in_place() -> None:
    made = net(Attention(2))
    state = made.init_state((3,))
    caches = state.layers[1:]
    assert [tuple(c.shape) for c in caches] == [(2, 3, 2, 12, 4)] * 2
    after, _ = made.step(state, None)
    assert all(a is b for a, b in zip(caches, after.layers[1:], strict=True))


def test_dropout_is_of_training_alone() -> None:
    block = TransformerBlock(8, 4, Attention(2, dropout=0.5))
    h = torch.randn(2, 4, 8)
    assert not torch.equal(block(h), block(h))
    assert torch.equal(block.eval()(h), block(h))


def test_saved_and_rebuilt() -> None:
    made = net(OPTIONS["fixed, by heads"], ((3,),))
    again = from_spec(*to_spec(made))
    x, c = torch.randint(3, (2, 1, 4, 3)).float(), torch.randn(2, 3)
    torch.testing.assert_close(again(x, c), made(x, c))


@pytest.mark.parametrize("pattern", [LocalAttention(5), LocalPatches(4, (2, 2), (1, 1)), FixedAttention(5, heads=True)])
def test_training_follows_a_pass_in_inference_mode(pattern: Pattern) -> None:
    block, h = TransformerBlock(8, 16, Attention(2, pattern, rotary=True)).double(), torch.randn(1, 16, 8, dtype=torch.float64)
    with torch.inference_mode():
        block(h)
        block.step(block.init_state(1, h), h[:, 0], 0)
    block(h).sum().backward()


def test_every_parameter_gets_a_gradient() -> None:
    made = net(Attention(2, StridedAttention(3), rotary=True), ((3,),))
    made(torch.randint(3, (2, 1, 4, 3)).float(), torch.randn(2, 3)).square().sum().backward()
    # a bias of the keys adds the same to every score of a place: without rotation it changes nothing
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in made.parameters())


@pytest.mark.parametrize("attention", [Attention(3), Attention(8, rotary=True)])
def test_heads_that_do_not_fit_are_refused(attention: Attention) -> None:
    with pytest.raises(ValueError, match="multiple"):
        TransformerBlock(8, 4, attention)
