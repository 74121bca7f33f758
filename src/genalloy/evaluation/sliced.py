r"""Sliced Wasserstein-2 distance (Bonneel et al., 2015): optimal transport along random lines, where it is sorting.

.. math:: SW^2 = \mathbb E_{\theta \sim U(S^{F-1})} W_2^2(\theta^\top a, \theta^\top b), \qquad
          W_2^2 = \int_0^1 (F_a^{-1}(u) - F_b^{-1}(u))^2 du

For equal sizes the integral pairs sorted values; for n and m values both quantile functions are steps on the union of the grids
i/n and j/m, and the sum is exact. Two Gaussians of equal covariance at distance d have :math:`SW = d / \sqrt F`.
A row's influence is Kantorovich's potential (del Barrio & Loubes, 2019), :math:`\phi'(x) = 2 (x - T(x))` with T the optimal map.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from genalloy.core.schema import Number
from genalloy.evaluation.intervals import with_influences
from genalloy.evaluation.metric import FEWEST, validate

DIRECTIONS = 200
LINES_AT_ONCE = 50
"""Directions along which rows are projected at once: memory is N x 50 values, whatever the number of directions."""


def sliced_wasserstein(a: Tensor, b: Tensor, directions: int = DIRECTIONS, seed: int = 0) -> Number:
    r""":math:`(\mathbb E_\theta W_2^2(\theta^\top a, \theta^\top b))^{1/2}` of features (N, F) and (M, F), in their units.

    The standard error is over rows and over directions together, by the delta method. Absent for few rows or rows with NaN.
    """
    bad = validate(FEWEST, {"samples": a, "references": b})
    if bad:
        return bad
    a, b = a.double(), b.double()
    lines = torch.randn(a.shape[1], directions, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    along, from_a, from_b = influences(a, b, lines / lines.norm(dim=0))
    how = f"{directions} random directions, {a.shape[1]} features; biased upwards at this n"
    squared = Number(along.mean().item(), None, min(len(a), len(b)), how)
    return _root(with_influences(squared, [from_a, from_b, along] if directions > 1 else [from_a, from_b], least=0.0))


def influences(a: Tensor, b: Tensor, lines: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """W2^2 along each of the unit lines (F, L), (L,), and the influence of each row of a and of b on their mean."""
    squares, from_a, from_b = [], torch.zeros(len(a)).double(), torch.zeros(len(b)).double()
    for some in torch.split(lines, LINES_AT_ONCE, dim=1):
        square, potential_a, potential_b = _along((a @ some).T.contiguous(), (b @ some).T.contiguous())
        squares.append(square)
        from_a += potential_a.sum(0) / lines.shape[1]
        from_b += potential_b.sum(0) / lines.shape[1]
    return torch.cat(squares), from_a, from_b


def _root(squared: Number) -> Number:
    """From W^2 to W; the error by the delta method."""
    low, high = math.sqrt(squared.low or 0.0), math.sqrt(squared.high or 0.0)
    value = math.sqrt(squared.value)
    error = None if squared.stderr is None or value == 0 else squared.stderr / (2 * value)
    return replace(squared, value=value, stderr=error, low=low, high=high)


def _along(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """W2^2 (L,) of each line's values (L, N) and (L, M), and the potentials of both, in the order of the rows."""
    (a_sorted, a_order), (b_sorted, b_order) = a.sort(1), b.sort(1)
    at_a, at_b, width = _coupling(a.shape[1], b.shape[1])
    gap = a_sorted[:, at_a] - b_sorted[:, at_b]
    square = (gap.square() * width).sum(1)
    return square, _potential(a_sorted, gap * width, at_a, a_order), _potential(b_sorted, -gap * width, at_b, b_order)


def _coupling(n: int, m: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pieces of [0, 1] on which both quantile functions are constant: the two indices and the width of each."""
    ends = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique()
    starts = torch.cat([torch.zeros(1, dtype=torch.long), ends[:-1]])
    return starts // m, starts // n, (ends - starts).double() / (n * m)


def _potential(values: Tensor, weighted_gap: Tensor, at: Tensor, order: Tensor) -> Tensor:
    """phi (L, N) by the trapezoid rule over sorted values, from the gaps x - T(x) of each piece, put back in row order."""
    n = values.shape[1]
    slope = 2 * n * torch.zeros_like(values).index_add_(1, at, weighted_gap)
    rise = (values[:, 1:] - values[:, :-1]) * (slope[:, 1:] + slope[:, :-1]) / 2
    phi = torch.nn.functional.pad(rise.cumsum(1), (1, 0))
    phi = phi - phi.mean(1, keepdim=True)
    return torch.zeros_like(phi).scatter_(1, order, phi)
