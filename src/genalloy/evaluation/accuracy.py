r"""How well a generative model names the label of a row: accuracy and calibration of its own p(y | x).

Two sources. A model that offers `label_given_x(x)` (a hybrid flow, Nalisnick et al. 2019; an energy model with logits,
Grathwohl et al. 2020) is asked for it. A model of p(x | y), conditional on the label, has by Bayes' rule

.. math:: \log p(y | x) = \log p(x | y) + \log p(y) - \log \sum_k p(x | k)\, p(k),

with p(y) the shares of the training labels (add-one smoothed); it is exact where log p(x | y) is, and from bounds or estimates
the answer of an approximate classifier, which the panel says.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from genalloy.core.capabilities import reach
from genalloy.core.distribution import density
from genalloy.core.evidence import Kind, Unavailable
from genalloy.core.isolation import Stream
from genalloy.core.schema import Number, absent
from genalloy.data.dataset import Dataset
from genalloy.data.labels import log_shares
from genalloy.evaluation.calibration import by_class, calibration
from genalloy.evaluation.metric import Panel

CHUNK = 500


@torch.no_grad()
def accuracy_panel(model: nn.Module, dataset: Dataset, seed: int = 0) -> Panel:
    """Accuracy with its binomial error, calibration error, Brier score and -log p(y | x) on the test rows.

    One entry, absent, where the data have no labels or the model has no p(y | x).
    """
    if "test" not in dataset.labels:
        return {"accuracy": absent("the data have no labels")}
    classes, labels = len(dataset.label_names), dataset.labels["test"]
    # fork: dequantisation draws noise from the global generator, which is not ours to move
    with Stream(model):
        torch.manual_seed(seed)
        try:
            logits, how = _logits(model, dataset, classes)
        except Unavailable as reason:
            return {"accuracy": absent(str(reason))}
    return {name: _told(result, how) for name, result in calibration(logits, labels, seed).items()}


def _logits(model: Any, dataset: Dataset, classes: int) -> tuple[Tensor, str]:
    """log p(y | x) (n, classes) of the test rows, and where it comes from. Raises Unavailable without one."""
    chunks = dataset.test.split(CHUNK)
    if getattr(model, "context_shapes", ()):
        kinds: set[Kind] = set()
        prior = log_shares(torch.bincount(dataset.labels["train"], minlength=classes))
        classify = by_class(lambda x, y: _given(model, x, y, kinds), classes, prior)
        logits = torch.cat([classify(x) for x in chunks])
        return logits, f"Bayes' rule on log p(x | y), {', '.join(sorted(kind.value for kind in kinds))}"
    return torch.cat([label_log_probs(model(), x, classes) for x in chunks]), "the model's own p(label | x)"


def _given(model: Any, x: Tensor, y: Tensor, kinds: set[Kind]) -> Tensor:
    evidence = density(model(y.float()), x)
    kinds.add(evidence.kind)
    if evidence.kind is Kind.NONE:
        raise Unavailable(f"log p(x | y) is needed for Bayes' rule: {evidence.how}")
    return evidence.value


def label_log_probs(distribution: Any, x: Tensor, classes: int) -> Tensor:
    """log p(y | x) of every class (n, classes), by a distribution that offers it. Raises Unavailable otherwise."""
    inner, seen, _ = reach(distribution, x, "label_given_x")
    given = inner.label_given_x(seen)
    return torch.stack([density(given, x.new_full((len(x),), k)).value for k in range(classes)], -1)


def _told(result: Number, how: str) -> Number:
    return replace(result, how=f"{result.how}; {how}") if not result.missing else result
