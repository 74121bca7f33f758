"""Data frames to arrays and back, column by column, as `genalloy.data.columns` has decided; exact in dtype, order and label.

pandas is imported only when a frame is built.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np

from genalloy.data import cells, dtypes, precision
from genalloy.data.cells import DAY
from genalloy.data.columns import read_dates, read_numbers, some
from genalloy.data.errors import BadData, nearest
from genalloy.data.space import Column, Space

Array = np.ndarray[Any, Any]
SPANS = ("timedelta", "Timedelta")


# -- in ------------------------------------------------------------------------------------------------------------


def encode(space: Space, frame: Any) -> Array:
    """A frame's columns, found by label, as float64 (N, columns) less their shifts.

    Raises BadData, once and with everything that is wrong, for missing columns and cells and for unknown categories.
    """
    frame = headed(space.columns, frame)
    series = [frame.iloc[:, place] for place in places(space.columns, list(frame.columns))]
    encoded, refusals = list[Array](), list[str]()
    for column, one in zip(space.columns, series, strict=True):
        try:
            encoded.append(_encode(column, one))
        except BadData as error:
            refusals.append(f"column {column.name!r} {error}")
    if refusals:
        raise BadData(" | ".join(refusals[:12]))
    return np.stack(encoded, 1)


def headed(columns: tuple[Column, ...], frame: Any) -> Any:
    """A file's table whose header was taken for a row, since it is all numbers, with its header."""
    names = [str(label) for label in frame.columns]
    wanted = {column.name for column in columns}
    if wanted <= set(names) or names != [f"x{i}" for i in range(len(names))] or not len(frame):
        return frame
    first = [str(cell) for cell in frame.iloc[0]]
    return frame.iloc[1:].set_axis(first, axis=1) if wanted <= set(first) else frame


def places(columns: tuple[Column, ...], labels: list[Any]) -> list[int]:
    """Where each column is: by its label, the k-th of equal ones for the k-th; where labels became texts, by what they read."""
    exact = _nth([_label(column) for column in columns], [_keyed(label) for label in labels])
    spelt = _nth([column.name for column in columns], [dtypes.spelt(label) for label in labels])
    found = spelt if None in exact else exact
    for column, place in zip(columns, found, strict=True):
        if place is None:
            names = [dtypes.spelt(label) for label in labels]
            raise BadData(
                f"there is no column {column.name!r}; expected {some(c.name for c in columns)}{nearest(column.name, names)}"
            )
    return [place for place in found if place is not None]


def _label(column: Column) -> str:
    return column.label or json.dumps(column.name)


def _keyed(label: Any) -> str:
    return json.dumps(dtypes.plain_label(label))


def _nth(wanted: list[str], there: list[str]) -> list[int | None]:
    """For each of the wanted names the place of the next equal one."""
    rest = {name: [i for i, other in enumerate(there) if other == name] for name in set(wanted)}
    return [rest[name].pop(0) if rest[name] else None for name in wanted]


def _encode(column: Column, series: Any) -> Array:
    if column.kind == "category":
        return _codes(column, series)
    gaps = cells.gaps(series)
    if gaps.any():
        raise BadData(
            f"has {int(gaps.sum()):,} entries that are missing or infinite, the first in row"
            f" {int(np.argmax(gaps))}; expected complete"
            " rows; drop them or fill them in"
        )
    unit = _facts(column).get("unit", "")
    values = _UNITS[unit](column, series)
    return values / column.step if column.step > 1 else values


def _facts(column: Column) -> dict[str, Any]:
    return dict(json.loads(column.exact)) if column.exact else {}


def _plain_numbers(column: Column, series: Any) -> Array:
    family = cells.family_of(series)
    if family not in ("integer", "float"):
        try:
            # a text is as wide as the column was: 0.1257 is another number in float16
            values = read_numbers(series)
            return precision.less(values if values.dtype.kind == "i" else values.astype(_width(column)), column.shift)
        except BadData:
            raise BadData(f"holds texts; expected {column.kind} numbers as in the training data") from None
    return precision.less(cells.numbers(series), column.shift)


def _days(column: Column, series: Any) -> Array:
    if cells.family_of(series) not in ("date", "span"):
        series = _read_times(column, series)
    return (cells.microseconds(series) - _origin(column)) / DAY


def _origin(column: Column) -> int:
    """Where a column's days begin, in microseconds since 1970."""
    return int(_facts(column).get("origin", column.shift * DAY))


def _read_times(column: Column, series: Any) -> Any:
    """Texts as dates in the column's own zone, or as spans where it holds spans."""
    import pandas

    dtype = dtypes.build(column.dtype, _facts(column).get("of", {}))
    try:
        if getattr(dtype, "kind", "") == "m" or _facts(column).get("cells") in SPANS:
            return pandas.Series(pandas.to_timedelta(series.astype(str)))
        if getattr(dtype, "tz", None) is not None:
            return pandas.Series(pandas.to_datetime(series.astype(str), utc=True, format="ISO8601").dt.tz_convert(dtype.tz))
    except (ValueError, TypeError) as error:
        raise BadData(f"holds {str(error).partition(chr(10))[0]}; expected times as in the training data") from None
    return read_dates(series, _facts(column).get("format", ""))[0]


def _ordinals(column: Column, series: Any) -> Array:
    import pandas

    periods = series.astype(dtypes.build(column.dtype, {})) if series.dtype.kind != "M" else pandas.Series(series)
    return precision.less(np.asarray(periods.astype("int64")), column.shift)


_UNITS: dict[str, Callable[[Column, Any], Array]] = {"": _plain_numbers, "day": _days, "period": _ordinals}


def _codes(column: Column, series: Any) -> Array:
    """Places of the cells among the categories: by type and text, or by text alone where that is enough."""
    typed = {(type(value).__name__, str(value)): code for code, value in enumerate(_values(column))}
    spelt = {name: code for code, name in reversed(list(enumerate(column.categories)))}
    codes = [typed.get(key, spelt.get(key[1], _same_number(key[1], spelt))) for key in cells.keys(series)]
    if None in codes:
        row = codes.index(None)
        word = str(series.iloc[row])
        raise BadData(
            f"holds the unknown category {word!r}, the first in row {row}; expected"
            f" {some(column.categories)}{nearest(word, spelt)}"
        )
    return np.array(codes, np.float64)


def _same_number(word: str, spelt: dict[str, int]) -> int | None:
    """A category that is the same number in another spelling: 1 in a file for the category 1.0."""
    try:
        return next((spelt[name] for name in (f"{float(word)}", f"{float(word):.0f}") if name in spelt), None)
    except ValueError:
        return None


def _values(column: Column) -> list[Any]:
    """The categories as the user's own values."""
    facts = _facts(column)
    own = facts.get("values") or facts.get("of", {}).get("values")
    if own:
        return [dtypes.lively(value) for value in own]
    if column.dtype in ("bool", "boolean"):
        return [name == "True" for name in column.categories]
    return list(column.categories)


def numbers(frame: Any) -> Array:
    """A frame of numbers, or of texts that spell them, as float64 (N, columns). Raises BadData, naming a column."""
    values = list[Array]()
    for i in range(frame.shape[1]):
        series = frame.iloc[:, i]
        try:
            read = cells.numbers if cells.family_of(series) in ("integer", "float") else read_numbers
            values.append(read(series).astype(np.float64))
        except BadData as error:
            raise BadData(f"column {dtypes.spelt(frame.columns[i])!r} {error}") from None
    return np.stack(values, 1)


# -- out -----------------------------------------------------------------------------------------------------------


def decode(space: Space, array: Array, header: str = "") -> Any:
    """Stored values (N, columns) as a data frame with the user's labels, dtypes and categories. header: see `dtypes.header`."""
    import pandas

    frame = pandas.DataFrame({i: _decode(column, array[:, i]) for i, column in enumerate(space.columns)})
    labels = [dtypes.lively(json.loads(_label(column))) for column in space.columns]
    frame.columns = dtypes.index_of(labels, header)
    return frame


def _decode(column: Column, values: Array) -> Any:
    facts = _facts(column)
    if column.kind == "category":
        return _as_categories(column, facts, np.clip(np.nan_to_num(values).round(), column.low, column.high).astype(int))
    if column.kind == "integer":
        values = np.clip(np.nan_to_num(values).round(), column.low, column.high) * column.step
    if facts.get("unit") == "day":
        return _as_dates(column, facts, values)
    return _as_numbers(column, facts, values)


def _as_categories(column: Column, facts: dict[str, Any], codes: Array) -> Any:
    import pandas

    dtype = dtypes.build(column.dtype, facts.get("of", {}))
    if type(dtype).__name__ == "CategoricalDtype":
        if not facts.get("of"):  # a run of an earlier version
            return pandas.Categorical.from_codes(codes, categories=list(column.categories))
        return pandas.Categorical.from_codes(codes, dtype=dtype)
    values = np.empty(len(column.categories), object)
    values[:] = _values(column)
    return _column_of(values[codes], dtype)


def _column_of(values: Any, dtype: Any) -> Any:
    """Values as a pandas column of any dtype."""
    import pandas

    if type(dtype).__name__ == "SparseDtype":
        return pandas.Series(pandas.arrays.SparseArray(np.asarray(values, dtype.subtype), dtype=dtype))
    if type(dtype).__name__ == "ArrowDtype":
        return pandas.Series(pandas.array(list(values), dtype=dtype))
    return pandas.Series(values).astype(dtype)


def _as_dates(column: Column, facts: dict[str, Any], days: Array) -> Any:
    import pandas

    step = facts.get("step", DAY)
    with np.errstate(invalid="ignore"):
        times = (np.round(np.nan_to_num(days) * DAY / step) * step).astype(np.int64) + _origin(column)
    dtype = dtypes.build(column.dtype, facts.get("of", {}))
    span = getattr(dtype, "kind", "") == "m" or facts.get("cells") in SPANS
    wall = pandas.Series(times.astype("timedelta64[us]" if span else "datetime64[us]"))
    if facts.get("cells") == "date" or str(dtype).startswith("date32"):
        return _column_of(np.array(wall.dt.date, object), dtype)
    zone = getattr(dtype, "tz", None)
    if zone is not None:
        wall = wall.dt.tz_localize(zone, ambiguous=np.ones(len(wall), bool), nonexistent="shift_forward")
    return wall.astype(dtype)


def _as_numbers(column: Column, facts: dict[str, Any], values: Array) -> Any:
    dtype = dtypes.build(column.dtype, facts.get("of", {}))
    if facts.get("unit") == "period":
        import pandas

        return pandas.Series(pandas.PeriodIndex.from_ordinals((values + column.shift).astype(np.int64), freq=dtype.freq))
    inner = _inner(column)
    full = values if inner.kind in "iu" else np.asarray(values + column.shift)
    if column.decimals is not None:
        full = np.round(full, column.decimals)
    numbers = precision.more(full, column.shift, inner) if inner.kind in "iu" else full.astype(inner)
    if facts.get("cells") == "Decimal" or "decimal" in str(dtype):
        return _column_of([_decimal(number, column.decimals) for number in numbers.tolist()], dtype)
    if facts.get("cells") == "float":
        numbers = numbers.astype(np.float64)
    return _column_of(numbers, dtype)


def _inner(column: Column) -> np.dtype[Any]:
    """The NumPy dtype of a column's numbers, whatever holds them."""
    dtype = dtypes.build(column.dtype, _facts(column).get("of", {}))
    inner = getattr(dtype, "numpy_dtype", None) or getattr(dtype, "subtype", None) or dtype
    return np.dtype(inner) if np.dtype(inner).kind in "iuf" else np.dtype("int64" if column.kind == "integer" else "float64")


def _width(column: Column) -> np.dtype[Any]:
    inner = _inner(column)
    return inner if inner.kind == "f" else np.dtype("float64")


def _decimal(number: float, places: int | None) -> Decimal:
    return Decimal(repr(number) if places is None else f"{number:.{places}f}")
