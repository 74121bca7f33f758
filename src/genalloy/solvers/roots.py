r"""Certified roots: :math:`x` with :math:`f(x) = y`, elementwise, for an increasing :math:`f`.

A bracket :math:`f(a) \le y \le f(b)` starts at a guess and grows geometrically until it encloses the root, wherever that
is. Then every step proposes Newton's point, a little beyond the root so that the bracket closes from both sides, and the
midpoint where Newton leaves the bracket or did not halve it: at most twice the evaluations of bisection, and few near the
root (Dekker, 1969; Brent, 1973, for the safeguard). All elements move together; a root counts as found when its bracket is
as narrow as the precision allows, or when :math:`f(x)` equals :math:`y` to the last place. Anything else raises.

Gradients follow from the implicit function theorem: with :math:`f_\theta(x) = y`,

.. math:: dx = \frac{dy - \partial_\theta f\, d\theta}{f'(x)},

which is what one Newton step :math:`x - (f_\theta(x) - y) / f'(x)` with :math:`x` and :math:`f'` held fixed differentiates to.
It is taken elementwise, so weights on the elements pass through. First derivatives only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from genalloy.core.spec import Value

Increasing = Callable[[Tensor], tuple[Tensor, Tensor]]
"""x -> (f(x), f'(x)), elementwise."""


class NotConverged(ValueError):
    """A root that was not enclosed, or not found to the precision asked for."""


class _Point(NamedTuple):
    """A place, f(x) - y there, and f'(x)."""

    x: Tensor
    residual: Tensor
    slope: Tensor

    def where(self, condition: Tensor, other: _Point) -> _Point:
        return _Point(*(torch.where(condition, a, b) for a, b in zip(self, other, strict=True)))


class _Bracket(NamedTuple):
    """f(low) <= y <= f(high); best: the end with the smaller residual."""

    low: Tensor
    high: Tensor
    best: _Point

    @property
    def width(self) -> Tensor:
        return self.high - self.low

    def narrowed(self, point: _Point) -> _Bracket:
        """With one more evaluated point inside."""
        low = torch.where(point.residual <= 0, point.x, self.low)
        high = torch.where(point.residual >= 0, point.x, self.high)
        return _Bracket(low, high, point.where(point.residual.abs() <= self.best.residual.abs(), self.best))


@dataclass(frozen=True)
class Bracketed(Value):
    r"""solver(f, y, guess) -> x with f(x) = y; shapes (\*B) all, f increasing.

    tolerance: width of the final bracket relative to \|x\|, 0 for four units in the last place of the dtype. expansions: times
    the bracket may grow by `growth`. steps: evaluations of f afterwards.

    Raises :class:`NotConverged` with the number of elements concerned and the worst residual, ValueError where `steps` < 1.
    """

    tolerance: float = 0.0
    steps: int = 400
    expansions: int = 60
    growth: float = 4.0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"found steps={self.steps}, expected at least 1 evaluation")

    def __call__(self, f: Increasing, y: Tensor, guess: Tensor | None = None) -> Tensor:
        """The root, with gradients to y and to whatever f holds where gradients are enabled; guess: y where None."""
        with torch.no_grad():
            x = self.bare(f, y.detach(), (y if guess is None else guess).detach())
        if not torch.is_grad_enabled():
            return x
        value, slope = f(x)
        gap = value - y
        # the value stays the certified root; only the derivative of the Newton step is wanted
        return x - (gap - gap.detach()) / slope.detach().clamp(min=torch.finfo(x.dtype).tiny)

    def bare(self, f: Increasing, y: Tensor, guess: Tensor) -> Tensor:
        """The root without gradients; raises :class:`NotConverged` where one was not enclosed or not found."""

        def at(x: Tensor) -> _Point:
            value, slope = f(x)
            return _Point(x.expand(value.shape), value - y, slope.expand(value.shape))

        bracket = self._enclose(at, guess, y)
        before = torch.full_like(bracket.low, torch.inf)
        for _ in range(self.steps):
            done = self._narrow(bracket) | _equal(bracket.best, y)
            if done.all():
                return bracket.best.x
            propose = self._newton(bracket, before)
            before = bracket.width
            bracket = bracket.narrowed(at(torch.where(done, bracket.best.x, propose)))
        raise _failure(bracket.best, ~done, f"were not found after {self.steps} steps; allow more steps or a larger tolerance")

    def _enclose(self, at: Callable[[Tensor], _Point], guess: Tensor, y: Tensor) -> _Bracket:
        """Walk from the guess against the residual, each stride `growth` times the one before."""
        near = far = at(guess)
        stride = -near.residual
        for _ in range(self.expansions):
            open_ = ~((far.residual * stride >= 0) | _equal(far, y))
            if not open_.any():
                low, high = torch.minimum(near.x, far.x), torch.maximum(near.x, far.x)
                return _Bracket(low, high, near).narrowed(far)
            near = far.where(open_, near)
            far = at(torch.where(open_, far.x + stride, far.x))
            stride = torch.where(open_, self.growth * stride, stride)
        raise _failure(far, open_, "were not enclosed; f must increase, be finite, and reach y")

    def _precision(self, x: Tensor) -> Tensor:
        info = torch.finfo(x.dtype)
        return (self.tolerance or 4 * info.eps) * x.abs() + info.tiny**0.5

    def _narrow(self, bracket: _Bracket) -> Tensor:
        """By the far end: a best point that rounding put at zero would ask for the impossible."""
        return bracket.width <= self._precision(torch.maximum(bracket.low.abs(), bracket.high.abs()))

    def _newton(self, bracket: _Bracket, before: Tensor) -> Tensor:
        """Newton's point and a little more, or the middle."""
        x, residual, slope = bracket.best
        beyond = -residual.sign() * self._precision(x) / 2
        newton = x - residual / slope + beyond
        good = (newton > bracket.low) & (newton < bracket.high) & (bracket.width <= before / 2)
        return torch.where(good, newton, bracket.low + bracket.width / 2)


def _equal(point: _Point, y: Tensor) -> Tensor:
    """f(x) = y to the last place of y."""
    return point.residual.abs() <= torch.finfo(y.dtype).eps * y.abs()


def _failure(best: _Point, missing: Tensor, words: str) -> NotConverged:
    worst = best.residual[missing].abs().max()
    return NotConverged(f"{int(missing.sum())} of {missing.numel()} roots {words}; worst residual {float(worst):.3g}")
