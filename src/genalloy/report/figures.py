"""The one place where matplotlib draws: charts as SVG elements in the house style, pictures as PNG.

A chart is drawn in the light colours of `page.css`, and its SVG then names that file's variables instead of them, so that it
follows the light and the dark theme. Letters stay text. No state of matplotlib outlives a call.
"""

from __future__ import annotations

import io
import re
import textwrap
import warnings
from collections.abc import Callable, Sequence
from html import escape
from importlib import resources
from typing import TYPE_CHECKING, Any

from genalloy.report.numbers import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import XAxis, YAxis
    from matplotlib.figure import Figure
    from matplotlib.scale import ScaleBase

INK, SOFT, LINE, CARD, FAMILY = "#1f2328", "#5a6169", "#e3dfd8", "#ffffff", "#2f5d8a"
SLOTS = ("#2f669e", "#1f7a74", "#6a4fa3", "#a84c1f", "#5d7420", "#a83a68", "#8a6510", "#7a8087")
SHAPES = "os^DvPhX"
"""A family's colour and shape, by its slot: never colour alone."""
VARIABLES = {INK: "ink", SOFT: "soft", LINE: "line", CARD: "card", FAMILY: "fam"} | {c: f"f{i}" for i, c in enumerate(SLOTS)}
STYLE: dict[str, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "genalloy", "text.parse_math": False, "figure.dpi": 72, "font.size": 11,
    "figure.constrained_layout.use": True, "font.family": "DejaVu Sans", "text.color": SOFT, "axes.titlesize": 11.5,
    "axes.titlecolor": INK, "axes.titlelocation": "left", "axes.titlepad": 8, "axes.labelsize": 11.5, "axes.labelcolor": INK,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": LINE, "grid.linewidth": 1, "xtick.bottom": False,
    "ytick.left": False, "xtick.labelcolor": SOFT, "ytick.labelcolor": SOFT, "xtick.labelsize": 11, "ytick.labelsize": 11,
    "legend.frameon": False, "legend.fontsize": 11, "legend.borderaxespad": 0.2,
} | {f"axes.spines.{side}": False for side in ("left", "right", "top", "bottom")}  # fmt: skip


def chart(
    draw: Callable[[Axes], None],
    size: tuple[int, int],
    uid: str,
    words: tuple[str, str],
    away: Sequence[str] = (),
    alone: bool = False,
) -> str:
    """What `draw` puts on its axes, as an SVG element that names itself by its title and description, `words`.

    Its ids begin with `uid`; `away` is named below it as off the chart. `alone`: a file, which brings the page's colours along.
    """
    import matplotlib.style
    from matplotlib.figure import Figure

    file, lines = io.StringIO(), textwrap.wrap(f"Off the chart: {', '.join(away)}", size[0] // 7) if away else []
    width, height = size[0], size[1] + 15 * len(lines)
    with warnings.catch_warnings(), matplotlib.style.context(["default", STYLE]):
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # in the font that measures; the reader's may have it
        figure = Figure((width / 72, height / 72))
        figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=11)
        draw(figure.add_subplot())
        figure.savefig(file, format="svg", transparent=True)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
    )
    head += f'role="img" aria-labelledby="{uid}-t {uid}-d" style="stroke-linejoin: round"><title id="{uid}-t">{escape(words[0])}'
    head += f'</title><desc id="{uid}-d">{escape(words[1])}</desc>{f"<style>{theme()}</style>" if alone else ""}'
    return f"{head}{_body(file.getvalue(), uid)}</svg>"


def theme() -> str:
    """The page's colours and fonts, light and dark: the first paragraph of its style."""
    return resources.files("genalloy.report").joinpath("page.css").read_text(encoding="utf-8").split("\n\n")[0]


def _body(svg: str, uid: str) -> str:
    """What matplotlib drew, without its head."""
    drawn = svg[svg.index('<g id="figure_1">') : svg.rindex("</svg>")]
    return re.sub(r"\s*(<[^>]+>)\n?", lambda tag: _tag(tag[1], uid), drawn).replace("'", "&#39;")


def _tag(tag: str, uid: str) -> str:
    """A tag with the page's variables for colours and ids of its own. A group that is named "class|words" gets the class, and
    the words as its title.
    """
    group = re.fullmatch(r"""<g id=(["'])(.*)\1(/?)>""", tag, re.DOTALL)
    if group:
        kind, _, words = group[2].partition("|")
        start = "<g>" if re.search(r"_\d+$", kind) else f'<g class="{kind}">'
        return "" if group[3] else start + (f"<title>{words}</title>" if words else "")
    tag = " ".join(tag.split())
    tag = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{uid}-", tag.replace("xlink:", ""))
    tag = re.sub(r"#[0-9a-f]{6}\b", lambda colour: f"var(--{VARIABLES[colour[0]]})" if colour[0] in VARIABLES else colour[0], tag)
    return re.sub(r"(\.\d\d)\d+", r"\1", tag).replace("'DejaVu Sans'", "var(--sans)")


# --- axes


def axis_scale(values: Sequence[float], ratio: float = 30.0) -> ScaleBase:
    """Logarithmic where the values are positive and span more than `ratio`; asinh where they also touch zero; else linear."""
    from matplotlib.scale import AsinhScale, LinearScale, LogScale

    low, high = min(values), max(values)
    size = sorted(abs(v) for v in values)[len(values) // 2] or max(-low, high) or 1.0
    if low > 0 and high / low > ratio:
        return LogScale(None)
    return AsinhScale(None, linear_width=size) if low <= 0 and high - low > ratio * size else LinearScale(None)


def fit(axis: XAxis | YAxis, values: Sequence[float], ratio: float = 30.0, pad: float = 0.08) -> None:
    """Gives an axis the scale, limits and ticks that suit these values."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, SymmetricalLogLocator

    scale, name = axis_scale(values, ratio), axis.axis_name
    transform: Any = scale.get_transform()
    low, high = transform.transform([min(values), max(values)])
    margin = (high - low) * pad or abs(high) * 0.05 or 1.0
    ends = transform.inverted().transform([low - margin, high + margin])
    axis.axes.set(**{f"{name}scale": scale, f"{name}lim": ends})
    kind = axis.get_scale()
    if kind == "log":
        axis.set_major_locator(LogLocator(subs=(1,) if ends[1] / ends[0] > 500 else (1, 2, 5)))
    elif kind == "asinh":
        axis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=10 * transform.linear_width))
    else:
        axis.set_major_locator(MaxNLocator(5, steps=(1, 2, 5, 10)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: number(value, 6))


def key(place: Any, marks: Sequence[Any], names: Sequence[str], **options: Any) -> None:
    """A key on axes or on a figure; its names may begin with an underscore, which matplotlib would hide."""
    legend = place.legend(marks, ["-"] * len(marks), **options)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(name)


def kept(core: Sequence[float], extra: Sequence[float], room: float = 0.7) -> list[bool]:
    """Which of `extra` join `core` on one axis: those that leave it the share `room`, and those between what is drawn anyway."""

    def leaves_room(value: float) -> bool:
        transform = axis_scale([*core, value]).get_transform()
        low, high, new = transform.transform([min(core), max(core), value])
        return bool(min(core) <= value <= max(core) or high - low >= room * (max(high, new) - min(low, new)))

    drawn = [*core, *(value for value in extra if leaves_room(value))]
    return [min(drawn) <= value <= max(drawn) for value in extra]


# --- pictures without axes


def blank(size: tuple[float, float], down: int = 1, across: int = 1, gap: float = 0.0) -> tuple[Figure, list[Any]]:
    """A figure of so many inches, with places that have no axes."""
    from matplotlib.figure import Figure

    figure = Figure(size, dpi=100)
    places = figure.subplots(down, across, squeeze=False).ravel().tolist()
    figure.subplots_adjust(gap, gap, 1 - gap, 1 - gap, 5 * gap, 5 * gap)
    for place in places:
        place.set_axis_off()
    return figure, places


def png(figure: Figure) -> bytes:
    """A figure on a transparent ground."""
    file = io.BytesIO()
    figure.savefig(file, format="png", transparent=True)
    return file.getvalue()
