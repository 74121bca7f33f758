"""One row of the table: everything a finished run can say, and `n/a (reason)` where it cannot."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from genalloy.data.dataset import Dataset
from genalloy.data.encoded import Known
from genalloy.data.load import load
from genalloy.evaluation.features import Features, default_features
from genalloy.evaluation.step_features import RandomConvolutions
from genalloy.experiments.declare import Change
from genalloy.runs.cells import Cell
from genalloy.runs.columns import columns
from genalloy.runs.examine import PANELS, Asked, Cells, Examined, examine
from genalloy.runs.pictures import write_pictures
from genalloy.runs.sequences import strided
from genalloy.runs.settings import RunSettings
from genalloy.runs.start import dataset_of, trained_model
from genalloy.training.checkpoint import read_tensors, write_text
from genalloy.training.devices import CPU, resolve_device

Told = Callable[[str], None]


def silent(words: str) -> None:
    """Nobody listens."""


def evaluate_run(
    folder: Path,
    data: str | None = None,
    asked: Asked = Asked(),  # noqa: B008
    told: Told = silent,
    stride: int | None = None,
    device: torch.device = CPU,
) -> dict[str, Any]:
    """The row of a finished run, also written to its row.json. `data`: other rows of the same space to evaluate on.

    stride: of overlapping windows of text, for one more number in the density panel; see `genalloy.runs.sequences`.
    device: where densities, samples and codes are computed.
    """
    settings = RunSettings.read(folder)
    dataset = dataset_of(settings, folder)
    if data is not None:
        dataset = _other(dataset, data, settings)
    row = _evaluate(folder, settings, dataset, asked, None, folder, told, device)
    if stride is not None:
        told("measuring overlapping windows")
        cell = strided(trained_model(folder), dataset, stride, settings.seed).to_json()
        row["panels"].setdefault(PANELS["density"].title, {})[f"bits per character, windows every {stride}"] = cell
        write_text(folder / "row.json", json.dumps(row))
    return row


def evaluate_entry(folder: Path, asked: Asked, after: Change | None, place: Path, told: Told = silent) -> dict[str, Any]:
    """The row of a finished run's model, changed by `after`; row.json and pictures.npz are written to `place`."""
    settings = RunSettings.read(folder)
    device = resolve_device(settings.device)
    return _evaluate(folder, settings, dataset_of(settings, folder), asked, after, place, told, device)


def _evaluate(
    folder: Path,
    settings: RunSettings,
    dataset: Dataset,
    asked: Asked,
    after: Change | None,
    place: Path,
    told: Told,
    device: torch.device,
) -> dict[str, Any]:
    model = trained_model(folder)
    model = model if after is None else after(model, dataset)
    _, facts = read_tensors(folder / "checkpoint.safetensors")
    it = Examined(model.eval(), dataset, features_of(dataset, settings.split_seed), settings.seed, asked, device)
    panels = examine(it, told)
    model.cpu()
    panels.setdefault("cost", {}).update(_training_cost(facts["memory"]))
    row = row_of(panels, dataset) | {
        "parameters": sum(p.numel() for p in model.parameters()),
        "composition": repr(model),
        "recipe": settings.recipe,
        "formula": facts["formula"],
        "command": settings.command(),
        "steps": sum(settings.planned),
        "seed": settings.seed,
        "curves": _curves(facts["memory"], dataset.space.shape[0] if dataset.lengths else 1),
        "columns": columns(dataset.space),
    }
    place.mkdir(parents=True, exist_ok=True)
    write_pictures(model, dataset, it.drawn, place, settings.seed)
    write_text(place / "row.json", json.dumps(row))
    return row


def row_of(panels: dict[str, Cells], dataset: Dataset) -> dict[str, Any]:
    """`cells` that are columns of the table, and all of them under their panels' titles."""
    known = {c["id"] for c in columns(dataset.space)}
    cells = {name: cell.to_json() for made in panels.values() for name, cell in made.items() if name in known}
    titled = {PANELS[name].title: {k: cell.to_json() for k, cell in made.items()} for name, made in panels.items()}
    return {"cells": cells, "panels": titled}


def _training_cost(memory: dict[str, Any]) -> Cells:
    seconds, megabytes = memory["seconds"], memory["megabytes"]
    return {
        "train_seconds": Cell(seconds, None, None, f"{seconds:.0f} s", "training, validation included", None),
        "memory": Cell(megabytes, None, None, f"{megabytes:.0f} MiB", "peak resident while training", None),
    }


def _curves(memory: dict[str, Any], steps: int) -> dict[str, Any]:
    """Training loss and validation loss: minus the validation log-density, so that both fall.

    steps: of padded rows, by which the loss of rows of unequal lengths was divided; 1 for others.
    """
    validation = [[step, -value / steps] for step, value in memory["validation"]]
    return {"train": memory["train"], "validation": validation}


def _other(dataset: Dataset, data: str, settings: RunSettings) -> Dataset:
    """The run's data set with its test part replaced by all rows of `data`."""
    known = Known(dataset.space, dataset.form, dataset.label_names)
    other = load(data, label=settings.label, seed=settings.split_seed, like=known)
    reason = dataset.space.comparable(other.space)
    if reason is not None:
        raise ValueError(f"{data} is another space than the run's: {reason}")
    rows = torch.cat([other.train, other.validation, other.test])
    kept = {k: v for k, v in dataset.labels.items() if k != "test"}
    if other.labels:
        kept["test"] = torch.cat([other.labels[p] for p in ("train", "validation", "test")])
    # factors of the run's own test rows say nothing about other rows
    return replace(dataset, test=rows, labels=kept, factors={})


_FITTED: dict[tuple[str, int, int], Features] = {}


def features_of(dataset: Dataset, seed: int) -> Features:
    """The data set's feature space, fitted once in a process."""
    key = (dataset.source.get("sha256", dataset.name), seed, len(dataset.train))
    if key not in _FITTED:
        steps = RandomConvolutions(seed).fit(dataset.train) if dataset.lengths else None
        _FITTED[key] = steps or default_features(dataset, seed)
    return _FITTED[key]


def print_row(row: dict[str, Any]) -> None:
    """The row as one table a panel."""
    from rich.console import Console
    from rich.table import Table

    titles = {c["id"]: c["title"] for c in row["columns"]}
    for panel, cells in row["panels"].items():
        table = Table("number", "value", "how", title=f"{row['recipe']}: {panel}", title_justify="left")
        for name, cell in cells.items():
            label = f" {cell['kind']}" if cell["kind"] else ""
            table.add_row(titles.get(name, name), f"{cell['text']}{label}", cell["how"])
        Console().print(table)
