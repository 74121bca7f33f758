"""Data order as a pure function of (seed, step): what makes resuming exact."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from genalloy.core.batch import Batch
from genalloy.data.dataset import Dataset
from genalloy.recipes.composition import Composition, View
from genalloy.training.seeding import Stream, mix, seed_all


class BatchOrder:
    """Row indices of each step: every epoch a fresh permutation, the last batch smaller rather than dropped."""

    def __init__(self, rows: int, batch: int, seed: int) -> None:
        self.rows, self.batch, self.seed = rows, min(batch, rows), seed
        self.per_epoch = -(-rows // self.batch)
        self._epoch, self._permutation = -1, torch.empty(0, dtype=torch.long)

    def indices(self, step: int) -> Tensor:
        """Row indices of a step, (<= batch,)."""
        epoch, place = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(mix(self.seed, epoch))
            self._epoch, self._permutation = epoch, torch.randperm(self.rows, generator=generator)
        return self._permutation[place * self.batch : (place + 1) * self.batch]


class Rows(NamedTuple):
    """Observations (N, *E), masked where lengths are unequal, and the labels (N,) that a composition wants as context."""

    x: Any
    labels: Tensor | None

    @staticmethod
    def of(composition: Composition, dataset: Dataset, part: str = "train") -> Rows:
        """A part of the data as the composition is to see it. Raises ValueError where it wants labels and there are none."""
        labels = None if composition.context is None else composition.context.of(dataset, part)
        return Rows(dataset.observed(part), labels)

    def to(self, device: torch.device) -> Rows:
        return Rows(self.x.to(device), None if self.labels is None else self.labels.to(device))

    def batch(self, index: Tensor) -> Batch:
        """The rows of those indices."""
        return Batch(self.x[index], None if self.labels is None else self.labels[index], index)


def batches(rows: Rows, order: BatchOrder, start: int, view: View | None, model: nn.Module) -> Iterator[Batch]:
    """Batches from number `start` on, without end, through the phase's view, whose randomness is seeded by the number."""
    for step in count(start):
        batch = rows.batch(order.indices(step))
        if view is not None:
            with Stream(model):
                seed_all(order.seed, step, -2)
                batch = view(model, batch)
        yield batch
