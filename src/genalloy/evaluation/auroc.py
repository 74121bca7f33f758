r"""How well one score separates two sets.

:math:`\mathrm{AUROC} = P(s_{out} > s_{in}) + \frac12 P(s_{out} = s_{in})`, the Mann-Whitney statistic: 1/2 when the score
knows nothing. Standard error after Hanley & McNeil (1982), in its distribution-free form: with :math:`V_{10}(i)` the share
of the other set that element :math:`i` beats, :math:`\mathrm{Var} = \mathrm{Var}(V_{10})/m + \mathrm{Var}(V_{01})/n`
(DeLong, DeLong & Clarke-Pearson, 1988).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from genalloy.evaluation.metric import Metric, Result, trouble

FEWEST = 10


def auroc(inside: Tensor, outside: Tensor, how: str) -> Result:
    """AUROC of a score that should be larger outside; inside (N,), outside (M,). Infinite scores are ranked, NaN refused."""
    inside, outside = inside.double().flatten(), outside.double().flatten()
    # an infinite score (log p = -inf far from the data) is a legitimate rank, so only NaN is trouble
    bad = trouble(FEWEST, {"inside scores": _ranked(inside), "outside scores": _ranked(outside)})
    if bad:
        return bad
    beaten = share_below(inside, outside)
    beats = 1 - share_below(outside, inside)
    # var() of a single perfect separation is zero: then the error is that of the rule of three, 1 / smaller size
    variance = (beaten.var() / len(outside) + beats.var() / len(inside)).item()
    error = math.sqrt(variance) or 1 / min(len(inside), len(outside))
    return Metric(beaten.mean().item(), error, len(inside) + len(outside), how)


def _ranked(scores: Tensor) -> Tensor:
    return torch.where(scores.isnan(), scores, 0.0)


def share_below(reference: Tensor, scores: Tensor) -> Tensor:
    """For each score, the share of `reference` below it, ties counted half."""
    order = reference.sort().values
    below = torch.searchsorted(order, scores, right=False)
    at_most = torch.searchsorted(order, scores, right=True)
    return (below + at_most).double() / (2 * len(order))
