r"""Classifier two-sample test (Lopez-Paz & Oquab, 2017, arXiv:1610.06545): can a classifier tell samples from held-out rows?

Half of both sets trains a dense classifier on standardised features, the other half judges it. Under equal laws its accuracy is
binomial around 1/2, whatever the classifier; above 1/2 by the interval, the laws differ:
:math:`\mathrm{acc} \le \frac12 + \frac12 \mathrm{TV}`, so accuracy also bounds the total variation from below. At 1/2 the laws
are equal as far as this classifier can see. It is blind to memorisation, and rows that occur twice may sit in both halves.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genalloy.core.moments import mean_and_scale
from genalloy.core.schema import Number
from genalloy.evaluation.classifier import TrainingBudget, class_log_probs, fit_classifier
from genalloy.evaluation.intervals import proportion
from genalloy.evaluation.metric import validate

FEWEST_ROWS = 40
"""Of a set: half of them train."""
STEPS = 300
"""Of the classifier's training."""


def c2st(samples: Tensor, references: Tensor, seed: int = 0, steps: int = STEPS) -> Number:
    """Held-out accuracy on features (N, F) and (M, F) with Wilson's interval; min(N, M) rows of each are used.

    Lopez-Paz & Oquab, 2017, arXiv:1610.06545. 1/2: the classifier cannot tell. seed: of the halves and the classifier; steps: of
    its training. Absent below 40 rows.
    """
    bad = validate(FEWEST_ROWS, {"samples": samples, "references": references})
    if bad:
        return bad
    n = min(len(samples), len(references))
    halves = [_halves(rows, n, seed + i) for i, rows in enumerate((samples, references))]
    train, test = (torch.cat([half[part] for half in halves]).double() for part in (0, 1))
    shift, spread = mean_and_scale(train)
    sides = [torch.arange(2).repeat_interleave(torch.tensor([len(half[part]) for half in halves])) for part in (0, 1)]
    judge = fit_classifier((train - shift) / spread, sides[0], 2, budget=TrainingBudget(steps, seed))
    right = class_log_probs(judge, (test - shift) / spread).argmax(1) == sides[1]
    how = f"dense classifier, {train.shape[1]} features, {len(train):,} rows to train, {len(test):,} to judge; 0.5: cannot tell"
    return proportion(right.double().mean().item(), len(test), how)


def _halves(rows: Tensor, n: int, seed: int) -> tuple[Tensor, Tensor]:
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:n]
    return rows[order[: n // 2]], rows[order[n // 2 :]]
