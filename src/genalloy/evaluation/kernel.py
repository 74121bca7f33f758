r"""Kernel distance (Gretton et al., 2012; Bińkowski, Sutherland, Arbel & Gretton, 2018, arXiv:1801.01401, in Inception features).

The unbiased estimate of :math:`\mathrm{MMD}^2 = \mathbb E k(a, a') + \mathbb E k(b, b') - 2 \mathbb E k(a, b)` with the cubic
kernel :math:`k(a, b) = (a^\top b / F + 1)^3`, or Gaussian kernels in few dimensions; it is zero on average for equal laws, and
may be negative. Its standard error is the delete-one jackknife over both sets, from row sums; near zero it errs upwards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from genalloy.core.schema import Number
from genalloy.evaluation.metric import FEWEST, validate
from genalloy.evaluation.neighbours import blocks, squares

FEW_FEATURES = 8
"""Up to as many features the Gaussian kernels are the default."""


@dataclass(frozen=True)
class Cubic:
    r""":math:`k(a, b) = (a^\top b / F + 1)^3`: compares moments up to the third, which is enough only in rich feature spaces.

    The kernel of KID (Bińkowski et al., 2018, arXiv:1801.01401).
    """

    name: str = "cubic kernel"

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """k of every pair, (N, M), for features (N, F) and (M, F)."""
        base = a @ b.T / a.shape[1] + 1
        return base * base * base

    def diagonal(self, a: Tensor) -> Tensor:
        """k(a_i, a_i), (N,)."""
        return (a.square().sum(1) / a.shape[1] + 1) ** 3


@dataclass(frozen=True)
class Gaussians:
    r""":math:`k(a, b) = \tfrac14 \sum_s e^{-|a - b|^2 / 2 s^2 F}`, s = 1, 1/2, 1/4, 1/8: tells any two laws apart."""

    name: str = "Gaussian kernels of widths 1, 1/2, 1/4, 1/8"

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """k of every pair, (N, M), for features (N, F) and (M, F)."""
        power = squares(a, b).div_(-2 * a.shape[1]).exp_()
        total = power.clone()
        for _ in range(3):
            # halving the width is taking the fourth power
            power = power.square_().square_()
            total += power
        return total / 4

    def diagonal(self, a: Tensor) -> Tensor:
        """Ones (N,)."""
        return torch.ones(len(a), dtype=a.dtype)


def kernel_distance(a: Tensor, b: Tensor, kernel: Cubic | Gaussians | None = None) -> Number:
    r"""Unbiased :math:`\mathrm{MMD}^2` of features (N, F) and (M, F), and its jackknife standard error; it may be below 0.

    Without a `kernel`: Gaussians up to 8 features, where the cubic kernel is blind to much, and Cubic beyond (KID: Bińkowski et
    al., 2018, arXiv:1801.01401). Absent for few rows or rows with NaN.
    """
    bad = validate(FEWEST, {"samples": a, "references": b})
    if bad:
        return bad
    a, b = a.double(), b.double()
    kernel = kernel or (Gaussians() if a.shape[1] <= FEW_FEATURES else Cubic())
    within_a = _sums(kernel, a, a)[0] - kernel.diagonal(a)
    within_b = _sums(kernel, b, b)[0] - kernel.diagonal(b)
    across = _sums(kernel, a, b)
    value = _mmd(within_a.sum(), len(a), within_b.sum(), len(b), across[0].sum())
    # leaving out row i removes its row and its column from "within", its row from "across"
    without_a = _mmd(within_a.sum() - 2 * within_a, len(a) - 1, within_b.sum(), len(b), across[0].sum() - across[0])
    without_b = _mmd(within_a.sum(), len(a), within_b.sum() - 2 * within_b, len(b) - 1, across[0].sum() - across[1])
    variance = sum((len(v) - 1) * v.var(correction=0) for v in (without_a, without_b))
    how = f"unbiased MMD^2, {kernel.name}, {a.shape[1]} features, jackknife"
    return Number(value.item(), math.sqrt(float(variance)), min(len(a), len(b)), how)


def _sums(kernel: Cubic | Gaussians, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """sum_j k(a_i, b_j) for each i, and the same over i for each j, in one pass by blocks of rows."""
    rows, columns = [], torch.zeros(len(b), dtype=a.dtype)
    for some in blocks(a, b):
        values = kernel(some, b)
        rows.append(values.sum(1))
        columns += values.sum(0)
    return torch.cat(rows), columns


def _mmd(within_a: Tensor, n: int, within_b: Tensor, m: int, across: Tensor) -> Tensor:
    return within_a / (n * (n - 1)) + within_b / (m * (m - 1)) - 2 * across / (n * m)
