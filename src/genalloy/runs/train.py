"""A run: phases through `fit`, with validation, checkpoints that continue to the same numbers, and logs.

The loop is a generator; whoever iterates it draws the progress bar. Interrupting it saves.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genalloy.data.dataset import Dataset
from genalloy.data.split import thin
from genalloy.evidence import Evidence, Kind
from genalloy.recipes.composition import Composition
from genalloy.runs.batches import Order, Rows, batches
from genalloy.runs.labels import context_of
from genalloy.runs.logs import Log
from genalloy.runs.memory import peak_megabytes
from genalloy.runs.score import score
from genalloy.runs.settings import RunSettings
from genalloy.spec import from_spec, to_spec
from genalloy.training.checkpoint import FORMAT, read_tensors, save, write_tensors
from genalloy.training.devices import resolve_device
from genalloy.training.fit import Step, fit
from genalloy.training.interrupt import whole_steps
from genalloy.training.seeding import mix
from genalloy.training.state import State

CHECKS = 20
"""Validations in one phase."""
CHECKED_ROWS = 2000
"""Validation rows of one check, at most: a seeded choice, the same at every check."""


@dataclass
class Memory:
    """What a run remembers between checkpoints, besides tensors: where it is, its curves, and its best weights."""

    phase: int = 0
    step: int = 0
    seconds: float = 0.0
    best: float = -float("inf")
    best_step: int = -1
    stale: int = 0
    train: list[list[float]] = field(default_factory=list)
    validation: list[list[float]] = field(default_factory=list)
    label: str = ""
    megabytes: float = 0.0


@dataclass(frozen=True)
class Progress:
    """One step as a person wants to see it."""

    phase: int
    step: int
    done: int
    total: int
    figures: dict[str, float]
    validation: float | None


class Trainer:
    """Drives one run's phases. `folder` None keeps everything in memory."""

    def __init__(
        self, composition: Composition, dataset: Dataset, settings: RunSettings, folder: Path | None, fabric: Any = None
    ) -> None:
        self.composition, self.dataset, self.settings, self.folder = composition, dataset, settings, folder
        self.fabric = fabric
        self.memory, self.state = Memory(), State()
        self.best: dict[str, Tensor] = {}
        self.log = Log(folder if self._first else None)
        self.device = fabric.device if fabric else resolve_device(settings.device)
        self._saved = time.monotonic()
        chosen = thin(np.arange(len(dataset.validation)), CHECKED_ROWS, settings.split_seed)
        self._chosen = torch.from_numpy(chosen)

    @property
    def model(self) -> nn.Module:
        return self.composition.model

    def run(self) -> Iterator[Progress]:
        """Train what is left of the plan. Interrupted or not, the last state is saved; the best weights end in place."""
        self.composition.to(self.device)
        rows = Rows.of(self.composition, self.dataset).to(self.device)
        try:
            while self.memory.phase < len(self.settings.planned):
                yield from self._phase(self.composition.phases[self.memory.phase], rows)
                with whole_steps():
                    self._take_best()
                    self.memory.phase, self.memory.step, self.state = self.memory.phase + 1, 0, State()
                    self.memory.best, self.memory.stale, self.best = -float("inf"), 0, {}
                    self.memory.megabytes = peak_megabytes()
                    self.checkpoint()
        except (KeyboardInterrupt, GeneratorExit):
            self.checkpoint()
            raise
        finally:
            self.log.close()
        self.composition.cpu()
        if self.folder is not None and self._first:
            save(self.model, self.folder / "model.safetensors")

    @property
    def _first(self) -> bool:
        """Whether this process writes files."""
        return self.fabric is None or self.fabric.global_rank == 0

    def _phase(self, phase: Any, rows: Rows) -> Iterator[Progress]:
        index, steps = self.memory.phase, self.settings.planned[self.memory.phase]
        options = phase.planned(steps, mix(self.settings.seed, index))
        order = Order(len(rows.x), phase.batch, mix(self.settings.seed, index, 1))
        stream = batches(rows, order, self.memory.step, steps, phase.view, self.model)
        model = self.model if phase.model is None else phase.model
        every = max(1, steps // CHECKS)
        before = sum(self.settings.planned[:index])
        began = time.monotonic() - self.memory.seconds
        steps_taken = fit(model, phase.objective, stream, training=options, state=self.state, fabric=self.fabric)
        while True:
            with whole_steps():
                step = next(steps_taken, None)
                if step is None:
                    return
                self.state, self.memory.step = step.state, step.index + 1
                self.memory.seconds = time.monotonic() - began
                checked = self._check(phase, step) if (step.index + 1) % every == 0 or step.index + 1 == steps else None
                self._record(step, before, steps, checked)
            yield Progress(index, step.index, before + step.index + 1, sum(self.settings.planned), _figures(step), checked)
            if self.settings.patience is not None and self.memory.stale > self.settings.patience:
                return

    def _check(self, phase: Any, step: Step) -> float | None:
        """Validation density under the averaged weights; the best weights are kept."""
        if phase.select and phase.model is None:
            with self._averaged():
                scores = self._scores()
                value = None if scores.kind is Kind.NONE else scores.mean()
                if value is not None:
                    self._keep_best(value, step.index, scores.kind)
        else:
            value = None
        if time.monotonic() - self._saved > 30.0:
            self.checkpoint()
        return value

    def _scores(self) -> Evidence:
        """Densities of the checked validation rows, under their labels where the model takes them."""
        x = self.dataset.observed("validation")[self._chosen].to(self.device)
        labels = context_of(self.model, self.dataset, "validation")
        context = None if labels is None else labels[self._chosen].to(self.device)
        return score(self.model, x, seed=self.settings.seed, context=context)

    def _keep_best(self, value: float, step: int, kind: Kind) -> None:
        self.memory.label = kind.value
        if value > self.memory.best:
            self.memory.best, self.memory.best_step, self.memory.stale = value, step, 0
            self.best = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        else:
            self.memory.stale += 1

    def _averaged(self) -> Any:
        return self.state.averaged_weights() if self.state.average else nullcontext()

    @torch.no_grad()
    def _take_best(self) -> None:
        """The phase's result: its best validated weights, or its last averaged ones where nothing could be validated."""
        if self.best:
            self.model.load_state_dict(self.best)
        elif self.state.average:
            for parameter, average in zip(self.state.averaged, self.state.average, strict=True):
                parameter.copy_(average)

    def _record(self, step: Step, before: int, steps: int, checked: float | None) -> None:
        every = max(1, steps // 100)
        figures = _figures(step)
        if (step.index + 1) % every == 0 or step.index == 0:
            self.memory.train.append([before + step.index + 1, figures["model"]])
            self.log.write(before + step.index + 1, figures, self.memory.seconds)
        if checked is not None:
            self.memory.validation.append([before + step.index + 1, checked])
            self.log.write(before + step.index + 1, {"validation": checked}, self.memory.seconds)

    def checkpoint(self) -> None:
        """Everything that the next step needs, in one file, atomically."""
        self._saved = time.monotonic()
        if self.folder is None or not self._first:
            return
        spec, tensors = to_spec(self.composition)
        extra = {f"state/{k}": v for k, v in self.state.tensors().items()} | {f"best/{k}": v for k, v in self.best.items()}
        facts = {"format": FORMAT, "spec": spec, "memory": vars(self.memory), "formula": self.composition.formula()}
        write_tensors(self.folder / "checkpoint.safetensors", tensors | extra, facts)

    @staticmethod
    def resume(folder: Path, dataset: Dataset, settings: RunSettings, fabric: Any = None) -> Trainer:
        """Continue from the folder's checkpoint, to the numbers of an uninterrupted run."""
        tensors, facts = read_tensors(folder / "checkpoint.safetensors")
        composition: Any = from_spec(facts["spec"], tensors)
        trainer = Trainer(composition, dataset, settings, folder, fabric)
        trainer.memory = Memory(**facts["memory"])
        stored = {k[6:]: v for k, v in tensors.items() if k.startswith("state/")}
        trainer.state = State.from_tensors(trainer.memory.step, stored)
        trainer.best = {k[5:]: v for k, v in tensors.items() if k.startswith("best/")}
        trainer.log.rewind(sum(settings.planned[: trainer.memory.phase]) + trainer.memory.step)
        return trainer


def _figures(step: Step) -> dict[str, float]:
    return {**step.losses, **{name: float(value) for name, value in step.terms.items()}}


def seconds_per_step(composition: Composition, phase: Any, dataset: Dataset, limit: float = 2.0) -> float:
    """Seconds of one step of a phase, timed on a copy after a warm-up."""
    trial = copy.deepcopy(composition)
    twin: Any = trial.phases[list(composition.phases).index(phase)]
    order = Order(len(dataset.train), phase.batch, 0)
    model = trial.model if twin.model is None else twin.model
    stream = batches(Rows.of(trial, dataset), order, 0, 200, twin.view, trial.model)
    times, began = [], time.monotonic()
    for _ in fit(model, twin.objective, stream, training=twin.planned(200, 0)):
        times.append(time.monotonic())
        if len(times) > 4 and times[-1] - began > limit:
            break
    warm = min(3, len(times) - 2)
    return (times[-1] - times[warm]) / (len(times) - 1 - warm)


def plan(composition: Composition, dataset: Dataset, settings: RunSettings, cap: bool = False) -> RunSettings:
    """Settings with the number of steps of each phase. Minutes are turned into steps once, after a timed warm-up.

    cap: minutes limit the recipe's own number of steps instead of replacing it.
    """
    total = settings.steps or composition.steps
    if settings.minutes is not None:
        cost = sum(phase.share * seconds_per_step(composition, phase, dataset) for phase in composition.each())
        began = time.monotonic()
        labels = context_of(composition.model, dataset, "validation")
        score(composition.model, dataset.observed("validation")[:64], context=None if labels is None else labels[:64])
        rows = min(len(dataset.validation), CHECKED_ROWS)
        checking = (time.monotonic() - began) * rows / min(64, rows) * CHECKS
        room = max(settings.minutes * 60 - checking, settings.minutes * 30)
        affordable = max(20, int(room / cost))
        total = min(total, affordable) if cap else affordable
    return settings.with_plan(tuple(max(1, round(total * p.share)) for p in composition.each()))
