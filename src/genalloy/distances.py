r"""Optimal transport between two samples of equal size: an assignment, solved exactly.

.. math:: W_2^2(a, b) = \min_{\pi} \frac1n \sum_i |a_i - b_{\pi(i)}|^2

over permutations (Kantorovich, 1942; the shortest-augmenting-path algorithm of Crouse, 2016, O(n^3)). Between samples of
the same law it is not zero: compare with that floor.
"""

from __future__ import annotations

import torch
from torch import Tensor


def optimal_assignment(cost: Tensor) -> Tensor:
    """The permutation (n,) that minimises sum_i cost[i, pi(i)], cost (n, n). Raises ValueError if not square or not finite."""
    from scipy.optimize import linear_sum_assignment

    if cost.dim() != 2 or cost.shape[0] != cost.shape[1]:
        raise ValueError(f"found a cost of shape {tuple(cost.shape)}, expected a square one; pair samples of equal size")
    if not bool(torch.isfinite(cost).all()):
        raise ValueError("found a cost that is not finite, expected finite numbers; look for NaN in samples or data")
    _, columns = linear_sum_assignment(cost.detach().cpu().double().numpy())
    return torch.as_tensor(columns, device=cost.device)


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    r"""|a_i - b_j|^2 (n, m) of rows (n, \*E) and (m, \*E), in double precision: the expansion of the square cancels in single."""
    return torch.cdist(a.detach().flatten(1).double(), b.detach().flatten(1).double()).square()


def wasserstein2(a: Tensor, b: Tensor) -> float:
    """W2 (not squared) of two samples of equal size (n, \\*E), in their units."""
    cost = squared_distances(a, b)
    rows = torch.arange(len(cost), device=cost.device)
    return float(cost[rows, optimal_assignment(cost)].mean().sqrt())
