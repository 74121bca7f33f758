r"""One record of a number, and of the tables that numbers stand in.

Where a number on the page comes from: an estimator gives :class:`~genalloy.core.evidence.Evidence`, a tensor with its claim;
``Number.of`` takes its mean over rows, a metric of `genalloy.evaluation` makes a :class:`Number` itself; a panel of
`genalloy.studies.panels` names them; `genalloy.studies.table` puts a run's panels into a :class:`Row` and rows into a
:class:`Comparison`, whose file (`plain`, read again by `read_comparison`) is all that `genalloy.report` looks at. Values, errors,
kinds and units travel unchanged; text is made in `genalloy.report` alone, and is never read back.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from genalloy.core.evidence import Evidence, Kind

T = TypeVar("T")
FORMAT = 2
"""Of every file that holds numbers: row.json, comparison.json and the records in results/."""
ERRORS = 2.0
"""Standard errors from a value to the ends of its interval where no ends are stated."""
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Number:
    """A value with everything that may be claimed of it, or the reason why there is none.

    value:     in `unit`; NaN where there is none.
    stderr:    its standard error, None where none is known.
    n:         rows behind it.
    how:       how it was made.
    low, high: ends of a 95 % interval where they are known and are not value -+ 2 stderr (bootstrap, ratios).
    kind:      what a log-density claims; None for any other number.
    given:     what a log-density is conditional on, "" for log p(x).
    unit:      "nats", "bits/dim", "s", ...; "" for a pure number.
    missing:   why there is no value; "" where there is one.
    seeds:     the value at each seed (None: that run has none) where `value` is their mean and `stderr` its error.
    """

    value: float = math.nan
    stderr: float | None = None
    n: int | None = None
    how: str = ""
    low: float | None = None
    high: float | None = None
    kind: Kind | None = None
    given: str = ""
    unit: str = ""
    missing: str = ""
    seeds: tuple[float | None, ...] = ()

    @staticmethod
    def of(evidence: Evidence) -> Number:
        """Mean nats over the rows (N,), with the standard error over them; the estimator's own error stands in `how`."""
        if evidence.kind is Kind.NONE:
            return absent(evidence.how)
        values, how = evidence.value.double(), evidence.how
        n, mean = len(values), float(values.mean())
        if not math.isfinite(mean):
            return absent(f"log-density is not finite on the test rows ({how})")
        if evidence.stderr is not None:
            own = float(evidence.stderr.double().square().sum().sqrt()) / n
            how = f"{how}; estimator's own error {own:.2g} nats"
        error = float(values.std()) / math.sqrt(n)
        return Number(mean, error, n, how, kind=evidence.kind, given=evidence.given, unit="nats")

    @property
    def known(self) -> bool:
        """Whether there is a finite value."""
        return math.isfinite(self.value)

    @property
    def reason(self) -> str:
        """Why there is no number; empty where there is one."""
        return "" if self.known else self.missing or "no finite number came out"

    def named(self, name: str) -> Number:
        """The same number with `name` in front of how it was made; a reason needs no name."""
        return self if self.missing else replace(self, how=f"{name}: {self.how}")

    def times(self, factor: float, unit: str) -> Number:
        """The number in another unit; a negative factor exchanges the ends."""
        error = None if self.stderr is None else abs(factor) * self.stderr
        low, high = (None if end is None else factor * end for end in (self.low, self.high))
        low, high = (low, high) if factor > 0 else (high, low)
        seeds = tuple(None if v is None else factor * v for v in self.seeds)
        return replace(self, value=factor * self.value, stderr=error, low=low, high=high, unit=unit, seeds=seeds)

    @property
    def ends(self) -> tuple[float, float]:
        """The interval: ends that are stated on their side of the value, otherwise two standard errors."""
        margin = ERRORS * (self.stderr or 0.0)
        low = self.low if self.low is not None and self.low <= self.value else self.value - margin
        high = self.high if self.high is not None and self.high >= self.value else self.value + margin
        return low, high

    @property
    def span(self) -> tuple[float, float] | None:
        """The interval that is drawn; None where nothing is known of it."""
        stated = self.stderr is not None or (self.low is not None and self.high is not None)
        return self.ends if self.known and stated else None

    @property
    def dots(self) -> tuple[float, ...]:
        """The values of single seeds that are known."""
        return tuple(value for value in self.seeds if value is not None)

    def __str__(self) -> str:
        if self.missing:
            return f"n/a ({self.missing})"
        error = "" if self.stderr is None else f" +- {self.stderr:.2g}"
        size = "" if self.n is None else f"n = {self.n:,}; "
        return f"{self.value:.4g}{error} ({size}{self.how})"


def absent(reason: str) -> Number:
    """No number, and why."""
    return Number(missing=reason)


@dataclass(frozen=True)
class Column:
    """A column of a table. better: "high", "low" or "" where neither is better. note: what the number is, a sentence."""

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
class Row:
    """A model, a baseline or a reference row: its numbers by column and by panel, and what it is."""

    recipe: str = "unnamed"
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
    cells: dict[str, Number] = field(default_factory=dict)
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    panels: dict[str, dict[str, Number]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)

    def cell(self, column: Column | None) -> Number:
        """The number in a column; its absence where the row has none."""
        return absent(self.absence) if column is None else self.cells.get(column.id, absent(self.absence))

    @property
    def absence(self) -> str:
        """Why a cell is empty: the run's state where it has an error, otherwise that nobody measured it."""
        return f"the run {self.state}" if self.error else NOT_MEASURED

    @property
    def state(self) -> str:
        """What became of a row with an error: it failed, or it is still to come."""
        return "is not finished" if (self.error or "").startswith("not finished") else "failed"


@dataclass(frozen=True)
class Data:
    """The data of a table: how many rows, of what shape, from where."""

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


class Outcome(Enum):
    """What became of a claim."""

    HOLDS = "holds"
    FAILS = "fails"
    OPEN = "not separated"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True)
class Verdict:
    """The outcome of a claim, the numbers behind it in a sentence, and the verdicts on its parts where it has several."""

    outcome: Outcome = Outcome.INCOMPLETE
    words: str = ""
    parts: tuple[Verdict, ...] = ()

    @property
    def whole(self) -> str:
        """The sentences of all parts, each with its outcome; without parts the one sentence."""
        return "; ".join(f"{part.words} ({part.outcome.value})" for part in self.parts) or self.words


@dataclass(frozen=True)
class Published:
    """A number from the literature, under its own set-up: never measured here. column, recipe: what it stands beside."""

    name: str = "unnamed"
    value: float | None = None
    unit: str = ""
    setup: str = ""
    source: str = ""
    column: str = ""
    recipe: str = ""


@dataclass(frozen=True)
class Comparison:
    """A table with all that its page says; name, family, sheets: of an experiment's record in results/."""

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
    name: str = ""
    family: str = ""
    sheets: dict[str, str] = field(default_factory=dict)

    def of_kind(self, kind: str) -> list[Row]:
        """The rows of a kind, in order."""
        return [row for row in self.rows if row.kind == kind]

    @property
    def finished(self) -> list[Row]:
        """The rows of models without an error."""
        return [row for row in self.of_kind("model") if not row.error]

    @property
    def failed(self) -> list[Row]:
        """The rows with an error, of whatever kind."""
        return [row for row in self.rows if row.error]


# -- to and from JSON ----------------------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """A value of this module as JSON: dataclasses as objects, labels by name, what is not finite as null."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: plain(inner) for name, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def finite(value: Any) -> float | None:
    """`value` as a finite number, else None (NaN, infinities, text and null are all "no number")."""
    try:
        number = value if type(value) is int else float(value)
        return number if math.isfinite(number) else None
    except (TypeError, ValueError, OverflowError):
        return None


def pick(cls: type[T], raw: Mapping[str, Any], **ready: Any) -> T:
    """A dataclass from the keys of `raw` that it knows and that are not null; `ready` wins."""
    known = {f.name: raw[f.name] for f in fields(cls) if raw.get(f.name) is not None}  # type: ignore[arg-type]
    return cls(**{**known, **ready})


def number_from(raw: Mapping[str, Any]) -> Number:
    """A number from its JSON object; a label that is not known claims nothing."""
    value, kind = finite(raw.get("value")), raw.get("kind")
    ends = {name: finite(raw.get(name)) for name in ("stderr", "low", "high")}
    label = None if kind is None else Kind.__members__.get(str(kind), Kind.NONE)
    seeds = tuple(finite(seed) for seed in raw.get("seeds") or ())
    return pick(Number, raw, value=math.nan if value is None else value, kind=label, seeds=seeds, **ends)


def _numbers(raw: Mapping[str, Any] | None) -> dict[str, Number]:
    return {name: number_from(number) for name, number in (raw or {}).items() if number is not None}


def _in_place(name: str, number: Number) -> Number:
    """A table's number: a density given the label stands in columns of its own only."""
    conditional = number.kind is not None and number.given and not name.startswith("conditional")
    return absent("log p(x | label), not log p(x)") if conditional else number


def _curve(raw: Sequence[Any]) -> list[tuple[float, float]]:
    """(step, value) pairs; a value that is not finite stays, as NaN, so that the line breaks there."""
    pairs = ((finite(point[0]), finite(point[1])) for point in raw if len(point) >= 2)
    return [(step, math.nan if value is None else value) for step, value in pairs if step is not None]


def row_from(raw: Mapping[str, Any]) -> Row:
    """A row from its JSON object."""
    curves = {name: _curve(points) for name, points in (raw.get("curves") or {}).items() if points}
    panels = {title: _numbers(panel) for title, panel in (raw.get("panels") or {}).items() if panel}
    cells = {name: _in_place(name, number) for name, number in _numbers(raw.get("cells")).items()}
    return pick(Row, raw, cells=cells, curves=curves, panels=panels)


def _verdict(raw: Mapping[str, Any]) -> Verdict:
    """Raises ValueError on an outcome that is none of Outcome's."""
    parts = tuple(_verdict(part) for part in raw.get("parts") or ())
    return pick(Verdict, raw, outcome=Outcome(raw.get("outcome")), parts=parts)


def comparison_from(raw: Any, place: Path) -> Comparison:
    """A comparison from its JSON object. Raises ValueError, naming the file `place`, where it is of another format."""
    if not hasattr(raw, "get") or raw.get("format") != FORMAT:
        found = raw.get("format") if hasattr(raw, "get") else type(raw).__name__
        raise ValueError(f"{place} has format {found!r}, this version reads format {FORMAT}; run the command that wrote it again")
    data = raw.get("data") or {}
    return pick(
        Comparison,
        raw,
        minutes=finite(raw.get("minutes")),
        data=pick(Data, data, optimum=finite(data.get("optimum"))),
        columns=[pick(Column, {"id": "", **column}) for column in raw.get("columns") or []],
        rows=[row_from(row) for row in raw.get("rows") or []],
        verdict=_verdict(raw["verdict"]) if raw.get("verdict") else None,
        published=[pick(Published, p, value=finite(p.get("value"))) for p in raw.get("published") or []],
    )


def read_comparison(path: Path) -> Comparison:
    """The comparison of a file. Raises ValueError where there is none or it cannot be understood."""
    if not path.is_file():
        raise ValueError(f"no {path.name} in {path.parent}; give the directory that `genalloy compare --out` wrote")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); run `genalloy compare` again") from error
    return comparison_from(raw, path)
