"""Data frames to arrays and back: column kinds, categories, dtypes.

Texts, booleans and pandas categories become an index into the sorted categories; integers stay integers (a
probability mass, base measure counting); everything else is real. pandas is imported only when a frame is built.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from genalloy.data.errors import BadData, nearest
from genalloy.data.space import Column, Space

Array = np.ndarray[Any, Any]
FLOAT32_INTEGERS = 2**24
MOST_CATEGORIES = 1000
FEW_VALUES = 32


def describe(frame: Any) -> tuple[tuple[Column, ...], list[str]]:
    """The columns of a data frame and notes on how they were read. BadData for missing or unusable values."""
    _no_gaps(frame)
    read = [_column(str(name), frame.iloc[:, i]) for i, name in enumerate(frame.columns)]
    return tuple(column for column, _ in read), [note for _, note in read if note]


def encode(space: Space, frame: Any) -> Array:
    """A frame's columns, found by name, as float64 (N, columns). BadData for missing columns and unknown categories."""
    names = [str(name) for name in frame.columns]
    for column in space.columns:
        if column.name not in names:
            raise BadData(
                f"there is no column {column.name!r}; expected {_some(c.name for c in space.columns)}"
                f"{nearest(column.name, names)}"
            )
    kept = frame.iloc[:, [names.index(column.name) for column in space.columns]]
    _no_gaps(kept)
    return np.stack([_encode(c, kept.iloc[:, i]) for i, c in enumerate(space.columns)], 1)


def decode(space: Space, array: Array) -> Any:
    """Stored values (N, columns) as a data frame with the user's names, dtypes and categories."""
    import pandas

    return pandas.DataFrame({c.name: _decode(c, array[:, i]) for i, c in enumerate(space.columns)})


def _no_gaps(frame: Any) -> None:
    gaps = frame.isna().to_numpy() | frame.isin([np.inf, -np.inf]).to_numpy()
    if gaps.any():
        row, column = np.argwhere(gaps)[0]
        raise BadData(
            f"{int(gaps.sum()):,} entries are missing or infinite, the first in row {row}, column"
            f" {str(frame.columns[column])!r}; expected complete rows; drop them or fill them in"
        )


def _column(name: str, series: Any) -> tuple[Column, str]:
    dtype, code = str(series.dtype), series.dtype.kind
    if code in "mM":
        raise BadData(f"column {name!r} holds dates ({dtype}); expected numbers or categories; turn it into a number or drop it")
    if code not in "iuf":
        return _category(name, series), ""
    values = series.to_numpy(np.float64)
    low, high = float(values.min()), float(values.max())
    if code == "f" and not _few_integers(values):
        return Column(name, "real", dtype, (), low, high), _grid_note(name, values)
    if max(-low, high) >= FLOAT32_INTEGERS:
        raise BadData(
            f"column {name!r} holds integers up to {max(-low, high):.3g}; expected at most 2^24;"
            " drop it if it is an identifier, rescale it to floats if it is a measurement"
        )
    note = "" if code != "f" else f"column {name!r}: floats that are all integers were read as integers"
    return Column(name, "integer", dtype, (), low, high), note


def _few_integers(values: Array) -> bool:
    return bool((values == values.round()).all()) and len(np.unique(values)) <= FEW_VALUES


def clumped(values: Array) -> int:
    """Number of distinct values of one column if they are few and each is met often, else 0."""
    distinct = len(np.unique(values))
    return distinct if 1 < distinct <= FEW_VALUES and distinct * 4 <= len(values) else 0


def _grid_note(name: str, values: Array) -> str:
    distinct = clumped(values)
    if not distinct:
        return ""
    return (
        f"column {name!r} has only {distinct} distinct values in {len(values):,} rows:"
        " a density can grow without bound there, so compare log-densities with care"
    )


def _category(name: str, series: Any) -> Column:
    if series.dtype.name == "category":
        categories = tuple(str(value) for value in series.cat.categories)
    else:
        categories = tuple(sorted({str(value) for value in series.unique()}))
    if len(categories) > min(MOST_CATEGORIES, max(20, len(series) // 2)):
        raise BadData(
            f"column {name!r} has {len(categories):,} distinct texts in {len(series):,} rows; expected categories;"
            " drop it if it is a name or an identifier, or convert it to numbers"
        )
    return Column(name, "category", str(series.dtype), categories, 0.0, len(categories) - 1.0)


def _encode(column: Column, series: Any) -> Array:
    if column.kind != "category":
        return _numbers(column, series)
    index = {category: code for code, category in enumerate(column.categories)}
    texts = [str(value) for value in series]
    unknown = sorted(set(texts) - set(index))
    if unknown:
        raise BadData(
            f"column {column.name!r} holds the unknown category {unknown[0]!r}; expected"
            f" {_some(column.categories)}{nearest(unknown[0], index)}"
        )
    return np.array([index[text] for text in texts], np.float64)


def _numbers(column: Column, series: Any) -> Array:
    try:
        return np.asarray(series.to_numpy(np.float64))
    except (TypeError, ValueError):
        raise BadData(f"column {column.name!r} holds texts; expected {column.kind} numbers as in the training data") from None


def _decode(column: Column, values: Array) -> Any:
    if not column.discrete:
        return values.astype(column.dtype)
    kept = np.clip(np.nan_to_num(values).round(), column.low, column.high)
    if column.kind == "integer":
        return kept.astype(column.dtype)
    return _as_categories(column, kept.astype(int))


def _as_categories(column: Column, codes: Array) -> Any:
    import pandas

    if column.dtype == "bool":
        return np.array([category == "True" for category in column.categories])[codes]
    if column.dtype == "category":
        return pandas.Categorical.from_codes(codes, categories=list(column.categories))
    return pandas.Series(np.array(column.categories, dtype=object)[codes]).astype(column.dtype)


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
