"""The plain-words summary, computed from the numbers and no stronger than they are.

Density: the model with the highest lower bound is named (an exact value bounds itself, two standard errors off), then
those that it is separated from, whose upper bounds lie below, then the others. Sample quality: the lowest value is named; it is a
claim about the recipe only with three seeds or more and a difference of more than two combined standard
errors, d > 2 sqrt(s_a^2 + s_b^2), so otherwise the summary says "not separated".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from genalloy.core.evidence import Kind
from genalloy.core.schema import Column, Comparison, Data, Row
from genalloy.evaluation.ranking import better_than, bounds, separated
from genalloy.report.numbers import number
from genalloy.report.table_cells import Shown, leaders, show

NOUNS = {
    "image": "images",
    "images": "images",
    "points": "points",
    "table": "rows of a table",
    "text": "texts",
    "sequence": "sequences",
}
THINGS = {"reproduce": "contender", "sweep": "setting"}
SEEDS = 3
MIXED = frozenset({"combination", "combinations", "alloy"})


@dataclass(frozen=True)
class Tile:
    """One headline number: what it is, the cell, its unit and whose it is."""

    title: str
    cell: Shown
    unit: str
    row: Row
    tied: int = 0


def join(names: Sequence[str], most: int = 8) -> str:
    """'a', 'a and b', 'a, b and c'; the rest is counted."""
    names = [*names[:most], f"{len(names) - most} more"] if len(names) > most + 1 else list(names)
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1] if names else "none"


def count(n: int, word: str) -> str:
    many = word[:-1] + "ies" if word.endswith("y") else word + "s"
    return f"{n:,} {word if n == 1 else many}"


# --- which columns tell the story


def _measured(comparison: Comparison, column: Column) -> bool:
    return any(row.cell(column).known for row in comparison.finished)


def _choose(comparison: Comparison, group: str, words: Sequence[str], must: bool = False) -> Column | None:
    able = [c for c in comparison.columns if c.group == group and c.sign and _measured(comparison, c)]
    named = [c for word in words for c in able if word in f"{c.id} {c.title}".lower()]
    return next(iter(named if must else [*named, *able]), None)


def density_column(comparison: Comparison) -> Column | None:
    """The first ranked density column with a number."""
    return _choose(comparison, "density", ())


def distance_column(comparison: Comparison) -> Column | None:
    """The kernel distance; another ranked generation column where there is none."""
    return _choose(comparison, "generation", ("kernel", "kid", "mmd", "fr\u00e9chet", "frechet"))


def main_columns(comparison: Comparison) -> list[Column]:
    """What the page is about: the headline that the file names, otherwise density and sample quality; with a number."""
    named = [c for name in comparison.headline for c in comparison.columns if c.id == name]
    chosen: list[Column | None] = [*named] or [density_column(comparison), distance_column(comparison)]
    return [column for column in chosen if column is not None and _measured(comparison, column)]


def sampling_column(comparison: Comparison) -> Column | None:
    """Seconds to draw samples."""
    return _choose(comparison, "cost", ("sample", "draw"), must=True)


def training_column(comparison: Comparison) -> Column | None:
    """Seconds to train."""
    return _choose(comparison, "cost", ("train", "fit"), must=True)


# --- sentences


def shape_words(data: Data) -> str:
    """' of 8 \u00d7 8', ' in 2 dimensions' or nothing."""
    size = [n for n in data.shape if n != 1] or data.shape
    if len(size) >= 2:
        return " of " + " \u00d7 ".join(str(n) for n in size)
    return f" in {count(size[0], 'dimension')}" if size and data.kind != "table" else ""


def overview(comparison: Comparison) -> str:
    """One sentence: what was compared, on what."""
    data, models = comparison.data, comparison.of_kind("model")
    thing = THINGS.get(comparison.kind, "generative model")
    families = len({row.family for row in models} - MIXED)
    beside = len(comparison.of_kind("baseline"))
    mixed = " and their combinations" if families and MIXED & {row.family for row in models} else ""
    sentence = f"{count(len(models), thing)}" + (
        f" from {count(families, 'family')}{mixed}" if families and comparison.kind != "sweep" else ""
    )
    sentence += f", each trained with {count(len(comparison.seeds), 'seed')}" if len(comparison.seeds) > 1 else ""
    sentence += f", and {count(beside, 'baseline')} to keep them honest," if beside else ","
    noun = NOUNS.get(data.kind, "observations")
    fitted = f"{data.train:,} {noun}{shape_words(data)}" if data.train else f"{noun}{shape_words(data)}"
    tested = f" and measured on {data.test:,} that none of them has seen" if data.test else ""
    return f"{sentence} fitted to the same {fitted} ({data.name}){tested}."


def quote(row: Row, column: Column) -> str:
    """'at most 1.93 \u00b1 0.02 bits/dim (lower bound)' for running text."""
    seen = show(row.cell(column), column)
    error = f" \u00b1 {seen.error}" if seen.error else ""
    badge = f" ({seen.badge})" if seen.badge else ""
    relation = "" if seen.sign == "=" else seen.spoken
    return f"{relation} {seen.main}{error} {column.unit}".strip() + badge


def leader(rows: Sequence[Row], column: Column) -> Row | None:
    """The row with the highest lower bound in a density column, the best value elsewhere."""
    return next(iter(leaders(rows, column)), None)


def density_words(comparison: Comparison) -> list[str]:
    """The highest lower bound, from whom it is separated, from whom not."""
    column = density_column(comparison)
    best = leader(comparison.finished, column) if column else None
    if column is None or best is None:
        return ["No model on this page bounds its log-density from below: there is nothing to rank by likelihood."]
    mine = best.cell(column)
    others = [row for row in comparison.finished if row is not best and row.cell(column).known]
    behind = [row for row in others if better_than(mine, row.cell(column), column.sign)]
    open_ = [row for row in others if row not in behind]
    sentences = [f"The best density by its bound is {best.recipe}\u2019s: {quote(best, column)}."]
    sentences += [_standing(behind, open_, column)] if others else []
    return sentences + _against_baselines(comparison, column, best) + _optimum(comparison.data)


def _standing(behind: Sequence[Row], open_: Sequence[Row], column: Column) -> str:
    """What the bounds allow to be said about the better model."""
    if not open_:
        return f"At two standard errors it is separated from every other model with a density: {join(_names(behind))}."
    above = f"separated from {join(_names(behind))}, but " if behind else ""
    near = join(_names(open_))
    return f"At two standard errors it is {above}not separated from {near}: {_why_open(open_, column)}."


def _why_open(rows: Sequence[Row], column: Column) -> str:
    if all(row.cell(column).kind is Kind.LOWER for row in rows):
        return f"{'a lower bound' if len(rows) == 1 else 'lower bounds'} may hide a better true value"
    return "a bound, an estimate or an error bar leaves room for the other order"


def _names(rows: Sequence[Row]) -> list[str]:
    return [row.recipe for row in rows]


def _against_baselines(comparison: Comparison, column: Column, best: Row) -> list[str]:
    """Lower bounds against lower bounds, then which of the baselines it is separated from."""
    mine = best.cell(column)
    able = [row for row in comparison.of_kind("baseline") if row.cell(column).known]
    mine_low = bounds(mine, column.sign)[0]
    ahead = [row.recipe for row in able if mine_low > bounds(row.cell(column), column.sign)[0]]
    above = [row.recipe for row in able if better_than(mine, row.cell(column), column.sign)]
    if not able:
        return []
    share = "every baseline" if len(ahead) == len(able) else f"{len(ahead)} of the {count(len(able), 'baseline')}"
    ahead_of = f"Its bound is ahead of that of {share}"
    return [f"{ahead_of}; it is separated from {join(above)}." if above else f"{ahead_of}, but it is separated from none."]


def _optimum(data: Data) -> list[str]:
    return [] if data.optimum is None else [f"The best possible E log p on this data is {number(data.optimum, 5)} nats."]


def quality_words(comparison: Comparison) -> list[str]:
    """The lowest distance, who is within two standard errors of it, and whether the seeds allow a claim."""
    column = distance_column(comparison)
    rows = [row for row in comparison.finished if row.cell(column).known]
    if column is None or not rows:
        return []
    ordered = sorted(rows, key=lambda row: -column.sign * row.cell(column).value)
    best = ordered[0]
    near = [row for row in ordered[1:] if not separated(best.cell(column), row.cell(column))]
    sentence = f"Closest samples by {_lower_first(column.title)}: {best.recipe}, {quote(best, column)}"
    sentence += f"; two combined standard errors do not tell it from {join([row.recipe for row in near])}." if near else "."
    seeds = max(len({row.seed for row in rows if row.recipe == best.recipe}), len(best.cell(column).dots))
    if seeds < SEEDS and len(rows) > 1:
        sentence += " As claims about recipes these are not separated: "
        sentence += f"that takes {SEEDS} seeds or more, and this page has {seeds}."
    return [sentence]


def _lower_first(title: str) -> str:
    return title[:1].lower() + title[1:] if title[1:2].islower() else title


def tiles(comparison: Comparison) -> list[Tile]:
    """The headline numbers: density, sample quality, speed."""
    chosen = []
    density, distance, speed = (
        density_column(comparison),
        distance_column(comparison),
        sampling_column(comparison),
    )
    side = "Lowest" if distance and distance.sign < 0 else "Highest"
    near = f"{side} {_lower_first(distance.title)}" if distance else ""
    named = (("Best density by its bound", density), (near, distance), ("Fastest sampler", speed))
    for title, column in named:
        best = leader(comparison.finished, column) if column else None
        if column and best:
            tied = sum(row.cell(column).value == best.cell(column).value for row in comparison.finished) - 1
            chosen.append(Tile(title, show(best.cell(column), column), column.unit, best, tied))
    return chosen
