r"""What a classifier says of samples, and what samples teach a classifier.

* Classifier score: :math:`\exp \mathbb E_x \mathrm{KL}(p(y|x) \,\|\, p(y))`, from 1 to the number of classes. The formula of the
  Inception score (Salimans et al. 2016) with a classifier of the data's own; it is not that score, and is never called so.
* Classification accuracy score (Ravuri & Vinyals 2019): train on labelled samples, test on real rows. The same classifier
  trained on as many real rows is what it is read against. Samples without labels have none: labels made up by another classifier
  would measure that one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genalloy.core.schema import Number, absent
from genalloy.data.dataset import Dataset
from genalloy.evaluation.classifier import STANDARD, TrainingBudget, class_log_probs, fit_classifier
from genalloy.evaluation.features import Features
from genalloy.evaluation.intervals import proportion, with_influences
from genalloy.evaluation.metric import FEWEST, Panel, mean_of, validate

NAMES = ("top_probability", "classes", "classifier_score")


def classifier_confidence(probabilities: Tensor) -> Panel:
    """top_probability: mean of the largest class probability; classes: those with at least 1 % of the samples. (N, classes)."""
    bad = validate(FEWEST, {"samples": probabilities})
    if bad:
        return dict.fromkeys(NAMES, bad)
    top, which = probabilities.max(-1)
    share = which.bincount(minlength=probabilities.shape[1]) / len(which)
    how = f"of {probabilities.shape[1]} classes, those that are the most likely one for at least 1 % of the samples"
    return {
        "top_probability": mean_of(top, "mean largest class probability"),
        "classes": Number(float((share >= 0.01).sum()), None, len(which), how),
        "classifier_score": classifier_score(probabilities),
    }


def classifier_score(probabilities: Tensor) -> Number:
    """exp E KL(p(y|x) || p(y)) of class probabilities (N, classes)."""
    p = probabilities.double()
    average = p.mean(0)
    # the influence of a row on the mean divergence is its own divergence from the average
    divergence = torch.special.xlogy(p, p).sum(1) - torch.special.xlogy(p, average).sum(1)
    value = divergence.mean().exp()
    how = f"exp of the mean KL(p(y|x) || p(y)), from 1 to {p.shape[1]}, classifier trained on the training rows"
    return with_influences(Number(value.item(), None, len(p), how), [value * divergence], least=1.0)


def classification_accuracy(
    samples: Tensor, labels: Tensor | None, test: Tensor, truth: Tensor | None, budget: TrainingBudget = STANDARD
) -> Number:
    """Accuracy on rows (M, *E) with labels `truth` of a classifier fitted to samples (N, *E) with their `labels`."""
    if truth is None:
        return absent("the data have no labels")
    if labels is None:
        return absent("the samples carry no labels")
    bad = validate(FEWEST, {"samples": samples, "references": test})
    if bad:
        return bad
    classes = int(torch.cat([labels, truth]).max()) + 1
    classifier = fit_classifier(samples, labels, classes, budget=budget)
    right = class_log_probs(classifier, test).argmax(1) == truth
    how = f"classifier trained on {len(samples):,} labelled samples, tested on {len(test):,} test rows"
    return proportion(right.double().mean().item(), len(test), how)


def label_agreement(dataset: Dataset, features: Features, samples: Tensor, labels: Tensor) -> Panel:
    """Share of samples (N, *E) whose most likely class is the label (N,) that they were given: of all, and of each label.

    By the feature space's own classifier, otherwise by one fitted to the features of the training rows; its accuracy on test rows
    stands in `how`, since no sample can be expected to do better.
    """
    classify, by = features.probabilities, features.name
    if classify(samples[:1].cpu()) is None:
        classifier = fit_classifier(features(dataset.train).float(), dataset.labels["train"], len(dataset.label_names))
        classify, by = lambda x: class_log_probs(classifier, features(x).float()), f"a classifier on {features.name}"
    hits = lambda x, y: classify(x.cpu()).argmax(1) == y.cpu().long()  # type: ignore[union-attr] # noqa: E731
    real = hits(dataset.test, dataset.labels["test"]).double().mean().item()
    right, how = hits(samples, labels), f"by {by}, right on {real:.3f} of the test rows"
    panel = {"sample_accuracy": proportion(right.double().mean().item(), len(right), how)}
    for code, name in enumerate(dataset.label_names):
        own = right[labels.cpu() == code].double()
        none = absent("no sample was given this label")
        panel[f"sample_accuracy: {name}"] = proportion(own.mean().item(), len(own), how) if len(own) else none
    return panel
