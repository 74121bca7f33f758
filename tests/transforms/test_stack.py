"""Memory modes of a stack: the same gradients under weights, with contexts, both ways; what each refuses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from genalloy.core.spec import from_spec, to_spec
from genalloy.heads.gaussian import StandardNormal
from genalloy.laws.invertible import invertible
from genalloy.laws.subject import perturb_parameters
from genalloy.models.flow import Flow
from genalloy.networks.mlp import Hidden
from genalloy.transforms.autoregressive import masked
from genalloy.transforms.coupling import alternating, coupling
from genalloy.transforms.image import Squeeze
from genalloy.transforms.linear import PLU, ActNorm, Reverse
from genalloy.transforms.observation import Flatten, Standardise
from genalloy.transforms.stack import Checkpoint, Invert, Memory, Stack, Store

CONTEXT = ((3,), ())
MODES = (Checkpoint(), Invert())


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def stack(memory: Memory, dropout: float = 0.0) -> Stack:
    torch.manual_seed(0)
    hidden = Hidden((8,), dropout=dropout)
    fixed = Standardise(torch.ones(4), torch.full((4,), 2.0))
    layers = [
        fixed, ActNorm((4,)), coupling(alternating(4), hidden, CONTEXT), PLU(4), Reverse(),
        masked(4, hidden, None, CONTEXT),
    ]  # fmt: skip
    return perturb_parameters(Stack(layers, memory)).double()


def leaves() -> list[Tensor]:
    torch.manual_seed(1)
    shapes = ((5, 3, 4), (3, 3), (5, 1))
    return [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes]


def gradients(transform: Stack, way: str, weights: Tensor) -> list[Tensor]:
    """Of a loss that weights every row's value and log-determinant by its own number."""
    x, *context = leaves()
    y, ladj = getattr(transform, way)(x, tuple(context))
    loss = (weights * ladj).sum() + (weights.flip(0)[..., None] * y.sin()).sum()
    return list(torch.autograd.grad(loss, [x, *context, *transform.parameters()]))


@pytest.mark.parametrize("way", ["encode", "decode"])
@pytest.mark.parametrize("memory", MODES, ids=repr)
def test_the_same_gradients_under_weights(memory: Memory, way: str) -> None:
    weights = torch.rand(5, 3, dtype=torch.float64)
    weights[0] = 0
    expected = gradients(stack(Store()), way, weights)
    assert all((g != 0).any() for g in expected)
    for found, truth in zip(gradients(stack(memory), way, weights), expected, strict=True):
        torch.testing.assert_close(found, truth, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("memory", MODES, ids=repr)
def test_values_and_a_record_as_context(memory: Memory) -> None:
    x, a, b = leaves()
    for truth, found in zip(stack(Store()).encode(x, {"a": a, "b": b}), stack(memory).encode(x, {"a": a, "b": b}), strict=True):
        torch.testing.assert_close(found, truth)
    ladj = stack(memory).encode(x, {"a": a, "b": b})[1]
    assert all((g != 0).any() for g in torch.autograd.grad(ladj.sum(), [x, a, b]))


@pytest.mark.parametrize("memory", [Store(), *MODES], ids=repr)
def test_as_a_transform(memory: Memory) -> None:
    layers = [Squeeze((1, 2, 2)), Flatten((4, 1, 1)), PLU(4)]
    transform = perturb_parameters(Stack(layers, memory))
    x = torch.randn(6, 1, 2, 2)
    z, _ = transform.encode(x)
    assert transform.out_shape((1, 2, 2)) == (4,) and transform.constant and not stack(memory).constant
    torch.testing.assert_close(transform.decode(z)[0], x)
    assert str(memory)[:5] in repr(transform) or memory == Store()
    torch.testing.assert_close(from_spec(*to_spec(transform)).encode(x)[0], z)
    invertible(stack(memory).float(), torch.randn(4, 4), (torch.randn(4, 3), torch.randn(4)))


@pytest.mark.parametrize("memory", MODES, ids=repr)
def test_training_through_a_flow(memory: Memory) -> None:
    def step(mode: Memory) -> list[Tensor | None]:
        model = Flow(StandardNormal((4,)), [stack(mode)], (4,), CONTEXT).double()
        x, *context = (t.detach() for t in leaves())
        model(tuple(context)).density(x).value.mean().backward(inputs=list(model.parameters()))
        return [p.grad for p in model.parameters()]

    for found, truth in zip(step(memory), step(Store()), strict=True):
        torch.testing.assert_close(found, truth)


def test_the_first_batch_passes_through() -> None:
    transform = Stack([ActNorm((4,)), Reverse(), ActNorm((4,))])
    x = 3 + 2 * torch.randn(500, 4)
    transform.initialise(x)
    z = transform.encode(x)[0]
    torch.testing.assert_close(z.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(transform.transforms[2].log_scale, torch.zeros(4), atol=1e-4, rtol=0)


def test_inverting_keeps_less() -> None:
    def kept(memory: Memory) -> int:
        sizes: dict[int, int] = {}

        def note(t: Tensor) -> Tensor:
            sizes[t.data_ptr()] = t.numel()
            return t

        transform, (x, *context) = stack(memory), leaves()
        own = {p.data_ptr() for p in transform.parameters()}
        with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
            out = transform.encode(x, tuple(context))
        assert out[0].requires_grad
        return sum(n for pointer, n in sizes.items() if pointer not in own)

    assert kept(Invert()) < 0.6 * kept(Checkpoint()) < 0.4 * kept(Store())


def test_dropout_and_second_derivatives_are_refused() -> None:
    x, *context = leaves()
    z, _ = stack(Invert(), dropout=0.5).encode(x, tuple(context))
    with pytest.raises(ValueError, match="with dropout"):
        z.sum().backward()
    z, _ = stack(Invert()).encode(x, tuple(context))
    with pytest.raises(ValueError, match="first derivatives only"):
        torch.autograd.grad(z.sin().sum(), x, create_graph=True)
    z, _ = stack(Checkpoint(), dropout=0.5).encode(x, tuple(context))
    assert torch.isfinite(torch.autograd.grad(z.sum(), x)[0]).all()


def test_an_empty_stack_is_refused() -> None:
    with pytest.raises(ValueError, match="no transforms"):
        Stack([])


def test_frozen_parameters_stay_without_gradient() -> None:
    transform = stack(Invert())
    frozen = next(p for p in transform.parameters())
    frozen.requires_grad_(False)
    x, *context = leaves()
    transform.encode(x, tuple(context))[1].sum().backward()
    assert frozen.grad is None and all(p.grad is not None for p in transform.parameters() if p is not frozen)
    assert isinstance(transform.transforms, nn.ModuleList)
