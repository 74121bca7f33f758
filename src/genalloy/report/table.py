"""The table of the page: rows in blocks, columns in groups, and a colour for each family."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from genalloy.core.schema import Column, Comparison, Row
from genalloy.report.table_cells import Shown, mark_of, ranks, show

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


def slot_of(row: Row) -> int:
    """The colour and marker of a row: its family's, grey for what learns nothing."""
    return family_slot(row.family) if row.kind == "model" else NEUTRAL


@dataclass(frozen=True)
class Line:
    """A row of the table with its shown cells, in the columns' order."""

    row: Row
    slot: int
    anchor: str
    cells: list[tuple[Column, Shown]]


@dataclass(frozen=True)
class Block:
    """Rows under one heading: a family of models, the baselines, the reference rows."""

    title: str
    slot: int
    lines: list[Line]
    muted: bool = False


def anchor(index: int) -> str:
    return f"model-{index + 1}"


def blocks(comparison: Comparison) -> list[Block]:
    """Families in their order of appearance, then baselines, then reference rows and whatever else there is."""
    lines = list(_lines(comparison))
    families = dict.fromkeys(line.row.family for line in lines if line.row.kind == "model")
    groups = [Block(f, family_slot(f), [x for x in lines if x.row.kind == "model" and x.row.family == f]) for f in families]
    named = (("Baselines", "baseline"), ("Reference rows: what real data itself scores", "reference"))
    groups += [Block(title, NEUTRAL, [x for x in lines if x.row.kind == kind], muted=True) for title, kind in named]
    other = [x for x in lines if x.row.kind not in ("model", "baseline", "reference")]
    return [block for block in [*groups, Block("Other", NEUTRAL, other, muted=True)] if block.lines]


def _lines(comparison: Comparison) -> Iterator[Line]:
    """Rows with their cells shown, ranked and marked among the models."""
    shown = shown_columns(comparison)
    models = [i for i, row in enumerate(comparison.rows) if row.kind == "model"]
    order = {c.id: dict(zip(models, ranks(comparison.of_kind("model"), c), strict=True)) for c in shown}
    for i, row in enumerate(comparison.rows):
        marks = {c.id: mark_of(row, comparison.finished, c) for c in shown if not row.error}
        cells = [(c, show(row.cell(c), c, order[c.id].get(i, ""), marks.get(c.id, ""))) for c in shown]
        yield Line(row, family_slot(row.family), anchor(i), cells)


def shown_columns(comparison: Comparison) -> list[Column]:
    """Columns with their groups kept together, in the groups' first order; those that no row was asked for are left out."""
    order = list(dict.fromkeys(c.group for c in comparison.columns))
    measured = [c for c in comparison.columns if any(row.cell(c).missing != row.absence for row in comparison.rows)]
    return sorted(measured or comparison.columns, key=lambda c: order.index(c.group))


def column_groups(comparison: Comparison) -> list[tuple[str, int]]:
    """(title, number of columns) for the first header row."""
    groups = [c.group for c in shown_columns(comparison)]
    return [(GROUPS.get(g, g.capitalize() or "Other"), groups.count(g)) for g in dict.fromkeys(groups)]
