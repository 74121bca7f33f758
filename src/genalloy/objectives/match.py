r"""Matching two sources without a critic: row by row, by mean features, or by a kernel distance of their laws."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from genalloy.distances import gaussian_mmd
from genalloy.objectives.objective import Objective, Play
from genalloy.objectives.sources import PointSource


class Match(Objective):
    """:math:`E |f(a_i) - f(b_i)|^{power} / d`: points of two sources, row by row.

    As cycle consistency in Zhu et al., 2017, arXiv:1703.10593. features: f, a module or None for the points themselves; d: its
    size. power: 1 for absolute, 2 for squared differences.
    """

    def __init__(self, a: PointSource, b: PointSource, features: nn.Module | None = None, power: float = 1.0) -> None:
        super().__init__()
        self.a, self.b, self.features, self.power = a, b, features, power

    def forward(self, play: Play) -> Tensor:
        r"""The mean over rows and entries of \|f(a) - f(b)\|^power, a scalar."""
        a, b = (_features(self.features, source(play).x) for source in (self.a, self.b))
        return (a - b).abs().pow(self.power).mean()


class MatchMoments(Objective):
    """:math:`|E f(a) - E f(b)|^2`: mean features of two sources (Salimans et al., 2016, arXiv:1606.03498).

    features: f, a module or None for the points themselves; part of a critic's network stays the critic's. Rows are coupled
    through the means.
    """

    couples = True

    def __init__(self, a: PointSource, b: PointSource, features: nn.Module | None = None) -> None:
        super().__init__()
        self.a, self.b, self.features = a, b, features

    def forward(self, play: Play) -> Tensor:
        """Squared distance of the batch means, summed over features, a scalar."""
        a, b = (_features(self.features, source(play).x).mean(0) for source in (self.a, self.b))
        return (a - b).square().sum()


class MMD(Objective):
    r"""Squared maximum mean discrepancy of two sources, unbiased, by Gaussian kernels; it can be below 0.

    .. math:: E\,k(a, a') + E\,k(b, b') - 2\,E\,k(a, b)

    Gretton et al., 2012; Li, Swersky & Zemel, 2015, arXiv:1502.02761, for a generator without a critic.
    scales: of the kernels, relative to the median distance of the pooled points.
    """

    couples = True

    def __init__(self, a: PointSource, b: PointSource, scales: tuple[float, ...] = (0.5, 1.0, 2.0)) -> None:
        super().__init__()
        self.a, self.b, self.scales = a, b, tuple(scales)

    def forward(self, play: Play) -> Tensor:
        """The estimate for the two sources' points, flattened to (B, D); a scalar."""
        return gaussian_mmd(self.a(play).x.flatten(1), self.b(play).x.flatten(1), self.scales)


def _features(features: Any, x: Tensor) -> Tensor:
    return x if features is None else torch.flatten(features(x), 1)
