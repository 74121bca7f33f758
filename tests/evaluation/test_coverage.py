"""Intervals cover the truth as often as they say: simulated over truths and sizes, within the simulation's own error.

Where the truth lies at the edge of what is possible (a calibration error of 0, a share near 0 or 1) only one end can miss, and an
interval of equal tails covers in 97.5 % or more: there only the lower limit is asserted.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from genalloy.evaluation.auroc import auroc
from genalloy.evaluation.calibration import BINS
from genalloy.evaluation.gaps import gaps
from genalloy.evaluation.intervals import proportion

TIMES = 400
NOISE = 3 * math.sqrt(0.05 * 0.95 / TIMES)
"""Three standard errors of a share of 95 % among TIMES."""


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def covers(interval: Callable[[int], tuple[float | None, float | None]], truth: float, times: int = TIMES) -> float:
    """Share of repetitions whose interval holds the truth."""
    ends = [interval(i) for i in range(times)]
    return sum(low is not None and high is not None and low <= truth <= high for low, high in ends) / times


def binormal(shift: float, sizes: tuple[int, int]) -> tuple[Callable[[int], tuple[float | None, float | None]], float]:
    g = generator(0)

    def interval(_: int) -> tuple[float | None, float | None]:
        found = auroc(torch.randn(sizes[0], generator=g), torch.randn(sizes[1], generator=g) + shift, "")
        assert not found.missing
        return found.low, found.high

    return interval, 0.5 * (1 + math.erf(shift / 2))


@pytest.mark.parametrize("sizes", [(15, 15), (10, 30), (50, 50)])
@pytest.mark.parametrize("shift", [0.0, 1.0, 2.0, 3.0])
def test_auroc(shift: float, sizes: tuple[int, int]) -> None:
    share = covers(*binormal(shift, sizes))
    assert 0.93 - NOISE <= share <= (0.97 + NOISE if shift < 2 else 1)


def test_auroc_of_sets_that_do_not_touch_is_open_below() -> None:
    found = auroc(torch.arange(15.0), torch.arange(15.0) + 20, "")
    assert not found.missing and found.value == found.high == 1 and found.low is not None and 0.7 < found.low < 0.95
    constant = auroc(torch.zeros(15), torch.zeros(15), "")
    assert not constant.missing and constant.low is not None and constant.low < 0.5 < (constant.high or 0)


def answers(slope: float, n: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Confidences (n,) uniform on (.5, 1), hits of probability .5 + slope (c - .5)."""
    confidence = 0.5 + 0.5 * torch.rand(n, generator=g, dtype=torch.float64)
    hits = torch.rand(n, generator=g, dtype=torch.float64) < 0.5 + slope * (confidence - 0.5)
    return confidence, hits.double()


def calibration_errors(slope: float) -> tuple[float, float]:
    """ECE and RMSCE of :func:`answers`: the gap is (1 - slope)(c - .5), by bin; the first bin is half full."""
    edges = torch.tensor([0.5, *(b / BINS for b in range(8, BINS + 1))], dtype=torch.float64)
    share, gap = 2 * edges.diff(), (1 - slope) * ((edges[1:] + edges[:-1]) / 2 - 0.5)
    return float((share * gap).sum()), float((share * gap.square()).sum().sqrt())


@pytest.mark.parametrize(("slope", "n"), [(1.0, 200), (0.8, 100), (0.3, 300)])
def test_calibration_errors(slope: float, n: int) -> None:
    g, shares, times = generator(1), [0.0, 0.0], 100
    for _ in range(times):
        binned = gaps(*answers(slope, n, g), BINS)
        for i, (low, high) in enumerate((binned.ece_interval(), binned.rmsce_interval())):
            shares[i] += (low <= calibration_errors(slope)[i] <= high) / times
    for share in shares:
        assert 0.93 - 3 * math.sqrt(0.05 * 0.95 / times) <= share <= 1


@pytest.mark.slow
@pytest.mark.parametrize("slope", [1.0, 0.9, 0.7, 0.3])
@pytest.mark.parametrize("n", [60, 250, 1000, 4000])
def test_calibration_errors_over_sizes(slope: float, n: int) -> None:
    g, shares = generator(2), [0.0, 0.0]
    for _ in range(TIMES):
        binned = gaps(*answers(slope, n, g), BINS)
        for i, (low, high) in enumerate((binned.ece_interval(), binned.rmsce_interval())):
            shares[i] += (low <= calibration_errors(slope)[i] <= high) / TIMES
    assert all(0.93 - NOISE <= share <= (0.97 + NOISE if slope < 0.9 else 1) for share in shares)


def test_calibration_of_certain_answers_keeps_a_width() -> None:
    low, high = gaps(torch.ones(60, dtype=torch.float64), torch.ones(60, dtype=torch.float64), BINS).ece_interval()
    assert low == pytest.approx(0, abs=1e-6) and high >= low
    low, high = gaps(torch.full((60,), 0.97, dtype=torch.float64), torch.ones(60, dtype=torch.float64), BINS).ece_interval()
    assert low < 0.03 < high


@pytest.mark.parametrize("n", [20, 100, 1000])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.95])
def test_proportions(share: float, n: int) -> None:
    """Exactly: the binomial's own mass on the counts whose interval holds the share."""
    k = torch.arange(n + 1, dtype=torch.float64)
    mass = torch.distributions.Binomial(n, torch.tensor(share, dtype=torch.float64)).log_prob(k).exp()
    ends = [proportion(i / n, n, "") for i in range(n + 1)]
    inside = torch.tensor([float(e.low or 0) <= share <= float(e.high or 0) for e in ends])
    assert 0.92 <= float((mass * inside).sum()) <= 1
