r"""Importance-weighted evaluation: :math:`\mathcal L_k = \log \frac1k \sum_{i \le k} w_i` with :math:`\mathbb E w_i = p(x)`.

LOWER for every k and rising to log p(x) (Burda, Grosse & Salakhutdinov, 2016, arXiv:1509.00519). Rows are encoded once; samples
and rows are vectorised, and chunked so that memory stays under a setting whatever k is. Works for any density that is proper:
latent-variable models, dequantised models, and nestings of both.

Whether k sufficed is judged from the same draws. The effective sample size :math:`(\sum w)^2 / \sum w^2` lies between 1 and
k; near 1 a single draw carries the sum, and the bound is then well below log p(x) however large k is. The slope is
:math:`\mathcal L_k` minus the mean of :math:`\mathcal L_{k/10}` over the ten groups that the same draws make.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution as TorchDistribution

from genalloy.core.distribution import density
from genalloy.core.evidence import Evidence, Kind, Unavailable
from genalloy.core.observations import in_blocks, leading, observation, repeat, rows
from genalloy.core.spec import Value
from genalloy.core.traces import traced

FEW_EFFECTIVE = 5.0
"""Effective samples below which a row has not converged."""
STEEP = 0.1
"""Nats: a mean slope above it says that the bound still rises."""


@dataclass(frozen=True)
class Convergence:
    r"""ess: effective sample size of each row, (\*B). slope: nats gained from k/10 to k, (\*B); None below ten samples.

    covers: whether the bound would reach log p(x) with enough samples, see :class:`genalloy.core.evidence.Evidence`.
    """

    samples: int
    ess: Tensor
    slope: Tensor | None
    covers: bool = True

    @property
    def warning(self) -> str:
        """Empty where the bound has settled, else "not converged" and why, or that no number of samples would help.

        Settled: 95 % of the rows have an effective sample size of 5 or more, and the mean slope is at most 0.1 nats.
        """
        if not self.covers:
            return "cannot tighten: the posterior is deterministic, and every sample has the same weight"
        low, rise = self.low, self.rise
        few = f"the lowest 5 % of rows have at most {low:.2g} effective samples"
        reasons = [few] if low < FEW_EFFECTIVE else []
        if rise is not None and rise > STEEP:
            reasons.append(f"still rising, {rise:+.2g} nats since k={self.samples // 10}")
        return f"not converged: {', '.join(reasons)}" if reasons else ""

    @property
    def low(self) -> float:
        """The 5 % quantile of the effective sample size over rows."""
        return float(self.ess.double().flatten().quantile(0.05)) if self.ess.numel() else math.nan

    @property
    def rise(self) -> float | None:
        """Mean slope over rows."""
        return None if self.slope is None else float(self.slope.double().mean())

    def __str__(self) -> str:
        if not self.ess.numel():
            return "no rows"
        if not self.covers:
            return self.warning
        mean, least = float(self.ess.double().mean()), float(self.ess.min())
        rise = "" if self.rise is None else f", {self.rise:+.2g} nats since k={self.samples // 10}"
        words = f"effective samples {mean:.3g} of {self.samples} (least {least:.2g}, 5 % quantile {self.low:.2g}){rise}"
        return f"{words}; {self.warning}" if self.warning else words


class Curve(NamedTuple):
    """Bounds by k, from one set of draws, and whether the largest has converged."""

    bounds: dict[int, Evidence]
    convergence: Convergence


@dataclass(frozen=True)
class ImportanceWeighted(Value):
    r""":math:`\log \tfrac1k \sum_i w_i`, nats, LOWER (IWAE: Burda, Grosse & Salakhutdinov, 2016, arXiv:1509.00519).

    samples: k. memory: MiB for one chunk of k x rows observations. The result's stderr is the delta method's, per row; `how` says
    where the rows have not converged. An exact density is handed through.

    Raises Unavailable where the density is not proper.
    """

    samples: int = 100
    memory: float = 16.0

    def __call__(self, distribution: TorchDistribution, x: Tensor) -> Evidence:
        r"""The bound for x (\*B, \*E), an Evidence of shape (\*B)."""
        ks = (self.samples,) if self.samples < 10 else (self.samples // 10, self.samples)
        bounds, convergence = importance_curve(distribution, x, ks, self.memory)
        bound = bounds[self.samples]
        if bound.kind is Kind.EXACT:
            return bound
        words = "; ".join(w for w in (bound.how, convergence.warning) if w)
        return replace(bound, how=words)


@torch.no_grad()
def importance_curve(
    distribution: TorchDistribution, x: Tensor, ks: Sequence[int] = (1, 10, 100, 1000), memory: float = 16.0
) -> Curve:
    r"""The bound at each k for rows x (\*B, \*E), from max(ks) draws: one encoding, one pass, memory (MiB) flat in k.

    Below the largest k the bound is the mean over as many groups of k as the draws hold, hence LOWER but not proper. stderr
    is per row: over groups, or the delta method's where there is one. Raises Unavailable where the density is not proper.
    """
    ks = tuple(sorted(set(ks)))
    if not ks or ks[0] < 1:
        raise ValueError(f"found k = {list(ks)}, expected positive numbers of samples")
    x = observation(x)
    shared = distribution.batch_shape == () and len(leading(x, distribution.event_shape)) == 1
    first = density(distribution, rows(x, slice(0, 1)) if shared and isinstance(x, Tensor) else x)
    if first.kind is Kind.EXACT:
        whole = density(distribution, x)
        return Curve(dict.fromkeys(ks, whole), Convergence(ks[-1], torch.full_like(whole.value, ks[-1]), None))
    if not first.proper:
        raise Unavailable(f"importance weighting needs a proper bound; found {first.kind.value} ({first.how})")
    room = min(MOST_PAIRS, int(memory * 2**20 / (4 * max(distribution.event_shape.numel(), 1))))
    blocks = in_blocks(x, max(1, room // DRAWS_AT_ONCE)) if shared else [x]
    pieces = [_stream(distribution, block, ks, room) for block in blocks]
    return _labelled(ks, first, torch.cat([p[0] for p in pieces], -1), torch.cat([p[1] for p in pieces], -1), pieces[0][2])


MOST_PAIRS = 2**16
"""Most observations (draws times rows) in one pass, whatever the memory allows; also log-weights that wait to be summed."""
DRAWS_AT_ONCE = 8
"""Draws for which a block of rows leaves room: fewer rows, so that each encoding serves several draws."""


def _stream(distribution: TorchDistribution, x: Tensor, ks: Sequence[int], room: int) -> tuple[Tensor, Tensor, str]:
    r"""Bounds and standard errors, (k + 2, \*B) each: those of `ks`, of k/10, and in the last place the effective size."""
    weigh, words = _weigher(distribution, x)
    most = ks[-1]
    groups = [_Groups(k) for k in (*ks, max(1, most // 10))]
    square = torch.tensor(-math.inf, dtype=torch.float64)
    for value in _batches(weigh, most, max(1, room // _pairs(distribution, x))):
        for group in groups:
            group.add(value)
        square = torch.logaddexp(square, (2 * value).logsumexp(0))
    total = groups[len(ks) - 1].mean() + math.log(most)
    ess = (2 * total - square).exp().nan_to_num(0.0).clamp(1.0, most)
    means = torch.stack([*(g.mean() for g in groups), ess])
    single = (1.0 / ess - 1.0 / most).clamp(min=0).sqrt()
    return means, torch.stack([g.stderr(single) for g in groups]), words


def _pairs(distribution: TorchDistribution, x: Tensor) -> int:
    """Observations in one draw."""
    return max(math.prod(leading(x, distribution.event_shape)), 1)


def _batches(weigh: Callable[[int], Tensor], most: int, step: int) -> Iterator[Tensor]:
    """Log-weights of `most` draws, made `step` at a time and handed on in larger batches: only observations are large."""
    waiting: list[Tensor] = []
    for done in range(0, most, step):
        waiting.append(weigh(min(step, most - done)))
        if done + step >= most or sum(w.numel() for w in waiting) >= MOST_PAIRS:
            yield torch.cat(waiting).double()
            waiting = []


class _Groups:
    """Log-means of consecutive groups of k draws, as they arrive; mean and spread over the groups that are full."""

    def __init__(self, k: int) -> None:
        self.k, self.filled, self.count = k, 0, 0
        self.open, self.total, self.square = (torch.tensor(v, dtype=torch.float64) for v in (-math.inf, 0.0, 0.0))

    def add(self, value: Tensor) -> None:
        r"""value (n, \*B)."""
        if self.filled == 0:
            whole = len(value) // self.k
            self._close(value[: whole * self.k].unflatten(0, (whole, self.k)).logsumexp(1))
            value = value[whole * self.k :]
        if not len(value):
            return
        take = value[: self.k - self.filled]
        self.open, self.filled = torch.logaddexp(self.open, take.logsumexp(0)), self.filled + len(take)
        if self.filled == self.k:
            self._close(self.open.unsqueeze(0))
            self.open, self.filled = torch.full_like(self.open, -math.inf), 0
            self.add(value[len(take) :])

    def _close(self, sums: Tensor) -> None:
        bounds = sums - math.log(self.k)
        self.count += len(bounds)
        self.total, self.square = self.total + bounds.sum(0), self.square + bounds.square().sum(0)

    def mean(self) -> Tensor:
        return self.total / self.count

    def stderr(self, single: Tensor) -> Tensor:
        """Over the groups; `single` where there is but one."""
        if self.count == 1:
            return single
        variance = (self.square / self.count - self.mean().square()).clamp(min=0)
        return (variance / (self.count - 1)).sqrt()


def _labelled(ks: Sequence[int], first: Evidence, means: Tensor, errors: Tensor, words: str) -> Curve:
    """Values in the dtype of the data, each with its claim."""
    most, dtype = ks[-1], first.value.dtype
    bounds = {}
    for k, mean, error in zip(ks, means, errors, strict=False):
        many = "" if k == most else f", mean of {most // k} groups"
        how = f"importance weighted, k={k}{many}{words}"
        bounds[k] = replace(first, value=mean.to(dtype), kind=Kind.LOWER, how=how, proper=k == most, stderr=error.to(dtype))
    slope = (means[len(ks) - 1] - means[-2]).to(dtype) if most >= 10 else None
    return Curve(bounds, Convergence(most, means[-1].to(dtype), slope, first.covers))


def _weigher(distribution: TorchDistribution, x: Tensor) -> tuple[Callable[[int], Tensor], str]:
    r"""k -> log-weights (k, \*B); latent models reuse one encoding, others draw their own noise k times."""
    inside = traced(distribution, x)
    if inside is None:
        return lambda k: density(distribution, repeat(x, k)).value, ""
    inner, seen, between = inside
    posterior = inner.infer(seen)
    if between is None:
        return lambda k: inner.trace(seen, k, posterior).log_weights().value, ""
    words = "" if between.kind is Kind.EXACT else f"; one draw of {between.how}"
    return lambda k: inner.trace(seen, k, posterior).log_weights().value + between.value, words
