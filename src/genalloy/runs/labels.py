"""Labels for models that take them as their context: of rows that are scored, and for samples that are drawn.

A model is conditional where it declares context shapes; in a run its context is the row's label, a float of event shape ().
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genalloy.data.dataset import Dataset
from genalloy.recipes.composition import Labels


def conditional(model: nn.Module) -> bool:
    """Whether the model takes a context, which in a run is the label."""
    return bool(getattr(model, "context_shapes", ()))


def context_of(model: nn.Module, dataset: Dataset, part: str) -> Tensor | None:
    """Labels (n,) of a part of the data for a conditional model, None for any other. Raises ValueError without labels."""
    return Labels(len(dataset.label_names)).of(dataset, part) if conditional(model) else None


def drawn_labels(model: nn.Module, dataset: Dataset, count: int, seed: int) -> Tensor | None:
    """Labels (count,) to sample under, in the proportions of the training rows; None for a model that takes none."""
    labels = context_of(model, dataset, "train")
    if labels is None:
        return None
    return labels[torch.randint(len(labels), (count,), generator=torch.Generator().manual_seed(seed))]


def label_law(dataset: Dataset) -> Tensor:
    """log p(y) (classes,) by the training rows' shares, each label counted once more than it was seen (Laplace)."""
    counts = torch.bincount(dataset.labels["train"], minlength=len(dataset.label_names)) + 1.0
    return (counts / counts.sum()).log()


def cycled(model: nn.Module, classes: int, count: int) -> Tensor | None:
    """Every class in turn (count,), for pictures; None for a model that takes no label."""
    if not conditional(model):
        return None
    if classes == 0:
        raise ValueError("the model takes a label, and the run recorded no classes; train it again on labelled data")
    return (torch.arange(count) % classes).float()
