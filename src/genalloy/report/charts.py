"""Small inline SVG charts: loss curves and trade-off scatters.

Colours come from the page's CSS variables, so that a chart follows the light and the dark theme. Every chart carries a <title> and a
<desc>. A scatter marks the points that no other point beats on both axes (the Pareto front): with scores u = s_x x and v = s_y y,
a point is on the front iff no certified point has u' >= u and v' >= v with one of the two strict.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

SHAPES = ("circle", "square", "triangle", "diamond", "down", "plus", "hexagon", "cross")
Box = tuple[float, float, float, float]


def number(value: float, digits: int = 3) -> str:
    """A number for people: three significant digits, thin thousands separators, a true minus sign."""
    if not math.isfinite(value):
        return "n/a"
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if size >= 6 or size < -4:
        mantissa, exponent = f"{value:.{max(digits - 2, 0)}e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}".replace("-", "\u2212")
    text = f"{value:,.{max(digits - 1 - size, 0)}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return text.replace(",", "\u2009").replace("-", "\u2212")


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
    """Logarithmic where the values are positive and span more than a factor of 30; asinh where they also touch zero; else linear."""
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
    powers = [10.0**k for k in range(math.ceil(math.log10(size)), math.ceil(math.log10(max(abs(low), high))) + 1)]
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
        return self.left + self.x(x) * (self.right - self.left), self.bottom - self.y(y) * (self.bottom - self.top)


def axes(frame: Frame, x_title: str, y_title: str) -> str:
    """Grid lines, tick labels and axis titles."""
    parts = []
    for t in frame.y.ticks:
        _, y = frame.at(frame.x.low, t)
        parts.append(f'<line class="gridline" x1="{frame.left:.1f}" x2="{frame.right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{frame.left - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{number(t)}</text>')
    for t in frame.x.ticks:
        x, _ = frame.at(t, frame.y.low)
        parts.append(f'<line class="gridline" x1="{x:.1f}" x2="{x:.1f}" y1="{frame.top:.1f}" y2="{frame.bottom:.1f}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{frame.bottom + 16:.1f}" text-anchor="middle">{number(t)}</text>')
    middle = (frame.left + frame.right) / 2
    parts.append(f'<text class="axis" x="{middle:.1f}" y="{frame.bottom + 34:.1f}" text-anchor="middle">{escape(x_title)}</text>')
    parts.append(f'<text class="axis" x="{2:.1f}" y="{frame.top - 10:.1f}">{escape(y_title)}</text>')
    return "".join(parts)


def figure(uid: str, size: tuple[int, int], title: str, description: str, body: str) -> str:
    """An SVG element that names itself to assistive technology."""
    return (
        f'<svg class="chart" viewBox="0 0 {size[0]} {size[1]}" role="img" aria-labelledby="{uid}-t {uid}-d">'
        f'<title id="{uid}-t">{escape(title)}</title><desc id="{uid}-d">{escape(description)}</desc>{body}</svg>'
    )


# --- loss curves ---------------------------------------------------------------------------------------------------------------------


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
    across = Scale(min(steps), max(steps) + (min(steps) == max(steps)), linear_ticks(min(steps), max(steps) + 1), float)
    frame = Frame(52, 30, 452, 176, across, scale([low, high]))
    body = axes(frame, "step", "loss (nats, what training minimises)")
    body += f'<clipPath id="{uid}-c"><rect x="52" y="24" width="402" height="154"/></clipPath><g clip-path="url(#{uid}-c)">'
    body += "".join(f'<path class="curve curve-{i}" d="{path(p, frame)}"/>' for i, p in enumerate(drawn.values())) + "</g>"
    body += _key(list(drawn))
    last = ", ".join(f"{name} ends at {number(points[-1][1])}" for name, points in drawn.items())
    return figure(uid, (460, 216), title, f"Loss by training step; {last}.", body)


def _key(names: Sequence[str]) -> str:
    parts = []
    for i, name in enumerate(names):
        x = 452 - 96 * (len(names) - i)
        parts.append(f'<line class="curve curve-{i}" x1="{x}" x2="{x + 18}" y1="16" y2="16"/>')
        parts.append(f'<text class="tick" x="{x + 23}" y="20">{escape(name[:12])}</text>')
    return "".join(parts)


# --- trade-off scatter ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Point:
    """One row: `slot` is its family's colour and shape, `open_` = not certified, drawn hollow and kept off the front."""

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
    corners = {
        "square": [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
        "triangle": [(0, -1.1), (1.05, 0.8), (-1.05, 0.8)],
        "diamond": [(0, -1.2), (1.2, 0), (0, 1.2), (-1.2, 0)],
        "down": [(0, 1.1), (1.05, -0.8), (-1.05, -0.8)],
        "hexagon": [(1.1, 0), (0.55, 0.95), (-0.55, 0.95), (-1.1, 0), (-0.55, -0.95), (0.55, -0.95)],
        "plus": [(-.4, -1.1), (.4, -1.1), (.4, -.4), (1.1, -.4), (1.1, .4), (.4, .4), (.4, 1.1), (-.4, 1.1), (-.4, .4), (-1.1, .4),
                 (-1.1, -.4), (-.4, -.4)],
        "cross": [(-1, -.5), (-.5, -1), (0, -.5), (.5, -1), (1, -.5), (.5, 0), (1, .5), (.5, 1), (0, .5), (-.5, 1), (-1, .5), (-.5, 0)],
    }.get(SHAPES[slot % len(SHAPES)])  # fmt: skip
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
        for dx, dy, along in ((1, 0, 0), (-1, 0, 1), (0, -1, 0.5), (0, 1, 0.5), (1, -1, 0), (1, 1, 0), (-1, -1, 1), (-1, 1, 1)):
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

        best = min(candidates(x, y, 6.4 * len(label)), key=cost)[1]
        placed.append(best)
        taken.append(best)
    return placed


def _leader(spot: tuple[float, float], box: Box) -> str:
    x, y = min(max(spot[0], box[0]), box[2]), min(max(spot[1], box[1] + 2), box[3] - 2)
    if math.dist(spot, (x, y)) < 13:
        return ""
    return f'<line class="leader" x1="{spot[0]:.1f}" y1="{spot[1]:.1f}" x2="{x:.1f}" y2="{y:.1f}"/>'


def _dot(point: Point, spot: tuple[float, float]) -> str:
    style = " ".join(["dot", f"fam-{point.slot}", "muted" * point.muted, "hollow" * point.open_]).strip()
    return f'<g class="{style}"><title>{escape(point.label)}: {escape(point.note)}</title>{marker(*spot, point.slot)}</g>'


def scatter(points: Sequence[Point], floors: Sequence[tuple[str, float]], x: Axis, y: Axis, uid: str) -> str:
    """Rows as points with direct labels, the Pareto front as a stepped line, floors as dashed levels of y. Empty below two points."""
    if len(points) < 2:
        return ""
    frame = Frame(50, 34, 470, 318, scale([p.x for p in points]), scale([*(p.y for p in points), *(v for _, v in floors)]))
    best = front(points, x, y)
    names = [p.label if len(p.label) <= 22 else p.label[:21] + "\u2026" for p in points]
    spots = [frame.at(p.x, p.y) for p in points]
    boxes = place_labels(spots, names, frame)
    body = axes(frame, x.title, y.title) + "".join(_floor(name, value, frame) for name, value in floors)
    body += _steps(best, frame, x, y)
    body += "".join(_leader(spot, box) for spot, box in zip(spots, boxes, strict=True))
    body += "".join(_dot(p, spot) for p, spot in zip(points, spots, strict=True))
    for p, name, box in zip(points, names, boxes, strict=True):
        quiet = " quiet" if p.muted else ""
        body += f'<text class="name{quiet}" x="{box[0]:.1f}" y="{box[3] - 2:.1f}" textLength="{6.4 * len(name):.1f}" lengthAdjust="spacingAndGlyphs">{escape(name)}</text>'
    title = f"{y.title} against {x.title}"
    told = "; ".join(f"{p.label}: {p.note}" for p in points)
    ahead = ", ".join(p.label for p in best) or "none"
    return figure(uid, (480, 360), title, f"On the front: {ahead}. All points: {told}.", body)


def _floor(name: str, value: float, frame: Frame) -> str:
    _, y = frame.at(frame.x.low, value)
    line = f'<line class="floor" x1="{frame.left}" x2="{frame.right}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return line + f'<text class="tick" x="{frame.right}" y="{y - 4:.1f}" text-anchor="end">{escape(name[:40])}</text>'


def _steps(best: Sequence[Point], frame: Frame, x: Axis, y: Axis) -> str:
    """The boundary of what the front beats: a staircase through its points."""
    if len(best) < 2:
        return ""
    commands = []
    for i, point in enumerate(best):
        px, py = frame.at(point.x, point.y)
        if i:
            # Low x better: y worsens only once x has been paid for, so go across first; high x better: the other way.
            commands.append(f"H{px:.1f}" if x.sign < 0 else f"V{py:.1f}")
        commands.append(f"{'L' if i else 'M'}{px:.1f} {py:.1f}")
    return f'<path class="front" d="{"".join(commands)}"/>'
