"""A card of the page: everything that is shown of one row."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from genalloy.core.schema import Column, Comparison, Number, Row
from genalloy.report import charts, renderers
from genalloy.report.numbers import number
from genalloy.report.renderers import Arrays, Drawn, Renderer
from genalloy.report.sequences import STYLES, SequenceRenderer
from genalloy.report.table import GROUPS, Line
from genalloy.report.table_cells import Shown, show

FACTS = 6


@dataclass(frozen=True)
class PictureStrip:
    """Pictures under one heading of a card."""

    title: str
    pictures: Sequence[Drawn]


@dataclass(frozen=True)
class Figure:
    """One number of a panel: its name, itself, its interval, its values by seed."""

    name: str
    shown: Shown
    interval: str = ""
    seeds: str = ""


@dataclass(frozen=True)
class ModelSection:
    """Everything that is shown of one run."""

    line: Line
    strips: list[PictureStrip] = field(default_factory=list)
    curve: str = ""
    facts: list[tuple[Column, Shown]] = field(default_factory=list)
    panels: list[tuple[str, list[Figure]]] = field(default_factory=list)
    command: str = ""
    problem: str = ""


def command_for(row: Row, comparison: Comparison) -> str:
    """The command that repeats one run."""
    if row.command or row.kind != "model":
        return row.command
    words = ["genalloy", "fit", row.recipe, comparison.data.name]
    words += ["--steps", str(row.steps)] if row.steps else []
    words += ["--seed", str(row.seed)] if row.seed is not None else []
    return shlex.join(words)


def strips(arrays: Arrays, lens: Renderer, who: str) -> Iterator[PictureStrip]:
    """The headings of a card that have pictures. An array of an unforeseen shape costs its own strip, not
    the page.
    """
    paths = "Each row goes from the code of one test row (left) to another\u2019s (right)."
    moved = "Each row moves one coordinate of one code from low to high, the rest kept."
    colder = "Rows from above: temperature 0.5, 0.7, 0.8, 0.9, 1, which multiplies the base's variance; a column is one draw."
    wanted: tuple[tuple[str, Callable[[], Sequence[Drawn]]], ...] = (
        ("Samples", lambda: [*lens.samples(arrays["samples"], f"Samples of {who}"), *lens.density(arrays, who)]),
        ("Reconstructions", lambda: lens.reconstructions(arrays["reconstructions"], f"Reconstructions of {who}")),
        ("Interpolations", lambda: lens.walks(arrays["interpolations"], f"Interpolations of {who}", paths)),
        ("Traversals", lambda: lens.walks(arrays["traversals"], f"Traversals of {who}", moved)),
        ("Temperatures", lambda: lens.walks(arrays["temperatures"], f"Samples of {who} by temperature", colder)),
        ("Nearest training data", lambda: lens.neighbours(arrays["neighbours"], f"Neighbours of {who}")),
    )
    for title, draw in wanted:
        try:
            drawn = draw()
        except (KeyError, ValueError, IndexError):
            continue
        if drawn:
            yield PictureStrip(title, drawn)


def model_section(line: Line, directory: Path, lens: Renderer | None, comparison: Comparison) -> ModelSection:
    """A run's pictures, curve, numbers and command."""
    row = line.row
    arrays, problem = run_arrays(directory, row)
    curve = charts.line_chart(row.curves, f"Loss of {row.recipe}", f"curve-{line.anchor}")
    facts = [(c, s) for c, s in line.cells if s.main and (c.group in ("density", "generation") or c.id in comparison.headline)]
    drawn = list(strips(arrays, lens, row.recipe)) if lens else []
    lost = "" if drawn else problem or "no pictures were saved for this run"
    return ModelSection(line, drawn, curve, facts[:FACTS], panels(line), command_for(row, comparison), lost)


def panels(line: Line) -> list[tuple[str, list[Figure]]]:
    """All numbers of a row under the headings of its panels; columns that no panel holds under their group's."""
    columns, known = {c.id: c for c, _ in line.cells}, {id for panel in line.row.panels.values() for id in panel}
    tables: dict[str, list[Figure]] = {}
    for title, panel in line.row.panels.items():
        tables[title] = [_figure(cell, columns.get(id, _further(id, cell))) for id, cell in panel.items()]
    for column, shown in line.cells:
        if column.id not in known and not shown.absent and column.id in line.row.cells:
            tables.setdefault(GROUPS.get(column.group, "Further"), []).append(_figure(line.row.cell(column), column))
    return list(tables.items())


def _further(id: str, cell: Number) -> Column:
    """A column for a number that the table has none for."""
    better = "low" if cell.unit.startswith("bits") else "high"
    return Column(id, id.replace("_", " "), "density" if cell.kind else "", better, cell.unit)


def _figure(cell: Number, column: Column) -> Figure:
    span = cell.span if cell.stderr or cell.low is not None else None
    interval = f"{number(span[0], 4)} to {number(span[1], 4)}" if span else ""
    by_seed = ", ".join("n/a" if value is None else number(value, 4) for value in cell.seeds)
    return Figure(column.name, show(cell, column), interval, by_seed)


def run_arrays(directory: Path, row: Row) -> tuple[Arrays, str]:
    """The pictures of a run; a folder outside the directory is not opened."""
    if not row.folder:
        return {}, "this row has no run folder"
    path = (directory / row.folder / "pictures.npz").resolve()
    if not path.is_relative_to(directory.resolve()):
        return {}, "the run's folder lies outside this directory"
    return renderers.read_arrays(path)


def find_lens(directory: Path, comparison: Comparison, reference: Arrays) -> Renderer | None:
    """The lens of the real data, or of the first run that has samples."""
    runs = (run_arrays(directory, row)[0].get("samples") for row in comparison.rows)
    fallback = None if "data" in reference else next((x for x in runs if x is not None), None)
    data = comparison.data
    if data.style in STYLES:
        return SequenceRenderer(data.style, data.rate)
    return renderers.renderer_for(tuple(data.shape), reference, fallback, data.alphabet if data.kind == "text" else ())


def real_data(lens: Renderer | None, reference: Arrays) -> Sequence[Drawn]:
    """The pictures of the real data, the yardstick for all others."""
    if lens is None or "data" not in reference:
        return []
    return [*lens.samples(reference["data"], "Real data"), *lens.density(reference, "The exact density")]
