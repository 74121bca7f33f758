r"""How samples compare with held-out rows, in a named feature space: every metric, and what generators without a model score.

* Fréchet distance (`frechet`), unbiased kernel distance (`kernel`), sliced Wasserstein (`sliced`): distances between laws.
* Precision, recall, density, coverage (`neighbours`): fidelity and variety, apart.
* Classifier two-sample accuracy (`two_sample`): what a classifier can still tell.
* Confidence, classes, classifier score, classification accuracy score (`class_scores`), for data with labels.
* Sharpness (`sharpness`), for pictures. Copying (`memorisation`): 1/2 for fresh rows, 1 for copies of training rows.

The Gaussian reference row matches Fréchet's two moments in a linear space (pixels, PCA), so a claim against it needs a
classifier's features or another metric. Rows that are not finite are counted and leave the whole panel without numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genalloy.core.schema import absent
from genalloy.data.dataset import Dataset
from genalloy.evaluation.class_scores import NAMES as CLASS_NAMES
from genalloy.evaluation.class_scores import classification_accuracy, classifier_confidence
from genalloy.evaluation.features import Features
from genalloy.evaluation.frechet import frechet
from genalloy.evaluation.kernel import kernel_distance
from genalloy.evaluation.memorisation import copying
from genalloy.evaluation.metric import FEWEST, Panel, validate
from genalloy.evaluation.neighbours import prdc
from genalloy.evaluation.references import gaussian_samples, mixture_samples, refusal
from genalloy.evaluation.sharpness import sharpness
from genalloy.evaluation.sliced import sliced_wasserstein
from genalloy.evaluation.two_sample import c2st

MOST = 5000
"""Rows of each set that are compared."""

METRICS = (
    "kernel_distance", "frechet", "sliced_wasserstein", "precision", "recall", "density", "coverage", "c2st", "copying",
    "top_probability", "classes", "classifier_score", "classification_accuracy", "sharpness",
)  # fmt: skip


def panel(dataset: Dataset, samples: Tensor, features: Features, seed: int = 0, labels: Tensor | None = None) -> Panel:
    r"""Every generation metric of samples (N, \*E) against the test rows: as many of each as the smaller set has, at most 5,000.

    labels: class (N,) of each sample, where the generator was asked for classes. Neither the training rows that copying is
    measured against nor the labelled samples that a classifier learns from are subsampled.
    """
    bad = validate(FEWEST, {"samples": samples})
    if bad:
        return dict.fromkeys(METRICS, bad)
    n = min(len(samples), len(dataset.test), MOST)
    samples = samples.detach().cpu()
    rows, test = _some(samples, n, seed), _some(dataset.test, n, seed)
    fake, real = features(rows), features(test)
    in_features: Panel = {
        "kernel_distance": kernel_distance(fake, real),
        "frechet": frechet(fake, real),
        "sliced_wasserstein": sliced_wasserstein(fake, real, seed=seed),
        **prdc(real, fake),
        "c2st": c2st(fake, real, seed),
        "copying": copying(features(dataset.train), real, fake),
        **_confidence(features, rows),
    }
    in_rows: Panel = {
        "classification_accuracy": classification_accuracy(samples, labels, dataset.test, dataset.labels.get("test")),
        "sharpness": sharpness(rows, test) if dataset.space.kind == "image" else absent("the rows are no pictures"),
    }
    return {name: value.named(features.name) for name, value in in_features.items()} | in_rows


def _confidence(features: Features, samples: Tensor) -> Panel:
    probabilities = features.probabilities(samples)
    if probabilities is not None:
        return classifier_confidence(probabilities)
    return dict.fromkeys(CLASS_NAMES, absent(f"no classifier: the features are {features.name}"))


def _some(rows: Tensor, n: int, seed: int) -> Tensor:
    """n rows by the seed: a prefix would be wrong where rows are sorted by class."""
    if len(rows) == n:
        return rows
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:n]]


def reference_generators(dataset: Dataset, features: Features, seed: int = 0) -> dict[str, Panel]:
    """What generators that learn next to nothing score, each with as many samples as there are test rows (at most 5,000).

    "training rows" (drawn without replacement: the best that is possible), "memorisation baseline" (drawn with replacement:
    what memorising scores), "Gaussian" and "mixture of 10 Gaussians" (fitted to the training rows, put on the data's grid: what a
    model must beat).
    """
    n, generator = min(len(dataset.test), MOST), torch.Generator().manual_seed(seed)
    order = torch.randperm(len(dataset.train), generator=generator)[:n]
    copies = torch.randint(len(dataset.train), (n,), generator=generator)
    known = dataset.labels.get("train")
    rows = {
        name: panel(dataset, dataset.train[index], features, seed, None if known is None else known[index])
        for name, index in (("training rows", order), ("memorisation baseline", copies))
    }
    reason = refusal(dataset)
    for name, make in (("Gaussian", gaussian_samples), ("mixture of 10 Gaussians", mixture_samples)):
        rows[name] = dict.fromkeys(METRICS, reason) if reason else panel(dataset, make(dataset, n, generator), features, seed)
    return rows
