"""What a model's codes say about labels: a linear probe, beside the same probe on pixels and on PCA.

Multinomial logistic regression with a fixed penalty on standardised codes (Alain & Bengio 2016): nothing is tuned, so the
three numbers differ by their inputs only. The error is binomial, over the test rows.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from genalloy.data.dataset import Dataset
from genalloy.evaluation.features import PCA, Pixels
from genalloy.evaluation.metric import Metric, Missing, Panel, Result, trouble

MOST_ROWS = 10_000
PENALTY = 1.0
FEWEST = 20


def linear_probe(codes: dict[str, Tensor], labels: dict[str, Tensor], seed: int = 0) -> Result:
    """Test accuracy of logistic regression on codes {"train", "test"} -> (N, *E), labels likewise (N,)."""
    if not labels:
        return Missing("the data have no labels")
    train, test = codes["train"].flatten(1).double(), codes["test"].flatten(1).double()
    bad = trouble(FEWEST, {"training codes": train, "test codes": test})
    if bad:
        return bad
    if len(labels["train"].unique()) < 2:
        return Missing("the training labels hold a single class")
    rows = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:MOST_ROWS]
    centre, spread = train[rows].mean(0), train[rows].std(0).clamp_min(1e-12)
    correct = _fit_and_score((train[rows] - centre) / spread, labels["train"][rows], (test - centre) / spread, labels["test"])
    accuracy, n = correct.mean().item(), len(test)
    how = f"logistic regression, C = {PENALTY:g}, {train.shape[1]} standardised codes, {len(rows):,} training rows"
    return Metric(accuracy, math.sqrt(accuracy * (1 - accuracy) / n), n, how)


def _fit_and_score(train: Tensor, labels: Tensor, test: Tensor, truth: Tensor) -> Tensor:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        # a penalised probe that is stopped early is still a probe; the limit is the same for every input
        warnings.simplefilter("ignore", ConvergenceWarning)
        probe = LogisticRegression(C=PENALTY, max_iter=300).fit(train.numpy(), labels.numpy())
    return torch.from_numpy(probe.predict(test.numpy()) == truth.numpy()).double()


def probe_references(dataset: Dataset, seed: int = 0) -> Panel:
    """The probe on "pixels" and on "pca": what codes must beat."""
    makers = {"pixels": Pixels(), "pca": PCA(64)}
    parts = {"train": dataset.train, "test": dataset.test}
    result: Panel = {}
    for name, features in makers.items():
        features.fit(dataset.train)
        result[name] = linear_probe({part: features(x) for part, x in parts.items()}, dataset.labels, seed)
    return result


def probe(dataset: Dataset, encode: Callable[[Tensor], Tensor], seed: int = 0) -> Result:
    """The probe on a model's frozen codes: encode (N, *E) -> (N, *Z), called in chunks without gradients."""
    with torch.no_grad():
        codes = {
            part: torch.cat([encode(chunk).flatten(1).cpu() for chunk in torch.split(x, 1000)])
            for part, x in {"train": dataset.train, "test": dataset.test}.items()
        }
    return linear_probe(codes, dataset.labels, seed)
