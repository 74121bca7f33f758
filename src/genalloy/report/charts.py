"""Small inline SVG charts: loss curves and trade-off scatters.

Colours come from the page's CSS variables, so that a chart follows the light and the dark theme. Every
chart carries a <title> and a <desc>. A scatter marks the points that no other point beats on both axes
(the Pareto front): with scores u = s_x x and v = s_y y, a point is on the front iff no certified point has
u' >= u and v' >= v with one of the two strict.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

SHAPES = ("circle", "square", "triangle", "diamond", "down", "plus", "hexagon", "cross")
# fmt: off
CORNERS = {
    "square": [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
    "triangle": [(0, -1.1), (1.05, 0.8), (-1.05, 0.8)],
    "diamond": [(0, -1.2), (1.2, 0), (0, 1.2), (-1.2, 0)],
    "down": [(0, 1.1), (1.05, -0.8), (-1.05, -0.8)],
    "hexagon": [(1.1, 0), (0.55, 0.95), (-0.55, 0.95), (-1.1, 0), (-0.55, -0.95), (0.55, -0.95)],
    "plus": [(-0.4, -1.1), (0.4, -1.1), (0.4, -0.4), (1.1, -0.4), (1.1, 0.4), (0.4, 0.4),
             (0.4, 1.1), (-0.4, 1.1), (-0.4, 0.4), (-1.1, 0.4), (-1.1, -0.4), (-0.4, -0.4)],
    "cross": [(-1, -0.5), (-0.5, -1), (0, -0.5), (0.5, -1), (1, -0.5), (0.5, 0),
              (1, 0.5), (0.5, 1), (0, 0.5), (-0.5, 1), (-1, 0.5), (-0.5, 0)],
}
# fmt: on
Box = tuple[float, float, float, float]
Floor = tuple[str, float]


def number(value: float, digits: int = 3) -> str:
    """A number for people: three significant digits, thousands separators, a true minus sign."""
    if not math.isfinite(value):
        return "n/a"
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if size >= 6 or size < -4:
        mantissa, exponent = f"{value:.{max(digits - 2, 0)}e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}".replace("-", "\u2212")
    said = f"{value:,.{max(digits - 1 - size, 0)}f}"
    said = said.rstrip("0").rstrip(".") if "." in said else said
    return said.replace("-", "\u2212")


@dataclass(frozen=True)
class Scale:
    """A map from [low, high] to [0, 1] through a monotone `warp`, with the ticks to draw."""

    low: float
    high: float
    ticks: tuple[float, ...]
    warp: Callable[[float], float]

    def __call__(self, value: float) -> float:
        a, b = self.warp(self.low), self.warp(self.high)
        return (self.warp(value) - a) / (b - a)


def linear_ticks(low: float, high: float, count: int = 4) -> tuple[float, ...]:
    """Multiples of 1, 2 or 5 times a power of ten inside [low, high], about `count` of them."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(m for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    return tuple(i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1))


def log_ticks(low: float, high: float) -> tuple[float, ...]:
    """Powers of ten, with 2 and 5 between them where fewer than three powers fit."""
    a, b = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = [m * 10.0**k for k in range(a, b + 1) for m in (1, 2, 5)]
    inside = [t for t in every if low <= t <= high]
    tens = [t for t in inside if abs(math.log10(t) - round(math.log10(t))) < 1e-9]
    return tuple(tens if len(tens) >= 3 else inside)


def scale(values: Sequence[float], pad: float = 0.08) -> Scale:
    """Logarithmic where the values are positive and span more than a factor of 30; asinh where they also
    touch zero; else linear.
    """
    low, high = min(values), max(values)
    size = sorted(abs(v) for v in values)[len(values) // 2] or max(abs(low), abs(high)) or 1.0
    if low > 0 and high / low > 30:
        margin = (high / low) ** pad
        return Scale(low / margin, high * margin, log_ticks(low / margin, high * margin), math.log)
    if low <= 0 and high - low > 30 * size:
        return _asinh_scale(low, high, size)
    margin = (high - low) * pad or abs(high) * 0.05 or 1.0
    return Scale(low - margin, high + margin, linear_ticks(low - margin, high + margin), float)


def _asinh_scale(low: float, high: float, size: float) -> Scale:
    powers = [
        10.0**k for k in range(math.ceil(math.log10(size)), math.ceil(math.log10(max(abs(low), high))) + 1)
    ]
    low, high = low - 0.5 * size, high * 1.3
    ticks = [t for t in (*(-p for p in powers), 0.0, *powers) if low <= t <= high]
    return Scale(low, high, tuple(ticks), lambda v: math.asinh(v / size))


@dataclass(frozen=True)
class Frame:
    """The plot rectangle in SVG units, y downwards."""

    left: float
    top: float
    right: float
    bottom: float
    x: Scale
    y: Scale

    def at(self, x: float, y: float) -> tuple[float, float]:
        return self.left + self.x(x) * (self.right - self.left), self.bottom - self.y(y) * (
            self.bottom - self.top
        )


def text(x: float, y: float, words: str, style: str = "tick", anchor: str = "start") -> str:
    """An SVG text element, escaped."""
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def line(style: str, start: tuple[float, float], end: tuple[float, float]) -> str:
    (a, b), (c, d) = start, end
    return f'<line class="{style}" x1="{a:.1f}" y1="{b:.1f}" x2="{c:.1f}" y2="{d:.1f}"/>'


def axes(frame: Frame, x_title: str, y_title: str) -> str:
    """Grid lines, tick labels and axis titles."""
    parts = []
    for t in frame.y.ticks:
        _, y = frame.at(frame.x.low, t)
        parts.append(line("gridline", (frame.left, y), (frame.right, y)))
        parts.append(text(frame.left - 6, y + 4, number(t), anchor="end"))
    for t in frame.x.ticks:
        x, _ = frame.at(t, frame.y.low)
        parts.append(line("gridline", (x, frame.top), (x, frame.bottom)))
        parts.append(text(x, frame.bottom + 16, number(t), anchor="middle"))
    parts.append(text((frame.left + frame.right) / 2, frame.bottom + 34, x_title, "axis", "middle"))
    return "".join(parts) + text(2, frame.top - 10, y_title, "axis")


def figure(uid: str, size: tuple[int, int], title: str, description: str, body: str) -> str:
    """An SVG element that names itself to assistive technology."""
    head = (
        f'<svg class="chart" viewBox="0 0 {size[0]} {size[1]}" role="img" aria-labelledby="{uid}-t {uid}-d">'
    )
    named = f'<title id="{uid}-t">{escape(title)}</title><desc id="{uid}-d">{escape(description)}</desc>'
    return f"{head}{named}{body}</svg>"


# --- loss curves


def thin(points: Sequence[tuple[float, float]], most: int = 300) -> list[tuple[float, float]]:
    """At most about `most` points, evenly taken, the last one always kept."""
    stride = max(1, math.ceil(len(points) / most))
    kept = list(points[::stride])
    return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]


def robust_range(values: Sequence[float]) -> tuple[float, float]:
    """The range without the highest and lowest 2 %, so that the first steps do not flatten the rest."""
    ordered = sorted(values)
    cut = int(0.02 * len(ordered)) if len(ordered) >= 20 else 0
    return ordered[cut], ordered[-1 - cut]


def path(points: Sequence[tuple[float, float]], frame: Frame) -> str:
    """An SVG path that is broken where a value is not finite."""
    commands, pen = [], "M"
    for step, value in points:
        if not math.isfinite(value):
            pen = "M"
            continue
        x, y = frame.at(step, value)
        commands.append(f"{pen}{x:.1f} {min(max(y, -999.0), 9999.0):.1f}")
        pen = "L"
    return "".join(commands)


def line_chart(curves: dict[str, list[tuple[float, float]]], title: str, uid: str) -> str:
    """Loss against step, one line a curve; empty where no curve has two finite points."""
    drawn = {name: thin(points) for name, points in curves.items()}
    drawn = {name: points for name, points in drawn.items() if sum(math.isfinite(v) for _, v in points) >= 2}
    if not drawn:
        return ""
    values = [v for points in drawn.values() for _, v in points if math.isfinite(v)]
    steps = [s for points in drawn.values() for s, _ in points]
    low, high = robust_range(values)
    across = Scale(
        min(steps), max(steps) + (min(steps) == max(steps)), linear_ticks(min(steps), max(steps) + 1), float
    )
    frame = Frame(52, 30, 452, 176, across, scale([low, high]))
    body = axes(frame, "step", "loss")
    body += f'<clipPath id="{uid}-c"><rect x="52" y="24" width="402" height="154"/></clipPath>'
    lines = (f'<path class="curve curve-{i}" d="{path(p, frame)}"/>' for i, p in enumerate(drawn.values()))
    body += f'<g clip-path="url(#{uid}-c)">{"".join(lines)}</g>'
    body += _key(list(drawn))
    last = ", ".join(f"{name} ends at {number(points[-1][1])}" for name, points in drawn.items())
    return figure(uid, (460, 216), title, f"Loss by training step; {last}.", body)


def _key(names: Sequence[str]) -> str:
    parts = []
    for i, name in enumerate(names):
        x = 452 - 96 * (len(names) - i)
        parts += [line(f"curve curve-{i}", (x, 16), (x + 18, 16)), text(x + 23, 20, name[:12])]
    return "".join(parts)


# --- trade-off scatter


@dataclass(frozen=True)
class Point:
    """One row: `slot` is its family's colour and shape, `open_` = not certified, drawn hollow and kept off
    the front.
    """

    label: str
    x: float
    y: float
    slot: int = 0
    muted: bool = False
    open_: bool = False
    note: str = ""


@dataclass(frozen=True)
class Axis:
    title: str
    sign: float = -1.0


def front(points: Sequence[Point], x: Axis, y: Axis) -> list[Point]:
    """The certified, unmuted points that none of them beats on both axes, by x."""
    able = [p for p in points if not (p.muted or p.open_)]
    score = {id(p): (x.sign * p.x, y.sign * p.y) for p in able}

    def beaten(p: Point) -> bool:
        u, v = score[id(p)]
        return any(a >= u and b >= v and (a, b) != (u, v) for a, b in score.values())

    return sorted((p for p in able if not beaten(p)), key=lambda p: p.x)


def marker(x: float, y: float, slot: int, r: float = 5.5) -> str:
    """A family's shape: never colour alone."""
    corners = CORNERS.get(SHAPES[slot % len(SHAPES)])
    if corners is None:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r}"/>'
    spots = " ".join(f"{x + r * a:.1f},{y + r * b:.1f}" for a, b in corners)
    return f'<polygon points="{spots}"/>'


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
            outside = (
                max(0.0, frame.left - box[0])
                + max(0.0, box[2] - frame.right - 8)
                + max(0.0, frame.top - 4 - box[1])
            )
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
    told = escape(f"{point.label}: {point.note}")
    return f'<g class="{style}"><title>{told}</title>{marker(*spot, point.slot)}</g>'


def _name(point: Point, name: str, spot: tuple[float, float], box: Box) -> str:
    """The label, anchored on the side of its marker, so that an estimated width does not open a gap."""
    x, where = (box[0] + box[2]) / 2, "middle"
    if box[0] >= spot[0]:
        x, where = box[0], "start"
    elif box[2] <= spot[0]:
        x, where = box[2], "end"
    style = "name quiet" if point.muted else "name"
    return text(x, box[3] - 2, name, style, where)


def leaves_room(core: Sequence[float], extra: float, room: float = 0.6) -> bool:
    """Whether the core still fills a share `room` of the axis once `extra` is on it too."""
    if min(core) <= extra <= max(core):
        return True
    whole = scale([*core, extra])
    return whole(max(core)) - whole(min(core)) >= room


def on_chart(points: Sequence[Point], floors: Sequence[Floor]) -> tuple[list[Point], list[Floor]]:
    """Models always; a baseline or floor only where it does not push the models into a corner."""
    core = [p for p in points if not p.muted]
    if len(core) < 2:
        return list(points), list(floors)
    x, y = [p.x for p in core], [p.y for p in core]
    near = [p for p in points if not p.muted or (leaves_room(x, p.x) and leaves_room(y, p.y))]
    return near, [floor for floor in floors if leaves_room(y, floor[1])]


def scatter(points: Sequence[Point], floors: Sequence[Floor], x: Axis, y: Axis, uid: str) -> str:
    """Rows as points with direct labels, the Pareto front as a stepped line, floors as dashed levels of y.
    Empty below two points.
    """
    if len(points) < 2:
        return ""
    near, levels = on_chart(points, floors)
    frame = Frame(
        50, 34, 470, 318, scale([p.x for p in near]), scale([*(p.y for p in near), *(v for _, v in levels)])
    )
    best = front(points, x, y)
    away = [p.label for p in points if p not in near] + [
        f"{name} ({number(v)})" for name, v in floors if (name, v) not in levels
    ]
    body = axes(frame, x.title, y.title) + "".join(_floor(name, value, frame) for name, value in levels)
    body += _steps(best, frame, x) + _labelled(near, frame) + _away(away)
    told = "; ".join(f"{p.label}: {p.note}" for p in points)
    ahead = ", ".join(p.label for p in best) or "none"
    description = f"On the front: {ahead}. All points: {told}."
    return figure(uid, (480, 374 if away else 358), f"{y.title} against {x.title}", description, body)


def _labelled(points: Sequence[Point], frame: Frame) -> str:
    """Leaders below dots below names."""
    names = [p.label if len(p.label) <= 22 else p.label[:21] + "\u2026" for p in points]
    spots = [frame.at(p.x, p.y) for p in points]
    boxes = place_labels(spots, names, frame)
    body = "".join(_leader(spot, box) for spot, box in zip(spots, boxes, strict=True))
    body += "".join(_dot(p, spot) for p, spot in zip(points, spots, strict=True))
    return body + "".join(
        _name(p, name, spot, box) for p, name, spot, box in zip(points, names, spots, boxes, strict=True)
    )


def _away(names: Sequence[str]) -> str:
    """What lies outside the frame is said, not dropped."""
    if not names:
        return ""
    told = "Off the chart: " + ", ".join(names)
    return text(2, 370, told if len(told) <= 78 else told[:77] + "\u2026")


def _floor(name: str, value: float, frame: Frame) -> str:
    _, y = frame.at(frame.x.low, value)
    level = line("floor", (frame.left, y), (frame.right, y))
    return level + text(frame.right, y - 4, name[:40], anchor="end")


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
