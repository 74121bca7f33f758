"""Training in the foreground: processes through Lightning Fabric, a progress bar, and what to do after a signal."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import torch

from genalloy.runs.agreement import agreed, changed
from genalloy.runs.create import create_run, create_run_from, data_of, resume_command, resume_run
from genalloy.runs.lock import locked
from genalloy.runs.progress import say_line, shown
from genalloy.runs.settings import RunSettings
from genalloy.runs.train import Trainer
from genalloy.training.devices import make_fabric, resolve_device
from genalloy.training.interrupt import STOPS, stoppable


def train_in_terminal(
    settings: RunSettings, folder: Path, resume: bool = False, earlier: Path | None = None, given: Collection[str] | None = None
) -> None:
    """Train in this process, or in several where the settings ask for them.

    given: names of the settings that a person asked for, which a resumed run must agree with; None: those that are no defaults.
    Raises ValueError on a contradiction, on other data, on an absent device, and where another process works in the folder.
    """
    resolve_device(settings.device)  # refused before anything is loaded
    # Fabric runs the other processes of one machine with this variable set
    first = int(os.environ.get("LOCAL_RANK", "0")) == 0
    with stoppable(), locked(folder, print) if first else nullcontext():
        if resume:
            settings = agreed(RunSettings.read(folder), settings, changed(settings) if given is None else given, folder)
            torch.set_num_threads(settings.threads)
        if resume and first and _finished(settings, folder):
            return
        _launch(settings, folder, resume, earlier)


def _finished(settings: RunSettings, folder: Path) -> bool:
    """Whether there is nothing left to train, which is said. Raises OtherData where the data are not the run's."""
    if not (folder / "model.safetensors").exists():
        return False
    data_of(folder, settings)
    print(
        f"{folder} is finished ({sum(settings.planned):,} steps): nothing is left to train, and nothing was written; to train on"
        f" from its weights, add --from {folder}, --steps N and another --out instead of --resume"
    )
    return True


def _launch(settings: RunSettings, folder: Path, resume: bool, earlier: Path | None) -> None:
    if settings.precision == "32-true" and settings.processes == 1:
        _train(None, settings, folder, resume, earlier)
        return
    fabric = make_fabric(settings.device, settings.precision, settings.processes)
    if settings.processes > 1:
        fabric.launch(_train, settings, folder, resume, earlier)
    else:
        _train(fabric, settings, folder, resume, earlier)


def _train(fabric: Any, settings: RunSettings, folder: Path, resume: bool, earlier: Path | None) -> None:
    if resume:
        trainer = resume_run(folder, fabric, settings)
    elif earlier is not None:
        trainer = create_run_from(settings, folder, earlier, fabric)
    else:
        trainer = create_run(settings, folder, fabric=fabric)
    if fabric is not None and fabric.global_rank > 0:
        follow(trainer)
        return
    if resume:
        settings.write(folder)  # the data may have moved
    watch(trainer, folder)


def follow(trainer: Trainer) -> None:
    """Train beside the first process, which writes and speaks; when it stops, so does this one."""
    try:
        for _ in trainer.run():
            pass
    except STOPS:
        return


def watch(trainer: Trainer, folder: Path) -> None:
    """Draw the progress of a trainer until it ends; a signal saves and says how to go on."""
    from rich.console import Console

    console = Console()
    trainer.tell = lambda words: say_line(console, f"warning: {words}")
    say_line(console, str(trainer.model))
    say_line(console, f"minimises {trainer.composition.formula()}")
    for note in trainer.dataset.notes:
        say_line(console, f"note: {note}")
    if trainer.memory.plan:
        say_line(console, trainer.memory.plan)
    try:
        with shown(console, trainer.settings.recipe, sum(trainer.settings.planned)) as picture, closing(trainer.run()) as steps:
            for step in steps:
                picture.step(step)
    except STOPS:
        # the steps are closed, and saved, by now
        say_line(console, f"stopped at step {trainer.done:,}, saved up to step {trainer.saved:,}; to continue:")
        say_line(console, resume_command(trainer.settings, folder))
        raise
    best = trainer.memory.validation
    if best:
        say_line(console, f"last validation {best[-1][1]:.5g} nats ({trainer.memory.label})")
    say_line(console, f"wrote {folder / 'model.safetensors'}")
