"""`genalloy reproduce` and `genalloy sweep`: experiments trained, measured, judged, and their results kept.

A workspace holds `runs/` (shared by all experiments) and one folder a table; `results/NAME.json` is the record of an
experiment: numbers with their labels and every seed's value, the published ones beside them, and the verdict.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from genalloy.core.bounds import listed
from genalloy.core.schema import FORMAT, Comparison, Number, Published, Verdict, plain
from genalloy.data.columns import parsed
from genalloy.data.load import load_data
from genalloy.experiments.declare import Experiment, Method
from genalloy.experiments.verdict import Results
from genalloy.recipes.registry import find
from genalloy.runs.settings import RunSettings, keep_limits
from genalloy.studies.panels import EvaluationSettings
from genalloy.studies.table import BASELINES, Table, TableRun, digest, make_table, versions, write_comparison
from genalloy.training.checkpoint import write_bytes, write_text
from genalloy.training.interrupt import stoppable


@dataclass(frozen=True)
class RunPlan:
    """How an experiment is run. budget: "quick" or "full". seeds: how many, from 0. minutes: instead of a budget's steps."""

    budget: str = "quick"
    seeds: int = 3
    workspace: Path = Path("reproductions")
    jobs: int = 0
    command: str = ""
    limit: int | None = None
    minutes: float | None = None
    steps: int | None = None
    columns: str | None = None

    def __post_init__(self) -> None:
        keep_limits(self)

    @property
    def rows(self) -> list[Any]:
        """What the rows depend on beside the data's name."""
        return [self.limit, *([] if self.columns is None else [self.columns])]


def reproduce(experiment: Experiment, order: RunPlan, results: Path | None) -> tuple[Path, Verdict | None]:
    """Run an experiment: returns its page and its verdict. `results`: where NAME.json is kept; None keeps none."""
    from genalloy.report.page import write_page

    dataset = load_data(experiment.data, limit=order.limit, columns=parsed(order.columns or ""))
    table = table_of(experiment, order)
    with stoppable():
        record = make_table(table, dataset)
    verdict = None if experiment.verdict is None else experiment.verdict(results_of(record))
    record = replace(record, verdict=verdict)
    write_comparison(table.folder / "comparison.json", record)
    page = write_page(table.folder)
    if results is not None:
        results.mkdir(parents=True, exist_ok=True)
        sheets = write_sheet(table, record, results / f"{experiment.name}.png")
        named = replace(record, name=experiment.name, family=experiment.family, sheets=sheets)
        write_text(results / f"{experiment.name}.json", json.dumps(kept(named), indent=1))
    return page, verdict


def table_of(experiment: Experiment, order: RunPlan) -> Table:
    """The table that an experiment asks for. Raises ValueError on a budget that it does not know, or fewer than one seed."""
    if experiment.minutes and order.budget not in experiment.minutes:
        raise ValueError(f"{experiment.name} has no budget {order.budget!r}; expected one of {', '.join(experiment.minutes)}")
    if order.seeds < 1:
        raise ValueError(f"{order.seeds} seeds were asked for; expected at least 1, and 3 for a verdict")
    request = EvaluationSettings(experiment.panels, experiment.samples, experiment.importance, experiment.outliers)
    runs = order.workspace / "runs"
    seeds = range(order.seeds)
    entries = [_entry(experiment, contender, seed, order, runs, request) for seed in seeds for contender in experiment.contenders]
    question = {"experiment": experiment.name, **{k: getattr(order, k) for k in ("budget", "limit", "minutes", "steps")}}
    question |= {} if order.columns is None else {"columns": order.columns}
    facts: dict[str, Any] = {
        "kind": "reproduce" if experiment.verdict else "sweep",
        "command": order.command,
        "claim": experiment.claim,
        "published": [Published(**asdict(p)) for p in experiment.published],
        "budget": order.budget,
        "seeds": list(range(order.seeds)),
        "headline": list(experiment.headline),
    }
    if experiment.verdict is None:
        facts["sweep"] = list(dict.fromkeys(name for c in experiment.contenders for name in c.settings))
    title = f"{experiment.title}, on {experiment.data}"
    place = runs / f"{BASELINES}-{digest([experiment.data, *order.rows, asdict(request), versions()['genalloy']])}"
    name = experiment.name if order.budget == "quick" else f"{experiment.name}-{order.budget}"
    return Table(title, order.workspace / name, tuple(entries), place, question, facts, order.jobs)


def _entry(
    experiment: Experiment, contender: Method, seed: int, order: RunPlan, runs: Path, request: EvaluationSettings
) -> TableRun:
    steps = order.steps or contender.steps.get(order.budget)
    settings = RunSettings(
        contender.recipe, experiment.data, None, order.limit, dict(contender.settings), None if order.minutes else steps,
        order.minutes, seed, device="cpu", split=0, columns=order.columns,
    )  # fmt: skip
    # the seed and the data stand in the name for people, the hash for everything else that the run depends on
    identity = digest([asdict(settings), versions()["genalloy"]])
    folder = runs / f"{contender.recipe}-{Path(experiment.data).stem}-{seed}-{identity}"
    return TableRun(contender, settings, folder, request)


SHOWN = 16


def write_sheet(table: Table, record: Comparison, file: Path) -> dict[str, str]:
    """A picture with a row of real data and a row of each contender's samples (first seed): {file name: what the rows are}.

    Nothing is written for data that are no pictures.
    """
    from genalloy.report import pictures
    from genalloy.report.renderers import read_arrays

    shape = tuple(record.data.shape)
    rows = {"real": read_arrays(table.folder / "reference.npz")[0].get("data")}
    for row in record.of_kind("model"):
        if row.folder:
            rows[row.recipe] = read_arrays(table.folder / row.folder / "pictures.npz")[0].get("samples")
    known = {name: x[:SHOWN].reshape(-1, *shape) for name, x in rows.items() if x is not None and len(x) >= SHOWN}
    if record.data.kind != "image" or "real" not in known:
        return {}
    sheet = pictures.grid(np.stack(list(known.values())), pictures.span_of(known["real"]), lead=1)
    write_bytes(file, sheet)
    return {file.name: f"Rows from above: {', '.join(known)}"}


# -- what a verdict reads ------------------------------------------------------------------------------------------


def results_of(record: Comparison) -> Results:
    """Every number of the record by row and column; a panel's further numbers under their own names.

    A baseline and a reference row may share a name (a Gaussian has a density, its draws have a distance): they are joined.
    """
    numbers: dict[str, dict[str, Number]] = {}
    for row in record.rows:
        known = numbers.setdefault(row.recipe, {})
        for panel in (*row.panels.values(), row.cells):
            known |= {name: number for name, number in panel.items() if number.known}
    runs = {row.recipe: tuple(row.runs) for row in record.of_kind("model")}
    return Results(numbers, {column.id: column.sign for column in record.columns}, runs)


def kept(record: Comparison) -> dict[str, Any]:
    """The record without curves and compositions, which belong to the runs: what `results/` keeps."""
    rows = [replace(row, curves={}, composition="", folder=None, runs=[]) for row in record.rows]
    return {"format": FORMAT, **plain(replace(record, rows=rows))}


# -- sweeps --------------------------------------------------------------------------------------------------------


def sweep_of(recipe: str, data: str, over: Sequence[str], panels: tuple[str, ...], read: Any) -> Experiment:
    """An experiment without a claim: every combination of the values given as NAME=A,B,C.

    read: (recipe, name, text) -> value, as `--set` reads it. Raises ValueError on a malformed or unknown setting.
    """
    axes: dict[str, list[Any]] = {}
    for text in over:
        name, equals, values = text.partition("=")
        if not equals or not values:
            raise ValueError(f"--over {text!r} is not NAME=A,B,C; NAME is one of {', '.join(find(recipe).settings())}")
        if name in axes:
            raise ValueError(f"--over {name} was given twice; put all its values into one: {name}=A,B,C")
        axes[name] = [read(recipe, name, value) for value in listed(f"--over {name}", values)]
    contenders = []
    for chosen in product(*axes.values()):
        settings = dict(zip(axes, chosen, strict=True))
        label = ", ".join(f"{name}={value}" for name, value in settings.items())
        contenders.append(Method(label, recipe, {}, settings))
    name, title = f"{recipe}-{Path(data).stem}-" + "-".join(axes), f"{recipe} over {' and '.join(axes)}"
    headline = ("density", "kernel_distance")
    return Experiment(name, find(recipe).family, title, "", data, tuple(contenders), panels, headline, None, {})
