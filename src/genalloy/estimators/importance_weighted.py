r"""Importance-weighted evaluation: :math:`\log \frac1k \sum_i w_i` with :math:`\mathbb E w_i = p(x)`.

LOWER for every k and rising to log p(x) (Burda, Grosse & Salakhutdinov, 2016). The encoding is made once; samples and
rows are vectorised, and chunked so that memory stays under a setting whatever k is. Works for any density that is
proper: latent-variable models, dequantised models, and nestings of both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution as TorchDistribution

from genalloy.capabilities import reach
from genalloy.distribution import density
from genalloy.evidence import Evidence, Kind, Unavailable
from genalloy.spec import Value


@dataclass(frozen=True)
class ImportanceWeighted(Value):
    """samples: k. memory: MiB for one chunk of k x rows observations.

    The result's stderr is the delta method's, per row. Raises Unavailable where the density is not proper.
    """

    samples: int = 100
    memory: float = 8.0

    @torch.no_grad()
    def __call__(self, distribution: TorchDistribution, x: Tensor) -> Evidence:
        weigh = _weigher(distribution, x)
        first = weigh(1)
        if first.kind is Kind.EXACT:
            return Evidence(first.value[0], Kind.EXACT, first.how, True, None, first.measure)
        if not first.proper:
            raise Unavailable(f"importance weighting needs a proper bound; found {first.kind.value} ({first.how})")
        total, square, done = first.value[0], 2 * first.value[0], 1
        step = self._chunk(x, len(distribution.event_shape))
        while done < self.samples:
            k = min(step, self.samples - done)
            value = weigh(k).value
            total = torch.logaddexp(total, value.logsumexp(0))
            square = torch.logaddexp(square, (2 * value).logsumexp(0))
            done += k
        relative = (square - 2 * total).exp() - 1.0 / done
        mean = total - math.log(done)
        how = f"importance weighted, k={done}"
        return Evidence(mean, Kind.LOWER, how, True, relative.clamp(min=0).sqrt(), first.measure)

    def _chunk(self, x: Tensor, event_dims: int) -> int:
        return max(1, int(self.memory * 2**20 / (4 * max(x.numel(), 1))))


def _weigher(distribution: TorchDistribution, x: Tensor) -> Callable[[int], Evidence]:
    """k -> log-weights (k, *B); latent models reuse one encoding, others draw their own noise k times."""
    try:
        inner, seen, between = reach(distribution, x, "trace")
    except Unavailable:
        return lambda k: density(distribution, x.expand(k, *x.shape))
    posterior = inner.infer(seen)
    return lambda k: _shifted(inner.trace(seen, k, posterior).log_weights(), between)


def _shifted(weights: Evidence, between: Evidence | None) -> Evidence:
    """Adds the contribution of fixed preprocessing to each of the k rows."""
    if between is None:
        return weights
    wide: Any = between.value.expand_as(weights.value)
    return weights + Evidence(wide, between.kind, between.how, between.proper, None, between.measure)
