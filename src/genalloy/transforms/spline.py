r"""Monotone rational-quadratic splines with identity tails (Durkan, Bekasov, Murray & Papamakarios, 2019).

Between knots :math:`(x_k, y_k)` with widths :math:`w_k`, heights :math:`h_k`, slopes :math:`\delta_k` at the knots and
:math:`s_k = h_k / w_k`, for :math:`\xi = (x - x_k) / w_k`,

.. math:: z = y_k + \frac{h_k\,[s_k \xi^2 + \delta_k \xi (1-\xi)]}{q(\xi)}, \qquad
          \frac{dz}{dx} = \frac{s_k^2\,[\delta_{k+1} \xi^2 + 2 s_k \xi (1-\xi) + \delta_k (1-\xi)^2]}{q(\xi)^2}, \qquad
          q(\xi) = s_k + (\delta_{k+1} + \delta_k - 2 s_k)\,\xi (1-\xi).

Outside [-bound, bound] the map is the identity. Everything is branch-free: values are clamped into the box, and the tails
chosen afterwards, so that no gradient passes through a branch not taken. The inverse solves the quadratic in the form that
does not cancel, with the discriminant kept from rounding below zero, and corrects the root by one Newton step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from genalloy.transforms.univariate import Univariate, soft_clamp


class Knots(NamedTuple):
    """Places (K + 1, \\*B), values (K + 1, \\*B) and slopes (K + 1, \\*B) of the knots; the outer slopes are 1.

    Knots first: what is done for every element of a batch then runs along memory, and a last axis of 8 bins would not.
    """

    x: Tensor
    y: Tensor
    slopes: Tensor


class Bin(NamedTuple):
    """The bin an element lies in: its corner, width, height, and the slopes at its two ends; each (\\*B)."""

    x: Tensor
    y: Tensor
    width: Tensor
    height: Tensor
    left: Tensor
    right: Tensor


def _bin(knots: Knots, value: Tensor, along: Tensor) -> Bin:
    """The bin of each value along `along`, the knots' places or values."""
    index = (value >= along[1:-1]).sum(0, keepdim=True)
    ends = torch.cat([index, index + 1])
    x, y, slope = (k.expand(-1, *value.shape).gather(0, ends).unbind(0) for k in knots)
    return Bin(x[0], y[0], x[1] - x[0], y[1] - y[0], slope[0], slope[1])


def _curve(b: Bin, xi: Tensor) -> tuple[Tensor, Tensor]:
    """(height above the corner, log of the slope) at the share xi of the bin."""
    s, rest = b.height / b.width, xi * (1 - xi)
    q = s + (b.left + b.right - 2 * s) * rest
    rise = b.height * (s * xi.square() + b.left * rest) / q
    slope = b.right * xi.square() + 2 * s * rest + b.left * (1 - xi).square()
    return rise, (slope * (s / q).square()).log()


def spline_encode(x: Tensor, knots: Knots) -> tuple[Tensor, Tensor]:
    r"""(z, log dz/dx) for x (\*B); identity outside the knots."""
    low, high = knots.x[0], knots.x[-1]
    inside = (x > low) & (x < high)
    safe = torch.where(inside, x, 0.5 * (low + high))
    b = _bin(knots, safe, knots.x)
    rise, log_slope = _curve(b, ((safe - b.x) / b.width).clamp(0, 1))
    return torch.where(inside, b.y + rise, x), torch.where(inside, log_slope, 0.0)


def spline_decode(z: Tensor, knots: Knots) -> tuple[Tensor, Tensor]:
    r"""(x, log dx/dz), the inverse of :func:`spline_encode`."""
    low, high = knots.y[0], knots.y[-1]
    inside = (z > low) & (z < high)
    safe = torch.where(inside, z, 0.5 * (low + high))
    b = _bin(knots, safe, knots.y)
    xi = _share(b, safe - b.y)
    rise, log_slope = _curve(b, xi)
    xi = (xi - (rise - (safe - b.y)) / (log_slope.exp() * b.width)).clamp(0, 1)
    log_slope = _curve(b, xi)[1]
    return torch.where(inside, b.x + xi * b.width, z), torch.where(inside, -log_slope, 0.0)


def _share(b: Bin, rise: Tensor) -> Tensor:
    """Root in [0, 1] of the quadratic that the curve's height obeys."""
    s = b.height / b.width
    bend = b.left + b.right - 2 * s
    first = b.height * (s - b.left) + rise * bend
    second = b.height * b.left - rise * bend
    third = -s * rise
    root = (second.square() - 4 * first * third).clamp(min=torch.finfo(rise.dtype).tiny).sqrt()
    return (-2 * third / (second + root).clamp(min=torch.finfo(rise.dtype).tiny)).clamp(0, 1)


@dataclass(frozen=True)
class RationalQuadratic(Univariate):
    r"""A monotone rational-quadratic spline on [-bound, bound], the identity outside (Durkan et al., 2019, arXiv:1906.04032).

    In a bin of width w and height h, with s = h / w, slopes :math:`\delta` at its ends and :math:`\xi` the share of its width,

    .. math:: z = y_k + \frac{h\,[s \xi^2 + \delta_k \xi (1-\xi)]}{s + (\delta_{k+1} + \delta_k - 2 s)\,\xi (1-\xi)}.

    bins: K; raw (\*B, 3 K - 1) = (widths, heights, inner slopes). A knot's slope is the lesser of its two bins' times a factor
    within (1 / spread, spread). Slopes far above those of a neighbouring bin are what makes the inverse ill-conditioned: so both
    directions keep to float32 whatever the network says. floor: share of even spacing that every bin keeps.
    """

    bins: int = 8
    bound: float = 5.0
    floor: float = 0.05
    spread: float = 10.0

    @property
    def width(self) -> int:
        """3 bins - 1: widths, heights and inner slopes."""
        return 3 * self.bins - 1

    def knots(self, raw: Tensor) -> Knots:
        """Admissible knots from raw parameters (\\*B, 3 bins - 1)."""
        sides, slopes = raw.movedim(-1, 0).contiguous().split([2 * self.bins, self.bins - 1])
        shares = self.floor / self.bins + (1 - self.floor) * sides.unflatten(0, (2, -1)).softmax(1)
        ends = shares.cumsum(1) * (2 * self.bound) - self.bound
        x, y = torch.cat([torch.full_like(ends[:, :1], -self.bound), ends], 1).unbind(0)
        steep = shares[1] / shares[0]
        inner = torch.minimum(steep[1:], steep[:-1]) * soft_clamp(slopes, math.log(self.spread)).exp()
        outer = torch.ones_like(inner[:1])
        return Knots(x, y, torch.cat([outer, inner, outer]))

    def encode(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        r"""(z, log dz/dx), each (\*B), by :func:`spline_encode` at the knots of raw (\*B, 3 K - 1)."""
        return spline_encode(x, self.knots(raw))

    def decode(self, z: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        r"""(x, log dx/dz), each (\*B), by :func:`spline_decode` at the knots of raw (\*B, 3 K - 1)."""
        return spline_decode(z, self.knots(raw))
