r"""Four energies in the plane that have no closed-form normaliser (Rezende & Mohamed, 2015, table 1).

With :math:`w_1 = \sin(\pi x_1 / 2)`, :math:`w_2 = 3 e^{-\frac12 ((x_1 - 1) / 0.6)^2}`, :math:`w_3 = 3 \sigma((x_1 - 1) / 0.3)`
and :math:`g(a, s) = e^{-\frac12 (a / s)^2}`,

.. math::
    U_1 &= \tfrac12 \Big(\frac{|x| - 2}{0.4}\Big)^2 - \ln\big(g(x_1 - 2, 0.6) + g(x_1 + 2, 0.6)\big) \\
    U_2 &= \tfrac12 \Big(\frac{x_2 - w_1}{0.4}\Big)^2 \\
    U_3 &= -\ln\big(g(x_2 - w_1, 0.35) + g(x_2 - w_1 + w_2, 0.35)\big) \\
    U_4 &= -\ln\big(g(x_2 - w_1, 0.4) + g(x_2 - w_1 + w_3, 0.35)\big)

:math:`U_2` to :math:`U_4` go on for ever along :math:`x_1`, so their densities exist in a box only,
which is part of every number:
:math:`[-4, 4]^2`, with walls that are hard, or soft, :math:`\frac12 ((|x_i| - 4)_+ / \text{wall})^2`, where gradients must lead
back. :math:`\ln Z` is a Gauss-Legendre quadrature, in pieces that end at the walls.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from genalloy.core.spec import Value

REACH = 8.0
"""Soft walls are followed for so many of their widths; e^-32 of the mass lies beyond."""


@dataclass(frozen=True)
class Energy(Value, ABC):
    r"""p(x) = exp(-energy(x)) / Z in the plane, confined to [-edge, edge]^2 (Rezende & Mohamed, 2015, arXiv:1505.05770).

    .. math:: \mathrm{energy}(x) = U(x) + \tfrac12 \sum_i \big((|x_i| - \mathrm{edge})_+ / \mathrm{wall}\big)^2

    wall: width of the soft walls; 0: hard ones, energy inf outside. peak: exp(-U) stays below it.
    """

    wall: float = 0.1
    edge: float = 4.0

    peak = 2.0

    @abstractmethod
    def free(self, x: Tensor) -> Tensor:
        r"""U(x) without the walls, (\*B, 2) -> (\*B)."""

    def energy(self, x: Tensor) -> Tensor:
        r"""U(x) with the walls, (\*B, 2) -> (\*B), nats up to ln Z."""
        outside = (x.abs() - self.edge).clamp(min=0)
        if self.wall == 0:
            return torch.where((outside == 0).all(-1), self.free(x), torch.inf)
        return self.free(x) + 0.5 * (outside / self.wall).square().sum(-1)

    def log_normaliser(self) -> float:
        """ln Z in nats, by quadrature; below 1e-8 off."""
        return _integrals(self)[0]

    def optimum(self) -> float:
        """E log p = -E U - ln Z in nats, by quadrature."""
        log_z, mean = _integrals(self)
        return -mean - log_z

    def log_density(self, x: Tensor) -> Tensor:
        r"""log p(x), (\*B, 2) -> (\*B), computed in float64, in x's dtype; -inf beyond hard walls."""
        return (-self.energy(x.double()) - self.log_normaliser()).to(x.dtype)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Exact draws (n, 2) float32, by rejection from the uniform distribution."""
        side, rows, kept = self.edge + REACH * self.wall, list[Tensor](), 0
        while kept < n:
            x = side * (2 * torch.rand(1 << 16, 2, generator=generator, dtype=torch.float64) - 1)
            height = torch.rand(len(x), generator=generator, dtype=torch.float64)
            rows.append(x[height.log() < -self.energy(x) - math.log(self.peak)])
            kept += len(rows[-1])
        return torch.cat(rows)[:n].float()


@cache
def _integrals(energy: Energy) -> tuple[float, float]:
    """(ln Z, E U)."""
    ends = [-energy.edge - REACH * energy.wall, -energy.edge, energy.edge, energy.edge + REACH * energy.wall]
    pieces = [_nodes(a, b, n) for a, b, n in zip(ends, ends[1:], (40, 240, 40), strict=False) if b > a]
    axis, weight = (torch.cat(part) for part in zip(*pieces, strict=True))
    u = energy.energy(torch.cartesian_prod(axis, axis))
    mass = (-u).exp() * torch.outer(weight, weight).flatten()
    return math.log(float(mass.sum())), float((mass * u).sum() / mass.sum())


def _nodes(a: float, b: float, n: int) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre nodes and weights on [a, b]."""
    node, weight = map(torch.from_numpy, np.polynomial.legendre.leggauss(n))
    return (a + b) / 2 + (b - a) / 2 * node, (b - a) / 2 * weight


def _ridge(a: Tensor, width: float) -> Tensor:
    """ln g(a, width)."""
    return -0.5 * (a / width).square()


def _wave(x: Tensor) -> Tensor:
    """x_2 - w_1(x_1)."""
    return x[..., 1] - (math.pi / 2 * x[..., 0]).sin()


@dataclass(frozen=True)
class U1(Energy):
    r"""Two bows: a ring of radius 2, heavy at its left and right.

    .. math:: U(x) = \tfrac12 \Big(\frac{|x| - 2}{0.4}\Big)^2 - \ln\big(g(x_1 - 2, 0.6) + g(x_1 + 2, 0.6)\big)
    """

    peak = 1.0 + 1e-9

    def free(self, x: Tensor) -> Tensor:
        r"""U(x), (\*B, 2) -> (\*B): a ring, and a bow at each side."""
        sides = torch.logaddexp(_ridge(x[..., 0] - 2, 0.6), _ridge(x[..., 0] + 2, 0.6))
        return -_ridge(x.norm(dim=-1) - 2, 0.4) - sides


@dataclass(frozen=True)
class U2(Energy):
    r"""A wave, :math:`U(x) = \tfrac12 ((x_2 - w_1) / 0.4)^2`."""

    peak = 1.0

    def free(self, x: Tensor) -> Tensor:
        r"""U(x), (\*B, 2) -> (\*B): the squared distance to the wave along x_2, in widths."""
        return -_ridge(_wave(x), 0.4)


@dataclass(frozen=True)
class U3(Energy):
    r"""A wave with a second strand for a stretch.

    .. math:: U(x) = -\ln\big(g(x_2 - w_1, 0.35) + g(x_2 - w_1 + w_2, 0.35)\big)
    """

    def free(self, x: Tensor) -> Tensor:
        r"""U(x), (\*B, 2) -> (\*B): the wave, and the strand w_2 below it."""
        strand = 3 * _ridge(x[..., 0] - 1, 0.6).exp()
        return -torch.logaddexp(_ridge(_wave(x), 0.35), _ridge(_wave(x) + strand, 0.35))


@dataclass(frozen=True)
class U4(Energy):
    r"""A wave that forks.

    .. math:: U(x) = -\ln\big(g(x_2 - w_1, 0.4) + g(x_2 - w_1 + w_3, 0.35)\big)
    """

    def free(self, x: Tensor) -> Tensor:
        r"""U(x), (\*B, 2) -> (\*B): the wave, and the fork w_3 below it."""
        fork = 3 * torch.sigmoid((x[..., 0] - 1) / 0.3)
        return -torch.logaddexp(_ridge(_wave(x), 0.4), _ridge(_wave(x) + fork, 0.35))


ENERGIES: dict[str, type[Energy]] = {"u1": U1, "u2": U2, "u3": U3, "u4": U4}
