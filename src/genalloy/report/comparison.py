"""`comparison.json` as typed values, and the rule by which one number stands above another.

A cell states a value with the side on which the truth lies. With s = +1 where high is better and s = -1
where low is better (bits/dim), the score is s * value, and a claim about log p is a claim about the score:
LOWER leaves the score without an upper end, UPPER without a lower end, ESTIMATE and NONE without either.
Elsewhere an end is the stated one, or value -+ 2 stderr. Then

    A stands above B  iff  lower end of A > upper end of B,

so a bound can beat an exact value, and an exact value can never beat a bound of the same side.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
NO_UPPER = frozenset({"LOWER", "ESTIMATE", "NONE"})
NO_LOWER = frozenset({"UPPER", "ESTIMATE", "NONE"})
ABSENT = "not measured"


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

    @property
    def reason(self) -> str:
        """Why there is no number; empty where there is one."""
        if self.value is not None:
            return ""
        return self.missing or "no finite number came out"

    @property
    def certified(self) -> bool:
        """Whether the stated value is itself a safe statement about the model (exact or a lower bound)."""
        return self.value is not None and self.kind not in NO_LOWER

    def ends(self, sign: float) -> tuple[float, float]:
        """(lower, upper) end of the score; +-inf where the claim has no such end."""
        if self.value is None:
            return -math.inf, math.inf
        slack = 2.0 * (self.stderr or 0.0)
        low = self.low if self.low is not None and self.low <= self.value else self.value - slack
        high = self.high if self.high is not None and self.high >= self.value else self.value + slack
        lower, upper = sorted((sign * low, sign * high))
        return (-math.inf if self.kind in NO_LOWER else lower, math.inf if self.kind in NO_UPPER else upper)


def stands_above(a: tuple[float, float], b: tuple[float, float]) -> bool:
    """The strict rule, on (lower, upper) ends of scores."""
    return a[0] > b[1]


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

    def cell(self, column: Column | None) -> Cell:
        """The cell of a column; an empty one where the row has none."""
        return (
            Cell(missing=self.absence)
            if column is None
            else self.cells.get(column.id, Cell(missing=self.absence))
        )

    @property
    def absence(self) -> str:
        return "the run failed" if self.error else ABSENT


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
    return pick(Cell, raw, **numbers)


def _curve(raw: Sequence[Any]) -> list[tuple[float, float]]:
    """(step, value) pairs; a value that is not finite stays, as NaN, so that the line breaks there."""
    pairs = ((finite(point[0]), finite(point[1])) for point in raw if len(point) >= 2)
    return [(step, math.nan if value is None else value) for step, value in pairs if step is not None]


def _row(raw: Mapping[str, Any]) -> Row:
    cells = {name: _cell(cell) for name, cell in (raw.get("cells") or {}).items() if cell is not None}
    curves = {name: _curve(points) for name, points in (raw.get("curves") or {}).items() if points}
    return pick(Row, {"recipe": "unnamed", **raw}, cells=cells, curves=curves)


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
        columns=[pick(Column, column) for column in raw.get("columns") or []],
        rows=[_row(row) for row in raw.get("rows") or []],
    )
