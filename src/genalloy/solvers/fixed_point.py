r"""Fixed points :math:`x = y - g(x)` of contractions, certified.

With :math:`\mathrm{Lip}(g) \le L < 1` the plain step :math:`x \leftarrow x + r`, :math:`r = y - g(x) - x`, shrinks the residual
by L every time, and the error is known from the residual alone: :math:`|x - x^*| \le |r| / (1 - L)`. Anderson's step (1965;
Walker & Ni, 2011) combines the last m points by least squares,

.. math:: x \leftarrow x_k + r_k - (\Delta X + \Delta R)\,\gamma, \qquad \gamma = \arg\min_\gamma |r_k - \Delta R\,\gamma|,

which needs far fewer of them where L is close to 1, and is exact for a linear g of dimension m. It carries no guarantee, and
need not fall at every step; so each row is watched: after m steps that did not lower the row's least residual, a plain one is
taken from its best point, which does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from genalloy.core.spec import Value
from genalloy.solvers.roots import NotConverged


@dataclass(frozen=True)
class FixedPoint(Value):
    r"""solver(g, y) -> x with x + g(x) = y, row by row; y (N, \*E). No gradients.

    tolerance: of the residual, root mean square of a row's entries, relative to 1 + those of y and x; 0 for 32 units in the last
    place of the dtype.
    memory: points that Anderson's step combines, 0 for plain iteration. steps: evaluations of g.

    Raises :class:`NotConverged` with the number of rows concerned and the worst residual, ValueError where `steps` is below 1.
    """

    tolerance: float = 0.0
    memory: int = 5
    steps: int = 2000

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"found steps={self.steps}, expected at least 1 evaluation")

    @torch.no_grad()
    def __call__(self, g: Callable[[Tensor], Tensor], y: Tensor) -> Tensor:
        r"""x (N, \*E) with x + g(x) = y to the tolerance; raises :class:`NotConverged` where a row does not get there."""
        tolerance = self.tolerance or 32 * torch.finfo(y.dtype).eps
        history, x, floor = _History(y, self.memory), y, 1 + _size(y)
        for _ in range(self.steps):
            history.see(x, y - g(x) - x)
            missing = ~(history.worst <= tolerance * (floor + _size(history.best)))
            if not bool(missing.any()):
                return history.best
            x = history.propose()
        raise NotConverged(
            f"{int(missing.sum())} of {len(y)} fixed points are not found after {self.steps} steps, worst residual "
            f"{float(history.worst[missing].max()):.3g}; is the network a contraction, and its input finite?"
        )


def _size(x: Tensor) -> Tensor:
    """Root mean square of each row's entries: contractions shrink this norm, and not the largest entry."""
    return x.flatten(1).square().mean(1).sqrt()


class _History:
    """Points and residuals of each row, flat (N, D): the best one, and the last few for Anderson's step."""

    def __init__(self, y: Tensor, memory: int) -> None:
        self.best, self.gap = y, torch.zeros_like(y)
        self.worst = torch.full(y.shape[:1], torch.inf, dtype=y.dtype, device=y.device)
        self.points: list[Tensor] = []
        self.gaps: list[Tensor] = []
        self.memory, self.stale = memory, torch.zeros_like(self.worst)

    def see(self, x: Tensor, gap: Tensor) -> None:
        worst = _size(gap)
        improved = worst < self.worst
        self.stale = torch.where(improved, 0.0, self.stale + 1)
        pick = improved.reshape(-1, *(1,) * (x.dim() - 1))
        self.best, self.gap = torch.where(pick, x, self.best), torch.where(pick, gap, self.gap)
        self.worst = torch.where(improved, worst, self.worst)
        self.points = [*self.points, x.flatten(1)][-self.memory - 1 :]
        self.gaps = [*self.gaps, gap.flatten(1)][-self.memory - 1 :]

    def propose(self) -> Tensor:
        plain = self.best + self.gap
        if self.memory == 0 or len(self.points) < 2:
            return plain
        x, gap = self.points[-1], self.gaps[-1]
        steps = torch.stack([x - p for p in self.points[:-1]], -1)
        turns = torch.stack([gap - r for r in self.gaps[:-1]], -1)
        mixed = (x + gap - ((steps + turns) @ _least_squares(turns, gap)).squeeze(-1)).reshape(plain.shape)
        good = (self.stale < self.memory) & mixed.flatten(1).isfinite().all(1)
        return torch.where(good.reshape(-1, *(1,) * (plain.dim() - 1)), mixed, plain)


def _least_squares(a: Tensor, b: Tensor) -> Tensor:
    r""":math:`\arg\min_\gamma |b - A \gamma|` of each row, (N, m, 1), for A (N, D, m) and b (N, D).

    By normal equations, lightly damped so that they can be solved where A loses rank.
    """
    normal = a.mT @ a
    scale = normal.diagonal(dim1=-2, dim2=-1).amax(-1).clamp(min=torch.finfo(a.dtype).tiny)
    damped = normal + torch.diag_embed((4 * torch.finfo(a.dtype).eps * scale).unsqueeze(-1).expand(normal.shape[:-1]))
    return torch.linalg.solve_ex(damped, a.mT @ b.unsqueeze(-1))[0]
