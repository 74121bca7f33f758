"""Rows that learn nothing: what any model must beat, and what no model can."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from genalloy.data.dataset import Dataset
from genalloy.evaluation.baselines import baselines
from genalloy.evaluation.generation import floors
from genalloy.evaluation.memorisation import memorisation_controls
from genalloy.evaluation.metric import Missing, Panel
from genalloy.evaluation.ngram_baselines import counted
from genalloy.evaluation.outliers import outlier_panel
from genalloy.evaluation.representation import probe_references
from genalloy.runs.cells import Cell, absent, density_cell, metric_cell, nats_cell
from genalloy.runs.sequences import cells_with_steps
from genalloy.studies.evaluate import features_of
from genalloy.studies.panels import PANELS, EvaluationSettings, foreign_sets


def baseline_rows(dataset: Dataset, seed: int, asked: EvaluationSettings = EvaluationSettings()) -> list[dict[str, Any]]:  # noqa: B008
    """Density baselines, generation floors, probes of pixels and PCA, the complexity-only outlier score: what was asked for."""
    makers: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "density": lambda: _density_rows(dataset, seed),
        "generation": lambda: _floor_rows(floors(dataset, features_of(dataset, seed), seed)),
        "memorisation": lambda: _floor_rows(memorisation_controls(dataset, features_of(dataset, seed))),
        "representation": lambda: [
            _row(name, "baseline", {"probe": metric_cell(r)}) for name, r in probe_references(dataset, seed).items()
        ],
        "outliers": lambda: _complexity_row(dataset, seed, asked),
    }
    wanted = [name for name in makers if name in asked.panels and (PANELS[name].unequal or not dataset.lengths)]
    return _joined([row for name in wanted for row in makers[name]()])


def _floor_rows(made: dict[str, Panel]) -> list[dict[str, Any]]:
    return [_row(name, "floor", generation_cells(panel)) for name, panel in made.items()]


def _joined(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of one name and kind as one: a copycat has distances and memorisation scores, the latter against its null."""
    joined: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        first = joined.setdefault((row["recipe"], row["kind"]), row)
        first["cells"] |= row["cells"]
    return list(joined.values())


def _complexity_row(dataset: Dataset, seed: int, asked: EvaluationSettings) -> list[dict[str, Any]]:
    """What compressed length alone says of outliers: a likelihood must beat it."""
    if dataset.space.levels is None:
        return []
    first = next(iter(outlier_panel(dataset, None, foreign_sets(dataset, asked, seed), seed).values()))
    return [_row("complexity alone", "baseline", {"outliers": metric_cell(first["complexity"])})]


def generation_cells(panel: Panel) -> dict[str, Cell]:
    """The panel's metrics under the table's column names."""
    cells = {name: metric_cell(result) for name, result in panel.items()}
    if "density" in cells:
        cells["prdc_density"] = cells.pop("density")
    return cells


def _density_rows(dataset: Dataset, seed: int) -> list[dict[str, Any]]:
    """Gaussians and independent entries for rows of one shape; counts for texts and sequences."""
    rows = [] if dataset.lengths else [_density_row(b, dataset) for b in baselines(dataset, seed)]
    for name, scores in counted(dataset).items():
        cells = cells_with_steps({"density": density_cell(scores, dataset.space)}, scores, dataset)
        rows.append(_row(name, "baseline", cells))
    return rows


def _density_row(baseline: Any, dataset: Dataset) -> dict[str, Any]:
    result = baseline.nats
    if isinstance(result, Missing):
        cell = absent(result.reason)
    else:
        cell = nats_cell(result.value, result.stderr, baseline.kind, result.how, result.n, dataset.space)
    # a window of characters has as many dimensions as characters
    same = {"per_step": cell} if dataset.space.kind == "text" and not dataset.units else {}
    return _row(baseline.name, "baseline", {**same, "density": cell})


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
