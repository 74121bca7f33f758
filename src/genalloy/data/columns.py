"""The columns of a table: every guess about what a column is, in one place, noted, and to be overridden by name.

    load("customers.csv", columns={"signup": "date", "customer_id": "drop", "age": "integer"})

Texts, truth values and categories become an index into their categories; integers, whole days, and floats that are whole
numbers stay integers (a probability mass, base measure counting); dates are days; everything else is real (a density).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from genalloy.data import cells, dtypes, precision
from genalloy.data.cells import DAY
from genalloy.data.errors import BadData, nearest
from genalloy.data.space import Column

Array = np.ndarray[Any, Any]
KINDS = ("real", "integer", "category", "date", "drop")
MOST_CATEGORIES = 1000
FEW_VALUES = 32
CLUMP = 0.05
"""Share of a real column's rows at one value from which a note says so."""
MET_OFTEN = 10
MISSING_WORDS = ("NA", "N/A", "NaN", "nan", "null", "NULL", "None", "NONE", "-", "?")
MOST_REFUSALS = 12
DATE_FORMATS = (
    "ISO8601",
    *(
        day + time
        for day in ("%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%m-%d-%Y", "%d-%m-%Y", "%Y/%m/%d", "%m/%d/%y", "%d/%m/%y", "%d.%m.%y",
                    "%d %b %Y", "%d %B %Y", "%b %d %Y", "%B %d %Y", "%b %d, %Y", "%B %d, %Y", "%d-%b-%Y", "%d-%b-%y")
        for time in ("", " %H:%M", " %H:%M:%S")
    ),
)  # fmt: skip
"""Month first before day first, as most parsers do; a note says so where both are possible."""
STEPS = (3_600_000_000, 60_000_000, 1_000_000, 1_000, 1)
"""Microseconds: hours, minutes, seconds, milliseconds."""


class Decided(NamedTuple):
    column: Column
    notes: list[str]


def parsed(text: str) -> dict[str, str]:
    """`signup=date,customer_id=drop` as a dict; a name with a comma is quoted: `"a,b=drop"`. Raises BadData for no pairs."""
    pairs = [pair.rpartition("=") for pair in next(csv.reader([text]), []) if pair.strip()]
    wrong = next((pair for pair in pairs if not pair[0].strip() or pair[2].strip() not in KINDS), None)
    if wrong is not None:
        raise BadData(f"columns {text!r} has {''.join(wrong)!r}; expected NAME=KIND,... with KIND one of {', '.join(KINDS)}")
    return {name.strip(): kind.strip() for name, _, kind in pairs}


def decide(frame: Any, asked: Mapping[str, str] | None = None) -> tuple[tuple[Column, ...], list[str]]:
    """The columns of a frame and notes on how they were read. asked: column -> one of `KINDS`, which overrides a guess.

    Raises BadData, once and with everything that is wrong, for missing values, cells that no model takes, constant reals, more
    categories than can be learned, and columns that `asked` names and the table has not.
    """
    asked, names = dict(asked or {}), [dtypes.spelt(label) for label in frame.columns]
    _known(names, asked)
    held = [i for i, name in enumerate(names) if asked.get(name) != "drop"]
    refusals, incomplete = _gaps(frame, held)
    decided: list[Decided] = []
    for i in (i for i in held if i not in incomplete):
        try:
            decided.append(_column(frame.columns[i], frame.iloc[:, i], asked.get(names[i], "")))
        except BadData as error:
            refusals.append(f"column {names[i]!r} {error}")
    columns = [one.column for one in decided]
    refusals += _constants(columns)
    if refusals or not columns:
        raise BadData(_together(refusals) if refusals else "every column is dropped; expected at least one to model")
    dropped = [repr(name) for name in names if asked.get(name) == "drop"]
    notes = [f"columns left out, as asked: {', '.join(dropped)}"] if dropped else []
    return tuple(columns), notes + _by_note(decided)


def _by_note(decided: list[Decided]) -> list[str]:
    """Every note once, with the columns that it is about."""
    about: dict[str, list[str]] = {}
    for one in decided:
        for note in one.notes:
            about.setdefault(note, []).append(repr(one.column.name))
    return [f"column{'s' * (len(names) > 1)} {some(names)}: {note}" for note, names in about.items()]


def _known(names: list[str], asked: Mapping[str, str]) -> None:
    for name, kind in asked.items():
        if name not in names:
            raise BadData(f"there is no column {name!r} to read as {kind}; expected one of {some(names)}{nearest(name, names)}")
        if kind not in KINDS:
            raise BadData(f"column {name!r} cannot be read as {kind!r}; expected one of {', '.join(KINDS)}{nearest(kind, KINDS)}")


def _together(refusals: list[str]) -> str:
    shown = refusals[:MOST_REFUSALS] + ([f"and {len(refusals) - MOST_REFUSALS} more"] if len(refusals) > MOST_REFUSALS else [])
    return shown[0] if len(shown) == 1 else f"{len(refusals)} things are wrong with this table: " + " | ".join(shown)


def _gaps(frame: Any, held: list[int]) -> tuple[list[str], set[int]]:
    """What to say of missing and infinite cells, and the columns that have them."""
    missing = {i: cells.gaps(frame.iloc[:, i]) for i in held}
    counts = {i: int(gaps.sum()) for i, gaps in missing.items() if gaps.any()}
    if not counts:
        return [], set()
    first = min(counts, key=lambda i: int(np.argmax(missing[i])))
    each = ", ".join(f"{str(frame.columns[i])!r} {count:,}" for i, count in list(counts.items())[:8])
    words = (
        f"{sum(counts.values()):,} entries are missing or infinite, the first in row {int(np.argmax(missing[first]))}, column"
        f" {str(frame.columns[first])!r} (by column: {each}); expected complete rows; drop them or fill them in"
    )
    return [words], set(counts)


def _constants(columns: list[Column]) -> list[str]:
    still = [repr(c.name) for c in columns if not c.discrete and c.low == c.high]
    if not still:
        return []
    return [
        f"{len(still)} columns never change: {some(still)}; expected columns that vary (a density would be infinite); drop them"
    ]


# -- one column ----------------------------------------------------------------------------------------------------


def _column(label: Any, series: Any, kind: str) -> Decided:
    family = cells.family_of(series)
    column, notes = _READERS[kind](series, family) if kind else _guess(series, family)
    name, plain = dtypes.spelt(label), dtypes.plain_label(label)
    named = {"name": name, "label": "" if type(plain) is str else json.dumps(plain)}
    said = [f"read as {kind}, as asked"] if kind else []
    return Decided(_with(column, named), said + notes)


def _with(column: Column, facts: dict[str, Any]) -> Column:
    return Column(**{**column.__dict__, **facts})


def _guess(series: Any, family: str) -> Decided:
    if family == "float" and precision.whole(values := cells.numbers(series)):
        if precision.offset(values) is None:
            column, notes = _real(series, family)
            return Decided(column, [f"whole numbers from {values.min():g} to {values.max():g} are read as reals", *notes])
        column, notes = _integer(series, family)
        return Decided(column, ["floats that are all integers were read as integers; =real reads them as reals", *notes])
    return _READERS[_GUESSES[family]](series, family)


def _exact(series: Any, **more: Any) -> str:
    """What the dtype's name does not say, and what else is needed on the way back, as JSON; "" for nothing."""
    record = {"of": dtypes.describe(series.dtype), **more}
    if series.dtype == object:
        record["cells"] = _cell_type(series)
    record = {name: value for name, value in record.items() if value}
    return json.dumps(record) if record else ""


def _cell_type(series: Any) -> str:
    names = {type(cell).__name__ for cell in series}
    return next(iter(names)) if len(names) == 1 else ""


def _measured(series: Any, family: str) -> tuple[Array, str, str]:
    """A column as numbers, with the dtype and `exact` that samples get back: the user's, where it can hold them."""
    if family in ("integer", "float"):
        return cells.numbers(series), str(series.dtype), _exact(series)
    if family in ("date", "span", "period"):
        raise BadData(f"holds dates ({series.dtype}); expected numbers; read it as date or drop it")
    return read_numbers(series), "float64", ""


def read_numbers(series: Any) -> Array:
    """Texts that spell numbers as float64, long integers as such. Raises BadData, naming the first other."""
    words = [str(cell) for cell in series]
    if all(len(word) > 15 and word.lstrip("+-").isdigit() for word in words):
        return cells.numbers_of([int(word) for word in words])
    try:
        values = np.array([float(word) for word in words], np.float64)
    except ValueError as error:
        text = str(error).partition(": ")[2]
        raise BadData(f"holds texts such as {text or 'an empty one'}; expected numbers; read it as category or drop") from None
    if not np.isfinite(values).all():
        raise BadData(f"holds {int((~np.isfinite(values)).sum()):,} missing or infinite numbers; fill them in or drop it")
    return values


def _real(series: Any, family: str) -> Decided:
    values, dtype, exact = _measured(series, family)
    if family == "integer":
        dtype, exact = "float64", ""  # a real sample does not fit into the integers that the column had
    shift, notes = centred(values, float(np.abs(values.astype(np.float64)).max()))
    stored = precision.less(values, shift)
    places = precision.decimals(values) if values.dtype.kind == "f" else None
    if places:
        notes = [*notes, f"written with at most {places} decimals; samples are rounded to them"]
    column = Column("", "real", dtype, (), float(stored.min()), float(stored.max()), shift, 1, places, "", exact)
    return Decided(column, [*notes, *_shape_notes(values.astype(np.float64))])


def centred(values: Array, largest: float) -> tuple[float, list[str]]:
    """What to take off reals before they are float32, with notes. largest: of all absolute values.

    Raises BadData where float32 cannot hold them apart, or at all.
    """
    how = precision.stored(values)
    shift = int(how.shift) if values.dtype.kind in "iu" else how.shift
    if largest - abs(how.shift) > precision.LARGEST:
        raise BadData(f"holds values up to {largest:.3g}; expected at most 3e38 (float32); rescale it")
    low, high = float(values.min()), float(values.max())
    if how.collapsed and largest < 1e-37:
        raise BadData(f"holds values of at most {largest:.3g}; expected at least 1e-37 (float32); rescale it")
    if how.collapsed:
        raise BadData(
            f"holds values from {low:.6g} to {high:.6g} of which float32 tells only {how.kept:.0%} apart, whatever is taken off;"
            " expected groups that are as wide as they are far apart; model them one by one, or drop it"
        )
    notes = [f"{shift:.17g} is taken off in float64 before rows are stored as float32, and put back"] if shift else []
    if how.blurred:
        notes.append(
            f"float32 is coarse beside the spread of {max(how.coarse, 1 - how.kept):.0%} of the values: densities"
            " there follow the"
            " rounding"
        )
    return shift, notes


def _shape_notes(values: Array) -> list[str]:
    """What a density of reals does not know: few values, one value that is met often, bounds."""
    if count := clumped(values):
        return [
            f"only {count} distinct values in {len(values):,} rows: a density can grow without bound there, so compare"
            " log-densities with care"
        ]
    notes, (distinct, counts) = [], np.unique(values, return_counts=True)
    share = counts.max() / len(values)
    if share >= CLUMP and counts.max() >= MET_OFTEN:
        notes.append(f"{share:.0%} of the rows are exactly {distinct[counts.argmax()]:g}: a density can grow without bound there")
    low, high, spread = values.min(), values.max(), values.std()
    if low >= 0 and high <= 1 and high > 1 - spread and low < spread:
        notes.append("all values lie in 0..1; a model of reals does not know it, and samples may lie outside")
    elif low >= 0 and low < spread:
        notes.append("no value is negative; a model of reals does not know it, and samples may be")
    elif high <= 0 and high > -spread:
        notes.append("no value is positive; a model of reals does not know it, and samples may be")
    return notes


def clumped(values: Array) -> int:
    """Number of distinct values of one column if they are few and each is met often, else 0."""
    distinct = len(np.unique(values))
    return distinct if 1 < distinct <= FEW_VALUES and distinct * 4 <= len(values) else 0


def _integer(series: Any, family: str) -> Decided:
    if family == "period":
        return _on_grid(np.asarray(series.astype("int64")), str(series.dtype), _exact(series, unit="period"))
    if family in ("date", "span"):
        return _date(series, family)
    values, dtype, exact = _measured(series, family)
    if not precision.whole(values):
        off = values[values != np.round(values)]
        raise BadData(f"holds {len(off):,} numbers that are not whole, such as {off[0]:g}; expected integers; read it as real")
    if family not in ("integer", "float"):
        dtype = "int64"
    return _on_grid(values, dtype, exact)


def _on_grid(values: Array, dtype: str, exact: str) -> Decided:
    low, high = int(values.min()), int(values.max())
    fits = precision.offset(values)
    if fits is None:
        raise BadData(
            f"holds integers from {low:,} to {high:,}; expected a range below 2^24, which float32 tells apart;"
            " leave it out (=drop)"
            " if it is an identifier, or read it as reals (=real)"
        )
    shift, step = fits
    steps = f", and they are counted in steps of {step:,}" if step > 1 else ""
    notes = [f"{shift:,} is taken off the integers before they are stored, and put back{steps}"] if shift or step > 1 else []
    if len(values) >= 20 and len(np.unique(values)) == len(values) == high - low + 1:
        notes.append("another integer in every row, none left out; =drop leaves it out if it is an identifier")
    bottom, top = (float((bound - shift) // step) for bound in (low, high))
    return Decided(Column("", "integer", dtype, (), bottom, top, shift, step, None, "", exact), notes)


def _category(series: Any, family: str) -> Decided:
    values = list(series.dtype.categories) if family == "category" else cells.distinct(series)
    most = MOST_CATEGORIES if family == "category" else min(MOST_CATEGORIES, max(20, len(series) // 2))
    if len(values) > most:
        raise BadData(
            f"has {len(values):,} distinct texts in {len(series):,} rows; expected categories; leave it out"
            " (=drop) if it is a name or"
            " an identifier, or read it as real, integer or date"
        )
    names = tuple(str(value) for value in values)
    known = family == "category" or all(type(value) is str for value in values)
    try:
        exact = _exact(series, values=[] if known else [dtypes.plain(value) for value in values])
    except TypeError as error:
        raise BadData(f"holds the category {error}; expected texts, numbers, dates or intervals; turn it into one") from None
    odd = [word for word in MISSING_WORDS if word in names]
    notes = [f"{', '.join(map(repr, odd))} is kept as a text, it does not mean missing"] if odd and family == "text" else []
    return Decided(Column("", "category", str(series.dtype), names, 0.0, len(names) - 1.0, 0, 1, None, "", exact), notes)


def _date(series: Any, family: str) -> Decided:
    """Days since 1970-01-01 00:00 of the wall clock, or days of a span: integers where all are whole."""
    form, said = "", list[str]()
    if family not in ("date", "span"):
        texts, family = series, "date"
        series, form = read_dates(texts)
        said = [f"dates are written {form}" + (", or with day and month the other way round" if ambiguous(texts, form) else "")]
    times = cells.microseconds(series)
    what = "dates" if family == "date" else "spans of time"
    if (times % DAY == 0).all():
        column, notes = _on_grid(times // DAY, str(series.dtype), _exact(series, unit="day", format=form))
        return Decided(column, [*said, f"{what} are whole days, read as integers", *notes])
    step = next(step for step in STEPS if (times % step == 0).all())
    origin = int(times.min() // step * step)
    stored = (times - origin) / DAY
    centred(stored, float(stored.max()))
    seconds = float(np.spacing(np.float32(stored.max()))) * DAY / 1e6
    exact = _exact(series, unit="day", step=step, format=form, origin=origin)
    column = Column("", "real", str(series.dtype), (), 0.0, float(stored.max()), origin / DAY, 1, None, "", exact)
    return Decided(column, [*said, f"{what} are read as days from the first on, to about {seconds:.2g} seconds"])


def read_dates(series: Any, known: str = "") -> tuple[Any, str]:
    """Texts or integers such as 20240131 as a column of dates, and the format; `known` is tried first.

    Raises BadData, naming the first text that is no date.
    """
    import pandas

    texts = pandas.Series([str(cell) for cell in series])
    plain = ["%Y%m%d"] if bool(texts.str.fullmatch(r"\d{8}").all()) else []
    for form in filter(None, [known, *plain, *DATE_FORMATS]):
        try:
            return pandas.Series(pandas.to_datetime(texts, format=form)), form
        except (ValueError, TypeError):
            continue
    raise BadData(f"holds texts such as {texts.iloc[0]!r}; expected dates such as 2024-01-31; read it as category")


def ambiguous(series: Any, form: str) -> bool:
    """Whether day and month could be the other way round in every date."""
    other = form.replace("%m", "%_").replace("%d", "%m").replace("%_", "%d")
    return other != form and read_dates(series, other)[1] == other


_GUESSES = {
    "integer": "integer",
    "float": "real",
    "bool": "category",
    "category": "category",
    "text": "category",
    "date": "date",
    "span": "date",
    "period": "integer",
}
_READERS: dict[str, Callable[[Any, str], Decided]] = {
    "real": _real,
    "integer": _integer,
    "category": _category,
    "date": _date,
}


def some(names: Any) -> str:
    """The first eight of some names."""
    names = list(names)
    return ", ".join(map(str, names[:8])) + (", ..." if len(names) > 8 else "")
