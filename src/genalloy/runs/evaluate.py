"""One row of the table: everything a finished run can say, and `n/a (reason)` where it cannot."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genalloy.data.dataset import Dataset
from genalloy.data.load import load
from genalloy.estimators.importance_weighted import ImportanceWeighted
from genalloy.evaluation.auroc import auroc
from genalloy.evaluation.features import Features, default_features
from genalloy.evaluation.generation import panel
from genalloy.evaluation.outliers import outlier_sets
from genalloy.evaluation.representation import probe
from genalloy.evidence import Kind, Unavailable
from genalloy.runs.cells import Cell, absent, density_cell, metric_cell
from genalloy.runs.columns import columns
from genalloy.runs.memory import peak_megabytes
from genalloy.runs.pictures import write_pictures
from genalloy.runs.score import Scores, encode, sample, score
from genalloy.runs.settings import RunSettings
from genalloy.runs.start import dataset_of, trained_model
from genalloy.training.checkpoint import read_tensors, write_text

IMPORTANCE = 64
"""Importance samples of the table's tightest bound."""


def evaluate_run(folder: Path, data: str | None = None, samples: int = 1000) -> dict[str, Any]:
    """The row of a finished run, also written to its row.json. `data`: other rows of the same space to evaluate on."""
    settings = RunSettings.read(folder)
    dataset = dataset_of(settings)
    if data is not None:
        dataset = _other(dataset, data, settings)
    model = trained_model(folder)
    _, facts = read_tensors(folder / "checkpoint.safetensors")
    row = evaluate_model(model, dataset, features_of(dataset, settings.seed), samples, settings.seed, folder)
    row["cells"]["train_seconds"] = _seconds(facts["memory"]["seconds"])
    row |= {
        "recipe": settings.recipe,
        "formula": facts["formula"],
        "command": settings.command(),
        "steps": sum(settings.planned),
        "seed": settings.seed,
        "curves": _curves(facts["memory"]),
        "columns": columns(dataset.space),
    }
    write_text(folder / "row.json", json.dumps(row))
    return row


def _curves(memory: dict[str, Any]) -> dict[str, Any]:
    """Training loss and validation loss: minus the validation log-density, so that both fall."""
    return {"train": memory["train"], "validation": [[step, -value] for step, value in memory["validation"]]}


def _other(dataset: Dataset, data: str, settings: RunSettings) -> Dataset:
    """The run's data set with its test part replaced by all rows of `data`."""
    other = load(data, label=settings.label, seed=settings.seed)
    reason = dataset.space.comparable(other.space)
    if reason is not None:
        raise ValueError(f"{data} is another space than the run's: {reason}")
    rows = torch.cat([other.train, other.validation, other.test])
    kept = {k: v for k, v in dataset.labels.items() if k != "test"}
    if other.labels:
        kept["test"] = torch.cat([other.labels[p] for p in ("train", "validation", "test")])
    return replace(dataset, test=rows, labels=kept)


_FITTED: dict[tuple[str, int, int], Features] = {}


def features_of(dataset: Dataset, seed: int) -> Features:
    """The data set's feature space, fitted once in a process."""
    key = (dataset.source.get("sha256", dataset.name), seed, len(dataset.train))
    if key not in _FITTED:
        _FITTED[key] = default_features(dataset, seed)
    return _FITTED[key]


def evaluate_model(
    model: nn.Module, dataset: Dataset, features: Features, samples: int, seed: int, folder: Path | None
) -> dict[str, Any]:
    """Cells of a model: density, generation, representation, outliers, cost."""
    one = score(model, dataset.test, seed=seed)
    began = time.monotonic()
    drawn = sample(model, samples, seed=seed)
    sampling = (time.monotonic() - began) * 1000 / samples
    generation = {name: metric_cell(result) for name, result in panel(dataset, drawn, features, seed).items()}
    generation["prdc_density"] = generation.pop("density")
    cells: dict[str, Cell] = {
        "density": density_cell(tightest(model, dataset.test, one, seed), dataset.space),
        "bound": density_cell(one, dataset.space),
        **generation,
        "probe": _probe(model, dataset),
        "outliers": _outliers(model, dataset, one, seed),
        "sample_seconds": Cell(sampling, None, None, f"{sampling:.3g} s", f"{samples} samples", samples),
        "parameters": _parameters(model),
        "memory": Cell(peak_megabytes(), None, None, f"{peak_megabytes():.0f} MiB", "peak resident", None),
    }
    if folder is not None:
        write_pictures(model, dataset, drawn, folder)
    return {
        "cells": {name: cell.to_json() for name, cell in cells.items()},
        "parameters": sum(p.numel() for p in model.parameters()),
        "composition": repr(model),
    }


def tightest(model: nn.Module, x: Tensor, one: Scores, seed: int) -> Scores:
    """Importance-weighted where the density is a proper bound, otherwise the density as it is."""
    if one.kind is not Kind.LOWER:
        return one
    try:
        return score(model, x, ImportanceWeighted(IMPORTANCE), seed=seed)
    except Unavailable:
        return one


def _parameters(model: nn.Module) -> Cell:
    count = sum(p.numel() for p in model.parameters())
    return Cell(count, None, None, f"{count:,}", "of the model alone", None)


def _seconds(value: float) -> dict[str, Any]:
    return Cell(value, None, None, f"{value:.0f} s", "training, validation included", None).to_json()


def _probe(model: nn.Module, dataset: Dataset) -> Cell:
    try:
        return metric_cell(probe(dataset, lambda x: encode(model, x)))
    except Unavailable:
        return absent("the model has no codes")


def _outliers(model: nn.Module, dataset: Dataset, inside: Scores, seed: int) -> Cell:
    """AUROC of the one-draw density against the first named set."""
    if inside.kind is Kind.NONE:
        return absent(inside.how)
    name, rows = next(iter(outlier_sets(dataset, seed).items()))
    outside = score(model, rows, seed=seed)
    return metric_cell(auroc(-inside.values, -outside.values, f"{inside.kind.value} log-density, test rows against {name}"))


def print_row(row: dict[str, Any]) -> None:
    """The row as a table of two columns."""
    from rich.console import Console
    from rich.table import Table

    table = Table("column", "value", "how", title=row["recipe"])
    titles = {c["id"]: c["title"] for c in row["columns"]}
    for name, title in titles.items():
        cell = row["cells"].get(name)
        if cell is not None:
            label = f" {cell['kind']}" if cell["kind"] else ""
            table.add_row(title, f"{cell['text']}{label}", cell["how"])
    Console().print(table)
