"""One self-contained HTML page from a comparison's directory: no network, everything inline, readable without
scripts.
"""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from genalloy.core.schema import Column, Comparison, Published, Row, Verdict, read_comparison
from genalloy.report import charts, plots, renderers, summary
from genalloy.report.model_sections import find_lens, model_section, real_data
from genalloy.report.numbers import number
from genalloy.report.table import Line, blocks, column_groups, family_slot, shown_columns
from genalloy.report.table_cells import BADGES, DEFAULT_LABELS, Shown, show

KINDS = {"reproduce": "experiment", "sweep": "sweep"}


# --- the claim, and what others have published


@dataclass(frozen=True)
class Beside:
    """One column's own numbers, then the published ones that may stand on its axis; without a column, the rest."""

    column: Column | None
    own: list[tuple[Row, Shown]]
    published: list[Published]


def beside(comparison: Comparison) -> list[Beside]:
    """Published numbers, each once, next to our numbers of the same column where there is such a column."""
    left, parts = list(comparison.published), []
    for column in [*summary.main_columns(comparison), *comparison.columns]:
        here = [p for p in left if p.value is not None and charts.belongs(p, column)]
        if here:
            rows = [row for row in comparison.finished if row.cell(column).known]
            parts.append(Beside(column, [(row, show(row.cell(column), column)) for row in rows], here))
            left = [p for p in left if p not in here]
    return [*parts, Beside(None, [], left)] if left else parts


# --- the page


def context(directory: Path) -> dict[str, Any]:
    """All that the template reads."""
    comparison = read_comparison(directory / "comparison.json")
    reference, _ = renderers.read_arrays(directory / "reference.npz")
    lens = find_lens(directory, comparison, reference)
    table = blocks(comparison)
    columns, main = shown_columns(comparison), summary.main_columns(comparison)
    cards = [model_section(line, directory, lens, comparison) for block in table for line in block.lines if _has_card(line)]
    return {
        "it": comparison,
        "overview": summary.overview(comparison),
        "verdict": summary.density_words(comparison) + summary.quality_words(comparison),
        "tiles": [(tile, family_slot(tile.row.family)) for tile in summary.tiles(comparison)],
        "blocks": table,
        "columns": columns,
        "kind": KINDS.get(comparison.kind, "comparison"),
        "main": {column.id for column in main},
        "findings": (comparison.verdict.parts or [Verdict(words=comparison.verdict.words)]) if comparison.verdict else [],
        "beside": beside(comparison),
        "dots": plots.seed_plots(comparison),
        "sweeps": plots.sweep_plots(comparison),
        "groups": column_groups(comparison),
        "charts": plots.trade_offs(comparison),
        "real": real_data(lens, reference),
        "cards": cards,
        "labels": labels(comparison),
        "badges": BADGES,
        "number": number,
    }


def _has_card(line: Line) -> bool:
    return line.row.kind == "model" or bool(line.row.folder)


def labels(comparison: Comparison) -> Mapping[str, str]:
    """The explanations that came with the numbers, or the built-in ones."""
    return comparison.labels or DEFAULT_LABELS


def render(values: Mapping[str, Any]) -> str:
    """The template with its style and script inlined; every value is escaped, charts are safe by
    construction.
    """
    import jinja2
    from markupsafe import Markup

    home = resources.files("genalloy.report")
    page, style, script = (home.joinpath(f"page.{end}").read_text(encoding="utf-8") for end in ("html.j2", "css", "js"))
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters["svg"] = Markup
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    return environment.from_string(page).render(**values, style=Markup(style), script=Markup(script), script_hash=digest)


def write_atomically(path: Path, text: str) -> None:
    """A reader sees the old page or the new one, never half of one."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".report-", suffix=".html")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_page(directory: Path) -> Path:
    """Write `directory/report.html` from comparison.json, reference.npz and the runs' pictures.npz.

    Returns the page's path. A density grid (G, G) has its rows along y, from the bottom, its extent is
    (x low, x high, y low, y high). Missing or damaged pictures are said on the page. Raises ValueError where
    comparison.json is missing, damaged or of another format.
    """
    directory = Path(directory)
    path = directory / "report.html"
    try:
        page = render(context(directory))
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        damage = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"{directory / 'comparison.json'} is damaged ({damage}); run `genalloy compare` again") from error
    write_atomically(path, page)
    return path
