"""Densities of texts and sequences by counting: what any model of them must beat, on the same rows, with the same lengths given.

Text: the symbols alone, and 5-grams (see `genalloy.models.ngram`), counted in the training part read as one text. Sequences: each
entry of a step on its own, the same law at every step: a histogram with add-one smoothing, or a normal density over reals.
All EXACT.
"""

from __future__ import annotations

import torch

from genalloy.core.distribution import density
from genalloy.core.evidence import Evidence
from genalloy.core.observations import Masked
from genalloy.data.dataset import Dataset
from genalloy.evaluation.independent_marginals import log_frequencies, log_normal
from genalloy.models.ngram import LARGEST, NGram

ORDERS = {"symbols alone": 1, "5-gram": 5}
CHUNK = 512


def counted(dataset: Dataset) -> dict[str, Evidence]:
    """Name -> log-density of every test row (N,) nats; empty for data that are neither text nor of unequal lengths."""
    if dataset.lengths:
        return {"steps alone": _steps_alone(dataset)}
    if dataset.space.kind != "text" or dataset.space.levels is None:
        return {}
    levels = dataset.space.levels
    return {name: _ngram(dataset, levels, order) for name, order in ORDERS.items() if levels**order < LARGEST}


def _ngram(dataset: Dataset, levels: int, order: int) -> Evidence:
    part = NGram.of(dataset.train.flatten()[None], levels, order, dataset.space.shape[0])
    parts = [density(part(), x) for x in dataset.test.split(CHUNK)]
    return Evidence.exact(torch.cat([p.value for p in parts]), parts[0].how, parts[0].measure)


def _steps_alone(dataset: Dataset) -> Evidence:
    train, test = (Masked.first(dataset.part(part), dataset.lengths[part]) for part in ("train", "test"))
    seen = train.x.flatten(2)[train.mask.flatten(2).any(-1)] if train.x.dim() > 2 else train.x[train.mask][:, None]
    x = test.x.reshape(*test.x.shape[:2], -1)
    if dataset.space.levels is None:
        each = log_normal(seen)(x)
    else:
        each = log_frequencies(seen.long(), dataset.space.levels)[torch.arange(x.shape[-1]), x.long()]
    value = (each * test.mask.reshape(x.shape)).sum((1, 2))
    return Evidence.exact(value, f"the same law at every step, counted over {len(seen):,} steps")
