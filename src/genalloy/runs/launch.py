"""Training in the foreground: processes through Lightning Fabric, a progress bar, and what to do after Ctrl-C."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from genalloy.runs.settings import RunSettings
from genalloy.runs.start import continue_run, start, start_from
from genalloy.runs.train import Trainer
from genalloy.training.devices import make_fabric, resolve_device


def launch(settings: RunSettings, folder: Path, resume: bool = False, earlier: Path | None = None) -> None:
    """Train in this process, or in several where the settings ask for them."""
    resolve_device(settings.device)  # refused before anything is loaded
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
        trainer = continue_run(folder, fabric)
    elif earlier is not None:
        trainer = start_from(settings, folder, earlier, fabric)
    else:
        trainer = start(settings, folder, fabric=fabric)
    if fabric is not None and fabric.global_rank > 0:
        for _ in trainer.run():
            pass
        return
    watch(trainer, folder)


def watch(trainer: Trainer, folder: Path) -> None:
    """Draw the progress of a trainer until it ends; Ctrl-C saves and says how to go on."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = Console()
    console.print(trainer.model, highlight=False, markup=False)
    console.print(f"minimises {trainer.composition.formula()}", highlight=False, markup=False)
    for note in trainer.dataset.notes:
        console.print(f"note: {note}", highlight=False, markup=False)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    total = sum(trainer.settings.planned)
    try:
        with Progress(*columns, console=console, refresh_per_second=4) as bar:
            task = bar.add_task(trainer.settings.recipe, total=total, rate="", figures="")
            checked = ""
            for step in trainer.run():
                if step.validation is not None:
                    checked = f"  validation {step.validation:.4g}"
                if step.done % 10 == 0 or step.validation is not None:
                    figures = "  ".join(f"{k} {v:.4g}" for k, v in step.figures.items()) + checked
                    speed = bar.tasks[0].speed or 0.0
                    bar.update(task, completed=step.done, figures=figures, rate=f"{speed:.0f} steps/s")
            bar.update(task, completed=total)
    except KeyboardInterrupt:
        console.print(f"stopped and saved at step {trainer.memory.step}; continue with --resume --out {folder}")
        raise
    best = trainer.memory.validation
    if best:
        console.print(f"last validation {best[-1][1]:.5g} nats ({trainer.memory.label})")
    console.print(f"wrote {folder / 'model.safetensors'}")
