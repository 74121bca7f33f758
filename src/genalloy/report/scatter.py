"""The trade-off scatter. It marks the points that no other point beats on both axes (the Pareto front): with scores
u = s_x x and v = s_y y, a point is on the front iff no bounded point has u' >= u and v' >= v with one of the two strict.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from genalloy.report.scales import kept, number, scale
from genalloy.report.svg import Frame, axes, figure, line, marker, text

Box = tuple[float, float, float, float]
Level = tuple[str, float]
Span = tuple[float, float] | None
"""The ends of an interval on one axis."""


@dataclass(frozen=True)
class Point:
    """One row: `slot` is its family's colour and shape, `open_` = not bounded from below, drawn hollow and kept off
    the front; `spans`: its intervals on x and on y, drawn as whiskers inside the frame.
    """

    label: str
    x: float
    y: float
    slot: int = 0
    muted: bool = False
    open_: bool = False
    note: str = ""
    spans: tuple[Span, Span] = (None, None)


@dataclass(frozen=True)
class Axis:
    title: str
    sign: float = -1.0


def front(points: Sequence[Point], x: Axis, y: Axis) -> list[Point]:
    """The bounded, unmuted points that none of them beats on both axes, by x."""
    able = [p for p in points if not (p.muted or p.open_)]
    score = {id(p): (x.sign * p.x, y.sign * p.y) for p in able}

    def beaten(p: Point) -> bool:
        u, v = score[id(p)]
        return any(a >= u and b >= v and (a, b) != (u, v) for a, b in score.values())

    return sorted((p for p in able if not beaten(p)), key=lambda p: p.x)


def overlap(a: Box, b: Box) -> float:
    """The area shared by two boxes (left, top, right, bottom)."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0.0) * max(height, 0.0)


def candidates(x: float, y: float, width: float) -> list[tuple[float, Box]]:
    """(reluctance, box) for a label of 11 units' height around a marker, nearest first."""
    boxes = []
    for rank, reach in enumerate((9.0, 17.0, 27.0, 39.0)):
        near = reach * 0.7
        for dx, dy, along in (
            (1, 0, 0),
            (-1, 0, 1),
            (0, -1, 0.5),
            (0, 1, 0.5),
            (1, -1, 0),
            (1, 1, 0),
            (-1, -1, 1),
            (-1, 1, 1),
        ):
            shift = reach if dy == 0 else near
            left, middle = x + dx * shift - along * width, y + dy * (shift + 3)
            boxes.append((14.0 * rank + 0.5 * (dx < 0), (left, middle - 6, left + width, middle + 6)))
    return boxes


def place_labels(spots: Sequence[tuple[float, float]], labels: Sequence[str], frame: Frame) -> list[Box]:
    """Greedy: each label takes the candidate that covers the least of what is already drawn."""
    taken: list[Box] = [(x - 6, y - 6, x + 6, y + 6) for x, y in spots]
    placed: list[Box] = []
    for i, ((x, y), label) in enumerate(zip(spots, labels, strict=True)):
        others = taken[:i] + taken[i + 1 :]

        def cost(candidate: tuple[float, Box], others: list[Box] = others) -> float:
            reluctance, box = candidate
            outside = max(0.0, frame.left - box[0]) + max(0.0, box[2] - frame.right - 8) + max(0.0, frame.top - 4 - box[1])
            outside += max(0.0, box[3] - frame.bottom)
            return reluctance + 40 * outside + 2 * sum(overlap(box, other) for other in others)

        best = min(candidates(x, y, 6.7 * len(label)), key=cost)[1]
        placed.append(best)
        taken.append(best)
    return placed


def _leader(spot: tuple[float, float], box: Box) -> str:
    x, y = min(max(spot[0], box[0]), box[2]), min(max(spot[1], box[1] + 2), box[3] - 2)
    if math.dist(spot, (x, y)) < 13:
        return ""
    return line("leader", spot, (x, y))


def _dot(point: Point, spot: tuple[float, float]) -> str:
    style = " ".join(["dot", f"fam-{point.slot}", "muted" * point.muted, "hollow" * point.open_]).strip()
    hint = escape(f"{point.label}: {point.note}")
    return f'<g class="{style}"><title>{hint}</title>{marker(*spot, point.slot)}</g>'


def _name(point: Point, name: str, spot: tuple[float, float], box: Box) -> str:
    """The label, anchored on the side of its marker, so that an estimated width does not open a gap."""
    x, where = (box[0] + box[2]) / 2, "middle"
    if box[0] >= spot[0]:
        x, where = box[0], "start"
    elif box[2] <= spot[0]:
        x, where = box[2], "end"
    style = "name quiet" if point.muted else "name"
    return text(x, box[3] - 2, name, style, where)


def on_chart(points: Sequence[Point], levels: Sequence[Level]) -> tuple[list[Point], list[Level]]:
    """Models always; a baseline or reference level only where it does not push the models into a corner."""
    core = [p for p in points if not p.muted]
    if len(core) < 2:
        return list(points), list(levels)
    across, up = kept([p.x for p in core], [p.x for p in points]), kept([p.y for p in core], [p.y for p in points])
    near = [p for p, fits_x, fits_y in zip(points, across, up, strict=True) if not p.muted or (fits_x and fits_y)]
    roomy = kept([p.y for p in near], [value for _, value in levels])
    return near, [level for level, fits in zip(levels, roomy, strict=True) if fits]


def scatter(points: Sequence[Point], levels: Sequence[Level], x: Axis, y: Axis, uid: str) -> str:
    """Rows as points with direct labels, the Pareto front as a stepped line, levels of y as dashed lines.
    Empty below two points.
    """
    if len(points) < 2:
        return ""
    near, drawn = on_chart(points, levels)
    frame = Frame(50, 34, 470, 318, scale([p.x for p in near]), scale([*(p.y for p in near), *(v for _, v in drawn)]))
    best = front(points, x, y)
    away = [p.label for p in points if p not in near] + [f"{name} ({number(v)})" for name, v in levels if (name, v) not in drawn]
    body = axes(frame, x.title, y.title) + _levels(drawn, frame)
    body += _steps(best, frame, x) + _labelled(near, frame) + _away(away)
    notes = "; ".join(f"{p.label}: {p.note}" for p in points)
    ahead = ", ".join(p.label for p in best) or "none"
    description = f"On the front: {ahead}. All points: {notes}."
    return figure(uid, (480, 374 if away else 358), f"{y.title} against {x.title}", description, body)


def _whiskers(point: Point, frame: Frame) -> str:
    """Intervals as thin lines, cut at the frame so that one wide error does not flatten the rest."""
    (x, y), (across, up) = frame.at(point.x, point.y), point.spans
    body = ""
    if across is not None:
        ends = [frame.at(min(max(v, frame.x.low), frame.x.high), point.y)[0] for v in across]
        body += line("whisker", (ends[0], y), (ends[1], y))
    if up is not None:
        ends = [frame.at(point.x, min(max(v, frame.y.low), frame.y.high))[1] for v in up]
        body += line("whisker", (x, ends[0]), (x, ends[1]))
    return f'<g class="fam-{point.slot}">{body}</g>' if body else ""


def _labelled(points: Sequence[Point], frame: Frame) -> str:
    """Leaders below dots below names."""
    names = [p.label if len(p.label) <= 22 else p.label[:21] + "\u2026" for p in points]
    spots = [frame.at(p.x, p.y) for p in points]
    boxes = place_labels(spots, names, frame)
    body = "".join(_whiskers(p, frame) for p in points)
    body += "".join(_leader(spot, box) for spot, box in zip(spots, boxes, strict=True))
    body += "".join(_dot(p, spot) for p, spot in zip(points, spots, strict=True))
    return body + "".join(_name(p, name, spot, box) for p, name, spot, box in zip(points, names, spots, boxes, strict=True))


def _away(names: Sequence[str]) -> str:
    """What lies outside the frame is said, not dropped."""
    if not names:
        return ""
    note = "Off the chart: " + ", ".join(names)
    return text(2, 370, note if len(note) <= 78 else note[:77] + "\u2026")


def _levels(levels: Sequence[Level], frame: Frame, apart: float = 12.0) -> str:
    """Dashed levels; names that would cover each other share a line."""
    at = sorted((frame.at(frame.x.low, value)[1], name) for name, value in levels)
    body, groups = "", list[tuple[float, list[str]]]()
    for y, name in at:
        body += line("level", (frame.left, y), (frame.right, y))
        if groups and y - groups[-1][0] < apart:
            groups[-1][1].append(name)
        else:
            groups.append((y, [name]))
    return body + "".join(text(frame.right, y - 4, ", ".join(names)[:60], anchor="end") for y, names in groups)


def _steps(best: Sequence[Point], frame: Frame, x: Axis) -> str:
    """The boundary of what the front beats: a staircase through its points."""
    if len(best) < 2:
        return ""
    commands = []
    for i, point in enumerate(best):
        px, py = frame.at(point.x, point.y)
        if i:
            # Low x better: y improves only once x is paid for, so go across first; high x better: down first.
            commands.append(f"H{px:.1f}" if x.sign < 0 else f"V{py:.1f}")
        commands.append(f"{'L' if i else 'M'}{px:.1f} {py:.1f}")
    return f'<path class="front" d="{"".join(commands)}"/>'
