"""What a law is asked of: a part with its shapes; and how a law says no."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from genalloy.core.contexts import Context, Shapes, split
from genalloy.core.distribution import Shape


class NotApplicable(Exception):
    """The law has nothing to say of this thing, or could not decide; the message says why."""


def check(condition: object, words: str) -> None:
    """Raise AssertionError(words) unless the condition holds; unlike `assert`, also under `python -O`."""
    if not condition:
        raise AssertionError(words)


@dataclass(frozen=True)
class Subject:
    """A part and what it claims of itself.

    event_shape: E. context_shapes: event shapes of the context's parts. discrete: whether values are integers 0..K-1.
    levels: K, where the density itself does not tell (it is probed where 0).
    """

    part: nn.Module
    event_shape: Shape
    context_shapes: Shapes = ()
    discrete: bool = False
    levels: int = 0

    @property
    def name(self) -> str:
        return type(self.part).__name__

    def context(self, batch: Shape = ()) -> Context:
        """Standard normal contexts with batch shape `batch`; None where the part takes none."""
        places, names = split(self.context_shapes)
        front = tuple(torch.randn((*batch, *shape)) for shape in places)
        named = {name: torch.randn((*batch, *shape)) for name, shape in names.items()}
        parts = (*front, named) if named else front
        return (parts if len(parts) > 1 else parts[0]) if parts else None

    def distribution(self, batch: Shape = ()) -> Any:
        """The part at one context, or at a batch of contexts."""
        return self.part(self.context(batch))

    def points(self, rows: int) -> Tensor:
        r"""Points of the support: the part's own samples under one context, (rows, \*E)."""
        return self.distribution().sample((rows,)).detach()


def perturb_parameters(module: Any, size: float = 0.3, seed: int = 0) -> Any:
    """A copy with every parameter moved at random: layers that start at zero or at the identity hide mistakes."""
    copied = copy.deepcopy(module)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator).to(parameter))
    return copied
