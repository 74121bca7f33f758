"""Rows that learn nothing: what any model must beat, and what no model can."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from genalloy.data.dataset import Dataset
from genalloy.evaluation.auroc import auroc
from genalloy.evaluation.baselines import baselines
from genalloy.evaluation.generation import floors
from genalloy.evaluation.metric import Missing, Panel
from genalloy.evaluation.outliers import complexity
from genalloy.evaluation.representation import probe_references
from genalloy.runs.cells import Cell, absent, metric_cell, nats_cell
from genalloy.runs.evaluate import features_of
from genalloy.runs.examine import Asked, foreign_sets


def baseline_rows(dataset: Dataset, seed: int, asked: Asked = Asked()) -> list[dict[str, Any]]:  # noqa: B008
    """Density baselines, generation floors, probes of pixels and PCA, the complexity-only outlier score: what was asked for."""
    makers: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "density": lambda: [_density_row(b, dataset) for b in baselines(dataset, seed)],
        "generation": lambda: _floor_rows(dataset, seed),
        "representation": lambda: [
            _row(name, "baseline", {"probe": metric_cell(r)}) for name, r in probe_references(dataset, seed).items()
        ],
        "outliers": lambda: _complexity_row(dataset, seed, asked),
    }
    return [row for name, make in makers.items() if name in asked.panels for row in make()]


def _floor_rows(dataset: Dataset, seed: int) -> list[dict[str, Any]]:
    made = floors(dataset, features_of(dataset, seed), seed)
    return [_row(name, "floor", generation_cells(panel)) for name, panel in made.items()]


def _complexity_row(dataset: Dataset, seed: int, asked: Asked) -> list[dict[str, Any]]:
    """What compressed length alone says of outliers: a likelihood must beat it."""
    levels = dataset.space.levels
    if levels is None:
        return []
    name, rows = next(iter(foreign_sets(dataset, asked, seed).items()))
    result = auroc(complexity(dataset.test, levels), complexity(rows, levels), f"zlib length alone, test rows against {name}")
    return [_row("complexity alone", "baseline", {"outliers": metric_cell(result)})]


def generation_cells(panel: Panel) -> dict[str, Cell]:
    """The panel's metrics under the table's column names."""
    cells = {name: metric_cell(result) for name, result in panel.items()}
    cells["prdc_density"] = cells.pop("density")
    return cells


def _density_row(baseline: Any, dataset: Dataset) -> dict[str, Any]:
    result = baseline.nats
    if isinstance(result, Missing):
        cell = absent(result.reason)
    else:
        cell = nats_cell(result.value, result.stderr, baseline.kind, result.how, result.n, dataset.space)
    return _row(baseline.name, "baseline", {"density": cell})


def _row(name: str, kind: str, cells: dict[str, Cell]) -> dict[str, Any]:
    return {
        "recipe": name,
        "family": "baseline",
        "kind": kind,
        "cells": {key: cell.to_json() for key, cell in cells.items()},
        "error": None,
        "folder": None,
        "curves": {"train": [], "validation": []},
        "notes": [],
    }
