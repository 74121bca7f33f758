r"""Errors and 95 % intervals of metrics that are not means of their rows.

A metric :math:`T(\hat P)` of the empirical law of n rows moves, when row i gains weight, by its influence :math:`\psi_i`
(von Mises expansion; Hampel 1974): :math:`T(P^*) \approx T(\hat P) + \frac1n\sum_i w_i^*\psi_i` for a resample with counts
:math:`w^*`. So one pass over the rows gives what a bootstrap (Efron 1979) would recompute hundreds of times: the standard error
:math:`\sqrt{\sum_s \mathrm{Var}(\psi^{(s)})/n_s}` over the sets s, and percentiles of resampled means of :math:`\psi`.

The interval is the spread at this n: a metric that is biased upwards at finite n (Fréchet, sliced Wasserstein) is read against a
reference row of equal n. Near a distance of zero the errors are too large rather than too small, as the jackknife's are.

Proportions have Wilson's interval (1927), which keeps a width at 0 and at 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from genalloy.core.schema import Number

RESAMPLES = 200
LEVEL = 0.95
Z = 1.959964


def counts(n: int, resamples: int = RESAMPLES, seed: int = 0) -> Tensor:
    """How often each of n rows comes up in each resample, (resamples, n) float64; rows sum to n."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(n, (resamples, n), generator=generator)
    return torch.zeros(resamples, n, dtype=torch.float64).scatter_add_(1, drawn, torch.ones(()).double().expand_as(drawn))


def percentiles(values: Tensor) -> tuple[float, float]:
    """Ends of the central 95 % of resampled values (R,)."""
    ends = torch.quantile(values.double(), torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.float64))
    return ends[0].item(), ends[1].item()


def with_influences(metric: Number, influences: Sequence[Tensor], least: float = -math.inf) -> Number:
    """`metric` with the standard error and the percentile interval of its rows' influences, one (n_s,) tensor a set.

    least: the smallest value that the metric can have.
    """
    centred = [psi.double() - psi.double().mean() for psi in influences]
    error = math.sqrt(sum(float(psi.var()) / len(psi) for psi in centred))
    moves = sum((counts(len(psi), seed=s) @ psi / len(psi) for s, psi in enumerate(centred)), torch.zeros(()))
    low, high = percentiles(metric.value + moves)
    return replace(metric, stderr=error, low=max(low, least), high=max(high, least))


def proportion(share: float, n: int, how: str, error: float | None = None) -> Number:
    """A share of n rows with Wilson's interval.

    error: its standard error where that is more than the binomial one; it lowers the n of the interval accordingly.
    """
    binomial = math.sqrt(share * (1 - share) / n)
    used = max(binomial, error or 0.0)
    effective = n if binomial == 0 else n * (binomial / used) ** 2
    low, high = wilson(share, effective)
    return Number(share, used, n, how, low, high)


def wilson(share: float, n: float, z: float = Z) -> tuple[float, float]:
    """Wilson's interval of a binomial share of n; z: quantile of the error, 95 % by default."""
    square = z**2 / n
    middle = (share + square / 2) / (1 + square)
    half = z / (1 + square) * math.sqrt(share * (1 - share) / n + square / (4 * n))
    # the share itself is inside, whatever the rounding
    return min(max(middle - half, 0.0), share), max(min(middle + half, 1.0), share)


def student(freedom: float) -> float:
    """Student's 97.5 % quantile, by the expansion in 1 / freedom to third order (Fisher & Cornish, 1960): 1e-4 off at 9."""
    z = Z
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def bootstrap(values: Tensor, metric: Number, chunk: int = 50) -> Number:
    """`metric`, the median of values (n,), with its bootstrap error and percentile interval."""
    generator = torch.Generator().manual_seed(0)
    parts = [
        values[torch.randint(len(values), (chunk, len(values)), generator=generator)].median(1).values
        for _ in range(RESAMPLES // chunk)
    ]
    medians = torch.cat(parts).double()
    low, high = percentiles(medians)
    return replace(metric, stderr=medians.std().item(), low=low, high=high)
