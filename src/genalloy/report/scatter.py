"""The trade-off scatter. It marks the points that no other point beats on both axes (the Pareto front): with scores
u = s_x x and v = s_y y, a point is on the front iff no bounded point has u' >= u and v' >= v with one of the two strict.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from genalloy.core.schema import Column, Row
from genalloy.report.charts import axis_title
from genalloy.report.figures import CARD, INK, SHAPES, SLOTS, SOFT, chart, fit, kept, key
from genalloy.report.numbers import number
from genalloy.report.summary import quote
from genalloy.report.table import slot_of
from genalloy.report.table_cells import bounded, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

Offsets = Sequence[tuple[float, float]]
DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
AROUND: Offsets = [(dx * reach, dy * (0.8 * reach + 4)) for reach in (9, 17, 27, 39, 55, 75, 100, 130) for dx, dy in DIRECTIONS]
"""Places for a label, from its marker, nearest first."""
ALONG: Offsets = [(left, up) for left in (-2, -120, -240) for up in (7, -7)]
"""Places for a level's name, from the level's right end."""


def values(rows: Sequence[Row], column: Column) -> list[float]:
    """The rows' numbers in a column."""
    return [row.cell(column).value for row in rows]


def hollow(row: Row, *columns: Column) -> bool:
    """Whether a number is not bounded from below: drawn hollow and kept off the front."""
    return not all(bounded(row.cell(column)) for column in columns)


def front(rows: Sequence[Row], x: Column, y: Column) -> list[Row]:
    """The models with bounds that none of them beats on both axes, by x."""
    able = [row for row in rows if row.kind == "model" and not hollow(row, x, y)]
    scores = [((x.sign or -1.0) * u, (y.sign or -1.0) * v) for u, v in zip(values(able, x), values(able, y), strict=True)]
    beaten = [any(a >= u and b >= v and (a, b) != (u, v) for a, b in scores) for u, v in scores]
    return sorted((row for row, worse in zip(able, beaten, strict=True) if not worse), key=lambda row: row.cell(x).value)


def on_chart(rows: Sequence[Row], levels: Sequence[Row], x: Column, y: Column) -> tuple[list[Row], list[Row]]:
    """Models always; a baseline or reference level only where it does not push the models into a corner."""
    core = [row for row in rows if row.kind == "model"]
    if len(core) < 2:
        return list(rows), list(levels)
    across, up = (kept(values(core, column), values(rows, column)) for column in (x, y))
    near = [row for row, fits_x, fits_y in zip(rows, across, up, strict=True) if row.kind == "model" or (fits_x and fits_y)]
    return near, [row for row, fits in zip(levels, kept(values(near, y), values(levels, y)), strict=True) if fits]


def note_of(row: Row, x: Column, y: Column) -> str:
    """'vae: bits/dim at most 1.93, kernel distance 0.02'."""
    return f"{row.recipe}: {x.name} {quote(row, x)}, {y.name} {quote(row, y)}"


def scatter(rows: Sequence[Row], x: Column, y: Column, uid: str) -> str:
    """Rows as points with direct labels, the Pareto front as a stepped line; reference rows that have only y as dashed levels.
    Empty below two points.
    """
    points = [row for row in rows if row.cell(x).known and row.cell(y).known]
    levels = [row for row in rows if row.kind == "reference" and row.cell(y).known and not row.cell(x).known]
    near, drawn = on_chart(points, levels, x, y)
    away = [row.recipe for row in points if row not in near]
    away += [f"{row.recipe} ({number(row.cell(y).value)})" for row in levels if row not in drawn]
    ahead = ", ".join(row.recipe for row in front(points, x, y)) or "none"
    said = f"On the front: {ahead}. All points: {'; '.join(note_of(row, x, y) for row in points)}."
    size = 480, 350 + 16 * math.ceil(len({row.family for row in near if row.kind == "model"}) / 3)
    words, draw = (f"{axis_title(y)} against {axis_title(x)}", said), partial(_draw, near, drawn, front(points, x, y), x, y)
    return chart(draw, size, uid, words, away) if len(points) > 1 else ""


def _draw(rows: Sequence[Row], levels: Sequence[Row], best: Sequence[Row], x: Column, y: Column, axes: Axes) -> None:
    fit(axes.xaxis, values(rows, x))
    fit(axes.yaxis, values([*rows, *levels], y))
    axes.set(title=axis_title(y), xlabel=axis_title(x))
    for level in values(levels, y):
        axes.axhline(level, color=SOFT, lw=1.2, dashes=(5, 3.5), gid="level")
    # Low x better: y improves only once x is paid for, so go across first; high x better: down first.
    steps: dict[str, Any] = {"drawstyle": "steps-pre" if x.sign > 0 else "steps-post", "dash_capstyle": "round", "gid": "front"}
    axes.plot(values(best, x), values(best, y), color=SOFT, lw=1.4, dashes=(0.5, 3), **steps)
    for row in rows:
        _dot(row, x, y, axes)
    slots = {row.family: slot_of(row) for row in rows if row.kind == "model"}
    marks = [axes.plot([], [], SHAPES[slot], color=SLOTS[slot], mec=CARD, ms=10)[0] for slot in slots.values()]
    names = [shorten(name[:1].upper() + name[1:], 22) for name in slots]
    key(axes.figure, marks, names, loc="outside upper left", ncols=3, handletextpad=0.2, columnspacing=1)
    _label(rows, levels, x, y, axes)


def _dot(row: Row, x: Column, y: Column, axes: Axes) -> None:
    """A marker with its intervals, which are cut at the frame so that one wide error does not flatten the rest."""
    slot, across, up, muted = slot_of(row), row.cell(x), row.cell(y), row.kind != "model"
    for ends in () if muted else ((across.span, (up.value,) * 2), ((across.value,) * 2, up.span)):
        if None not in ends:
            axes.plot(*ends, color=SLOTS[slot], lw=1.2, alpha=0.45, gid="whisker")
    fill, edge, width = (CARD, SLOTS[slot], 2) if hollow(row, x, y) else (SLOTS[slot], CARD, 1.2)
    words = f"dot{' hollow' * hollow(row, x, y)}{' muted' * muted}|{note_of(row, x, y)}"
    style: dict[str, Any] = {"mfc": fill, "mec": edge, "mew": width, "alpha": 0.75 if muted else 1}
    axes.plot(across.value, up.value, SHAPES[slot], ms=10, gid=words, **style)


def _label(rows: Sequence[Row], levels: Sequence[Row], x: Column, y: Column, axes: Axes) -> None:
    """Names beside their markers and levels, each where it covers least of what is drawn before it."""
    from matplotlib.transforms import Bbox

    figure: Any = axes.figure
    figure.draw_without_rendering()
    spots = list(zip(values(rows, x), values(rows, y), strict=True))
    taken = [Bbox.from_bounds(left - 6, low - 6, 12, 12) for left, low in map(axes.transData.transform, spots)]
    common: dict[str, Any] = {"xytext": (0, 0), "textcoords": "offset points", "va": "center", "gid": "name", "in_layout": False}
    for row in levels:
        note = axes.annotate(row.recipe, (1, row.cell(y).value), xycoords=axes.get_yaxis_transform(), **common)
        place(note, ALONG, taken, axes.bbox)
    for row, spot in zip(rows, spots, strict=True):
        note = axes.annotate(shorten(row.recipe, 22), spot, color=INK if row.kind == "model" else SOFT, **common)
        place(note, AROUND, taken, axes.bbox)
        if math.hypot(*note.xyann) > 20:
            leader = {"arrowstyle": "-", "color": SOFT, "lw": 0.8, "alpha": 0.7, "shrinkA": 0, "shrinkB": 6}
            axes.annotate("", spot, note.xyann, textcoords="offset points", arrowprops=leader)


def place(note: Annotation, offsets: Offsets, taken: list[Bbox], frame: Bbox) -> None:
    """Moves a note (at 72 dots an inch) to the first offset where it covers least of `taken`, to which its box is added."""
    box, room = note.get_window_extent(), frame.padded(8)

    def moved(offset: tuple[float, float]) -> Bbox:
        return box.translated(offset[0] - box.width * (1 - np.sign(offset[0])) / 2, offset[1])

    def cost(offset: tuple[float, float]) -> int:
        here = moved(offset)
        return here.count_overlaps(taken) + 9 * (not (room.contains(*here.min) and room.contains(*here.max)))

    best = next((offset for offset in offsets if not cost(offset)), None) or min(offsets, key=cost)
    note.set(position=best, ha=("center", "left", "right")[int(np.sign(best[0]))])
    taken.append(moved(best))
