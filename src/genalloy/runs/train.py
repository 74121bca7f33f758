"""A run: phases through `fit`, with validation, checkpoints that continue to the same numbers, and logs.

The loop is a generator; whoever iterates it draws the progress bar. Interrupting it saves.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genalloy.core.evidence import Evidence, Kind
from genalloy.core.spec import to_spec
from genalloy.data.dataset import Dataset
from genalloy.data.split import thin
from genalloy.recipes.composition import Composition
from genalloy.runs.batches import BatchOrder, Rows, batches
from genalloy.runs.labels import context_of
from genalloy.runs.logs import Log
from genalloy.runs.memory import peak_megabytes
from genalloy.runs.planning import CHECKED_ROWS, CHECKS
from genalloy.runs.score import score
from genalloy.runs.settings import RunSettings
from genalloy.training.checkpoint import FORMAT, read_run, save, write_tensors
from genalloy.training.devices import World, resolve_device
from genalloy.training.fit import Step, fit
from genalloy.training.interrupt import STOPS, deferred_interrupt, stop
from genalloy.training.records import of_record, sound
from genalloy.training.seeding import mix
from genalloy.training.state import State

SAVE_EVERY = 30.0
"""Seconds between checkpoints: what a lost machine costs at most."""
SAVING = 0.02
"""The part of the time that checkpoints may take: large models are saved less often."""


@dataclass
class RunState:
    """What a run remembers between checkpoints, besides tensors: where it is, its curves, and its best weights.

    taken: batches that the phase has seen, more than its steps where a player has several turns.
    """

    phase: int = 0
    step: int = 0
    taken: int = 0
    seconds: float = 0.0
    best: float = -float("inf")
    best_step: int = -1
    stale: int = 0
    train: list[list[float]] = field(default_factory=list)
    validation: list[list[float]] = field(default_factory=list)
    label: str = ""
    megabytes: float = 0.0
    plan: str = ""


@dataclass(frozen=True)
class Progress:
    """One step as a person wants to see it."""

    phase: int
    step: int
    done: int
    total: int
    figures: dict[str, float]
    validation: float | None


def warn(words: str) -> None:
    """One line on the standard error."""
    print(f"warning: {words}", file=sys.stderr)


class Trainer:
    """Drives one run's phases. `folder` None keeps everything in memory. tell: what hears of files that cannot be written."""

    def __init__(
        self, composition: Composition, dataset: Dataset, settings: RunSettings, folder: Path | None, fabric: Any = None
    ) -> None:
        self.composition, self.dataset, self.settings, self.folder = composition, dataset, settings, folder
        self.fabric, self.world = fabric, World(fabric)
        self.tell: Callable[[str], None] = warn
        self.memory, self.state = RunState(), State()
        self.best: dict[str, Tensor] = {}
        self.log = Log(folder if self._first else None, lambda words: self.tell(words))
        self.device = fabric.device if fabric else resolve_device(settings.device)
        self._saved, self._pause = time.monotonic(), SAVE_EVERY
        self._caught: list[int] = []
        self.saved = 0
        chosen = thin(np.arange(len(dataset.validation)), CHECKED_ROWS, settings.split_seed)
        self._chosen = torch.from_numpy(chosen)

    @property
    def model(self) -> nn.Module:
        return self.composition.model

    @property
    def done(self) -> int:
        """Steps taken over all phases; `saved`: those that the last checkpoint holds."""
        return sum(self.settings.planned[: self.memory.phase]) + self.memory.step

    def run(self) -> Generator[Progress, None, None]:
        """Train what is left of the plan. Stopped or not, the last state is saved; the best weights end in place.

        Raises OSError where the finished model cannot be written.
        """
        self.composition.to(self.device)
        rows = Rows.of(self.composition, self.dataset).to(self.device)
        # processes that stop at different steps would wait for each other: their signals are held, and agreed on after each step
        together: AbstractContextManager[list[int]] = deferred_interrupt() if self.world.size > 1 else nullcontext([])
        with together as self._caught:
            try:
                yield from self._phases(rows)
            except (*STOPS, GeneratorExit):
                self._save()
                raise
            self.composition.cpu()
            if self.folder is not None and self._first:
                with deferred_interrupt():
                    save(self.model, self.folder / "model.safetensors")

    def _phases(self, rows: Rows) -> Iterator[Progress]:
        while self.memory.phase < len(self.settings.planned):
            yield from self._phase(self.composition.phases[self.memory.phase], rows)
            with deferred_interrupt():
                self._take_best()
                self.memory.phase, self.memory.step, self.memory.taken = self.memory.phase + 1, 0, 0
                self.state = State()
                self.memory.best, self.memory.stale, self.best = -float("inf"), 0, {}
                self.memory.megabytes = peak_megabytes()
                self._save()

    @property
    def _first(self) -> bool:
        """Whether this process writes files."""
        return self.fabric is None or self.fabric.global_rank == 0

    def _phase(self, phase: Any, rows: Rows) -> Iterator[Progress]:
        index, steps = self.memory.phase, self.settings.planned[self.memory.phase]
        options = phase.planned(steps, mix(self.settings.seed, index))
        order = BatchOrder(len(rows.x), phase.batch, mix(self.settings.seed, index, 1))
        stream = batches(rows, order, self.memory.taken, phase.view, self.model)
        model = self.model if phase.model is None else phase.model
        before = sum(self.settings.planned[:index])
        began = time.monotonic() - self.memory.seconds
        steps_taken = fit(model, phase.objective, stream, training=options, state=self.state, fabric=self.fabric)
        while self.memory.step < steps and not self._stale:
            with deferred_interrupt():
                step = next(steps_taken)
                self.state, self.memory.step, self.memory.taken = step.state, step.index + 1, step.state.taken
                self.memory.seconds = time.monotonic() - began
                checked = self._check(phase, step) if _due(step.index + 1, steps) else None
                self._record(step, before, steps, checked)
                if time.monotonic() - self._saved > self._pause:
                    self._save()
            yield Progress(index, step.index, before + step.index + 1, sum(self.settings.planned), _figures(step), checked)
            self._stop_together()

    @property
    def _stale(self) -> bool:
        """Whether patience is at its end."""
        return self.settings.patience is not None and self.memory.stale > self.settings.patience

    def _stop_together(self) -> None:
        """Stop all processes after the same step where one of them was told to."""
        number = int(self.world.largest(float(self._caught[0] if self._caught else 0)))
        if number:
            stop(number)

    def _check(self, phase: Any, step: Step) -> float | None:
        """Validation density under the averaged weights; the best weights are kept."""
        if phase.select and phase.model is None:
            with self._averaged():
                scores = self._scores()
                value = None if scores.kind is Kind.NONE else scores.mean()
                if value is not None:
                    self._keep_best(value, step.index, scores.kind)
            return value
        return None

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
            self.state.take(self.state.average)

    def _record(self, step: Step, before: int, steps: int, checked: float | None) -> None:
        every = max(1, steps // 100)
        figures = _figures(step)
        if (step.index + 1) % every == 0 or step.index == 0:
            self.memory.train.append([before + step.index + 1, figures["model"]])
            self.log.write(before + step.index + 1, figures, self.memory.seconds)
        if checked is not None:
            self.memory.validation.append([before + step.index + 1, checked])
            self.log.write(before + step.index + 1, {"validation": checked}, self.memory.seconds)

    def _save(self) -> None:
        """A checkpoint that does not end the training where it cannot be written: the next one may succeed."""
        began = time.monotonic()
        try:
            self.checkpoint()
        except OSError as error:
            self.tell(str(error))
        self._saved = time.monotonic()
        self._pause = max(SAVE_EVERY, (self._saved - began) / SAVING)

    def checkpoint(self) -> None:
        """Everything that the next step needs, in one file, atomically: a signal that arrives meanwhile waits. Raises OSError."""
        if self.folder is None or not self._first:
            return
        with deferred_interrupt():
            self._write(self.folder / "checkpoint.safetensors")
            self.saved = self.done

    def _write(self, file: Path) -> None:
        spec, tensors = to_spec(self.composition)
        extra = {f"state/{k}": v for k, v in self.state.tensors().items()} | {f"best/{k}": v for k, v in self.best.items()}
        facts = {"format": FORMAT, "spec": spec, "memory": vars(self.memory), "formula": self.composition.formula()}
        write_tensors(file, tensors | extra, facts)

    @staticmethod
    def resume(folder: Path, dataset: Dataset, settings: RunSettings, fabric: Any = None) -> Trainer:
        """Continue from the folder's checkpoint, to the numbers of an uninterrupted run."""
        file = folder / "checkpoint.safetensors"
        stored = read_run(file)
        trainer = Trainer(stored.composition, dataset, settings, folder, fabric)
        trainer.memory = sound(file, lambda: of_record(RunState, stored.memory))
        trainer.state = sound(file, lambda: State.from_tensors(trainer.memory.step, stored.state, trainer.memory.taken))
        trainer.best = stored.best
        trainer.saved = trainer.done
        trainer.log.rewind(trainer.done)
        return trainer


def _due(taken: int, steps: int) -> bool:
    """CHECKS times, evenly, and after 1, 2, 4, ... steps before the first: a small table is overfitted long before it."""
    every = max(1, steps // CHECKS)
    return taken % every == 0 or taken == steps or (taken < every and taken.bit_count() == 1)


def _figures(step: Step) -> dict[str, float]:
    return {**step.losses, **{name: float(value) for name, value in step.terms.items()}}
