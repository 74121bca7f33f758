"""The trade-off scatter. It marks the points that no other point beats on both axes (the Pareto front): with scores
u = s_x x and v = s_y y, a point is on the front iff no bounded point has u' >= u and v' >= v with one of the two strict.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from genalloy.core.schema import Column, Number, Row
from genalloy.report.charts import axis_title
from genalloy.report.figures import CARD, INK, SHAPES, SLOTS, SOFT, chart, fit, kept
from genalloy.report.numbers import number
from genalloy.report.summary import quote
from genalloy.report.table import slot_of
from genalloy.report.table_cells import bounded, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

Level = tuple[str, float]
Offsets = Sequence[tuple[float, float]]
DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
AROUND: Offsets = [(dx * reach, dy * (0.8 * reach + 4)) for reach in (9, 17, 27, 39, 55, 75, 100, 130) for dx, dy in DIRECTIONS]
"""Places for a label, from its marker, nearest first."""
ALONG: Offsets = [(left, up) for left in (-2, -120, -240) for up in (7, -7)]
"""Places for a level's name, from the level's right end."""


@dataclass(frozen=True)
class Point:
    """A row and its two numbers. Hollow: not bounded from below, so kept off the front; muted: no model."""

    row: Row
    x: Number
    y: Number

    @property
    def hollow(self) -> bool:
        return not (bounded(self.x) and bounded(self.y))

    @property
    def muted(self) -> bool:
        return self.row.kind != "model"

    @property
    def at(self) -> tuple[float, float]:
        return self.x.value, self.y.value


def front(points: Sequence[Point], x: Column, y: Column) -> list[Point]:
    """The bounded, unmuted points that none of them beats on both axes, by x."""
    able = [p for p in points if not (p.muted or p.hollow)]
    scores = [((x.sign or -1.0) * p.x.value, (y.sign or -1.0) * p.y.value) for p in able]
    beaten = [any(a >= u and b >= v and (a, b) != (u, v) for a, b in scores) for u, v in scores]
    return sorted((p for p, worse in zip(able, beaten, strict=True) if not worse), key=lambda p: p.x.value)


def on_chart(points: Sequence[Point], levels: Sequence[Level]) -> tuple[list[Point], list[Level]]:
    """Models always; a baseline or reference level only where it does not push the models into a corner."""
    core = [p for p in points if not p.muted]
    if len(core) < 2:
        return list(points), list(levels)
    across, up = (kept([p.at[i] for p in core], [p.at[i] for p in points]) for i in (0, 1))
    near = [p for p, fits_x, fits_y in zip(points, across, up, strict=True) if not p.muted or (fits_x and fits_y)]
    roomy = kept([p.y.value for p in near], [value for _, value in levels])
    return near, [level for level, fits in zip(levels, roomy, strict=True) if fits]


def scatter(rows: Sequence[Row], x: Column, y: Column, uid: str) -> str:
    """Rows as points with direct labels, the Pareto front as a stepped line; reference rows that have only y as dashed levels.
    Empty below two points.
    """
    points = [Point(row, row.cell(x), row.cell(y)) for row in rows if row.cell(x).known and row.cell(y).known]
    only = [row for row in rows if row.kind == "reference" and row.cell(y).known and not row.cell(x).known]
    levels = [(row.recipe, row.cell(y).value) for row in only]
    near, drawn = on_chart(points, levels)
    best = front(points, x, y)
    away = [p.row.recipe for p in points if p not in near] + [
        f"{name} ({number(v)})" for name, v in levels if (name, v) not in drawn
    ]
    ahead = ", ".join(p.row.recipe for p in best) or "none"
    said = f"On the front: {ahead}. All points: {'; '.join(note_of(p.row, x, y) for p in points)}."
    words, size = (f"{axis_title(y)} against {axis_title(x)}", said), (480, 350 + 16 * math.ceil(len(families(near)) / 3))
    return chart(partial(_draw, near, drawn, best, x, y), size, uid, words, away) if len(points) > 1 else ""


def note_of(row: Row, x: Column, y: Column) -> str:
    """'vae: bits/dim at most 1.93, kernel distance 0.02'."""
    return f"{row.recipe}: {x.name} {quote(row, x)}, {y.name} {quote(row, y)}"


def families(points: Sequence[Point]) -> dict[str, int]:
    """The colours and shapes that the key explains."""
    return {p.row.family: slot_of(p.row) for p in points if not p.muted}


def _draw(points: list[Point], levels: list[Level], best: list[Point], x: Column, y: Column, axes: Axes) -> None:
    fit(axes.xaxis, [p.x.value for p in points])
    fit(axes.yaxis, [*(p.y.value for p in points), *(value for _, value in levels)])
    axes.set(title=axis_title(y), xlabel=axis_title(x))
    for _, value in levels:
        axes.axhline(value, color=SOFT, lw=1.2, dashes=(5, 3.5), gid="level")
    # Low x better: y improves only once x is paid for, so go across first; high x better: down first.
    steps: dict[str, Any] = {"drawstyle": "steps-pre" if x.sign > 0 else "steps-post", "dash_capstyle": "round", "gid": "front"}
    axes.plot([p.x.value for p in best], [p.y.value for p in best], color=SOFT, lw=1.4, dashes=(0.5, 3), **steps)
    for point in points:
        _dot(point, note_of(point.row, x, y), axes)
    _key(families(points), axes)
    _label(points, levels, axes)


def _key(slots: dict[str, int], axes: Axes) -> None:
    marks = [axes.plot([], [], SHAPES[slot], color=SLOTS[slot], mec=CARD, ms=10)[0] for slot in slots.values()]
    names, figure = [shorten(name[:1].upper() + name[1:], 22) for name in slots], axes.figure
    if marks:
        figure.legend(marks, names, loc="outside upper left", ncols=3, handletextpad=0.2, columnspacing=1)


def _dot(p: Point, words: str, axes: Axes) -> None:
    """A marker with its intervals, which are cut at the frame so that one wide error does not flatten the rest."""
    colour = SLOTS[slot_of(p.row)]
    for ends in () if p.muted else ((p.x.span, (p.y.value,) * 2), ((p.x.value,) * 2, p.y.span)):
        if None not in ends:
            axes.plot(*ends, color=colour, lw=1.2, alpha=0.45, gid="whisker")
    fill, edge, width = (CARD, colour, 2) if p.hollow else (colour, CARD, 1.2)
    kind = f"dot{' hollow' * p.hollow}{' muted' * p.muted}|{words}"
    axes.plot(*p.at, SHAPES[slot_of(p.row)], ms=10, mfc=fill, mec=edge, mew=width, alpha=0.75 if p.muted else 1, gid=kind)


def _label(points: Sequence[Point], levels: Sequence[Level], axes: Axes) -> None:
    """Names beside their markers and levels, each where it covers least of what is drawn before it."""
    from matplotlib.transforms import Bbox

    figure: Any = axes.figure
    figure.draw_without_rendering()
    taken = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in (axes.transData.transform(p.at) for p in points)]
    common: dict[str, Any] = {"xytext": (0, 0), "textcoords": "offset points", "va": "center", "gid": "name", "in_layout": False}
    for name, value in levels:
        place(axes.annotate(name, (1, value), xycoords=axes.get_yaxis_transform(), **common), ALONG, taken, axes.bbox)
    for p in points:
        note = axes.annotate(shorten(p.row.recipe, 22), p.at, color=SOFT if p.muted else INK, **common)
        place(note, AROUND, taken, axes.bbox)
        if math.hypot(*note.xyann) > 20:
            leader = {"arrowstyle": "-", "color": SOFT, "lw": 0.8, "alpha": 0.7, "shrinkA": 0, "shrinkB": 6}
            axes.annotate("", p.at, note.xyann, textcoords="offset points", arrowprops=leader)


def place(note: Annotation, offsets: Offsets, taken: list[Bbox], frame: Bbox) -> None:
    """Moves a note (at 72 dots an inch) to the first offset where it covers least of `taken`, to which its box is added."""
    box = note.get_window_extent()

    def moved(offset: tuple[float, float]) -> Bbox:
        return box.translated(offset[0] - box.width * (1 - np.sign(offset[0])) / 2, offset[1])

    def cost(offset: tuple[float, float]) -> int:
        here, room = moved(offset), frame.padded(8)
        return here.count_overlaps(taken) + 9 * (not (room.contains(*here.min) and room.contains(*here.max)))

    best = min(offsets, key=cost)
    note.set(position=best, ha=("center", "left", "right")[int(np.sign(best[0]))])
    taken.append(moved(best))
