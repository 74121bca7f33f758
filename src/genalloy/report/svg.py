"""Elements of an inline SVG chart: frame, axes, markers, and the figure that names itself.

Colours come from the page's CSS variables, so that a chart follows the light and the dark theme.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from genalloy.report.scales import Scale, number

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


def figure(uid: str, size: tuple[int, int], title: str, description: str, body: str, style: str = "chart") -> str:
    """An SVG element that names itself to assistive technology; valid inside a page and as a file of its own."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" class="{style}" width="{size[0]}" height="{size[1]}" '
    named = f'<title id="{uid}-t">{escape(title)}</title><desc id="{uid}-d">{escape(description)}</desc>'
    return f'{head}viewBox="0 0 {size[0]} {size[1]}" role="img" aria-labelledby="{uid}-t {uid}-d">{named}{body}</svg>'


def marker(x: float, y: float, slot: int, r: float = 5.5) -> str:
    """A family's shape: never colour alone."""
    corners = CORNERS.get(SHAPES[slot % len(SHAPES)])
    if corners is None:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r}"/>'
    spots = " ".join(f"{x + r * a:.1f},{y + r * b:.1f}" for a, b in corners)
    return f'<polygon points="{spots}"/>'
