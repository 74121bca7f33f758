r"""Nearest neighbours in blocks, and what follows from balls that reach to the k-th neighbour.

With :math:`B_i` the closed ball around real row i up to its k-th real neighbour, and :math:`B'_j` the same for samples
(Kynkäänniemi et al., 2019, arXiv:1904.06991; Naeem et al., 2020, arXiv:2002.09797), for n real rows and m samples:

.. math:: \text{precision} = \tfrac1m \#\{j : \exists i, f_j \in B_i\},
          \quad \text{recall} = \tfrac1n \#\{i : \exists j, r_i \in B'_j\}, \\
          \text{density} = \tfrac1{km} \#\{(i, j) : f_j \in B_i\}, \quad
          \text{coverage} = \tfrac1n \#\{i : \exists j, f_j \in B_i\}

Errors are delete-one over both sets, the radii given: dropping a row costs what that row alone held up. A point on the border of
a ball counts as inside, so copies of real rows have precision 1. Memory is one block of rows, whatever the sizes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from genalloy.core.schema import Number
from genalloy.evaluation.intervals import proportion, with_influences
from genalloy.evaluation.metric import FEWEST, Panel, validate

TILE = 2**18
"""Pairs of rows in a block, so that their distances stay in the cache."""
WIDE = 64
"""Features from which on blocks grow with them: the matrix product is then the cost."""
NEIGHBOURS = 5
TOUCH = 1e-10
"""Room for rounding on a ball's squared radius, relative to the mean squared norm."""
FEW_FEATURES = 8
"""Up to as many features a k-d tree finds neighbours, beyond them products of all pairs."""
NAMES = ("precision", "recall", "density", "coverage")


# -- distances -----------------------------------------------------------------------------------------------------


def blocks(a: Tensor, b: Tensor) -> Sequence[Tensor]:
    """Rows of a, so few at a time that their pairs with b stay in the cache; more where the product with b is the cost."""
    return torch.split(a, max(1, TILE * max(1, a.shape[1] // WIDE) // len(b)))


def squares(a: Tensor, b: Tensor, norms: Tensor | None = None) -> Tensor:
    """Squared distances (N, M) by one matrix product; its rounding, far below TOUCH, is what the comparisons allow for.

    norms: squared norms (M,) of b, where many blocks of a meet the same b.
    """
    norms = b.square().sum(1) if norms is None else norms
    return (a.square().sum(1)[:, None] + norms).addmm_(a, b.T, alpha=-2).clamp_min_(0)


class Nearest(NamedTuple):
    """Distance (N,) to the nearest row of a reference, and that row's place in it (N,)."""

    distance: Tensor
    where: Tensor


def nearest(x: Tensor, reference: Tensor, skip_self: bool = False) -> Nearest:
    """The nearest row of (M, F) for each row of (N, F), exact to rounding: zero for a copy.

    skip_self: x are rows of the reference, and the first row at distance zero (itself) does not count.
    """
    if x.shape[1] <= FEW_FEATURES:
        return _by_tree(x, reference, 1 + skip_self)
    index = _by_products(x, reference, 1 + skip_self)
    return Nearest((x - reference[index]).norm(dim=1), index)


def nearest_distance(x: Tensor, reference: Tensor) -> Tensor:
    """Distance (N,) of each row of (N, F) to the nearest row of (M, F)."""
    return nearest(x, reference).distance


def _by_tree(x: Tensor, reference: Tensor, which: int) -> Nearest:
    from scipy.spatial import cKDTree

    distance, index = cKDTree(reference.numpy()).query(x.numpy(), k=[which])
    return Nearest(torch.from_numpy(distance[:, 0]), torch.from_numpy(index[:, 0]).long())


def _by_products(x: Tensor, reference: Tensor, which: int) -> Tensor:
    """Index of the which-th nearest: the reference in pieces, so that a block of pairs stays in the cache."""
    best = torch.full((len(x), which), math.inf, dtype=x.dtype)
    index = torch.zeros(len(x), which, dtype=torch.long)
    for start in range(0, len(reference), 2048):
        piece = reference[start : start + 2048]
        norms = piece.square().sum(1)
        candidates = [squares(rows, piece, norms).topk(min(which, len(piece)), 1, largest=False) for rows in blocks(x, piece)]
        together = torch.cat([best, torch.cat([f.values for f in candidates])], 1)
        whose = torch.cat([index, torch.cat([f.indices for f in candidates]) + start], 1)
        best, kept = together.topk(which, 1, largest=False, sorted=True)
        index = whose.gather(1, kept)
    return index[:, -1]


# -- balls ---------------------------------------------------------------------------------------------------------


class Balls(NamedTuple):
    """Which of m points lie in which of n balls, summed both ways.

    of_point (m,): balls around each point; in_ball (n,): points in each ball.
    only_ball (n,): points that lie in this ball alone; only_point (m,): balls that hold this point alone.
    """

    of_point: Tensor
    in_ball: Tensor
    only_ball: Tensor
    only_point: Tensor


def balls(centres: Tensor, radii: Tensor, points: Tensor) -> Balls:
    """One pass over (n, F) centres with squared radii (n,) and (m, F) points, in blocks."""
    of_point, holder = torch.zeros(len(points)).double(), torch.zeros(len(points)).double()
    in_ball, held = [], []
    index, norms, start = torch.arange(len(points)).double(), points.square().sum(1), 0
    for rows in blocks(centres, points):
        numbers = torch.arange(start, start + len(rows)).double()
        inside = (squares(rows, points, norms) <= radii[start : start + len(rows), None]).double()
        start += len(rows)
        of_point += inside.sum(0)
        # where exactly one ball holds a point, the sum of the balls' numbers is that ball's
        holder += numbers @ inside
        in_ball.append(inside.sum(1))
        held.append(inside @ index)
    ball = torch.cat(in_ball)
    return Balls(of_point, ball, _tally(holder, of_point, len(centres)), _tally(torch.cat(held), ball, len(points)))


def _tally(owner: Tensor, count: Tensor, size: int) -> Tensor:
    return torch.bincount(owner[count == 1].long(), minlength=size).double()


def radii(x: Tensor, k: int) -> Tensor:
    """Squared distance (N,) to the k-th neighbour inside the set (N, F), the point itself left out, with room for rounding."""
    norms = x.square().sum(1)
    parts = [squares(rows, x, norms).topk(k + 1, dim=1, largest=False).values[:, -1] for rows in blocks(x, x)]
    return torch.cat(parts) + TOUCH * norms.mean()


def prdc(real: Tensor, fake: Tensor, k: int = NEIGHBOURS) -> Panel:
    """precision, recall, density, coverage of features (N, F) and (M, F), see the module; errors over both sets, radii given.

    Kynkäänniemi et al., 2019, arXiv:1904.06991; Naeem et al., 2020, arXiv:2002.09797. k: which neighbour a ball reaches to. All
    but density lie in [0, 1]. Absent below 20 or 2 k rows.
    """
    bad = validate(max(FEWEST, 2 * k), {"samples": fake, "references": real})
    if bad:
        return dict.fromkeys(NAMES, bad)
    real, fake = real.double(), fake.double()
    around_real, around_fake = balls(real, radii(real, k), fake), balls(fake, radii(fake, k), real)
    how = f"k = {k}, {len(real):,} references, {len(fake):,} samples, {real.shape[1]} features"
    return {
        "precision": _share(around_real.of_point, around_real.only_ball, how),
        "recall": _share(around_fake.of_point, around_fake.only_ball, how),
        "density": _density(around_real, k, how),
        "coverage": _share(around_real.in_ball, around_real.only_point, how),
    }


def _share(hits: Tensor, only: Tensor, how: str) -> Number:
    """Share of rows with a hit; its own rows vary, and so do the others: `only` is what each of those holds up alone."""
    share = (hits > 0).double().mean().item()
    n, m = len(hits), len(only)
    variance = share * (1 - share) / n + m * float(only.var()) / n**2
    return proportion(share, n, how, math.sqrt(variance))


def _density(balls: Balls, k: int, how: str) -> Number:
    n, m = len(balls.in_ball), len(balls.of_point)
    by_ball = balls.in_ball * n / (k * m)
    by_point = balls.of_point / k
    return with_influences(Number(by_point.mean().item(), None, m, how), [by_ball, by_point], least=0.0)
