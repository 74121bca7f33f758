"""Labels for models that take them as their context: of rows that are scored, and for samples that are drawn.

A model is conditional where it declares context shapes; in a run its context is the row's label, a float of event shape ().
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from genalloy.data.dataset import Dataset
from genalloy.data.errors import nearest
from genalloy.data.labels import log_shares
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
    """log p(y) (classes,) by the training rows' shares, see :func:`genalloy.data.labels.log_shares`."""
    return log_shares(torch.bincount(dataset.labels["train"], minlength=len(dataset.label_names)))


def asked_labels(pairs: Sequence[str], classes: tuple[str, ...], column: str | None, count: int) -> Tensor:
    """Labels (count,) from "label=3" or "label=cat,dog", spread evenly over what was asked for, in its order.

    column: the name that the labels' column had, which stands for "label" too. Raises ValueError on anything else, naming what is
    known.
    """
    names = ["label", *([column] if column and column != "label" else [])]
    codes: list[int] = []
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or name not in names:
            raise ValueError(f"--given {pair!r} names nothing that the model was given; expected {' or '.join(names)}=VALUE")
        for word in map(str.strip, text.split(",")):
            if word not in classes:
                known = ", ".join(classes[:12]) + (", ..." if len(classes) > 12 else "")
                raise ValueError(f"--given {pair!r}: found no label {word!r}, expected one of {known}{nearest(word, classes)}")
            codes.append(classes.index(word))
    return torch.tensor(codes, dtype=torch.float32)[torch.arange(count) * len(codes) // count]


def cycled(model: nn.Module, classes: int, count: int) -> Tensor | None:
    """Every class in turn (count,), for pictures; None for a model that takes no label."""
    if not conditional(model):
        return None
    if classes == 0:
        raise ValueError("the model takes a label, and the run recorded no classes; train it again on labelled data")
    return (torch.arange(count) % classes).float()
