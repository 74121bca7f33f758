r"""Entries that ignore each other: :math:`\log p(x) = \sum_d \log p_d(x_d)`, what any model must beat. EXACT.

On a grid of K values, add-one smoothed frequencies over N rows, :math:`p_d(k) = (n_{dk} + 1) / (N + K)` (Laplace's rule of
succession); over reals, a normal density.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from genalloy.core.moments import RESOLUTION, mean_and_scale
from genalloy.data.space import Column, Space

Score = Callable[[Tensor], Tensor]
"""Rows (N, *E) -> (N,)."""


def independent_entries(space: Space, rows: Tensor, correction: int = 1) -> Score:
    """log p (M,) of rows (M, *E), fitted to rows (N, *E); correction: N - correction divides the variance of reals.

    An unseen value outside a column's range counts as seen once.
    """
    fitted = rows.flatten(1).double()
    mean, scale = _moments(fitted, correction)
    if space.levels is not None:
        table = log_frequencies(fitted.long(), space.levels)
        return lambda x: table[torch.arange(space.dims), x.flatten(1).long()].sum(1)
    columns = [
        _column(c, fitted[:, i]) if c.discrete else _normal(mean[i], scale[i])
        for i, c in enumerate(space.columns or (Column("x"),) * space.dims)
    ]
    return lambda x: torch.stack([score(x.flatten(1)[:, i].double()) for i, score in enumerate(columns)]).sum(0)


def _column(column: Column, seen: Tensor) -> Score:
    low, size = int(column.low), int(column.high - column.low) + 1
    table = log_frequencies(seen.long().unsqueeze(1) - low, size)[0]
    unseen = -math.log(len(seen) + size)
    return lambda x: torch.where((x < low) | (x > column.high), unseen, table[(x.long() - low).clamp(0, size - 1)])


def log_frequencies(x: Tensor, levels: int) -> Tensor:
    """log of (counts + 1), normalised over levels: rows (N, D) of integers -> (D, levels)."""
    places = x + levels * torch.arange(x.shape[1])
    table = torch.bincount(places.flatten(), minlength=levels * x.shape[1]).reshape(-1, levels).double() + 1
    return table.log() - table.sum(1, keepdim=True).log()


def log_normal(seen: Tensor, correction: int = 1) -> Score:
    r"""log N(x; mean, variance) of each entry, (\*B, D), with the moments of rows (N, D)."""
    return _normal(*_moments(seen, correction))


def _moments(seen: Tensor, correction: int) -> tuple[Tensor, Tensor]:
    mean, scale = mean_and_scale(seen, constant=RESOLUTION)
    return mean, scale * math.sqrt(max(len(seen) - 1, 1) / max(len(seen) - correction, 1))


def _normal(mean: Tensor, scale: Tensor) -> Score:
    return torch.distributions.Normal(mean, scale, validate_args=False).log_prob
