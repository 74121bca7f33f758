"""A number as a reader sees it: a relation sign, the value, an error, a label, and the words behind them.

The label is about log p(x); the sign is about the printed number. A lower bound of log p is an *upper*
bound of bits/dim = -log p / (d log 2), so LOWER prints "\u2265" where high is better and "\u2264" where
low is better. All text is made here from the number, and nothing reads it back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from genalloy.core.evidence import Kind
from genalloy.core.schema import NOT_MEASURED, Column, Number, Row
from genalloy.evaluation.ranking import better_than, bounds, sort_key

SPOKEN = {"\u2264": "at most", "\u2265": "at least", "=": "exactly", "\u2248": "about"}
BADGES = {
    "EXACT": "exact",
    "LOWER": "lower bound",
    "UPPER": "upper bound",
    "UNBIASED": "unbiased",
    "ESTIMATE": "estimate",
    "NONE": "none",
}
DEFAULT_LABELS = {
    "EXACT": "The number is log p(x) itself, up to rounding.",
    "LOWER": "On average the number lies at or below log p(x): the model is at least this good.",
    "UPPER": "On average the number lies at or above log p(x): the model may be worse than this.",
    "UNBIASED": "Right on average, but random; trusted to two standard errors.",
    "ESTIMATE": "Near log p(x), on an unknown side. Never ranked.",
    "NONE": "There is no such number for this model.",
}


@dataclass(frozen=True)
class Shown:
    """What the template prints; `rank` orders the column, best first, and is empty where the cell cannot be
    ordered.
    """

    sign: str = ""
    spoken: str = ""
    main: str = ""
    error: str = ""
    kind: str = ""
    badge: str = ""
    tip: str = ""
    reason: str = ""
    short: str = ""
    mark: str = ""
    rank: str = ""
    absent: bool = False


def relation(kind: Kind | None, sign: float) -> str:
    """The sign before a number whose score (sign * number) carries the claim `kind`."""
    if kind in (Kind.LOWER, Kind.UPPER):
        return "\u2264" if (kind is Kind.LOWER) == (sign < 0) else "\u2265"
    return {Kind.EXACT: "=", Kind.UNBIASED: "\u2248", Kind.ESTIMATE: "\u2248"}.get(kind, "") if kind else ""


def digits(number: Number) -> tuple[str, str]:
    """The value and its error ("" where none is known): three decimals for densities, four digits for a mean over seeds."""
    value, error = number.value, number.stderr
    if number.kind is not None and not number.seeds:
        return f"{value:.3f}", "" if error is None else f"{error:.3f}"
    if number.seeds or number.unit not in ("s", "MiB"):
        main = f"{value:,}" if type(value) is int else f"{value:.4g}"
    else:
        main = f"{value:.0f}" if number.unit == "MiB" or value >= 20 else f"{value:.3g}"
    return main, "" if error is None else f"{error:.2g}"


def in_words(number: Number) -> str:
    """One line for a terminal or a document: sign, value, error and, where no column says it, the unit."""
    if not number.known:
        return f"n/a ({number.reason})"
    main, error = digits(number)
    sign = relation(number.kind, -1.0 if number.unit.startswith("bits") else 1.0).replace("=", "")
    unit = number.unit if number.kind is None and not number.seeds else ""
    return " ".join(part for part in (sign, main, error and f"\u00b1 {error}", unit) if part)


def shorten(text: str, most: int = 30) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "\u2026"


def show(number: Number, column: Column, rank: str = "", mark: str = "") -> Shown:
    """A number in a column, for the template; one that is missing is said in words."""
    if not number.known:
        reason = number.reason
        return Shown(reason=reason, short=shorten(reason), tip=reason, rank=rank, absent=reason == NOT_MEASURED)
    main, error = digits(number)
    claim = number.kind if column.group == "density" else None
    sign = relation(claim, column.sign)
    return Shown(
        sign=sign,
        spoken=SPOKEN.get(sign, ""),
        main=main.replace("-", "\u2212"),
        error=error,
        kind=claim.value if claim else "",
        badge=BADGES[claim.value] if claim else "",
        tip=_tip(number, column),
        mark=mark,
        rank=rank,
    )


def _tip(number: Number, column: Column) -> str:
    size = f"n = {number.n:,}" if number.n else ""
    label = BADGES[number.kind.value] if number.kind else ""
    return "; ".join(part for part in (label, number.how, size, column.unit or number.unit) if part)


def bounded(number: Number) -> bool:
    """Whether the value is itself a safe statement about the model: it has a lower bound."""
    return bounds(number)[0] > float("-inf")


def leaders(rows: Sequence[Row], column: Column) -> list[Row]:
    """The rows that come first among those with a lower end, several on a tie: the highest lower end in a density column,
    the best value elsewhere.
    """
    able = [row for row in rows if bounded(row.cell(column))]
    scores = [
        bounds(row.cell(column), column.sign)[0] if column.group == "density" else column.sign * row.cell(column).value
        for row in able
    ]
    return [row for row, score in zip(able, scores, strict=True) if score == max(scores)]


def mark_of(row: Row, rows: Sequence[Row], column: Column) -> str:
    """ "best" where the rule of bounds says so, "leads" for the first at face value, else nothing.

    "best" is a claim, so the rule grants it in density columns only, above every other row that has a number;
    sample quality, codes and outliers would take several seeds.
    """
    if not column.sign:
        return ""
    able, first = sum(bounded(r.cell(column)) for r in rows), leaders(rows, column)
    if not any(r is row for r in first) or (len(first) == able):
        return ""
    rest = [r.cell(column) for r in rows if r is not row and r.cell(column).known]
    above = all(better_than(row.cell(column), number, column.sign) for number in rest)
    return "best" if column.group == "density" and above else "leads"


def ranks(rows: Sequence[Row], column: Column) -> list[str]:
    """Place of each row in the column's order: lower ends first, values without one after, missing last."""
    sign = column.sign or -1.0

    def key(index: int) -> tuple[bool, float, float]:
        number = rows[index].cell(column)
        return not number.known, sort_key(number, sign)[0], -sign * number.value if number.known else 0.0

    places = {index: place for place, index in enumerate(sorted(range(len(rows)), key=key))}
    return [f"{places[i]:03d}" if row.cell(column).known else "" for i, row in enumerate(rows)]
