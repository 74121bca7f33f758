"""One self-contained HTML page from a comparison's directory: no network, everything inline, readable without
scripts.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from genalloy.report import charts, lenses, summary
from genalloy.report.cells import BADGES, DEFAULT_LABELS, Shown, mark_of, ranks, show
from genalloy.report.comparison import Column, Comparison, Row, read_comparison
from genalloy.report.lenses import Arrays, Lens, Picture

FAMILIES = ("autoregressive", "latent", "flow", "energy", "diffusion", "adversarial", "combination")
ALIASES = {"implicit": 5, "gan": 5, "score": 4, "alloy": 6, "hybrid": 6}
GROUPS = {
    "density": "Density",
    "generation": "Samples",
    "representation": "Codes",
    "outliers": "Outliers",
    "cost": "Cost",
}
NEUTRAL = 7


def family_slot(family: str) -> int:
    """The colour and marker of a family; what is unknown shares the neutral one."""
    word = family.lower().replace("_", "-")
    known = {**{name: i for i, name in enumerate(FAMILIES)}, **ALIASES}
    return next((slot for name, slot in known.items() if word.startswith(name)), NEUTRAL)


# --- the table


@dataclass(frozen=True)
class Line:
    """A row of the table with its shown cells, in the columns' order."""

    row: Row
    slot: int
    anchor: str
    cells: list[tuple[Column, Shown]]


@dataclass(frozen=True)
class Block:
    """Rows under one heading: a family of models, the baselines, the floors."""

    title: str
    slot: int
    lines: list[Line]
    muted: bool = False


def anchor(index: int) -> str:
    return f"model-{index + 1}"


def blocks(comparison: Comparison) -> list[Block]:
    """Families in their order of appearance, then baselines, then floors and whatever else there is."""
    lines = list(_lines(comparison))
    families = dict.fromkeys(line.row.family for line in lines if line.row.kind == "model")
    found = [
        Block(f, family_slot(f), [x for x in lines if x.row.kind == "model" and x.row.family == f])
        for f in families
    ]
    named = (("Baselines", "baseline"), ("Floors: what real data itself scores", "floor"))
    found += [
        Block(title, NEUTRAL, [x for x in lines if x.row.kind == kind], muted=True) for title, kind in named
    ]
    other = [x for x in lines if x.row.kind not in ("model", "baseline", "floor")]
    return [block for block in [*found, Block("Other", NEUTRAL, other, muted=True)] if block.lines]


def _lines(comparison: Comparison) -> Iterator[Line]:
    """Rows with their cells shown, ranked and marked among the models."""
    shown = _shown_columns(comparison)
    order = {c.id: ranks(comparison.of_kind("model"), c) for c in shown}
    for i, row in enumerate(comparison.rows):
        marks = {c.id: mark_of(row, comparison.finished, c) for c in shown if not row.error}
        cells = [(c, show(row.cell(c), c, order[c.id].get(id(row), ""), marks.get(c.id, ""))) for c in shown]
        yield Line(row, family_slot(row.family), anchor(i), cells)


def _shown_columns(comparison: Comparison) -> list[Column]:
    """Columns with their groups kept together, in the groups' first order."""
    order = list(dict.fromkeys(c.group for c in comparison.columns))
    return sorted(comparison.columns, key=lambda c: order.index(c.group))


def column_groups(comparison: Comparison) -> list[tuple[str, int]]:
    """(title, number of columns) for the first header row."""
    groups = [c.group for c in comparison.columns]
    return [(GROUPS.get(g, g.capitalize() or "Other"), groups.count(g)) for g in dict.fromkeys(groups)]


# --- the trade-off charts


def _axis(column: Column) -> charts.Axis:
    better = {1.0: "higher is better", -1.0: "lower is better"}.get(column.sign, "")
    unit = f" ({column.unit})" if column.unit not in ("", column.title) else ""
    return charts.Axis(
        f"{column.title or column.id}{unit}" + (f" \u00b7 {better}" if better else ""), column.sign or -1.0
    )


def _point(row: Row, x: Column, y: Column) -> charts.Point:
    a, b = row.cell(x), row.cell(y)
    note = f"{x.title} {summary.quote(row, x)}, {y.title} {summary.quote(row, y)}"
    muted, open_ = row.kind != "model", not (a.certified and b.certified)
    return charts.Point(
        row.recipe,
        a.value or 0.0,
        b.value or 0.0,
        NEUTRAL if muted else family_slot(row.family),
        muted,
        open_,
        note,
    )


def trade_off(comparison: Comparison, x: Column | None, y: Column | None, uid: str) -> str:
    """A scatter of two columns; empty where fewer than two rows have both."""
    if x is None or y is None or x is y:
        return ""
    both = [row for row in comparison.rows if row.cell(x).value is not None and row.cell(y).value is not None]
    only = [row for row in comparison.of_kind("floor") if row not in both and row.cell(y).value is not None]
    floors = [(row.recipe, row.cell(y).value or 0.0) for row in only]
    return charts.scatter([_point(row, x, y) for row in both], floors, _axis(x), _axis(y), uid)


def trade_offs(comparison: Comparison) -> list[str]:
    density, distance = summary.density_column(comparison), summary.distance_column(comparison)
    speed = summary.sampling_column(comparison) or summary.training_column(comparison)
    drawn = [
        trade_off(comparison, density, distance, "trade-1"),
        trade_off(comparison, speed, distance or density, "trade-2"),
    ]
    return [chart for chart in drawn if chart]


# --- the cards


@dataclass(frozen=True)
class Strip:
    """Pictures under one heading of a card."""

    title: str
    pictures: list[Picture]


@dataclass(frozen=True)
class Card:
    """Everything that is shown of one run."""

    line: Line
    strips: list[Strip] = field(default_factory=list)
    curve: str = ""
    facts: list[tuple[Column, Shown]] = field(default_factory=list)
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


def strips(arrays: Arrays, lens: Lens, who: str) -> Iterator[Strip]:
    """The headings of a card that have pictures. An array of an unforeseen shape costs its own strip, not
    the page.
    """
    wanted = (
        ("Samples", lambda: lens.samples(arrays["samples"], f"Samples of {who}") + lens.density(arrays, who)),
        (
            "Reconstructions",
            lambda: lens.reconstructions(arrays["reconstructions"], f"Reconstructions of {who}"),
        ),
        ("Nearest training data", lambda: lens.neighbours(arrays["neighbours"], f"Neighbours of {who}")),
    )
    for title, draw in wanted:
        try:
            drawn = draw()
        except (KeyError, ValueError, IndexError):
            continue
        if drawn:
            yield Strip(title, drawn)


def card(line: Line, directory: Path, lens: Lens | None, comparison: Comparison) -> Card:
    """A run's pictures, curve, numbers and command."""
    row = line.row
    arrays, problem = run_arrays(directory, row)
    curve = charts.line_chart(row.curves, f"Loss of {row.recipe}", f"curve-{line.anchor}")
    told = [(c, s) for c, s in line.cells if s.main and c.group in ("density", "generation")]
    drawn = list(strips(arrays, lens, row.recipe)) if lens else []
    return Card(
        line,
        drawn,
        curve,
        told,
        command_for(row, comparison),
        "" if drawn else problem or "no pictures were saved for this run",
    )


def run_arrays(directory: Path, row: Row) -> tuple[Arrays, str]:
    """The pictures of a run; a folder outside the directory is not opened."""
    if not row.folder:
        return {}, "this row has no run folder"
    path = (directory / row.folder / "pictures.npz").resolve()
    if not path.is_relative_to(directory.resolve()):
        return {}, "the run's folder lies outside this directory"
    return lenses.read_arrays(path)


def find_lens(directory: Path, comparison: Comparison, reference: Arrays) -> Lens | None:
    """The lens of the real data, or of the first run that has samples."""
    runs = (run_arrays(directory, row)[0].get("samples") for row in comparison.rows)
    fallback = None if "data" in reference else next((x for x in runs if x is not None), None)
    return lenses.lens_for(tuple(comparison.data.shape), reference, fallback)


def real_data(lens: Lens | None, reference: Arrays) -> list[Picture]:
    """The pictures of the real data, the yardstick for all others."""
    if lens is None or "data" not in reference:
        return []
    return lens.samples(reference["data"], "Real data") + lens.density(reference, "The exact density")


# --- the page


def context(directory: Path) -> dict[str, Any]:
    """All that the template reads."""
    comparison = read_comparison(directory)
    reference, _ = lenses.read_arrays(directory / "reference.npz")
    lens = find_lens(directory, comparison, reference)
    table = blocks(comparison)
    cards = [
        card(line, directory, lens, comparison) for block in table for line in block.lines if _has_card(line)
    ]
    return {
        "it": comparison,
        "overview": summary.overview(comparison),
        "verdict": summary.density_words(comparison) + summary.quality_words(comparison),
        "tiles": [(tile, family_slot(tile.row.family)) for tile in summary.tiles(comparison)],
        "blocks": table,
        "columns": _shown_columns(comparison),
        "groups": column_groups(comparison),
        "charts": trade_offs(comparison),
        "legend": [(b.title, charts.marker(8, 8, b.slot), b.slot) for b in table if not b.muted],
        "real": real_data(lens, reference),
        "cards": cards,
        "labels": labels(comparison),
        "badges": BADGES,
        "number": charts.number,
    }


def _has_card(line: Line) -> bool:
    return line.row.kind == "model" or bool(line.row.folder)


def labels(comparison: Comparison) -> Mapping[str, str]:
    """The explanations that came with the numbers, or the built-in ones."""
    return comparison.labels or DEFAULT_LABELS


def render(values: Mapping[str, Any]) -> str:
    """The template with its style and script inlined; every value is escaped, charts are safe by
    construction.
    """
    import jinja2
    from markupsafe import Markup

    home = resources.files("genalloy.report")
    page, style, script = (
        home.joinpath(f"page.{end}").read_text(encoding="utf-8") for end in ("html.j2", "css", "js")
    )
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["svg"] = Markup
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    return environment.from_string(page).render(
        **values, style=Markup(style), script=Markup(script), script_hash=digest
    )


def write_atomically(path: Path, text: str) -> None:
    """A reader sees the old page or the new one, never half of one."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".report-", suffix=".html")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_page(directory: Path) -> Path:
    """Write `directory/report.html` from comparison.json, reference.npz and the runs' pictures.npz.

    Returns the page's path. A density grid (G, G) has its rows along y, from the bottom, its extent is
    (x low, x high, y low, y high). Missing or damaged pictures are said on the page. Raises ValueError where
    comparison.json is missing, damaged or of another format.
    """
    directory = Path(directory)
    path = directory / "report.html"
    write_atomically(path, render(context(directory)))
    return path
