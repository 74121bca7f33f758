"""pandas dtypes, categories and labels as JSON and back, so that samples of a stored run have exactly the user's.

`str(dtype)` says enough for NumPy's dtypes, for Int64, Float32, boolean, dates and periods; it does not for texts (two storages,
two missing values), categories (which, of what dtype, in order or not), Arrow's types and sparse columns.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import numpy as np

# -- values --------------------------------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """A label or a category as JSON: texts, numbers, truth values and None as they are, others as {"kind": ...}.

    Raises TypeError for anything else.
    """
    if value is None or type(value) in (str, int, bool, float):
        return value
    if isinstance(value, np.generic):
        return plain(value.item())
    for kind, (write, _) in _KINDS.items():
        if kind == _kind_of(value):
            return {kind: write(value)}
    raise TypeError(f"{type(value).__name__} {value!r}")


def lively(record: Any) -> Any:
    """What `plain` wrote."""
    if type(record) is not dict:
        return record
    [(kind, content)] = record.items()
    return _KINDS[kind][1](content)


def _kind_of(value: Any) -> str:
    """The name of the most special of the kinds that are known, a Timestamp before a datetime before a date."""
    known = {"Timestamp": "timestamp", "Timedelta": "timedelta", "Interval": "interval", "Period": "period"}
    bases = [known.get(base.__name__, _PLAIN.get(base, "")) for base in type(value).__mro__]
    return next((name for name in bases if name), "")


_PLAIN: dict[Any, str] = {datetime: "timestamp", date: "date", Decimal: "decimal", tuple: "tuple", str: "text", float: "number"}


def _pandas() -> Any:
    import pandas

    return pandas


_KINDS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "timestamp": (lambda v: v.isoformat(), lambda r: _pandas().Timestamp(r)),
    "timedelta": (lambda v: int(v.value), lambda r: _pandas().Timedelta(r)),
    "interval": (
        lambda v: [plain(v.left), plain(v.right), v.closed],
        lambda r: _pandas().Interval(lively(r[0]), lively(r[1]), r[2]),
    ),
    "period": (lambda v: [str(v), v.freqstr], lambda r: _pandas().Period(r[0], r[1])),
    "date": (lambda v: v.isoformat(), date.fromisoformat),
    "decimal": (str, Decimal),
    "tuple": (lambda v: [plain(part) for part in v], lambda r: tuple(lively(part) for part in r)),
    "text": (str, str),
    "number": (float, float),
}

# -- dtypes --------------------------------------------------------------------------------------------------------


def describe(dtype: Any) -> dict[str, Any]:
    """What `str(dtype)` does not say; empty for most."""
    kind = type(dtype).__name__
    return _DTYPES[kind][0](dtype) if kind in _DTYPES else {}


def build(text: str, record: dict[str, Any]) -> Any:
    """The dtype of that name and description."""
    if "made" in record:
        return _DTYPES[record["made"]][1](record)
    return _pandas().api.types.pandas_dtype(text)


def _categories(dtype: Any) -> dict[str, Any]:
    index = dtype.categories
    inner = {"text": str(index.dtype), **describe(index.dtype)}
    return {"made": "CategoricalDtype", "values": [plain(v) for v in index], "ordered": bool(dtype.ordered), "of": inner}


def _categorical(record: dict[str, Any]) -> Any:
    values, inner = [lively(v) for v in record["values"]], record["of"]
    index = _pandas().Index(values, dtype=build(inner["text"], inner))
    return _pandas().CategoricalDtype(index, record["ordered"])


def _arrow(dtype: Any) -> dict[str, Any]:
    import pyarrow

    schema = pyarrow.schema([pyarrow.field("x", dtype.pyarrow_dtype)]).serialize().to_pybytes()
    return {"made": "ArrowDtype", "schema": base64.b64encode(schema).decode()}


def _arrow_dtype(record: dict[str, Any]) -> Any:
    import pyarrow

    schema = pyarrow.ipc.read_schema(pyarrow.py_buffer(base64.b64decode(record["schema"])))
    return _pandas().ArrowDtype(schema.field(0).type)


def _text(dtype: Any) -> dict[str, Any]:
    return {"made": "StringDtype", "storage": dtype.storage, "nan": dtype.na_value is not _pandas().NA}


def _sparse(dtype: Any) -> dict[str, Any]:
    fill = plain(dtype.fill_value)
    return {"made": "SparseDtype", "of": str(dtype.subtype), "fill": None if fill != fill else fill}


def _sparse_dtype(record: dict[str, Any]) -> Any:
    inner = np.dtype(record["of"])
    return _pandas().SparseDtype(inner, np.nan if record["fill"] is None else inner.type(record["fill"]))


_DTYPES: dict[str, tuple[Callable[[Any], dict[str, Any]], Callable[[dict[str, Any]], Any]]] = {
    "CategoricalDtype": (_categories, _categorical),
    "ArrowDtype": (_arrow, _arrow_dtype),
    "StringDtype": (
        _text,
        lambda r: _pandas().StringDtype(r["storage"], **({"na_value": np.nan} if r["nan"] else {})),
    ),
    "SparseDtype": (_sparse, _sparse_dtype),
}

# -- a frame's labels ----------------------------------------------------------------------------------------------


def header(columns: Any) -> str:
    """The labels of a frame's columns as JSON, with what their index is."""
    names = [plain_label(name) for name in columns.names]
    record = {"names": names, "levels": columns.nlevels, "dtype": str(columns.dtype), "of": describe(columns.dtype)}
    return json.dumps(record)


def index_of(labels: list[Any], text: str) -> Any:
    """The index that `header` described, of these labels; a plain one where nothing is known."""
    pandas = _pandas()
    if not text:
        return pandas.Index(labels)
    record = json.loads(text)
    names = [lively(name) for name in record["names"]]
    if record["levels"] > 1:
        return pandas.MultiIndex.from_tuples(labels, names=names)
    dtype = build(record["dtype"], record["of"])
    # an object index of tuples must not become a MultiIndex
    return pandas.Index(labels, dtype=dtype, name=names[0], tupleize_cols=False)


def spelt(label: Any) -> str:
    """What people read of a label, the same for NumPy's scalars inside a tuple and for Python's."""
    return str(lively(plain_label(label)))


def plain_label(label: Any) -> Any:
    """`plain`, and the text of what it does not know: a label must only be told apart."""
    try:
        return plain(label)
    except TypeError:
        return str(label)
