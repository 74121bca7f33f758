r"""Distances between two samples: optimal transport, solved exactly, and the kernel distance that losses differentiate.

.. math:: W_2^2(a, b) = \min_{\pi} \frac1n \sum_i |a_i - b_{\pi(i)}|^2

over permutations (Kantorovich, 1942; the shortest-augmenting-path algorithm of Crouse, 2016, O(n^3)). Between samples of
the same law it is not zero: compare with that floor.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    r""":math:`W_2 = (\min_\pi \frac1n \sum_i |a_i - b_{\pi(i)}|^2)^{1/2}` of two samples of equal size (n, \*E), in their units.

    Raises ValueError where the sizes differ or a number is not finite. See the module's text on its floor.
    """
    cost = squared_distances(a, b)
    rows = torch.arange(len(cost), device=cost.device)
    return float(cost[rows, optimal_assignment(cost)].mean().sqrt())


def gaussian_mmd(a: Tensor, b: Tensor, scales: Sequence[float]) -> Tensor:
    r"""Unbiased squared MMD of rows (n, F) and (m, F) under a mean of Gaussian kernels, differentiable (Gretton et al., 2012).

    .. math:: \mathrm{MMD}^2 = \mathbb E_{i \ne j} k(a_i, a_j) + \mathbb E_{i \ne j} k(b_i, b_j) - 2\, \mathbb E k(a_i, b_j)

    scales: kernel widths as multiples of the pooled median distance. Zero on average for equal laws, and may be negative.
    Raises ValueError with fewer than two rows on a side.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(f"found {len(a)} and {len(b)} rows, expected at least two on each side")
    pooled = torch.cat([a, b])
    squares = (pooled.unsqueeze(1) - pooled.unsqueeze(0)).square().sum(-1)
    width = squares.detach().median().clamp(min=1e-12)
    kernel = torch.stack([torch.exp(-squares / (2 * scale**2 * width)) for scale in scales]).mean(0)
    n, m = len(a), len(b)
    inside = [(block.sum() - block.diagonal().sum()) / (k * (k - 1)) for block, k in ((kernel[:n, :n], n), (kernel[n:, n:], m))]
    return inside[0] + inside[1] - 2 * kernel[:n, n:].mean()
