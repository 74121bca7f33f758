r"""Increasing maps of one variable whose parameters a network gives: what coupling and autoregressive transforms apply.

A univariate takes raw, unconstrained parameters and makes them admissible itself; raw = 0 is (near) the identity, so that
stacks start there. Both directions return the logarithm of their own slope:

.. math:: z = \tau(x; r), \quad \log \tau'(x; r) \qquad\text{and}\qquad x = \tau^{-1}(z; r), \quad -\log \tau'(x; r).

Coupling (Dinh et al., 2017) and autoregressive transforms (Papamakarios et al., 2017) differ only in who gives r.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from genalloy.core.spec import Value


class Univariate(Value, ABC):
    r"""An increasing map of the line, elementwise.

    width: raw parameters an element. volume: whether its slope is 1 everywhere.
    """

    volume: bool = False

    @property
    @abstractmethod
    def width(self) -> int:
        """Raw parameters an element."""

    @abstractmethod
    def encode(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        r"""(z, log dz/dx), each (\*B); x (\*B), raw (\*B, width)."""

    @abstractmethod
    def decode(self, z: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        r"""(x, log dx/dz), the inverse of :meth:`encode`."""


def soft_clamp(raw: Tensor, bound: float) -> Tensor:
    """raw / (1 + |raw| / bound): slope 1 at zero, values within (-bound, bound)."""
    return raw / (1 + raw.abs() / bound)


@dataclass(frozen=True)
class Affine(Univariate):
    """:math:`z = x e^a + m`, a softly clamped to (-bound, bound); raw = (a, m) (RealNVP: Dinh et al., 2017, arXiv:1605.08803)."""

    bound: float = 3.0

    @property
    def width(self) -> int:
        """2: log-scale and shift."""
        return 2

    def encode(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        r"""(:math:`x e^a + m`, a), each (\*B); x (\*B), raw (\*B, 2)."""
        a = soft_clamp(raw[..., 0], self.bound)
        return torch.addcmul(raw[..., 1], x, a.exp()), a

    def decode(self, z: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        r"""(:math:`(z - m)\, e^{-a}`, -a), each (\*B); z (\*B), raw (\*B, 2)."""
        a = -soft_clamp(raw[..., 0], self.bound)
        return (z - raw[..., 1]) * a.exp(), a


@dataclass(frozen=True)
class Additive(Univariate):
    """:math:`z = x + m`, which keeps volume; raw = (m,) (NICE: Dinh, Krueger & Bengio, 2015, arXiv:1410.8516)."""

    volume = True

    @property
    def width(self) -> int:
        """1: the shift."""
        return 1

    def encode(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        r"""(x + m, zeros), each (\*B); x (\*B), raw (\*B, 1)."""
        z = x + raw[..., 0]
        return z, torch.zeros_like(z)

    def decode(self, z: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        r"""(z - m, zeros), each (\*B); z (\*B), raw (\*B, 1)."""
        x = z - raw[..., 0]
        return x, torch.zeros_like(x)


@dataclass(frozen=True)
class Then(Univariate):
    r"""One map after another, :math:`z = \tau_2(\tau_1(x))`; raw parameters side by side, log-slopes added."""

    first: Univariate
    second: Univariate

    @property
    def width(self) -> int:
        """The sum of both widths."""
        return self.first.width + self.second.width

    def encode(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        r"""(:math:`\tau_2(\tau_1(x))`, the sum of both log-slopes), each (\*B); raw (\*B, width), the first map's first."""
        one, two = raw.split([self.first.width, self.second.width], -1)
        y, inner = self.first.encode(x, one)
        z, outer = self.second.encode(y, two)
        return z, inner + outer

    def decode(self, z: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        r"""(:math:`\tau_1^{-1}(\tau_2^{-1}(z))`, the sum of both log-slopes), each (\*B)."""
        one, two = raw.split([self.first.width, self.second.width], -1)
        y, outer = self.second.decode(z, two)
        x, inner = self.first.decode(y, one)
        return x, inner + outer
