"""Where a sampler's steps lie between the noisy and the clean end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from genalloy.core.spec import Value
from genalloy.diffusion.paths import even
from genalloy.diffusion.process import Process


class Spacing(Value, ABC):
    """(process, steps) -> times (steps + 1,) from the first to the last, in double precision."""

    @abstractmethod
    def __call__(self, process: Process, steps: int) -> Tensor:
        """Times (steps + 1,), from the noisy to the clean end, float64."""


@dataclass(frozen=True)
class EvenTime(Spacing):
    r"""Uniform in the path's own time: :math:`t_i = t_0 + (t_n - t_0)\,i/n`."""

    def __call__(self, process: Process, steps: int) -> Tensor:
        """Evenly spaced times of the process's span."""
        return even(*process.span, steps + 1)


@dataclass(frozen=True)
class EvenLambda(Spacing):
    r"""Uniform in :math:`\lambda = \log(\alpha/\sigma)` (Lu et al., 2022, arXiv:2206.00927)."""

    def __call__(self, process: Process, steps: int) -> Tensor:
        """The times of evenly spaced lambda over the window."""
        return process.path.time(even(*process.window, steps + 1))


@dataclass(frozen=True)
class EvenRoot(Spacing):
    r"""Uniform in :math:`(\sigma/\alpha)^{1/\rho}`: shorter steps towards the data (Karras et al., 2022, arXiv:2206.00364)."""

    rho: float = 7.0

    def __call__(self, process: Process, steps: int) -> Tensor:
        """The times of evenly spaced (sigma/alpha)^(1/rho) over the window."""
        first, last = (torch.exp(torch.tensor(-lam / self.rho, dtype=torch.float64)) for lam in process.window)
        root = first + (last - first) * even(0.0, 1.0, steps + 1)
        return process.path.time(-self.rho * root.log())
