"""How an observation's elements enter a network: scaled reals, or one-hot integers. Frozen values, no parameters."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from genalloy.core.spec import Value


@dataclass(frozen=True)
class ScaledInput(Value):
    r"""(x - shift) / scale, one feature an element: (\*B) -> (\*B, 1)."""

    shift: float = 0.0
    scale: float = 1.0

    @property
    def features(self) -> int:
        """Number of features an element: 1."""
        return 1

    def __call__(self, x: Tensor) -> Tensor:
        return ((x - self.shift) / self.scale).unsqueeze(-1)


def compress(x: Tensor, limit: float) -> Tensor:
    r"""x where \|x\| <= limit, sign(x) (limit + asinh(\|x\| - limit)) beyond: increasing, twice differentiable, of any shape."""
    return x.clamp(-limit, limit) + torch.asinh(F.softshrink(x, limit))


@dataclass(frozen=True)
class CompressedInput(Value):
    r""":func:`compress`, one feature an element: (\*B) -> (\*B, 1).

    What a network makes of values far from its data is what it makes of the data's edge, and an inverse that feeds its own
    outputs back in cannot run away.
    """

    limit: float = 5.0

    @property
    def features(self) -> int:
        """Number of features an element: 1."""
        return 1

    def __call__(self, x: Tensor) -> Tensor:
        return compress(x, self.limit).unsqueeze(-1)


@dataclass(frozen=True)
class ClampedInput(Value):
    r"""min(max(x, -limit), limit), one feature an element: (\*B) -> (\*B, 1).

    An inverse that feeds its own outputs back in cannot run away: what the network gives is bounded, so its values are. Recipes
    take CompressedInput, which still tells far values apart; models that were saved with this are read.
    """

    limit: float = 10.0

    @property
    def features(self) -> int:
        """Number of features an element: 1."""
        return 1

    def __call__(self, x: Tensor) -> Tensor:
        return x.clamp(-self.limit, self.limit).unsqueeze(-1)


@dataclass(frozen=True)
class OneHot(Value):
    r"""Integers 0..levels-1: one-hot, beside the level as a number in [-1, 1] so that neighbours are near.

    (\*B) -> (\*B, levels + 1). Raises ValueError where a value lies outside the range.
    """

    levels: int

    @property
    def features(self) -> int:
        """Number of features an element: levels + 1."""
        return self.levels + 1

    def __call__(self, x: Tensor) -> Tensor:
        index = x.long()
        if index.numel() and (int(index.min()) < 0 or int(index.max()) >= self.levels):
            raise ValueError(
                f"found values from {x.min().item():g} to {x.max().item():g}, expected integers 0..{self.levels - 1}; "
                "give OneHot the number of levels of the data"
            )
        number = x.unsqueeze(-1) * (2 / max(self.levels - 1, 1)) - 1
        hot = index.unsqueeze(-1) == torch.arange(self.levels, device=x.device)
        return torch.cat([hot.to(x.dtype), number], -1)


Entry = ScaledInput | CompressedInput | ClampedInput | OneHot


def as_planes(features: Tensor) -> Tensor:
    r"""Features of an image's elements as its channels: (\*B, C, H, W, F) -> (\*B, C F, H, W)."""
    return features.movedim(-1, -3).flatten(-4, -3)
