r"""Mean and scale of each entry of a data set, in its own units: rows that are multiplied by c have c times these moments.

Sums of squares are taken in float64, where squares of 1e30 and of 1e-30 are still numbers. An entry on a grid is seen as
:math:`v = x + u` with :math:`u \sim U[0, 1)`,

.. math:: E v = E x + 1/2, \qquad \mathrm{Var}\, v = \mathrm{Var}\, x + 1/12 :

a flag that hardly ever is set has the scale of its cell, not of its few ones.
"""

from __future__ import annotations

import torch
from torch import Tensor

RESOLUTION = torch.finfo(torch.float32).eps
"""What stored numbers tell apart, relative to their size: an entry that varies less is constant."""

AT_ONCE = 4096
"""Rows held in double precision at once."""


def mean_and_scale(rows: Tensor, grid: Tensor | bool = False, constant: float = 1.0) -> tuple[Tensor, Tensor]:
    r"""Mean and scale (\*E) of rows (N, \*E), float64; the scale is the standard deviation, and always positive.

    grid: which entries are dequantised, a bool tensor (\*E). constant: the scale of an entry that does not vary, as a share of
    its value, of the smallest scale beside it where it is zero, and of 1 where all are: 1 where it only has to stay finite,
    `RESOLUTION` where a density is to say how sure it is.
    """
    mean, variance = _sums(rows)
    noise = torch.as_tensor(grid, device=rows.device).double()
    spread = (variance + noise / 12).sqrt()
    varies = spread > RESOLUTION * (1 - noise) * mean.abs()
    beside = torch.cat([spread[varies], mean[~varies].abs()])
    least = beside[beside > 0].min() if bool((beside > 0).any()) else spread.new_ones(())
    alone = constant * torch.where(mean == 0, least, mean.abs())
    return mean + noise / 2, torch.where(varies, spread, alone)


def _sums(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (divided by N - 1, by 1 for a single row), in two passes over few rows at a time."""
    zero, parts = torch.zeros(rows.shape[1:], dtype=torch.float64, device=rows.device), rows.split(AT_ONCE)
    mean = sum((part.double().sum(0) for part in parts), zero) / len(rows)
    squares = sum(((part.double() - mean).square().sum(0) for part in parts), zero)
    return mean, squares / max(len(rows) - 1, 1)
