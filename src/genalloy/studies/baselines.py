"""Rows that learn nothing: what any model must beat, and what no model can."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from genalloy.core.schema import Row
from genalloy.data.dataset import Dataset
from genalloy.evaluation.baselines import Baseline, baselines
from genalloy.evaluation.generation import reference_generators
from genalloy.evaluation.memorisation import memorisation_controls
from genalloy.evaluation.metric import Panel
from genalloy.evaluation.ngram_baselines import counted
from genalloy.evaluation.outliers import outlier_panel
from genalloy.evaluation.representation import probe_references
from genalloy.runs.densities import density_number, in_unit
from genalloy.runs.sequences import with_steps
from genalloy.studies.evaluate import features_of
from genalloy.studies.panels import PANELS, EvaluationSettings, foreign_sets


def baseline_rows(dataset: Dataset, seed: int, request: EvaluationSettings = EvaluationSettings()) -> list[Row]:  # noqa: B008
    """Density baselines, reference rows of generation, probes of pixels and PCA, the complexity-only outlier score."""
    makers: dict[str, Callable[[], list[Row]]] = {
        "density": lambda: _density_rows(dataset, seed),
        "generation": lambda: _reference_rows(reference_generators(dataset, features_of(dataset, seed), seed)),
        "memorisation": lambda: _reference_rows(memorisation_controls(dataset, features_of(dataset, seed))),
        "representation": lambda: [_row(name, "baseline", {"probe": r}) for name, r in probe_references(dataset, seed).items()],
        "outliers": lambda: _complexity_row(dataset, seed, request),
    }
    wanted = [name for name in makers if name in request.panels and (PANELS[name].unequal or not dataset.lengths)]
    return _joined([row for name in wanted for row in makers[name]()])


def _reference_rows(panels: dict[str, Panel]) -> list[Row]:
    return [_row(name, "reference", generation_columns(panel)) for name, panel in panels.items()]


def _joined(rows: list[Row]) -> list[Row]:
    """Rows of one name and kind as one: one of copies has distances, and memorisation scores against its null."""
    joined: dict[tuple[str, str], Row] = {}
    for row in rows:
        first = joined.setdefault((row.recipe, row.kind), row)
        first.cells.update(row.cells)
    return list(joined.values())


def _complexity_row(dataset: Dataset, seed: int, request: EvaluationSettings) -> list[Row]:
    """What compressed length alone says of outliers: a likelihood must beat it."""
    if dataset.space.levels is None:
        return []
    first = next(iter(outlier_panel(dataset, None, foreign_sets(dataset, request, seed), seed).values()))
    return [_row("complexity alone", "baseline", {"outliers": first["complexity"]})]


def generation_columns(panel: Panel) -> Panel:
    """The panel's metrics under the table's column names."""
    return {"prdc_density" if name == "density" else name: number for name, number in panel.items()}


def _density_rows(dataset: Dataset, seed: int) -> list[Row]:
    """Gaussians and independent entries for rows of one shape; counts for texts and sequences."""
    rows = [] if dataset.lengths else [_density_row(b, dataset) for b in baselines(dataset, seed)]
    for name, scores in counted(dataset).items():
        cells = with_steps({"density": density_number(scores, dataset.space)}, scores, dataset)
        rows.append(_row(name, "baseline", cells))
    return rows


def _density_row(baseline: Baseline, dataset: Dataset) -> Row:
    nats = baseline.nats
    number = nats if nats.missing else in_unit(replace(nats, kind=baseline.kind, unit="nats"), dataset.space)
    # a window of characters has as many dimensions as characters
    same = {"per_step": number} if dataset.space.kind == "text" and not dataset.units else {}
    return _row(baseline.name, "baseline", {**same, "density": number})


def _row(name: str, kind: str, cells: Panel) -> Row:
    return Row(name, "baseline", kind, cells=cells)
