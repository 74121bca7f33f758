"""`comparison.json` as typed values.

A cell states a value with the side on which the truth lies. With s = +1 where high is better and s = -1 where low is
better (bits/dim), the score is s * value, and a claim about log p is a claim about the score: `Cell.entry` hands it to
the one rule of who stands above whom, in `genalloy.evaluation.ranking`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from genalloy.core.evidence import Kind
from genalloy.evaluation.metric import Metric
from genalloy.evaluation.ranking import Entry

T = TypeVar("T")
KINDS = {"": Kind.EXACT, **{kind.value: kind for kind in Kind}}
"""A number without a label is no claim about log p: its two ends are its error's."""
ABSENT = "not measured"
OUTCOMES = ("holds", "fails", "not separated", "incomplete")


def finite(value: Any) -> float | None:
    """`value` as a finite float, else None (NaN, infinities, text and null are all "no number")."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def pick(cls: type[T], raw: Mapping[str, Any], **ready: Any) -> T:
    """A dataclass from the keys of `raw` that it knows and that are not null; `ready` wins."""
    known = {f.name: raw[f.name] for f in fields(cls) if raw.get(f.name) is not None}  # type: ignore[arg-type]
    return cls(**{**known, **ready})


@dataclass(frozen=True)
class Column:
    id: str
    title: str = ""
    group: str = ""
    better: str = ""
    unit: str = ""
    note: str = ""

    @property
    def name(self) -> str:
        """The heading, or the id where there is none."""
        return self.title or self.id

    @property
    def sign(self) -> float:
        """+1 where high is better, -1 where low is better, 0 where neither is."""
        return {"high": 1.0, "low": -1.0}.get(self.better, 0.0)


@dataclass(frozen=True)
class Cell:
    value: float | None = None
    low: float | None = None
    high: float | None = None
    stderr: float | None = None
    kind: str = ""
    text: str = ""
    how: str = ""
    n: int | None = None
    missing: str | None = None
    best: bool = False
    given: str = ""
    seeds: list[float | None] = field(default_factory=list)

    @property
    def reason(self) -> str:
        """Why there is no number; empty where there is one."""
        if self.value is not None:
            return ""
        return self.missing or "no finite number came out"

    @property
    def certified(self) -> bool:
        """Whether the stated value is itself a safe statement about the model (exact or a lower bound)."""
        return math.isfinite(self.entry(1.0).low)

    def entry(self, sign: float) -> Entry:
        """The claim about the score sign * value, for the ranking rule."""
        if self.value is None:
            return Entry(Kind.NONE, -math.inf, math.inf, self.given)
        low, high = (None if end is None else sign * end for end in (self.low, self.high))
        ends = (low, high) if sign > 0 else (high, low)
        claim = Entry.of(KINDS.get(self.kind, Kind.NONE), sign * self.value, self.stderr, *ends)
        return replace(claim, given=self.given)

    def metric(self) -> Metric:
        """The number as the evaluation's own, for the rule of separation; NaN where there is none."""
        return Metric(math.nan if self.value is None else self.value, self.stderr, self.n or 0, self.how)

    @property
    def dots(self) -> list[float]:
        """The values of single seeds that are known."""
        return [value for value in self.seeds if value is not None]

    @property
    def span(self) -> tuple[float, float] | None:
        """The ends of the interval that is drawn: the stated ones, otherwise two standard errors; None without either."""
        if self.value is None or (self.stderr is None and (self.low is None or self.high is None)):
            return None
        stated = Entry.of(Kind.EXACT, self.value, self.stderr, self.low, self.high)
        return stated.low, stated.high


@dataclass(frozen=True)
class Row:
    recipe: str
    family: str = "other"
    kind: str = "model"
    formula: str = ""
    composition: str = ""
    reference: str = ""
    parameters: int | None = None
    steps: int | None = None
    seed: int | None = None
    error: str | None = None
    folder: str | None = None
    command: str = ""
    cells: dict[str, Cell] = field(default_factory=dict)
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    panels: dict[str, dict[str, Cell]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=list)

    def cell(self, column: Column | None) -> Cell:
        """The cell of a column; an empty one where the row has none."""
        return (
            Cell(missing=self.absence)
            if column is None
            else self.cells.get(column.id, Cell(missing=self.absence))
        )

    @property
    def absence(self) -> str:
        return f"the run {self.state}" if self.error else ABSENT

    @property
    def state(self) -> str:
        """What became of a row with an error: it failed, or it is still to come."""
        return "is not finished" if (self.error or "").startswith("not finished") else "failed"


@dataclass(frozen=True)
class Data:
    name: str = "data"
    kind: str = ""
    shape: list[int] = field(default_factory=list)
    measure: str = ""
    train: int | None = None
    validation: int | None = None
    test: int | None = None
    notes: list[str] = field(default_factory=list)
    optimum: float | None = None
    alphabet: list[str] = field(default_factory=list)
    style: str = ""
    rate: int = 0
    sha256: str = ""
    split: str = ""
    split_seed: int | None = None
    limit: int | None = None


@dataclass(frozen=True)
class Verdict:
    """What became of a claim: one of OUTCOMES, and the sentence that says why."""

    outcome: str = "incomplete"
    words: str = ""


@dataclass(frozen=True)
class Published:
    """A number from the literature, under its own set-up: never measured here. column, recipe: what it stands beside."""

    name: str
    value: float | None = None
    unit: str = ""
    setup: str = ""
    source: str = ""
    column: str = ""
    recipe: str = ""


@dataclass(frozen=True)
class Comparison:
    title: str = "Comparison"
    command: str = ""
    seed: int | None = None
    created: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    machine: str = ""
    minutes: float | None = None
    data: Data = field(default_factory=Data)
    columns: list[Column] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    kind: str = "compare"
    claim: str = ""
    verdict: Verdict | None = None
    published: list[Published] = field(default_factory=list)
    budget: str = ""
    seeds: list[int] = field(default_factory=list)
    sweep: list[str] = field(default_factory=list)
    headline: list[str] = field(default_factory=list)

    def of_kind(self, kind: str) -> list[Row]:
        return [row for row in self.rows if row.kind == kind]

    @property
    def finished(self) -> list[Row]:
        return [row for row in self.of_kind("model") if not row.error]

    @property
    def failed(self) -> list[Row]:
        return [row for row in self.rows if row.error]


def _cell(raw: Mapping[str, Any]) -> Cell:
    numbers = {name: finite(raw.get(name)) for name in ("value", "low", "high", "stderr")}
    return pick(Cell, raw, **numbers, seeds=[finite(value) for value in raw.get("seeds") or []])


def _cells(raw: Mapping[str, Any] | None) -> dict[str, Cell]:
    return {name: _cell(cell) for name, cell in (raw or {}).items() if cell is not None}


def _in_place(name: str, cell: Cell) -> Cell:
    """A table's cell: a density given the label is a number of its own columns only. Older files say so in `how` alone."""
    conditional = bool(cell.given) or "; given the label" in cell.how
    return Cell(missing="log p(x | label), not log p(x)") if conditional and not name.startswith("conditional") else cell


def _curve(raw: Sequence[Any]) -> list[tuple[float, float]]:
    """(step, value) pairs; a value that is not finite stays, as NaN, so that the line breaks there."""
    pairs = ((finite(point[0]), finite(point[1])) for point in raw if len(point) >= 2)
    return [(step, math.nan if value is None else value) for step, value in pairs if step is not None]


def row_from(raw: Mapping[str, Any]) -> Row:
    """A row from its JSON object."""
    curves = {name: _curve(points) for name, points in (raw.get("curves") or {}).items() if points}
    panels = {title: _cells(panel) for title, panel in (raw.get("panels") or {}).items() if panel}
    cells = {name: _in_place(name, cell) for name, cell in _cells(raw.get("cells")).items()}
    return pick(Row, {"recipe": "unnamed", **raw}, cells=cells, curves=curves, panels=panels)


def column_from(raw: Mapping[str, Any]) -> Column:
    """A column from its JSON object."""
    return pick(Column, {"id": "", **raw})


def published_from(raw: Mapping[str, Any]) -> Published:
    """A published number from its JSON object."""
    return pick(Published, {"name": "unnamed", **raw}, value=finite(raw.get("value")))


def read_comparison(directory: Path) -> Comparison:
    """`directory/comparison.json`, format 1. Raises ValueError where there is none or it cannot be
    understood.
    """
    path = Path(directory) / "comparison.json"
    if not path.is_file():
        raise ValueError(
            f"no comparison.json in {directory}; give the directory that `genalloy compare --out` wrote"
        )
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); run `genalloy compare` again") from error
    if not hasattr(raw, "get") or raw.get("format") != 1:
        found = raw.get("format") if hasattr(raw, "get") else type(raw).__name__
        raise ValueError(
            f"{path} has format {found!r}, this version reads format 1; run `genalloy compare` again"
        )
    return _comparison(raw)


def _comparison(raw: Mapping[str, Any]) -> Comparison:
    data = raw.get("data") or {}
    return pick(
        Comparison,
        raw,
        minutes=finite(raw.get("minutes")),
        data=pick(Data, data, optimum=finite(data.get("optimum"))),
        columns=[column_from(column) for column in raw.get("columns") or []],
        rows=[row_from(row) for row in raw.get("rows") or []],
        verdict=pick(Verdict, raw["verdict"]) if raw.get("verdict") else None,
        published=[published_from(value) for value in raw.get("published") or []],
    )
