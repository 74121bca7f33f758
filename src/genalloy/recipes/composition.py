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

from genalloy.capabilities import Batch, reach
from genalloy.data.dataset import Dataset
from genalloy.data.space import Space
from genalloy.objectives.objective import Objective
from genalloy.schedules import Cosine
from genalloy.spec import Module, Value
from genalloy.training.options import Training


@dataclass(frozen=True)
class Target:
    """What a recipe may know of the data: its space, moments of the training part, and the number of rows."""

    space: Space
    mean: Tensor
    scale: Tensor
    rows: int

    @staticmethod
    def of(dataset: Dataset) -> Target:
        scale = dataset.train.std(0)
        return Target(dataset.space, dataset.train.mean(0), scale.clamp(min=1e-6), len(dataset.train))


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
    """A model and how it is trained. steps: the recommended number over all phases."""

    def __init__(self, model: nn.Module, phases: list[Phase], steps: int) -> None:
        super().__init__()
        self.model, self.phases, self.steps = model, nn.ModuleList(phases), steps

    def each(self) -> list[Phase]:
        """The phases in order."""
        return list(self.phases)  # type: ignore[arg-type]

    def formula(self) -> str:
        """The objectives in the order in which they are fitted."""
        return ", then ".join(repr(phase.objective) for phase in self.each())
