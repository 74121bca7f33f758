"""Samplers made of samplers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from genalloy.diffusion.paths import Path
from genalloy.diffusion.process import Process
from genalloy.samplers.sampler import Sampler


@dataclass(frozen=True)
class OnPath(Sampler):
    """A sampler run on another path than the model was trained on: x_t of equal lambda differ by a factor alone."""

    sampler: Sampler
    path: Path

    @property
    def order(self) -> int:  # type: ignore[override]
        """The inner sampler's."""
        return self.sampler.order

    @property
    def amplifies(self) -> bool:  # type: ignore[override]
        """The inner sampler's."""
        return self.sampler.amplifies

    def __call__(self, process: Process, noise: Tensor) -> Tensor:
        r"""Noise (\*B, \*E) -> samples (\*B, \*E), scaled back to the last time of the model's own path."""
        other = process.on(self.path)
        x = self.sampler(other, noise)
        ends = (torch.tensor(p.span[1], dtype=torch.float64) for p in (process, other))
        scale, theirs = (p.path.scale(t).to(x) for p, t in zip((process, other), ends, strict=True))
        return x * (scale / theirs)
