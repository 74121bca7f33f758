"""Small inline SVG charts: loss curves, seeds as dots, a metric against a swept setting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from genalloy.core.schema import Column, Number, Published, Row
from genalloy.report.scales import Scale, kept, linear_ticks, number, scale
from genalloy.report.svg import Frame, axes, figure, line, marker, text
from genalloy.report.table import NEUTRAL, family_slot
from genalloy.report.table_cells import relation

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
    across = Scale(min(steps), max(steps) + (min(steps) == max(steps)), linear_ticks(min(steps), max(steps) + 1), float)
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


# --- seeds as dots

SLOTS = ("#2f669e", "#1f7a74", "#6a4fa3", "#a84c1f", "#5d7420", "#a83a68", "#8a6510", "#7a8087")
STYLE = (
    ".dots{--ink1:#1f2328;--soft1:#5a6169;--line1:#e3dfd8;--card1:#fff}"
    "@media(prefers-color-scheme:dark){.dots{--ink1:#e7e5e1;--soft1:#a2a8b0;--line1:#3a4047;--card1:#15171a}}"
    ".dots text{fill:var(--soft,var(--soft1));font:12px system-ui,'Segoe UI','Liberation Sans',Arial,sans-serif}"
    ".dots text.who{fill:var(--ink,var(--ink1))}.dots .rule{stroke:var(--line,var(--line1))}"
    ".dots .bar{stroke:var(--fam);stroke-width:5;opacity:.3;stroke-linecap:round}.dots .mean{stroke:var(--fam);stroke-width:2}"
    ".dots .open{stroke:var(--fam);stroke-width:1.4;fill:none}"
    ".dots .seed{fill:var(--fam);stroke:var(--card,var(--card1));stroke-width:.8}"
    ".dots .else{fill:var(--card,var(--card1));stroke:var(--soft,var(--soft1));stroke-width:1.5}"
    + "".join(f".dots .fam-{i}{{--fam:var(--f{i},{colour})}}" for i, colour in enumerate(SLOTS))
)
"""The page's own colours where there is a page, otherwise these, by the reader's light or dark."""
LEFT, RIGHT, WIDTH, STEP, TOP = 172, 500, 640, 30, 40


@dataclass(frozen=True)
class Strand:
    """One line of a dot plot: seeds as dots, their mean as a bar across, an interval; or a published number."""

    name: str
    label: str
    mean: float
    dots: tuple[float, ...] = ()
    span: tuple[float, float] | None = None
    slot: int = NEUTRAL
    muted: bool = False
    toward: float = 0.0
    foreign: bool = False

    @property
    def values(self) -> list[float]:
        return [self.mean, *self.dots, *(self.span or ())]


def strand(row: Row, column: Column, slot: int) -> Strand:
    """A row in a column, grey where it is no trained model; `toward`: the side on which the truth of a bound lies."""
    cell = row.cell(column)
    sign = relation(cell.kind, column.sign) if column.group == "density" else ""
    toward = {"\u2265": 1.0, "\u2264": -1.0}.get(sign, 0.0)
    error = f" \u00b1 {number(cell.stderr, 2)}" if cell.stderr else ""
    label = f"{sign} {number(cell.value, 4)}{error}".strip()
    return Strand(row.recipe, label, cell.value, cell.dots, cell.span, slot, row.kind != "model", toward)


def dot_plot(strands: Sequence[Strand], title: str, axis: str, uid: str) -> str:
    """One line a contender: dots are seeds, the bar across is their mean, the band its interval, an arrow the side on which
    the truth of a bound lies, a hollow diamond a published number. What would push the rest into a corner is named instead.

    Carries its own style, so that it also stands alone. Empty without a trained row.
    """
    core = [v for s in strands if not (s.muted or s.foreign) for v in s.values]
    if not core:
        return ""
    near = [s for s, fits in zip(strands, kept(core, [s.mean for s in strands]), strict=True) if fits]
    away = [f"{s.name} ({s.label})" for s in strands if s not in near]
    bottom = TOP + STEP * len(near)
    frame = Frame(LEFT, TOP - 12, RIGHT, bottom - 4, scale([v for s in near for v in s.values]), scale([0.0, 1.0]))
    body = f"<style>{STYLE}</style>" + text(2, 15, axis, "who")
    for tick in frame.x.ticks:
        x, _ = frame.at(tick, frame.y.low)
        body += line("rule", (x, frame.top), (x, frame.bottom)) + text(x, bottom + 12, number(tick), anchor="middle")
    body += "".join(_strand(s, TOP + STEP * i + 4, frame) for i, s in enumerate(near))
    body += "".join(text(2, bottom + 32 + 15 * i, words) for i, words in enumerate(_off_chart(away)))
    description = "; ".join(f"{s.name} {s.label}" + (" (published, another set-up)" if s.foreign else "") for s in strands)
    size = (WIDTH, bottom + 20 + 15 * len(_off_chart(away)) + (6 if away else 0))
    return figure(uid, size, title, f"{description}.", body, "chart dots")


def _strand(s: Strand, y: float, frame: Frame) -> str:
    x, _ = frame.at(s.mean, frame.y.low)
    name = s.name if len(s.name) <= 25 else s.name[:24] + "\u2026"
    tone = "grey" if s.muted or s.foreign else "who"
    words = text(2, y + 4, name, tone) + text(WIDTH - 2, y + 4, s.label, tone, "end")
    title = f"<title>{escape(s.name)}: {escape(s.label)}</title>"
    if s.foreign:
        return f'<g>{title}{words}<g class="else">{marker(x, y, 3, 5.5)}</g></g>'
    body = "" if s.span is None else line("bar", (frame.at(s.span[0], 0)[0], y), (frame.at(s.span[1], 0)[0], y))
    body += line("mean", (x, y - 8), (x, y + 8)) + _toward(x, y, s.toward)
    # dots of equal value would hide each other
    spots = ((frame.at(v, 0)[0], y + 3.2 * (i % 3 - 1)) for i, v in enumerate(s.dots))
    body += "".join(f'<circle class="seed" cx="{a:.1f}" cy="{b:.1f}" r="3.4"/>' for a, b in spots)
    return f'<g class="fam-{s.slot}">{title}{words}{body}</g>'


def _toward(x: float, y: float, side: float) -> str:
    """An arrow from the mean, above the dots."""
    if not side:
        return ""
    tip = x + 16 * side
    return f'<path class="open" d="M{x:.1f} {y - 8:.1f}H{tip:.1f}m{-4 * side:.1f} -3l{4 * side:.1f} 3l{-4 * side:.1f} 3"/>'


def _off_chart(names: Sequence[str], width: int = 96) -> list[str]:
    """The names in lines of about `width` characters."""
    lines = ["Off the chart:"] if names else []
    for i, name in enumerate(names):
        entry = f" {name}" + ("," if i + 1 < len(names) else "")
        if len(lines[-1] + entry) > width:
            lines.append("")
        lines[-1] = (lines[-1] + entry).strip()
    return lines


def strands_of(rows: Sequence[Row], column: Column, published: Sequence[Published], slots: Sequence[int]) -> list[Strand]:
    """Rows with a number, then published numbers."""
    own = [strand(row, column, slot) for row, slot in zip(rows, slots, strict=True) if row.cell(column).known]
    valued = [(p, p.value) for p in published if p.value is not None]
    return own + [Strand(p.name, f"{number(value, 4)} published", value, foreign=True) for p, value in valued]


def seed_dots(rows: Sequence[Row], column: Column, published: Sequence[Published], uid: str) -> str:
    """The dot plot of one column, as an SVG that stands alone; "" where nothing is known.

    Published numbers are drawn where they name the column, or are in its unit where the column is a density.
    """
    models = [row for row in rows if row.cell(column).known]
    slots = [family_slot(row.family) if row.kind == "model" else NEUTRAL for row in models]
    beside = [p for p in published if belongs(p, column)]
    return dot_plot(strands_of(models, column, beside, slots), f"{column.name}, a dot a seed", axis_title(column), uid)


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


@dataclass(frozen=True)
class Series:
    """Points (setting, cell) of one line of a sweep's chart, in the setting's order."""

    name: str
    points: tuple[tuple[Any, Number], ...]


def series_of(rows: Sequence[Row], column: Column, setting: str) -> list[Series]:
    """One line a combination of the other settings; rows without the setting or without a number are left out."""
    groups: dict[str, list[tuple[Any, Number]]] = {}
    for row in rows:
        cell = row.cell(column)
        if setting in row.settings and cell.known:
            others = ", ".join(f"{k} = {v}" for k, v in row.settings.items() if k != setting)
            groups.setdefault(others, []).append((row.settings[setting], cell))
    return [Series(name, tuple(points)) for name, points in groups.items()]


def _numeric(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(float(str(value)))


def places(values: Sequence[Any]) -> tuple[list[float], Scale, list[tuple[float, str]]]:
    """Where settings lie on the axis, the axis, its labels: numbers to scale where they differ, other values evenly."""
    unique = list(dict.fromkeys(values))
    if all(_numeric(v) for v in unique) and len(unique) > 1:
        spots = [float(v) for v in values]
        low, high = min(spots), max(spots)
        # settings are usually multiplied, so a factor of 8 is already better seen on a logarithm
        log = low > 0 and high / low >= 8
        across = Scale(low / (high / low) ** 0.08, high * (high / low) ** 0.08, (), math.log) if log else scale(spots)
        return spots, across, [(float(v), number(float(v))) for v in sorted(unique)]
    names = {v: float(i) for i, v in enumerate(unique)}
    whole = Scale(-0.5, len(unique) - 0.5, tuple(names.values()), float)
    return [names[v] for v in values], whole, [(i, str(v)[:18]) for v, i in names.items()]


def sweep_chart(rows: Sequence[Row], column: Column, setting: str, uid: str) -> str:
    """A column against a setting: means joined by a line, seeds as dots, intervals as bars. Empty below two points."""
    drawn = series_of(rows, column, setting)
    points = [point for series in drawn for point in series.points]
    if len(points) < 2:
        return ""
    spots, across, labels = places([value for value, _ in points])
    heights = [v for _, cell in points for v in (cell.value, *cell.dots, *(cell.span or ()))]
    frame = Frame(52, 34, 452, 226, Scale(across.low, across.high, (), across.warp), scale(heights))
    body = axes(frame, setting, axis_title(column)) + _labels(frame, labels)
    taken = 0
    for i, series in enumerate(drawn):
        body += _series(series, spots[taken : taken + len(series.points)], frame, i)
        taken += len(series.points)
    description = "; ".join(f"{setting} {value}: {number(cell.value)}" for value, cell in points)
    size = (460, 270 + 16 * (len(drawn) > 1) * len(drawn))
    return figure(uid, size, f"{column.name} against {setting}", f"{description}.", body + _names(drawn))


def _labels(frame: Frame, labels: Sequence[tuple[float, str]]) -> str:
    """Tick labels of the settings; those that would touch their neighbour are left out."""
    body, last = "", -99.0
    for spot, words in sorted(labels):
        x, _ = frame.at(spot, frame.y.low)
        body += line("gridline", (x, frame.top), (x, frame.bottom))
        if x - last > 6.2 * len(words) + 8:
            body, last = body + text(x, frame.bottom + 16, words, anchor="middle"), x
    return body


def _series(series: Series, spots: Sequence[float], frame: Frame, index: int) -> str:
    at = sorted(zip(spots, (cell for _, cell in series.points), strict=True), key=lambda pair: pair[0])
    path_ = path([(spot, cell.value) for spot, cell in at], frame)
    body = f'<path class="join" d="{path_}"/>'
    for spot, cell in at:
        x, y = frame.at(spot, cell.value)
        ends = cell.span or (cell.value,) * 2
        body += line("whisker", (x, frame.at(spot, ends[0])[1]), (x, frame.at(spot, ends[1])[1]))
        body += "".join(f'<circle class="seed" cx="{x + 6:.1f}" cy="{frame.at(spot, v)[1]:.1f}" r="2"/>' for v in cell.dots)
        body += f'<g class="dot"><title>{escape(number(cell.value, 4))}</title>{marker(x, y, index, 4.5)}</g>'
    return f'<g class="sweep fam-{index % 7}">{body}</g>'


def _names(drawn: Sequence[Series]) -> str:
    """The key below the chart, where there are several lines."""
    if len(drawn) < 2:
        return ""
    keys = ((i, 276 + 16 * i, series.name or "default") for i, series in enumerate(drawn))
    return "".join(
        f'<g class="fam-{i % 7}"><g class="dot">{marker(58, y, i, 4.5)}</g>{text(70, y + 4, name)}</g>' for i, y, name in keys
    )
