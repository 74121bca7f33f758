"""Which charts a page draws: trade-offs, seeds as dots, headline numbers against a swept setting."""

from __future__ import annotations

from genalloy.core.schema import Column, Comparison, Row
from genalloy.report import charts, scatter, summary
from genalloy.report.table import NEUTRAL, family_slot
from genalloy.report.table_cells import bounded


def slot_of(row: Row) -> int:
    """The colour of a row: its family's, grey for what learns nothing."""
    return family_slot(row.family) if row.kind == "model" else NEUTRAL


def _axis(column: Column) -> scatter.Axis:
    return scatter.Axis(charts.axis_title(column), column.sign or -1.0)


def _point(row: Row, x: Column, y: Column) -> scatter.Point:
    a, b = row.cell(x), row.cell(y)
    note = f"{x.name} {summary.quote(row, x)}, {y.name} {summary.quote(row, y)}"
    muted, open_ = row.kind != "model", not (bounded(a) and bounded(b))
    spans = (None, None) if muted else (a.span, b.span)
    return scatter.Point(row.recipe, a.value, b.value, slot_of(row), muted, open_, note, spans)


def trade_off(comparison: Comparison, x: Column | None, y: Column | None, uid: str) -> str:
    """A scatter of two columns; empty where fewer than two rows have both."""
    if x is None or y is None or x is y:
        return ""
    both = [row for row in comparison.rows if row.cell(x).known and row.cell(y).known]
    only = [row for row in comparison.of_kind("reference") if row not in both and row.cell(y).known]
    levels = [(row.recipe, row.cell(y).value) for row in only]
    return scatter.scatter([_point(row, x, y) for row in both], levels, _axis(x), _axis(y), uid)


def trade_offs(comparison: Comparison) -> list[str]:
    density, distance = summary.density_column(comparison), summary.distance_column(comparison)
    speed = summary.sampling_column(comparison) or summary.training_column(comparison)
    drawn = [
        trade_off(comparison, density, distance, "trade-1"),
        trade_off(comparison, speed, distance or density, "trade-2"),
    ]
    return [chart for chart in drawn if chart]


def seed_plots(comparison: Comparison) -> list[str]:
    """A dot plot for each main column, where there is more than one seed or something published to stand beside."""
    drawn = []
    for i, column in enumerate(summary.main_columns(comparison)):
        rows = [row for row in comparison.rows if not row.error]
        beside = [p for p in comparison.published if charts.belongs(p, column)]
        if beside or any(len(row.cell(column).dots) > 1 for row in rows):
            strands = charts.strands_of(rows, column, beside, [slot_of(row) for row in rows])
            drawn.append(charts.dot_plot(strands, f"{column.name}, a dot a seed", charts.axis_title(column), f"dots-{i + 1}"))
    return [chart for chart in drawn if chart]


def sweep_plots(comparison: Comparison) -> list[str]:
    """Each main column, and training time, against each swept setting that takes several values."""
    extra = summary.training_column(comparison)
    columns = [*summary.main_columns(comparison), *([extra] if extra else [])]
    drawn = []
    for setting in comparison.sweep:
        if len({str(row.settings.get(setting)) for row in comparison.finished}) > 1:
            names = [f"sweep-{setting}-{i + 1}" for i in range(len(columns))]
            drawn += [charts.sweep_chart(comparison.finished, c, setting, name) for c, name in zip(columns, names, strict=True)]
    return [chart for chart in drawn if chart]
