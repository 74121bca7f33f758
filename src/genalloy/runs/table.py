"""A table: contenders at one or several seeds on one data set, trained and measured in worker processes.

What `compare`, `reproduce` and `sweep` have in common. Every run has a folder of its own and every measurement a file in it, so
whatever is finished is kept: the same question asked again continues, and two tables that ask for the same run share it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch

from genalloy.data.dataset import Dataset
from genalloy.experiments.declare import Contender
from genalloy.recipes.registry import find
from genalloy.runs.columns import LABELS, columns
from genalloy.runs.examine import Asked
from genalloy.runs.merge import merge_rows
from genalloy.runs.pictures import write_reference
from genalloy.runs.pool import Job, run_jobs, say
from genalloy.runs.settings import RunSettings
from genalloy.training.checkpoint import write_text

BASELINES = "baselines"


@dataclass(frozen=True)
class Entry:
    """A contender at one seed: its run's folder and what is measured of it. cap: minutes limit the recipe's own steps."""

    contender: Contender
    settings: RunSettings
    run: Path
    asked: Asked
    cap: bool = False

    @property
    def place(self) -> Path:
        """Where row.json and pictures.npz go: the run's folder, below it where something else is asked of the same run."""
        if self.contender.after is None and self.asked == Asked():
            return self.run
        return self.run / ("measured-" + digest([repr(self.contender.after), asdict(self.asked)]))

    @property
    def row(self) -> Path:
        return self.place / "row.json"


@dataclass(frozen=True)
class Table:
    """entries: rows at each seed. folder: of the table. question: what its rows answer; another one may not share the folder.

    baselines: folder of the rows that learn nothing. facts: further keys of comparison.json. jobs: runs at once, 0 one a core.
    """

    title: str
    folder: Path
    entries: tuple[Entry, ...]
    baselines: Path
    question: dict[str, Any]
    facts: dict[str, Any] = field(default_factory=dict)
    jobs: int = 0

    @property
    def names(self) -> list[str]:
        """The rows' names, in order."""
        return list(dict.fromkeys(entry.contender.name for entry in self.entries))


def digest(value: Any) -> str:
    """Eight hex digits that identify a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:8]


def make_table(table: Table, dataset: Dataset) -> dict[str, Any]:
    """Train and measure what is missing; write reference.npz and comparison.json, also when interrupted; return the record."""
    began = time.monotonic()
    table.folder.mkdir(parents=True, exist_ok=True)
    _same_question(table)
    write_reference(dataset, table.folder)
    try:
        _work(table)
    finally:
        record = collect(table, dataset, (time.monotonic() - began) / 60)
        write_text(table.folder / "comparison.json", json.dumps(record, indent=1))
    return record


def _same_question(table: Table) -> None:
    """Rows of another question must not end up in one table."""
    file, asked = table.folder / "question.json", json.dumps(table.question)
    if file.exists() and json.loads(file.read_text(encoding="utf-8")) != json.loads(asked):
        raise ValueError(
            f"{table.folder} holds rows of another comparison {file.read_text(encoding='utf-8')}; choose another --out"
        )
    write_text(file, asked)


# -- the work ------------------------------------------------------------------------------------------------------


def _work(table: Table) -> None:
    """One job a run, however many rows are measured of it."""
    runs: dict[Path, list[Entry]] = {}
    for entry in table.entries:
        runs.setdefault(entry.run, []).append(entry)
    first = table.entries[0]
    jobs = [Job(BASELINES, table.baselines, make_baselines, (table.baselines, first.settings, first.asked))]
    jobs += [Job(_job_name(entries[0]), run, make_entries, entries) for run, entries in runs.items()]
    todo = [job for job in jobs if not _finished(job)]
    run_jobs(todo, table.jobs, len(jobs) - len(todo))


def _job_name(entry: Entry) -> str:
    return entry.run.name


def _finished(job: Job) -> bool:
    if job.name == BASELINES:
        return (job.folder / "row.json").exists()
    return all(entry.row.exists() for entry in job.argument)


def make_baselines(what: tuple[Path, RunSettings, Asked]) -> None:
    """Rows that learn nothing, in a worker. An error becomes the row's text."""
    from genalloy.runs.baselines import baseline_rows
    from genalloy.runs.start import dataset_of

    folder, settings, asked = what
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        rows = baseline_rows(dataset_of(settings), settings.split_seed, asked)
        write_text(folder / "row.json", json.dumps(rows))
    except Exception as error:  # a bad baseline must not cost the models' rows
        write_text(folder / "error.txt", f"{type(error).__name__}: {error}")


def make_entries(entries: list[Entry]) -> None:
    """Train one run and measure all that is asked of it, in a worker. An error becomes the rows' text."""
    from genalloy.runs.evaluate import evaluate_entry

    torch.set_num_threads(1)
    folder = entries[0].run
    folder.mkdir(parents=True, exist_ok=True)
    try:
        (folder / "error.txt").unlink(missing_ok=True)
        if not (folder / "model.safetensors").exists():
            _train(entries[0])
        for entry in entries:
            if not entry.row.exists():
                evaluate_entry(folder, entry.asked, entry.contender.after, entry.place, partial(_tell, entry))
    except Exception as error:  # one bad row must not cost the others
        write_text(folder / "error.txt", f"{type(error).__name__}: {error}")


def _tell(entry: Entry, words: str) -> None:
    say(entry.run, say=f"{entry.contender.name}: {words}")


def _train(entry: Entry) -> None:
    from genalloy.runs.memory import reset_peak
    from genalloy.runs.start import continue_run, start

    reset_peak()
    folder = entry.run
    trainer = continue_run(folder) if (folder / "run.json").exists() else start(entry.settings, folder, cap=entry.cap)
    told = 0.0
    for step in trainer.run():
        if time.monotonic() - told > 1.0:
            told = time.monotonic()
            figures = "  ".join(f"{k} {v:.4g}" for k, v in step.figures.items())
            say(folder, completed=step.done, total=step.total, say=figures)


# -- the record ----------------------------------------------------------------------------------------------------


def collect(table: Table, dataset: Dataset, minutes: float) -> dict[str, Any]:
    """The record of comparison.json from the rows that exist."""
    rows = [_row(table, name) for name in table.names] + list(_baseline_rows(table.baselines))
    return {
        "format": 1,
        "title": table.title,
        "seed": table.entries[0].settings.seed,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "machine": f"{torch.multiprocessing.cpu_count()} CPU cores, one thread a row",
        "minutes": minutes,
        "data": describe(dataset),
        "columns": columns(dataset.space),
        "rows": rows,
        "labels": LABELS,
        **table.facts,
    }


def describe(dataset: Dataset) -> dict[str, Any]:
    """The data's paragraph on the page."""
    return {
        "name": dataset.name,
        "kind": dataset.space.kind,
        "shape": list(dataset.space.shape),
        "measure": dataset.space.measure_text,
        "train": len(dataset.train),
        "validation": len(dataset.validation),
        "test": len(dataset.test),
        "notes": list(dataset.notes),
        "optimum": dataset.entropy_optimum,
        "style": dataset.form.style if dataset.space.kind == "sequence" else "",
        "rate": dataset.form.rate,
        "alphabet": list(dataset.space.columns[0].categories) if dataset.space.kind == "text" else None,
    }


def versions() -> dict[str, str]:
    """Versions that numbers depend on."""
    from importlib.metadata import version

    return {name: version(name) for name in ("genalloy", "torch", "numpy", "scikit-learn")}


def _row(table: Table, name: str) -> dict[str, Any]:
    """A contender's row: the mean over its seeds, the pictures of the first."""
    entries = [e for e in table.entries if e.contender.name == name]
    recipe = find(entries[0].contender.recipe)
    row: dict[str, Any] = {"recipe": name, "family": recipe.family, "kind": "model", "reference": recipe.reference}
    row |= {"folder": None, "error": None, "cells": {}, "curves": {"train": [], "validation": []}, "notes": []}
    row["settings"], row["runs"] = dict(entries[0].contender.settings), [entry.run.name for entry in entries]
    made = [(e, json.loads(e.row.read_text(encoding="utf-8"))) for e in entries if e.row.exists()]
    if not made:
        errors = [e.run / "error.txt" for e in entries if (e.run / "error.txt").exists()]
        row["error"] = errors[0].read_text(encoding="utf-8") if errors else "not finished: run the same command again"
        return row
    first, _ = made[0]
    merged = merge_rows([(e.settings.seed, r) for e, r in made], [e.settings.seed for e in entries])
    row |= {k: v for k, v in merged.items() if k != "columns"}
    row["recipe"] = name
    return row | {"folder": _pictures_folder(table, name, first)}


def _pictures_folder(table: Table, name: str, entry: Entry) -> str | None:
    """A folder below the table's that holds the row's pictures: the run's own, or a copy of a shared run's."""
    if entry.place.parent == table.folder:
        return entry.place.name
    if not (entry.place / "pictures.npz").exists():
        return None
    folder = name.replace("/", "-")
    (table.folder / folder).mkdir(exist_ok=True)
    shutil.copyfile(entry.place / "pictures.npz", table.folder / folder / "pictures.npz")
    return folder


def _baseline_rows(folder: Path) -> Iterator[dict[str, Any]]:
    file = folder / "row.json"
    if file.exists():
        yield from json.loads(file.read_text(encoding="utf-8"))
