"""What samplers of a diffusion have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from genalloy.core.spec import Value
from genalloy.diffusion.process import Process


class Sampler(Value, ABC):
    r"""sampler(process, noise): unit normal noise (\*B, \*E) carried to x at the process's last time.

    order: of the error in the step size, 0 for random samplers. amplifies: whether a step uses D itself, whose error at the
    noisy end is the network's times :math:`|c_{out}|`.
    """

    order: int = 0
    amplifies: bool = False

    @abstractmethod
    def __call__(self, process: Process, noise: Tensor) -> Tensor:
        r"""x (\*B, \*E) at the process's last time from unit normal noise (\*B, \*E)."""
