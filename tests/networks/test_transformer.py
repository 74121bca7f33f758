"""The causal transformer: what each output sees, the cache against the parallel pass, contexts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from genalloy.laws.subject import shaken
from genalloy.networks.transformer import CausalTransformer
from genalloy.transforms.autoregressive import AutoregressiveTransform

TOKENS = (5, 3)


def network(context: tuple[tuple[int, ...], ...] = ()) -> CausalTransformer:
    torch.manual_seed(0)
    return shaken(CausalTransformer(TOKENS, 2, 16, 2, 2, context)).double()


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
