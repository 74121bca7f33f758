"""A comparison: recipes trained side by side in processes of their own, one page at the end.

Every row is a run of its own folder. Finished rows are kept when interrupted; run the same command again to continue.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from genalloy.data.dataset import Dataset
from genalloy.data.load import load
from genalloy.recipes.composition import Target
from genalloy.recipes.registry import Recipe, all_recipes, find
from genalloy.runs.columns import LABELS, columns
from genalloy.runs.pictures import write_reference
from genalloy.runs.settings import RunSettings
from genalloy.training.checkpoint import write_text


@dataclass(frozen=True)
class Comparison:
    """What `genalloy compare` was asked for. jobs: recipes at once, 0 for one a core."""

    data: str
    recipes: tuple[str, ...]
    minutes: float
    folder: Path
    label: str | None = None
    limit: int | None = None
    seed: int = 0
    jobs: int = 0
    command: str = ""

    def settings(self, recipe: str) -> RunSettings:
        return RunSettings(recipe, self.data, self.label, self.limit, minutes=self.minutes, seed=self.seed)

    def dataset(self) -> Dataset:
        return load(self.data, label=self.label, seed=self.seed, limit=self.limit)


def run_comparison(comparison: Comparison) -> Path:
    """Train and evaluate every row, then write comparison.json and the page. Returns the page's path."""
    from genalloy.report.page import write_page

    began = time.monotonic()
    dataset = comparison.dataset()
    names = [r.name for r in fitting(comparison, dataset)]
    comparison.folder.mkdir(parents=True, exist_ok=True)
    _same_question(comparison)
    write_reference(dataset, comparison.folder)
    try:
        _work(comparison, names)
    finally:
        _collect(comparison, dataset, names, (time.monotonic() - began) / 60)
    return write_page(comparison.folder)


def fitting(comparison: Comparison, dataset: Dataset) -> list[Recipe]:
    """The recipes asked for, or all that can be built for the data. Raises ValueError on an unknown name."""
    if comparison.recipes:
        return [find(name) for name in comparison.recipes]
    target, kept = Target.of(dataset), []
    for recipe in all_recipes().values():
        try:
            recipe(target)
        except ValueError:
            continue
        kept.append(recipe)
    return kept


def _same_question(comparison: Comparison) -> None:
    """Rows of another question must not end up in one table."""
    file = comparison.folder / "question.json"
    asked = {k: getattr(comparison, k) for k in ("data", "minutes", "label", "limit", "seed")}
    if file.exists() and json.loads(file.read_text(encoding="utf-8")) != asked:
        raise ValueError(
            f"{comparison.folder} holds rows of another comparison {file.read_text(encoding='utf-8')}; choose another --out"
        )
    write_text(file, json.dumps(asked))


# -- the work ------------------------------------------------------------------------------------------------------


def _work(comparison: Comparison, names: list[str]) -> None:
    """Rows in worker processes, a progress line each."""
    todo = [n for n in [BASELINES, *names] if not _row_file(comparison.folder, n).exists()]
    jobs = comparison.jobs or torch.multiprocessing.cpu_count()
    # workers inherit it: numerical libraries with threads of their own fight over the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    pool = ProcessPoolExecutor(max_workers=max(1, min(jobs, len(todo))), mp_context=get_context("spawn"))
    try:
        futures = {name: pool.submit(make_row, comparison, name) for name in todo}
        _watch(comparison, futures, len(names) + 1)
        for future in futures.values():
            future.result()
    except (KeyboardInterrupt, BrokenProcessPool):
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    pool.shutdown()


def _watch(comparison: Comparison, futures: dict[str, Future[None]], total: int) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns_ = (TextColumn("{task.description:<18}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[say]}"))
    with Progress(*columns_, TimeElapsedColumn(), refresh_per_second=2) as bar:
        whole = bar.add_task("all rows", total=total, completed=total - len(futures), say="")
        tasks: dict[str, Any] = {}
        while not all(f.done() for f in futures.values()):
            for name, future in futures.items():
                if future.running() and name not in tasks:
                    tasks[name] = bar.add_task(name, total=None, say="starting")
                if name in tasks and future.done():
                    bar.remove_task(tasks.pop(name))
                elif name in tasks:
                    bar.update(tasks[name], **_said(comparison.folder / name))
            bar.update(whole, completed=total - sum(not f.done() for f in futures.values()))
            time.sleep(0.5)
        bar.update(whole, completed=total)


def _said(folder: Path) -> dict[str, Any]:
    """The latest line of a worker."""
    try:
        return json.loads((folder / "progress.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return {}


BASELINES = "baselines"


def _row_file(folder: Path, name: str) -> Path:
    return folder / name / "row.json"


def make_row(comparison: Comparison, name: str) -> None:
    """One row, in a worker. An error becomes the row's text."""
    torch.set_num_threads(1)
    folder = comparison.folder / name
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if name == BASELINES:
            from genalloy.runs.baselines import baseline_rows

            rows = baseline_rows(comparison.dataset(), comparison.seed)
            write_text(folder / "row.json", json.dumps(rows))
        else:
            _train_and_evaluate(comparison, name, folder)
    except Exception as error:  # one bad row must not cost the others
        write_text(folder / "error.txt", f"{type(error).__name__}: {error}")


def _train_and_evaluate(comparison: Comparison, name: str, folder: Path) -> None:
    from genalloy.runs.evaluate import evaluate_run
    from genalloy.runs.memory import reset_peak
    from genalloy.runs.start import continue_run, start

    reset_peak()
    if (folder / "run.json").exists():
        trainer = continue_run(folder)
    else:
        trainer = start(comparison.settings(name), folder, comparison.dataset(), cap=True)
    told = 0.0
    for step in trainer.run():
        if time.monotonic() - told > 1.0:
            told = time.monotonic()
            say = "  ".join(f"{k} {v:.4g}" for k, v in step.figures.items())
            write_text(folder / "progress.json", json.dumps({"completed": step.done, "total": step.total, "say": say}))
    write_text(folder / "progress.json", json.dumps({"say": "evaluating"}))
    evaluate_run(folder)


# -- the table -----------------------------------------------------------------------------------------------------


def _collect(comparison: Comparison, dataset: Dataset, names: list[str], minutes: float) -> None:
    """comparison.json from the rows that exist."""
    rows = [_row(comparison, name) for name in names] + list(_baseline_rows(comparison.folder))
    record = {
        "format": 1,
        "title": f"Generative models on {dataset.name}",
        "command": comparison.command,
        "seed": comparison.seed,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "machine": f"{torch.multiprocessing.cpu_count()} CPU cores, one thread a row",
        "minutes": minutes,
        "data": describe(dataset),
        "columns": columns(dataset.space),
        "rows": rows,
        "labels": LABELS,
    }
    write_text(comparison.folder / "comparison.json", json.dumps(record, indent=1))


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
    }


def versions() -> dict[str, str]:
    """Versions that numbers depend on."""
    from importlib.metadata import version

    return {name: version(name) for name in ("genalloy", "torch", "numpy", "scikit-learn")}


def _row(comparison: Comparison, name: str) -> dict[str, Any]:
    recipe, folder = find(name), comparison.folder / name
    row: dict[str, Any] = {"recipe": name, "family": recipe.family, "kind": "model", "reference": recipe.reference}
    row |= {"folder": name, "error": None, "cells": {}, "curves": {"train": [], "validation": []}, "notes": []}
    if (folder / "row.json").exists():
        made = json.loads((folder / "row.json").read_text(encoding="utf-8"))
        made.pop("columns", None)
        return row | made
    error = folder / "error.txt"
    row["error"] = error.read_text(encoding="utf-8") if error.exists() else "not finished: run the same command again"
    return row


def _baseline_rows(folder: Path) -> Iterator[dict[str, Any]]:
    file = _row_file(folder, BASELINES)
    if file.exists():
        yield from json.loads(file.read_text(encoding="utf-8"))
