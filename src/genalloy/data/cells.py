"""What the cells of one column are, whatever holds them: NumPy, pandas, Arrow, sparse, or an object column of Python values.

A family is how a column can be read; `family_of` looks at the dtype, and at the cells where the dtype says nothing ("object").
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np

from genalloy.data.errors import BadData

Array = np.ndarray[Any, Any]
DAY = 86_400_000_000
"""Microseconds."""
FAMILIES = ("integer", "float", "bool", "category", "text", "date", "span", "period")
_KINDS = {"i": "integer", "u": "integer", "f": "float", "b": "bool", "M": "date", "m": "span"}


def family_of(series: Any) -> str:
    """One of `FAMILIES`. Raises BadData, without the column's name, for cells that no model takes."""
    name = type(series.dtype).__name__
    if name in ("CategoricalDtype", "PeriodDtype"):
        return {"CategoricalDtype": "category", "PeriodDtype": "period"}[name]
    if series.dtype.kind in _KINDS:
        return _KINDS[series.dtype.kind]
    if name == "StringDtype":
        return "text"
    return _family_of_objects(series)


def _family_of_objects(series: Any) -> str:
    kinds = {type(cell) for cell in series if not _gap(cell)}
    if any(issubclass(kind, complex | np.complexfloating) for kind in kinds):
        raise BadData("holds complex numbers; expected real ones; give two columns")
    truths = {kind for kind in kinds if issubclass(kind, bool | np.bool_)}
    if kinds and kinds == truths:
        return "bool"
    if kinds and not truths and all(issubclass(kind, int | np.integer) for kind in kinds):
        return "integer"
    if kinds and not truths and all(issubclass(kind, int | float | np.number | Decimal) for kind in kinds):
        return "float"
    if kinds and all(issubclass(kind, date | np.datetime64) for kind in kinds):
        return "date"
    if kinds and all(issubclass(kind, timedelta | np.timedelta64) for kind in kinds):
        return "span"
    if all(issubclass(kind, str | bool | int | float | np.generic) for kind in kinds):
        return "text"
    odd = sorted(kind.__name__ for kind in kinds if not issubclass(kind, str | bool | int | float | np.generic))
    raise BadData(f"holds {', '.join(odd[:3])} cells; expected one number, text or date in each; spread them over columns")


def _gap(cell: Any) -> bool:
    return cell is None or type(cell).__name__ in ("NAType", "NaTType") or (type(cell) is float and cell != cell)


def gaps(series: Any) -> Array:
    """Which cells are missing or infinite, (N,). Empty texts are texts."""
    missing = np.asarray(series.isna().to_numpy(), bool).copy()
    if series.dtype.kind == "f":
        missing |= ~np.isfinite(floats(series, np.nan))
    elif series.dtype == object:
        missing |= np.array([type(cell) is float and abs(cell) == np.inf for cell in series], bool)
    return missing


def numbers(series: Any) -> Array:
    """Integers as int64 or uint64, floats in their own width, (N,); the column has no gaps."""
    dtype = getattr(series.dtype, "numpy_dtype", None) or getattr(series.dtype, "subtype", None) or series.dtype
    if np.dtype(dtype).kind in "iuf":
        return np.asarray(np.asarray(series).astype(dtype))
    return numbers_of(list(series))


def numbers_of(cells: list[Any]) -> Array:
    """Python's numbers as int64 where all are integers that fit, else as float64."""
    if all(issubclass(type(cell), int | np.integer) for cell in cells):
        low, high = min(cells, default=0), max(cells, default=0)
        if low >= -(2**63) and high < 2**63:
            return np.array(cells, np.int64)
        raise BadData(f"holds integers of more than 64 bits, up to {high:,}; expected smaller ones; leave it out (=drop)")
    return np.array([float(cell) for cell in cells], np.float64)


def floats(series: Any, gap: float) -> Array:
    """A float column as float64 with gaps as `gap`."""
    if hasattr(series.array, "to_dense"):
        return np.asarray(series.array.to_dense(), np.float64)
    return np.asarray(series.to_numpy(np.float64, na_value=gap))


def microseconds(series: Any) -> Array:
    """Dates as the wall clock's microseconds since 1970, spans as microseconds, (N,) int64."""
    import pandas

    if family_of(series) == "span":
        return np.asarray(pandas.TimedeltaIndex(_own(series)).as_unit("us").asi8)
    index = pandas.DatetimeIndex(_own(series))
    return np.asarray((index.tz_localize(None) if index.tz is not None else index).as_unit("us").asi8)


def _own(series: Any) -> Any:
    """Arrow's dates and objects as pandas' own."""
    import pandas

    if type(series.dtype).__name__ != "ArrowDtype" and series.dtype != object:
        return series
    if family_of(series) == "span":
        return pandas.to_timedelta(list(series))
    cells = [datetime(cell.year, cell.month, cell.day) if type(cell) is date else cell for cell in series]
    return pandas.to_datetime(cells)


def keys(series: Any) -> list[tuple[str, str]]:
    """What tells the cells of a category column apart: type and text, ("int", "1") and ("str", "1")."""
    import pandas

    codes, values = pandas.factorize(_distinct_by_type(series))
    named = [(type(_item(value)).__name__, str(_item(value))) for value in _objects(series, codes, values)]
    return [named[code] for code in codes]


def _distinct_by_type(series: Any) -> Any:
    """Cells in a form in which 1, 1.0, True and "1" differ: only object columns can hold more than one type."""
    if series.dtype != object:
        return series
    return np.array([f"{type(_item(cell)).__name__} {_item(cell)}" for cell in series], object)


def _objects(series: Any, codes: Array, values: Any) -> list[Any]:
    """The first cell of each code."""
    if series.dtype != object:
        return list(values)
    first = dict(zip(codes[::-1].tolist(), range(len(codes) - 1, -1, -1), strict=True))
    return [series.iloc[first[code]] for code in range(len(values))]


def _item(value: Any) -> Any:
    return value.item() if type(value).__module__ == "numpy" else value


def distinct(series: Any) -> list[Any]:
    """The distinct cells of a column, numbers in their order, anything else by its text."""
    import pandas

    codes, values = pandas.factorize(_distinct_by_type(series))
    cells = [_item(value) for value in _objects(series, codes, values)]
    if all(type(cell) in (int, float) for cell in cells):
        return sorted(cells)
    return sorted(cells, key=lambda cell: (str(cell), type(cell).__name__))
