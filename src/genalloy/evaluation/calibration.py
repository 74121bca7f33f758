r"""Are a classifier's probabilities true? Calibration error, Brier score and log-likelihood of p(y | x).

With confidence :math:`c = \max_k p_k`, hit :math:`a = 1[\arg\max_k p_k = y]` and rows sorted into B bins of equal width by c,

.. math:: \mathrm{ECE} = \sum_b \frac{n_b}{N} |\bar a_b - \bar c_b|

(Naeini, Cooper & Hauskrecht, 2015; Guo et al., 2017, arXiv:1706.04599, B = 15). The absolute value makes it positive for a
perfect classifier too, so the value that perfectly calibrated answers with the same confidences would show stands beside it
(consistency resampling: hits redrawn with probability c; Bröcker & Smith 2007). The intervals, of the error that many rows would
show, know of that bias: :mod:`genalloy.evaluation.gaps`. Without the bias of the noise is

.. math:: \mathrm{RMSCE}^2 = \sum_b \frac{n_b}{N} \Big[ (\bar a_b - \bar c_b)^2 - \frac{\bar a_b (1 - \bar a_b)}{n_b - 1} \Big]

(Kumar, Liang & Ma, 2019, arXiv:1909.10155); zero where the sum is negative. Classifiers inside generative models: an energy
model's logits are :math:`f_y(x)` (JEM: Grathwohl et al., 2020, arXiv:1912.03263); a generative model of each class has
:math:`\log p(y | x) = \log p(x | y) + \log p(y) - \log \sum_k p(x | k) p(k)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from genalloy.core.schema import Number, absent
from genalloy.evaluation.gaps import gaps
from genalloy.evaluation.intervals import proportion
from genalloy.evaluation.metric import Panel, mean_of, validate

BINS = 15
"""As Guo et al. have them."""
FEWEST = 50
DRAWS = 300
"""Of the bootstrap of the errors, and of redrawn hits."""
KEYS = ("accuracy", "ece", "ece_null", "rmsce", "brier", "nll")

Classifier = Callable[[Tensor], Tensor]
"""Rows (N, *E) -> logits (N, K); log-probabilities are logits too."""


def class_log_probabilities(log_p_by_class: Tensor, log_prior: Tensor | None = None) -> Tensor:
    r""":math:`\log p(y | x) = \log p(x | y) + \log p(y) - \log \sum_k p(x | k) p(k)`, (\*B, K), nats.

    log_p_by_class: log p(x | y), (\*B, K); log_prior: log p(y), (K,), uniform by default. Exact only if log p(x | y) is: from
    lower bounds it is an estimate of unknown side. Rows that no class explains (-inf throughout) become NaN.
    """
    joint = log_p_by_class if log_prior is None else log_p_by_class + log_prior
    return joint.log_softmax(-1)


def by_class(log_p: Callable[[Tensor, Tensor], Tensor], classes: int, log_prior: Tensor | None = None) -> Classifier:
    r"""The classifier inside a conditional model: log_p(x (N, \*E), y (N,) int64) -> (N,), one call for each class."""

    def classify(x: Tensor) -> Tensor:
        each = [log_p(x, torch.full((len(x),), k, device=x.device)) for k in range(classes)]
        return class_log_probabilities(torch.stack(each, -1), log_prior)

    return classify


@dataclass(frozen=True)
class Reliability:
    """Per bin (B,): mean confidence, share of hits (NaN where empty), number of rows; edges (B + 1,) of the bins."""

    confidence: Tensor
    accuracy: Tensor
    counts: Tensor
    edges: Tensor


def reliability(logits: Tensor, labels: Tensor, bins: int = BINS) -> Reliability:
    """The reliability curve of logits (N, K) against labels (N,). Raises ValueError for labels outside 0..K-1."""
    confidence, hits = _confidence(logits, labels)
    counts, sums, correct = _binned(confidence, hits, bins)
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
    return Reliability(sums / counts, correct / counts, counts.long(), edges)


def calibration(logits: Tensor, labels: Tensor, seed: int = 0, bins: int = BINS) -> Panel:
    """Panel of KEYS for logits or log-probabilities (N, K) against labels (N,) int64; `nll` in nats.

    Absent for fewer than 50 rows or rows with NaN. Raises ValueError for labels outside 0..K-1.
    """
    # -inf is a legitimate log-probability of a class that was not the answer; NaN and +inf are not
    bad = validate(FEWEST, {"rows": torch.where(logits == -torch.inf, 0.0, logits)})
    if bad:
        return dict.fromkeys(KEYS, bad)
    confidence, hits = _confidence(logits, labels)
    log_p = logits.double().log_softmax(-1)
    truth = F.one_hot(labels, logits.shape[1])
    nll = -log_p.gather(1, labels.unsqueeze(1)).squeeze(1)
    brier = (log_p.exp() - truth).square().sum(1)
    wrong = int((~nll.isfinite()).sum())
    return {
        "accuracy": proportion(hits.mean().item(), len(hits), "share of rows whose most likely class is the label"),
        **_errors(confidence, hits, bins, seed),
        "brier": mean_of(brier, "sum over classes of (p - truth)^2, between 0 and 2"),
        "nll": absent(f"{wrong:,} of {len(nll):,} labels have probability 0") if wrong else mean_of(nll, "-log p(y | x), nats"),
    }


def _confidence(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Confidence and hit (N,), float64."""
    classes = logits.shape[-1]
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        ends = f"{int(labels.min())} to {int(labels.max())}"
        raise ValueError(f"labels from {ends} were found; expected 0..{classes - 1}, one for each column of the logits")
    confidence, answer = logits.double().softmax(-1).max(-1)
    return confidence, (answer == labels).double()


def _binned(confidence: Tensor, hits: Tensor, bins: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, sum of confidences and of hits (..., bins) over the last axis; upper edges belong to their bin."""
    index = ((confidence * bins).ceil().long() - 1).clamp(0, bins - 1)
    zeros = confidence.new_zeros(*confidence.shape[:-1], bins)
    sums = [zeros.scatter_add(-1, index, what) for what in (torch.ones_like(confidence), confidence, hits)]
    return sums[0], sums[1], sums[2]


def _ece(confidence: Tensor, hits: Tensor, bins: int) -> Tensor:
    """Over the last axis; (...)."""
    _, sums, correct = _binned(confidence, hits, bins)
    return (correct - sums).abs().sum(-1) / confidence.shape[-1]


def _errors(confidence: Tensor, hits: Tensor, bins: int, seed: int) -> Panel:
    n, generator = len(hits), torch.Generator().manual_seed(seed)
    value = _ece(confidence, hits, bins).item()
    draws, nulls, squares = torch.empty(3, DRAWS, dtype=torch.float64)
    for i in range(DRAWS):
        rows = torch.randint(n, (n,), generator=generator)
        draws[i], squares[i] = _ece(confidence[rows], hits[rows], bins), _rmsce(confidence[rows], hits[rows], bins)
        redrawn = (torch.rand(n, generator=generator, dtype=torch.float64) < confidence).double()
        nulls[i] = _ece(confidence, redrawn, bins)
    binned = gaps(confidence, hits, bins)
    low, high = binned.ece_interval()
    least, most = binned.rmsce_interval()
    null = f"with the same confidences, hits redrawn with those probabilities {DRAWS} times"
    return {
        "ece": Number(value, draws.std().item(), n, f"{bins} bins of equal width, test inversion", low, high),
        "ece_null": Number(nulls.mean().item(), nulls.std().item(), n, f"what a calibrated classifier shows {null}"),
        "rmsce": Number(
            _rmsce(confidence, hits, bins),
            squares.std().item(),
            n,
            f"root mean square gap, {bins} equal bins, noise subtracted, test inversion",
            least,
            most,
        ),
    }


def _rmsce(confidence: Tensor, hits: Tensor, bins: int) -> float:
    """See the module; bins with a single row say nothing of their own noise and are left out."""
    counts, sums, correct = _binned(confidence, hits, bins)
    used = counts > 1
    share, gap = correct[used] / counts[used], (correct - sums)[used] / counts[used]
    terms = gap.square() - share * (1 - share) / (counts[used] - 1)
    return math.sqrt(max(0.0, float((counts[used] * terms).sum() / len(hits))))
