r"""Several transforms as one, and what their backward pass remembers.

Backpropagation keeps the intermediate results of every transform, :math:`O(K)` of them. A stack of invertible transforms need
not (Gomez, Ren, Urtasun & Grosse, 2017): from its output :math:`z_K` alone, the backward pass computes

.. math:: z_{k-1} = f_k^{-1}(z_k), \qquad
          \bar z_{k-1} = \bar z_k \frac{\partial f_k}{\partial z_{k-1}} + \bar\ell \frac{\partial \ell_k}{\partial z_{k-1}},

one transform at a time, with the cotangents :math:`\bar z` of the values and :math:`\bar\ell` of the log-determinants, a number
a row. Checkpointing (Chen, Xu, Zhang & Guestrin, 2016) keeps the values between transforms and recomputes what is inside.
All three give the same gradients, of inputs, contexts and parameters.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from genalloy.core.contexts import Context, tree_map
from genalloy.core.spec import Value
from genalloy.transforms.layer import Inverse, Transform


class Memory(Value, ABC):
    """What is kept for the backward pass of several transforms in turn."""

    @abstractmethod
    def encode(self, transforms: Sequence[Transform], x: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """(z, the sum of log-determinants) of the transforms in turn."""


@dataclass(frozen=True)
class Store(Memory):
    """All intermediate results: the fastest."""

    def encode(self, transforms: Sequence[Transform], x: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        return in_turn([transform.encode for transform in transforms], x, context)


@dataclass(frozen=True)
class Checkpoint(Memory):
    """The values between transforms; a transform's own results are computed twice, under the same random numbers."""

    def encode(self, transforms: Sequence[Transform], x: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        return in_turn([_checkpointed(transform) for transform in transforms], x, context)


@dataclass(frozen=True)
class Invert(Memory):
    """The stack's input and output; values between are found by decoding, and what decoding arrives at is compared.

    tolerance: largest difference, relative to the largest input, before the backward pass raises ValueError: networks that
    draw random numbers (dropout) do not decode to what was encoded. Gives first derivatives only, and says so.
    """

    tolerance: float = 1e-2

    def encode(self, transforms: Sequence[Transform], x: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        parts: list[Tensor] = []
        tree_map(lambda c: _noted(parts, c), context)
        own = [p for transform in transforms for p in transform.parameters() if p.requires_grad]
        return _Inverted.apply(_Plan(tuple(transforms), context, self.tolerance), x, *parts, *own)  # type: ignore[no-any-return]


class Stack(Transform):
    """Transforms in turn, data side first, as one; see the module's text.

    memory: Store(), Checkpoint() or Invert(); it holds for both directions. Raises ValueError where there is no transform.
    """

    def __init__(self, transforms: Sequence[Transform], memory: Memory = Store()) -> None:
        super().__init__()
        if not transforms:
            raise ValueError("found no transforms, expected at least one to stack")
        self.transforms: Any = nn.ModuleList(transforms)
        self.memory = memory
        self.event_dims = transforms[0].event_dims
        self.constant = all(transform.constant for transform in transforms)

    def encode(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return self.memory.encode(list(self.transforms), x, context)

    def decode(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return self.memory.encode([Inverse(transform) for transform in reversed(self.transforms)], z, context)

    def out_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        for transform in self.transforms:
            shape = transform.out_shape(shape)
        return shape

    def initialise(self, x: Tensor, context: Context = None) -> None:
        for transform in self.transforms:
            transform.initialise(x, context)
            x, _ = transform.encode(x, context)


Step = Callable[[Tensor, Context], tuple[Tensor, Tensor]]


def in_turn(steps: Sequence[Step], x: Tensor, context: Context) -> tuple[Tensor, Tensor]:
    """Value and summed log-determinant of the steps one after another."""
    x, total = steps[0](x, context)
    for step in steps[1:]:
        x, ladj = step(x, context)
        total = total + ladj
    return x, total


def _checkpointed(transform: Transform) -> Step:
    return lambda x, context: checkpoint(transform.encode, x, context, use_reentrant=False)


def _noted(parts: list[Tensor], part: Tensor) -> Tensor:
    parts.append(part)
    return part


@dataclass(frozen=True)
class _Plan:
    """What the backward pass needs beside tensors; the context's structure is filled with the parts at hand."""

    transforms: tuple[Transform, ...]
    context: Context
    tolerance: float

    def filled(self, parts: Sequence[Tensor]) -> Context:
        rest = iter(parts)
        return tree_map(lambda _: next(rest), self.context)

    def count(self) -> int:
        parts: list[Tensor] = []
        tree_map(lambda c: _noted(parts, c), self.context)
        return len(parts)

    def compare(self, x: Tensor, found: Tensor) -> None:
        gap = float((found - x).abs().max()) / max(float(x.abs().max()), 1.0) if x.numel() else 0.0
        if not gap <= self.tolerance:
            raise ValueError(
                f"decoding arrived {gap:.2g} of the input's size off, expected at most {self.tolerance:g}: with dropout, "
                "or where inverses lose their digits, use Checkpoint() or Store()"
            )


class _Inverted(torch.autograd.Function):
    """Parameters are inputs, so that every caller's `backward(inputs=...)` finds them."""

    @staticmethod
    def forward(ctx: Any, plan: _Plan, x: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
        parts = others[: plan.count()]
        z, ladj = in_turn([t.encode for t in plan.transforms], x, plan.filled(parts))
        ctx.plan = plan
        ctx.save_for_backward(x, z, *others)
        return z, ladj

    @staticmethod
    def backward(ctx: Any, z_bar: Tensor, ladj_bar: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise ValueError("found create_graph=True: Invert() gives first derivatives only; use Checkpoint() or Store()")
        plan, (x, z, *others) = ctx.plan, ctx.saved_tensors
        count = plan.count()
        parts = [part.detach().requires_grad_(part.requires_grad) for part in others[:count]]
        sums = _Sums([*parts, *others[count:]])
        for transform in reversed(plan.transforms):
            z, z_bar = _one_back(transform, (z, z_bar, ladj_bar), plan.filled(parts), sums)
        plan.compare(x, z)
        return None, z_bar, *sums.totals


class _Sums:
    """Gradients of the contexts and parameters, added up over transforms."""

    def __init__(self, tensors: list[Tensor]) -> None:
        self.tensors, self.totals = tensors, [None] * len(tensors)
        self.wanted = [i for i, tensor in enumerate(tensors) if tensor.requires_grad]

    def add(self, gradients: Sequence[Tensor | None]) -> None:
        totals: list[Any] = self.totals
        for i, gradient in zip(self.wanted, gradients, strict=True):
            if gradient is not None:
                totals[i] = gradient if totals[i] is None else totals[i] + gradient


def _one_back(
    transform: Transform, above: tuple[Tensor, Tensor, Tensor], context: Context, sums: _Sums
) -> tuple[Tensor, Tensor]:
    """(value, cotangent) below a transform from (value, its cotangent, the log-determinants' cotangent) above it."""
    z, z_bar, ladj_bar = above
    x = transform.decode(z, context)[0].detach().requires_grad_()
    with torch.enable_grad():
        outputs = transform.encode(x, context)
    outputs, bars = zip(*((y, bar) for y, bar in zip(outputs, (z_bar, ladj_bar), strict=True) if y.requires_grad), strict=True)
    wanted = [x, *(sums.tensors[i] for i in sums.wanted)]
    own, *rest = torch.autograd.grad(outputs, wanted, bars, allow_unused=True)
    sums.add(rest)
    return x.detach(), torch.zeros_like(x) if own is None else own
