"""A cell as a reader sees it: a relation sign, a number, an error, a label, and the words behind them.

The label is about log p(x); the sign is about the printed number. A lower bound of log p is an *upper*
bound of bits/dim = -log p / (d log 2), so LOWER prints "\u2265" where high is better and "\u2264" where
low is better.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from genalloy.evaluation.ranking import better_than, sort_key
from genalloy.report.comparison import ABSENT, Cell, Column, Row
from genalloy.report.scales import number

SIGNS = {
    "<=": "\u2264",
    ">=": "\u2265",
    "=": "=",
    "~": "\u2248",
    "~=": "\u2248",
    "\u2264": "\u2264",
    "\u2265": "\u2265",
    "\u2248": "\u2248",
}
SAID = {"\u2264": "at most", "\u2265": "at least", "=": "exactly", "\u2248": "about"}
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
_TEXT = re.compile(r"^\s*(<=|>=|~=|~|=|\u2264|\u2265|\u2248)?\s*(.*?)\s*$", re.DOTALL)
_ERROR = re.compile(r"\s*(?:\+-|\+/-|\u00b1)\s*")


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


def relation(kind: str, sign: float) -> str:
    """The sign before a number whose score (sign * number) carries the claim `kind`."""
    if kind in ("LOWER", "UPPER"):
        return "\u2264" if (kind == "LOWER") == (sign < 0) else "\u2265"
    return {"EXACT": "=", "UNBIASED": "\u2248", "ESTIMATE": "\u2248"}.get(kind, "")


def shorten(text: str, most: int = 30) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "\u2026"


def show(cell: Cell, column: Column, rank: str = "", mark: str = "") -> Shown:
    """A cell of a column, for the template; a number that is missing is said in words."""
    if cell.value is None:
        absent = cell.missing == ABSENT
        return Shown(
            reason=cell.reason, short=shorten(cell.reason), tip=cell.reason, rank=rank, absent=absent
        )
    found = _TEXT.match(cell.text or number(cell.value, 4))
    given, rest = (found.group(1), found.group(2)) if found else (None, cell.text)
    main, *tail = _ERROR.split(rest.removesuffix(column.unit).rstrip() if column.unit else rest, maxsplit=1)
    error = tail[0] if tail else number(cell.stderr, 2) if cell.stderr and not cell.text else ""
    density = column.group == "density"
    sign = SIGNS[given] if given else relation(cell.kind, column.sign) if density else ""
    return Shown(
        sign=sign,
        spoken=SAID.get(sign, ""),
        main=main.replace("-", "\u2212") if re.match(r"-[\d.]", main) else main,
        error=error,
        kind=cell.kind if density else "",
        badge=BADGES.get(cell.kind, cell.kind.lower()) if density else "",
        tip=_tip(cell, column),
        mark=mark,
        rank=rank,
    )


def _tip(cell: Cell, column: Column) -> str:
    size = f"n = {cell.n:,}" if cell.n else ""
    label = BADGES.get(cell.kind, cell.kind.lower()) if cell.kind else ""
    return "; ".join(part for part in (label, cell.how, size, column.unit) if part)


def leaders(rows: Sequence[Row], column: Column) -> list[Row]:
    """The rows that come first among those with a certified end, several on a tie: the highest lower end in a density
    column, the best value elsewhere.
    """
    able = [row for row in rows if row.cell(column).certified]
    scores = [
        row.cell(column).entry(column.sign).low if column.group == "density" else column.sign * (row.cell(column).value or 0.0)
        for row in able
    ]
    return [row for row, score in zip(able, scores, strict=True) if score == max(scores)]


def mark_of(row: Row, rows: Sequence[Row], column: Column) -> str:
    """ "best" where the strict rule or the file says so, "leads" for the first at face value, else nothing.

    "best" is a claim, so the rule grants it in density columns only, above every other row that has a number;
    sample quality, codes and outliers would take several seeds.
    """
    if row.cell(column).best:
        return "best"
    if not column.sign or any(r.cell(column).best for r in rows):
        return ""
    able, first = sum(r.cell(column).certified for r in rows), leaders(rows, column)
    if not any(r is row for r in first) or (len(first) == able):
        return ""
    mine = row.cell(column).entry(column.sign)
    rest = [r.cell(column) for r in rows if r is not row and r.cell(column).value is not None]
    above = all(better_than(mine, cell.entry(column.sign)) for cell in rest)
    return "best" if column.group == "density" and above else "leads"


def ranks(rows: Sequence[Row], column: Column) -> dict[int, str]:
    """Place of each row in the column's order, by id(row): certified lower ends first, uncertified values
    after, missing last.
    """
    sign = column.sign or -1.0

    def key(row: Row) -> tuple[bool, float, float]:
        cell = row.cell(column)
        return cell.value is None, sort_key(cell.entry(sign))[0], -sign * (cell.value or 0.0)

    ordered = sorted(rows, key=key)
    return {id(row): f"{place:03d}" if row.cell(column).value is not None else "" for place, row in enumerate(ordered)}
