"""What a recipe returns: a model and the phases that train it, one storable module.

A phase is one call of `fit`: an objective, its options, and optionally another model (a part of the final one, or a
composition that shares parts with it) and a view of the batch. Latent diffusion is two phases: a VAE with a plain prior,
then the prior's own fit on codes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from genalloy.core.batch import Batch
from genalloy.core.capabilities import reach
from genalloy.core.moments import RESOLUTION, mean_and_scale
from genalloy.core.schedules import Cosine
from genalloy.core.spec import Module, Value
from genalloy.data.dataset import Dataset
from genalloy.data.space import Space
from genalloy.objectives.objective import Objective
from genalloy.training.options import Training


@dataclass(frozen=True)
class Target:
    """What a recipe may know of the data: space, moments of the training part, numbers of rows and of classes (0: no labels).

    mean, scale: of the entries as they are stored, integers before any noise; scale is positive.
    """

    space: Space
    mean: Tensor
    scale: Tensor
    rows: int
    classes: int = 0

    @staticmethod
    def of(dataset: Dataset) -> Target:
        """What a recipe may know of a data set: its space, moments and rows of the training part, and classes."""
        classes = len(dataset.label_names) if dataset.labels else 0
        return Target(dataset.space, *mean_and_scale(dataset.train, constant=RESOLUTION), len(dataset.train), classes)

    def labels(self, recipe: str) -> Labels:
        """The labels as a composition's context. Raises ValueError, naming the recipe, where the data have none."""
        if self.classes < 2:
            found = "the data have no labels" if self.classes == 0 else "the data have a single label"
            raise ValueError(f"{recipe} needs labels; {found}: give --label COLUMN, or data that bring labels such as digits")
        return Labels(self.classes)


@dataclass(frozen=True)
class Labels(Value):
    """A composition's context: the row's label, a float of 0..classes-1 with event shape ()."""

    classes: int

    def of(self, dataset: Dataset, part: str) -> Tensor:
        """Labels (n,) of "train", "validation" or "test". Raises ValueError where the part has none."""
        if part not in dataset.labels:
            raise ValueError(f"the {part} part of {dataset.name} has no labels; give --label COLUMN, or data that bring labels")
        return dataset.labels[part].float()


View = Callable[[nn.Module, Batch], Batch]


@dataclass(frozen=True)
class Encoded(Value):
    """The batch as the latent model's codes, one posterior sample each, without gradients."""

    @torch.no_grad()
    def __call__(self, model: nn.Module, batch: Batch) -> Batch:
        inner, x, _ = reach(model(batch.context), batch.x, "infer")
        return Batch(inner.infer(x).sample(), batch.context, batch.index)


class Phase(Module):
    """One call of `fit`.

    objective: what is minimised. options: of the loop. model: what is fitted, the composition's model where None.
    view: (composition's model, batch) -> what the fitted model sees. share: of all steps. batch: rows a step.
    decay: end of the cosine that multiplies the learning rate, None for a constant one. select: whether the best
    validation density decides which weights are kept.
    """

    def __init__(
        self,
        objective: Objective,
        options: Training = Training(),
        model: nn.Module | None = None,
        view: View | None = None,
        share: float = 1.0,
        batch: int = 128,
        decay: float | None = 0.01,
        select: bool = True,
    ) -> None:
        super().__init__()
        self.objective, self.options, self.model, self.view = objective, options, model, view
        self.share, self.batch, self.decay, self.select = share, batch, decay, select

    def planned(self, steps: int, seed: int) -> Training:
        """The options for a number of steps: the schedule is known only now."""
        rate = self.options.rate if self.decay is None else Cosine(1.0, self.decay, steps, min(100, steps // 10))
        return replace(self.options, rate=rate, seed=seed)


class Composition(Module):
    """A model and how it is trained. steps: the recommended number over all phases.

    context: what a batch's context holds: the rows' labels, or nothing. A model that declares context shapes is conditional,
    and is given the labels wherever it is scored or sampled; any other model ignores them, and only objectives see them.
    """

    def __init__(self, model: nn.Module, phases: list[Phase], steps: int, context: Labels | None = None) -> None:
        super().__init__()
        self.model, self.phases, self.steps, self.context = model, nn.ModuleList(phases), steps, context

    def each(self) -> list[Phase]:
        """The phases in order."""
        return list(self.phases)  # type: ignore[arg-type]

    def formula(self) -> str:
        """The objectives in the order in which they are fitted."""
        return ", then ".join(repr(phase.objective) for phase in self.each())
