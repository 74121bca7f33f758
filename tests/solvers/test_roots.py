"""Roots: found at every scale, refused where they are not, and differentiated as the implicit function theorem says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from genalloy.solvers.fixed_point import FixedPoint
from genalloy.solvers.roots import Bracketed, Increasing, NotConverged

TYPES = (torch.float32, torch.float64)


def curve(x: Tensor) -> tuple[Tensor, Tensor]:
    """x + sin(x) / 2."""
    return x + x.sin() / 2, 1 + x.cos() / 2


def step(x: Tensor) -> tuple[Tensor, Tensor]:
    """Nearly flat, then steep: Newton alone jumps out of every box."""
    t = (50 * x).tanh()
    return t + 1e-3 * x, 50 * (1 - t * t) + 1e-3


def cubed(x: Tensor) -> tuple[Tensor, Tensor]:
    """Slope 0 at the root of 0, where Newton is slow."""
    return x**3, 3 * x * x


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_finds_roots_far_from_and_near_the_guess(scale: float, dtype: torch.dtype) -> None:
    x = scale * torch.randn(5, 40, dtype=dtype, generator=torch.Generator().manual_seed(0))
    for guess in (None, torch.zeros_like(x), torch.full_like(x, 1e5)):
        found = Bracketed()(curve, curve(x)[0], guess)
        torch.testing.assert_close(found, x, rtol=8 * torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("f", [step, cubed])
def test_flat_and_steep_functions(f: Increasing) -> None:
    y = torch.tensor([0.0, 1e-3, -0.9, 0.999, 1.5, -30.0], dtype=torch.float64)
    found = Bracketed()(f, y)
    torch.testing.assert_close(f(found)[0], y, rtol=1e-12, atol=1e-14)


def test_takes_few_evaluations() -> None:
    calls: list[int] = []

    def counted(x: Tensor) -> tuple[Tensor, Tensor]:
        calls.append(1)
        return curve(x)

    torch.manual_seed(0)  # the slowest of a thousand takes 18 to 28 over sixty seeds, mostly 20
    with torch.no_grad():
        Bracketed()(counted, 10 * torch.randn(1000, dtype=torch.float64))
    assert len(calls) < 25


def test_the_answer_is_never_a_wrong_number() -> None:
    sigmoid = lambda x: (x.sigmoid(), x.sigmoid() * (-x).sigmoid())  # noqa: E731
    with pytest.raises(NotConverged, match=r"2 of 3 roots were not enclosed; .* worst residual"):
        Bracketed()(sigmoid, torch.tensor([0.5, 1.5, -1.0]))
    with pytest.raises(NotConverged, match="1 of 2 roots were not enclosed"):
        Bracketed()(curve, torch.tensor([1.0, torch.nan]))
    with pytest.raises(NotConverged, match="not found after 3 steps"):
        Bracketed(steps=3)(curve, torch.linspace(-5, 5, 7))
    with pytest.raises(NotConverged):
        Bracketed()(lambda x: (-x, -torch.ones_like(x)), torch.ones(2))


def test_gradients_are_those_of_the_implicit_function() -> None:
    y = torch.tensor([0.3, -2.0, 5.0], dtype=torch.float64, requires_grad=True)
    w = torch.tensor([0.5, 2.0, 0.1], dtype=torch.float64, requires_grad=True)
    weights = torch.tensor([0.0, 1.0, -3.0], dtype=torch.float64)

    def solve(y: Tensor, w: Tensor) -> Tensor:
        return Bracketed()(lambda x: (x + w * x.tanh(), 1 + w * (1 - x.tanh() ** 2)), y)

    x = solve(y, w)
    found = torch.autograd.grad((weights * x).sum(), (y, w))
    slope = 1 + w * (1 - x.tanh() ** 2)
    for got, expected in zip(found, (weights / slope, -weights * x.tanh() / slope), strict=True):
        torch.testing.assert_close(got, expected.detach())
    assert torch.autograd.gradcheck(solve, (y, w))


def test_no_graph_without_gradients() -> None:
    y = torch.ones(2, requires_grad=True)
    with torch.no_grad():
        assert not Bracketed()(curve, y).requires_grad


@pytest.mark.parametrize("solver", [Bracketed, FixedPoint])
def test_no_steps_are_refused(solver: type) -> None:
    with pytest.raises(ValueError, match="found steps=0"):
        solver(steps=0)
