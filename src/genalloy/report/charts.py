"""Loss curves, seeds as dots, a metric against a swept setting."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from genalloy.core.schema import Column, Number, Published, Row
from genalloy.report.figures import CARD, FAMILY, INK, SHAPES, SLOTS, SOFT, chart, fit, kept, key
from genalloy.report.numbers import number
from genalloy.report.table import slot_of
from genalloy.report.table_cells import relation, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STROKES: tuple[dict[str, Any], ...] = (
    {"lw": 1.2, "alpha": 0.55},
    {"lw": 2.2},
    {"lw": 1.4, "dashes": (5, 3)},
    {"lw": 1.4, "dashes": (1, 2)},
)
Curve = Sequence[tuple[float, float]]
Line = list[tuple[Any, Number]]
"""(setting, number) of one line of a sweep's chart."""

# --- loss curves


def thin(points: Curve, most: int = 300) -> Curve:
    """At most `most` points, evenly taken, the first and the last among them."""
    return [points[i] for i in np.linspace(0, len(points) - 1, min(len(points), most)).astype(int)]


def robust_range(values: Sequence[float]) -> tuple[float, float]:
    """The range without the highest and lowest 2 %, so that the first steps do not flatten the rest."""
    return float(np.percentile(values, 2, method="lower")), float(np.percentile(values, 98, method="higher"))


def line_chart(curves: Mapping[str, Curve], title: str, uid: str) -> str:
    """Loss against step, one line a curve, broken at what is not finite; empty where no curve has two finite points."""
    drawn = {name: thin(points) for name, points in curves.items()}
    drawn = {name: points for name, points in drawn.items() if sum(math.isfinite(v) for _, v in points) >= 2}
    last = ", ".join(f"{name} ends at {number(points[-1][1])}" for name, points in drawn.items())
    words = title, f"Loss by training step; {last}."
    return chart(partial(_curves, drawn), (460, 216), uid, words) if drawn else ""


def _curves(curves: Mapping[str, Curve], axes: Axes) -> None:
    points = [point for curve in curves.values() for point in curve]
    fit(axes.xaxis, [step for step, _ in points], math.inf, 0.0)
    fit(axes.yaxis, robust_range([value for _, value in points if math.isfinite(value)]))
    axes.set(title="loss", xlabel="step")
    strokes = zip(curves.values(), cycle(STROKES), strict=False)
    lines = [axes.plot(*np.transpose(curve), color=FAMILY, gid="curve", **stroke)[0] for curve, stroke in strokes]
    key(axes, lines, [name[:12] for name in curves], loc="lower right", bbox_to_anchor=(1, 1), ncols=len(curves))


# --- seeds as dots


def extent(cell: Number) -> list[float]:
    """Everything that is drawn of a number: itself, its seeds, its interval."""
    return [cell.value, *cell.dots, *(cell.span or ())]


def sign_of(cell: Number, column: Column) -> str:
    """The relation of a density to the truth."""
    return relation(cell.kind, column.sign) if column.group == "density" else ""


def label_of(row: Row, column: Column) -> str:
    """'= 2.171 ± 0.0071'."""
    cell = row.cell(column)
    error = f"\u00b1 {number(cell.stderr, 2)}" if cell.stderr else ""
    published = "published" if row.kind == "published" else ""
    return " ".join(part for part in (sign_of(cell, column), number(cell.value, 4), error, published) if part)


def seed_dots(rows: Sequence[Row], column: Column, published: Sequence[Published], uid: str, alone: bool = False) -> str:
    """One line a contender: dots are seeds, the bar across is their mean, the band its interval, an arrow the side on which
    the truth of a bound lies, a hollow diamond a published number. What would push the rest into a corner is named instead.

    Published numbers are drawn where they name the column, or are in its unit where the column is a density. `alone`: for a
    file of its own. Empty without a trained row.
    """
    known = [row for row in rows if row.cell(column).known]
    core = [value for row in known if row.kind == "model" for value in extent(row.cell(column))]
    if not core:
        return ""
    beside = [(p.name, p.value) for p in published if p.value is not None and belongs(p, column)]
    known += [Row(name, kind="published", cells={column.id: Number(value)}) for name, value in beside]
    drawn = kept(core, [row.cell(column).value for row in known])
    near, away = ([row for row, here in zip(known, drawn, strict=True) if here is side] for side in (True, False))
    said = "; ".join(f"{row.recipe} {label_of(row, column)}{', another set-up' * (row.kind == 'published')}" for row in known)
    named = [f"{row.recipe} ({label_of(row, column)})" for row in away]
    words = f"{column.name}, a dot a seed", f"{said}."
    return chart(partial(_dots, near, column), (640, 56 + 30 * len(near)), uid, words, named, alone)


def _dots(rows: Sequence[Row], column: Column, axes: Axes) -> None:
    fit(axes.xaxis, [value for row in rows for value in extent(row.cell(column))])
    axes.set(title=axis_title(column), ylim=(len(rows) - 0.4, -0.6), yticks=range(len(rows)))
    axes.grid(visible=False, axis="y")
    axes.set_yticklabels([shorten(row.recipe, 25) for row in rows])
    for y, (row, name) in enumerate(zip(rows, axes.get_yticklabels(), strict=True)):
        tone, words = INK if row.kind == "model" else SOFT, label_of(row, column)
        name.set_color(tone)
        axes.text(1.02, y, words, color=tone, va="center_baseline", transform=axes.get_yaxis_transform())
        if row.kind == "published":
            axes.plot(row.cell(column).value, y, "D", color=CARD, mec=SOFT, mew=1.5, ms=8, gid=f"else|{row.recipe}: {words}")
        else:
            _seeds(row.cell(column), sign_of(row.cell(column), column), y, SLOTS[slot_of(row)], f"{row.recipe}: {words}", axes)


def _seeds(cell: Number, sign: str, y: float, colour: str, words: str, axes: Axes) -> None:
    if cell.span is not None:
        axes.plot(cell.span, (y, y), color=colour, lw=5, alpha=0.3, solid_capstyle="round", gid="bar")
    axes.plot(cell.value, y, "|", color=colour, mew=2, ms=16, gid=f"mean|{words}")
    # dots of equal value would hide each other
    heights = [y + 0.11 * (i % 3 - 1) for i in range(len(cell.dots))]
    axes.plot(cell.dots, heights, "o", color=colour, mec=CARD, mew=0.8, ms=7, gid=f"seed|{words}")
    if sign in ("\u2265", "\u2264"):
        tip = 17 if sign == "\u2265" else -17
        arrow = {"arrowstyle": "<-", "color": colour, "shrinkA": 0, "shrinkB": 0, "gid": "toward"}
        axes.annotate("", (cell.value, y - 0.27), (tip, 0), textcoords="offset points", arrowprops=arrow)


def belongs(p: Published, column: Column) -> bool:
    """Whether a published number can stand on a column's axis: it names the column, or shares a density's unit."""
    if p.column or column.group != "density":
        return p.column == column.id
    return p.unit == column.unit != ""


def axis_title(column: Column) -> str:
    """'bits per dimension (bits/dim) · lower is better'."""
    better = {1.0: "higher is better", -1.0: "lower is better"}.get(column.sign, "")
    unit = f" ({column.unit})" if column.unit not in ("", column.title) else ""
    return f"{column.name}{unit}" + (f" \u00b7 {better}" if better else "")


# --- a metric against a setting


def lines_of(rows: Sequence[Row], column: Column, setting: str) -> dict[str, Line]:
    """A line for each combination of the other settings; rows without the setting or without a number are left out."""
    lines: dict[str, Line] = {}
    for row in rows:
        if setting in row.settings and row.cell(column).known:
            others = ", ".join(f"{k} = {v}" for k, v in row.settings.items() if k != setting)
            lines.setdefault(others or "default", []).append((row.settings[setting], row.cell(column)))
    return lines


def places(values: Sequence[Any]) -> tuple[dict[Any, float], list[str]]:
    """Where each setting lies on the axis, with its labels: numbers to scale where they differ, other values evenly."""
    unique = list(dict.fromkeys(values))
    if len(unique) > 1 and all(type(v) in (int, float) and math.isfinite(v) for v in unique):
        return {v: float(v) for v in sorted(unique)}, [number(float(v)) for v in sorted(unique)]
    return {v: float(i) for i, v in enumerate(unique)}, [str(v)[:18] for v in unique]


def sweep_chart(rows: Sequence[Row], column: Column, setting: str, uid: str) -> str:
    """A column against a setting: means joined by a line, seeds as dots, intervals as bars. Empty below two points."""
    lines = lines_of(rows, column, setting)
    points = [point for line in lines.values() for point in line]
    said = "; ".join(f"{setting} {value}: {number(cell.value)}" for value, cell in points)
    words, size = (f"{column.name} against {setting}", f"{said}."), (460, 270 + 16 * (len(lines) > 1) * len(lines))
    return chart(partial(_sweep, lines, column, setting), size, uid, words) if len(points) > 1 else ""


def _sweep(lines: Mapping[str, Line], column: Column, setting: str, axes: Axes) -> None:
    points = [point for line in lines.values() for point in line]
    spots, labels = places([value for value, _ in points])
    # settings are usually multiplied, so a factor of 8 is already better seen on a logarithm
    fit(axes.xaxis, list(spots.values()), 7.99)
    fit(axes.yaxis, [value for _, cell in points for value in extent(cell)])
    axes.set(title=axis_title(column), xlabel=setting)
    axes.set_xticks(list(spots.values()), labels)
    marks = [_line([(spots[value], cell) for value, cell in line], i, axes) for i, line in enumerate(lines.values())]
    if len(lines) > 1:
        key(axes.figure, marks, list(lines), loc="outside lower left")
    _clear(axes)


def _clear(axes: Axes) -> None:
    """Leaves out the settings' labels that would touch their neighbour."""
    figure: Any = axes.figure
    figure.draw_without_rendering()
    end = -math.inf
    for label in axes.get_xticklabels():
        box = label.get_window_extent()
        label.set_visible(box.x0 > end + 4)
        end = box.x1 if label.get_visible() else end


def _line(line: Line, index: int, axes: Axes) -> Any:
    """One line with its markers; returned: a mark for the key."""
    from matplotlib.transforms import offset_copy

    figure: Any = axes.figure
    colour, shape = SLOTS[index % 7], SHAPES[index % len(SHAPES)]
    aside = offset_copy(axes.transData, figure, x=6, units="dots")
    at = sorted(line, key=lambda point: point[0])
    axes.plot([x for x, _ in at], [cell.value for _, cell in at], color=colour, lw=1.4, alpha=0.7, gid="join")
    for x, cell in at:
        axes.plot((x, x), cell.span or (cell.value,) * 2, color=colour, lw=4, alpha=0.28, gid="whisker")
        axes.plot([x] * len(cell.dots), cell.dots, "o", color=colour, ms=4, mew=0, transform=aside, gid="seed")
        axes.plot(x, cell.value, shape, color=colour, mec=CARD, ms=9, gid=f"dot|{number(cell.value, 4)}")
    return axes.plot([], [], shape, color=colour, mec=CARD, ms=9)[0]
