r"""Where observations live: a shape, and what each entry may be.

A log-density means nothing without its base measure. An entry on a grid :math:`\{0, \dots, K-1\}` carries a
probability mass (counting measure), a real entry a density (Lebesgue measure in the user's units), so that
:math:`p(x) \le 1` holds for the first and not for the second. Two log-densities may be compared only on one space.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, cast

from genalloy.core.evidence import Measure

KINDS = ("points", "image", "table", "sequence", "text")
COLUMN_KINDS = ("real", "integer", "category")


@dataclass(frozen=True)
class Column:
    """One column of a table, as the user gave it and as it is stored.

    name, dtype:  of the user's column, given back with samples; for dates and spans of time the number is of days.
    kind:         "real" or "integer" (stored less `shift`), "category" (stored as an index into `categories`).
    categories:   what people read; two of them may be spelt alike ("1" and 1), `exact` then tells them apart.
    low, high:    smallest and largest stored value seen in the data; integers are clipped to them on the way back.
    shift:        what is taken off in float64 (integers: exactly) before a value is stored as float32, and put back.
    step:         integers that are all shift + k step are stored as k, where float32 could not hold them otherwise.
    decimals:     to which reals are rounded on the way back, since all were written so; None: they are not.
    label:        the column's label as JSON where it is not the text `name`.
    exact:        JSON of what `dtype` does not say: see `genalloy.data.dtypes`.
    """

    name: str
    kind: str = "real"
    dtype: str = "float64"
    categories: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    shift: float = 0
    step: int = 1
    decimals: int | None = None
    label: str = ""
    exact: str = ""

    def __post_init__(self) -> None:
        if self.kind not in COLUMN_KINDS:
            raise ValueError(f"Column {self.name!r} has kind {self.kind!r}; expected one of {COLUMN_KINDS}")

    @property
    def discrete(self) -> bool:
        return self.kind != "real"


@dataclass(frozen=True)
class Space:
    """The set that observations are drawn from; shapes `E` everywhere in this library are `shape`.

    shape:    event shape; images are (channels, height, width).
    kind:     "points", "image", "table", "sequence" or "text": how samples are drawn for people, not a measure.
    levels:   K: every entry is an integer 0..K-1 under counting measure. None: see `columns`.
    columns:  for tables, one `Column` per entry, mixing reals, integers and categories; for text, one `Column`
              whose categories are the alphabet. Empty with ``levels=None``: reals under Lebesgue measure.
    unequal:  rows are sequences of at most shape[0] steps; a density is of the row's own steps, given how many they are.
    """

    shape: tuple[int, ...]
    kind: str = "points"
    levels: int | None = None
    columns: tuple[Column, ...] = ()
    unequal: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"Space has kind {self.kind!r}; expected one of {KINDS}")
        if self.levels is not None and self.levels < 2:
            raise ValueError(f"Space has {self.levels} levels; expected at least 2, or None for reals")

    @property
    def dims(self) -> int:
        """Number of entries of one observation."""
        return math.prod(self.shape)

    @property
    def discrete(self) -> bool | tuple[bool, ...]:
        """Whether entries lie on a grid: one answer for all, or one per column where they differ."""
        if self.levels is not None:
            return True
        per_column = tuple(column.discrete for column in self.columns)
        return per_column if any(per_column) and not all(per_column) else any(per_column)

    @property
    def measure(self) -> Measure:
        """Base measure of a density on this space."""
        if self.levels is not None:
            return Measure(0, self.dims)
        grid = sum(column.discrete for column in self.columns)
        return Measure(self.dims - grid, grid)

    @property
    def in_bits(self) -> bool:
        """Whether densities are printed in bits per dimension: integers of more than two levels; all else is in nats.

        Rows of unequal lengths are in nats too: a row's number of dimensions is its own.
        """
        return self.levels is not None and self.levels > 2 and not self.unequal

    @property
    def measure_text(self) -> str:
        """The base measure in words, to stand beside every density."""
        if self.unequal:
            return f"{self._one_step()}, sequences of at most {_count(self.shape[0], 'step')}, given their length"
        reals, grid = cast("tuple[int, int]", self.measure)
        if self.levels is not None:
            return f"probability mass on {_count(grid, 'integer')} 0..{self.levels - 1}"
        if not grid:
            return f"density over {_count(reals, 'real')}"
        mass = f"probability mass on {_count(grid, 'discrete column')}"
        return mass if not reals else f"mixed: density over {_count(reals, 'real')}, {mass}"

    def _one_step(self) -> str:
        size = math.prod(self.shape[1:])
        if self.levels is None:
            return f"density over {_count(size, 'real')} a step"
        return f"probability mass on {_count(size, 'integer')} 0..{self.levels - 1} a step"

    def comparable(self, other: Space) -> str | None:
        """Why densities on the two spaces cannot be compared; None if they can."""
        if self.dims != other.dims:
            return f"they describe {self.dims} and {other.dims} entries"
        if self.levels != other.levels or self.unequal != other.unequal:
            return f"one is a {self.measure_text}, the other a {other.measure_text}"
        ours, theirs = (tuple(map(_grid, space.columns)) or (_REAL,) * space.dims for space in (self, other))
        if ours != theirs:
            return f"one is a {self.measure_text}, the other a {other.measure_text}, column by column"
        return None

    def to_json(self) -> dict[str, Any]:
        """A dict of plain JSON values; `from_json` turns it back into an equal Space."""
        return {**asdict(self), "shape": list(self.shape), "columns": [asdict(c) for c in self.columns]}

    @staticmethod
    def from_json(record: dict[str, Any]) -> Space:
        """The Space that `to_json` described."""
        columns = tuple(Column(**{**c, "categories": tuple(c["categories"])}) for c in record["columns"])
        return Space(tuple(record["shape"]), record["kind"], record["levels"], columns, record.get("unequal", False))


_REAL = ("real",)


def _grid(column: Column) -> tuple[object, ...]:
    """What a density depends on: the kind of an entry and its categories, neither its name nor its range."""
    return (column.kind, *column.categories)


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'s' * (n != 1)}"
