"""Which charts a page draws: trade-offs, seeds as dots, headline numbers against a swept setting."""

from __future__ import annotations

from genalloy.core.schema import Comparison
from genalloy.report import charts, summary
from genalloy.report.scatter import scatter


def trade_offs(comparison: Comparison) -> list[str]:
    """Density against sample quality, and speed against one of the two."""
    density, distance = summary.density_column(comparison), summary.distance_column(comparison)
    speed = summary.sampling_column(comparison) or summary.training_column(comparison)
    pairs = (("trade-1", density, distance), ("trade-2", speed, distance or density))
    drawn = [scatter(comparison.rows, x, y, uid) for uid, x, y in pairs if x is not None and y is not None and x is not y]
    return [chart for chart in drawn if chart]


def seed_plots(comparison: Comparison) -> list[str]:
    """A dot plot for each main column, where there is more than one seed or something published to stand beside."""
    rows, drawn = [row for row in comparison.rows if not row.error], []
    for i, column in enumerate(summary.main_columns(comparison)):
        published = any(charts.belongs(p, column) for p in comparison.published)
        if published or any(len(row.cell(column).dots) > 1 for row in rows):
            drawn.append(charts.seed_dots(rows, column, comparison.published, f"dots-{i + 1}"))
    return [chart for chart in drawn if chart]


def sweep_plots(comparison: Comparison) -> list[str]:
    """Each main column, and training time, against each swept setting that takes several values."""
    rows, extra = comparison.finished, summary.training_column(comparison)
    columns = [*summary.main_columns(comparison), *([extra] if extra else [])]
    several = [name for name in comparison.sweep if len({str(row.settings.get(name)) for row in rows}) > 1]
    pairs = [(column, name) for name in several for column in columns]
    drawn = [charts.sweep_chart(rows, column, name, f"sweep-{i + 1}") for i, (column, name) in enumerate(pairs)]
    return [chart for chart in drawn if chart]
