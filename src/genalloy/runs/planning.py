"""Minutes into steps: timed slices of training on a copy, over a tenth of the budget, then one number that is kept.

A slice is some steps of one phase, and the validation of some rows. A machine that is busy for a while slows some slices down,
which leaves their median alone. The copy is thrown away: the schedules of a run need its number of steps before step 0, and a run
that is started again with the printed number of steps is the same run.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from statistics import median
from typing import Any, NamedTuple

import torch

from genalloy.core.errors import Diverged
from genalloy.data.dataset import Dataset
from genalloy.recipes.composition import Composition
from genalloy.runs.batches import BatchOrder, Rows, batches
from genalloy.runs.labels import context_of
from genalloy.runs.score import score
from genalloy.runs.settings import RunSettings
from genalloy.training.devices import World, resolve_device
from genalloy.training.fit import fit

CHECKS = 20
"""Validations in one phase, not counting the early ones."""
CHECKED_ROWS = 2000
"""Validation rows of one check, at most: a seeded choice, the same at every check."""
TENTH = 0.1
"""The part of the budget that is spent on timing."""
LONGEST = 180.0
"""Seconds of timing, at most: a budget of hours gains nothing from more of them."""
SLICE = 0.2
"""Seconds of a slice: long beside a clock's noise, short enough for many of them."""
LEAST = 20
"""Steps of a run, at least, however short the budget."""


class TrainingPlan(NamedTuple):
    """Settings with the steps of each phase, and in words how minutes became steps (empty without minutes)."""

    settings: RunSettings
    words: str


@dataclass
class Watch:
    """Times one phase of a copy of the composition, slice by slice."""

    composition: Composition
    phase: Any
    dataset: Dataset
    device: torch.device
    fabric: Any = None
    slices: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._ticks = self._steps()
        self._count = 3
        self.slice()  # lazy initialisation, allocation and caches are no part of a step's price
        first = self.slices.pop() if self.slices else SLICE
        self._count = max(1, round(World(self.fabric).same(SLICE / max(first, 1e-9))))

    def _steps(self) -> Iterator[None]:
        model = self.composition.model if self.phase.model is None else self.phase.model
        rows = Rows.of(self.composition, self.dataset).to(self.device)
        order, steps = BatchOrder(len(rows.x), self.phase.batch, 0), 10**6
        stream = batches(rows, order, 0, self.phase.view, self.composition.model)
        try:
            for _ in fit(model, self.phase.objective, stream, training=self.phase.planned(steps, 0), fabric=self.fabric):
                yield
        except Diverged:  # the run itself will say so
            return

    def slice(self) -> None:
        """Add the seconds a step of one more slice."""
        began, count = time.perf_counter(), 0
        while count < self._count and next(self._ticks, self) is None:
            count += 1
        if count:
            self.slices.append((time.perf_counter() - began) / count)

    @property
    def seconds(self) -> float:
        """Of one step."""
        return median(self.slices) if self.slices else 0.0


def watches(composition: Composition, dataset: Dataset, device: torch.device, fabric: Any = None) -> list[Watch]:
    """One for each phase, all on one copy."""
    trial = copy.deepcopy(composition).to(device)
    return [Watch(trial, phase, dataset, device, fabric) for phase in trial.each()]


def validation_seconds(composition: Composition, dataset: Dataset, device: torch.device) -> float:
    """Seconds of one validation, from a few rows."""
    rows = min(len(dataset.validation), CHECKED_ROWS)
    few = min(64, rows)
    labels = context_of(composition.model, dataset, "validation")
    began = time.perf_counter()
    x = dataset.observed("validation")[:few].to(device)
    score(composition.model, x, context=None if labels is None else labels[:few].to(device))
    return (time.perf_counter() - began) * rows / few


def plan(
    composition: Composition, dataset: Dataset, settings: RunSettings, cap: bool = False, fabric: Any = None
) -> TrainingPlan:
    """Settings with the number of steps of each phase. Minutes are turned into steps once, after timing.

    cap: minutes limit the recipe's own number of steps instead of replacing it.
    """
    shares = [phase.share for phase in composition.each()]
    total = settings.steps or composition.steps
    if settings.minutes is None:
        return TrainingPlan(settings.with_plan(divided(total, shares)), "")
    budget = settings.minutes * 60
    device = fabric.device if fabric else resolve_device(settings.device)
    timed = measure(composition, dataset, budget, total if cap else None, device, fabric)
    room = max(budget - timed.spent - timed.checking, budget / 2)
    affordable = max(LEAST, int(room / max(timed.step, 1e-9)))
    total = min(total, affordable) if cap else affordable
    words = (
        f"{total:,} steps planned for {settings.minutes:g} minutes: {1000 * timed.step:.3g} ms a step, "
        f"{timed.checking:.2g} s of validation; timed for {timed.spent:.2g} s"
    )
    return TrainingPlan(settings.with_plan(divided(total, shares)), words)


class Timing(NamedTuple):
    """Seconds: of a step (the phases by their shares), of all validations, and spent on finding out."""

    step: float
    checking: float
    spent: float


def measure(
    composition: Composition, dataset: Dataset, budget: float, wanted: int | None, device: torch.device, fabric: Any = None
) -> Timing:
    """Time rounds of slices until a tenth of the budget (seconds) is used, or the wanted steps clearly fit into it."""
    world, began = World(fabric), time.perf_counter()
    phases = watches(composition, dataset, device, fabric)
    each = CHECKS + (composition.steps // CHECKS).bit_length()  # with the early ones
    validated = each * sum(phase.select and phase.model is None for phase in composition.each())
    validation_seconds(phases[0].composition, dataset, device)
    checks: list[float] = []
    while True:
        for watch in phases:
            watch.slice()
        checks.append(validation_seconds(phases[0].composition, dataset, device) if validated else 0.0)
        shares = sum(watch.phase.share for watch in phases)
        step = sum(watch.phase.share * watch.seconds for watch in phases) / shares
        timing = Timing(step, validated * median(checks), time.perf_counter() - began)
        fits = wanted is not None and len(checks) >= 3 and 2 * (wanted * timing.step + timing.checking) < budget
        if world.same(fits or timing.spent > min(TENTH * budget, LONGEST)):
            return timing


def seconds_per_step(composition: Composition, limit: float, dataset: Dataset) -> list[float]:
    """Seconds of one step of each phase, timed for about `limit` seconds."""
    watched, began = watches(composition, dataset, torch.device("cpu")), time.perf_counter()
    while True:
        for watch in watched:
            watch.slice()
        if time.perf_counter() - began > limit:
            return [watch.seconds for watch in watched]


def divided(total: int, shares: list[float]) -> tuple[int, ...]:
    """Steps of each phase, at least one, that add up to the total, so that dividing their sum again gives the same."""
    whole = sum(shares)
    edges = [0, *(round(total * part / whole) for part in accumulate(shares))]
    steps = [after - before for before, after in pairwise(edges)]
    while 0 in steps and max(steps) > 1:
        steps[steps.index(max(steps))] -= 1
        steps[steps.index(0)] += 1
    return tuple(max(1, n) for n in steps)
