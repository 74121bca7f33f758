"""What is in memory already, as NumPy arrays or pandas frames: tensors, masked and sparse arrays, polars, Arrow, torch data sets.

Nothing is imported for it: an object is known by where its class comes from. What is hidden (a mask) or absent counts as missing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from genalloy.data import limits
from genalloy.data.errors import BadData

Array = np.ndarray[Any, Any]


class Held(NamedTuple):
    """rows: an array, a pandas frame, or a list. labels: beside them, or None. notes: what was done that is not obvious."""

    rows: Any
    labels: Any = None
    notes: tuple[str, ...] = ()


def held(source: Any) -> Held:
    """Rows, labels and notes of anything in memory. Raises BadData for what has no rows, or rows that are not there yet."""
    if type(source) is tuple:
        return _pair(source)
    module, kind = _origin(source)
    opened = _OPENERS.get((module, kind))
    if opened is not None:
        return opened(source)
    if hasattr(source, "dtype") and getattr(source.dtype, "names", None):
        return _records(source)
    if hasattr(source, "toarray") and hasattr(source, "nnz"):
        return _sparse(source)
    if type(source) in (dict, set, frozenset) or hasattr(source, "__next__"):
        raise BadData(f"a {kind} was found; expected rows: an array, a data frame, a list or (rows, labels); turn it into one")
    return Held(source)


def _origin(source: Any) -> tuple[str, str]:
    """The first package on the class's line of descent that is known here, with the class's name."""
    for base in type(source).__mro__:
        package = base.__module__.split(".")[0]
        if (package, base.__name__) in _OPENERS:
            return package, base.__name__
    return type(source).__module__, type(source).__name__


def _pair(source: tuple[Any, ...]) -> Held:
    arrays = [hasattr(part, "shape") or hasattr(part, "columns") for part in source]
    if len(source) == 1:
        return held(source[0])
    if len(source) == 2:
        rows, labels = held(source[0]), source[1]
        return Held(rows.rows, flat_labels(labels), rows.notes)
    if any(arrays):
        shapes = ", ".join(str(tuple(getattr(part, "shape", ()))) for part in source[:4])
        raise BadData(f"a tuple of {len(source)} arrays ({shapes}) was found; expected rows, or (rows, labels); choose two")
    return Held(list(source))


def flat_labels(labels: Any) -> Array:
    """Labels (N,) of an array, a tensor, a series or a frame of one column; what is hidden or absent is refused."""
    if hasattr(labels, "columns") and len(labels.columns) == 1:
        labels = labels[labels.columns[0]]
    if hasattr(labels, "isna") and bool(labels.isna().any()):
        raise BadData(f"labels hold {int(labels.isna().sum())} missing values; expected one label per row")
    if hasattr(labels, "null_count") and not hasattr(labels, "to_pandas") and labels.null_count():
        raise BadData(f"labels hold {labels.null_count()} missing values; expected one label per row")
    return unmasked(tensorless(labels), "labels hold")


def tensorless(rows: Any) -> Any:
    """A tensor as a NumPy array, from whatever device, dtype and layout; anything else as it is."""
    if not hasattr(rows, "detach"):
        return rows
    plain = rows.detach().cpu()
    plain = plain.to_dense() if plain.layout.__repr__() != "torch.strided" else plain
    return (plain.float() if plain.dtype.__repr__() == "torch.bfloat16" else plain).numpy()


def unmasked(rows: Any, what: str = "the data hold") -> Array:
    """An array of which nothing is hidden. Raises BadData with the count and the first place of hidden entries."""
    mask = getattr(rows, "mask", None)
    if mask is not None and hasattr(rows, "filled") and np.any(mask):
        hidden = np.argwhere(np.broadcast_to(mask, np.shape(rows)))
        row, *column = hidden[0].tolist()
        place = f"row {row}" + (f", column {column[0] if len(column) == 1 else tuple(column)}" if column else "")
        raise BadData(
            f"{what} {len(hidden):,} masked entries, the first in {place}; expected complete rows; drop those"
            " rows or fill them in"
        )
    return np.asarray(rows)


def numeric(rows: Any) -> Array:
    """`rows` as a numeric array; BadData for ragged, textual, complex or masked ones."""
    rows = tensorless(rows)
    rows = rows.toarray() if hasattr(rows, "toarray") and hasattr(rows, "nnz") else rows
    if type(rows) is list and any(np.ma.isMaskedArray(row) for row in rows):
        rows = [unmasked(row) for row in rows]
    try:
        array = unmasked([tensorless(row) for row in rows] if type(rows) is list else rows)
    except ValueError as error:
        if type(error) is BadData:
            raise
        raise BadData("rows have unequal lengths; expected one rectangular array; pad or cut them") from None
    if array.dtype.kind not in "biuf":
        raise BadData(
            f"an array of dtype {array.dtype} was found; expected numbers; ragged rows need padding, texts a .csv or .txt"
        )
    return array


def finite(array: Array, what: str) -> None:
    """BadData with the count and the first place of NaN or infinite entries in (N, ...)."""
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        row, *column = bad[0].tolist()
        place = f"row {row}" + (f", column {column[0] if len(column) == 1 else tuple(column)}" if column else "")
        raise BadData(
            f"{what} holds {len(bad):,} NaN or infinite entries, the first in {place}; expected finite numbers;"
            " drop those rows or fill them in"
        )


# -- openers -------------------------------------------------------------------------------------------------------


def _series(source: Any) -> Held:
    return Held(source.to_frame())


def _polars(source: Any) -> Held:
    frame = source.to_frame() if hasattr(source, "to_frame") else source
    return Held(frame.to_pandas(), None, ("a polars frame was read; samples come back as a pandas frame",))


def _lazy(source: Any) -> Held:
    raise BadData(f"a {type(source).__name__} was found, whose rows are not there yet; expected rows; call its .collect()")


def _arrow(source: Any) -> Held:
    return Held(source.to_pandas(), None, ("an Arrow table was read; samples come back as a pandas frame",))


def _records(source: Any) -> Held:
    import pandas

    if hasattr(source, "filled"):
        mask = np.ma.getmaskarray(source)
        unmasked(np.ma.array(np.zeros(len(source)), mask=[any(row) for row in mask.tolist()]))
        source = source.data
    frame = pandas.DataFrame({name: source[name] for name in source.dtype.names})
    return Held(frame, None, ("a record array was read as a table",))


def _sparse(source: Any) -> Held:
    limits.entries("the sparse array", int(source.shape[0]), int(np.prod(source.shape[1:])))
    return Held(source.toarray(), None, ("a sparse array was read as a dense one",))


def _tensors(source: Any) -> Held:
    return held(tuple(source.tensors))


def _loader(source: Any) -> Held:
    inner = held(source.dataset)
    return inner._replace(notes=(*inner.notes, "of a DataLoader the data set was read once, without its batches and order"))


def _iterable(source: Any) -> Held:
    raise BadData(f"{type(source).__name__} has no length and no rows by number; expected rows; give numpy.stack(list(it))")


def _dataset(source: Any) -> Held:
    """A map-style data set of rows, or of (row, label) pairs."""
    if not hasattr(source, "__len__"):
        return _iterable(source)
    items = [source[i] for i in range(len(source))]
    if not items:
        raise BadData(f"{type(source).__name__} has no rows; expected at least ten")
    widths = {len(item) if type(item) in (tuple, list) else 0 for item in items}
    if widths == {2}:
        return Held(_stacked([a for a, _ in items]), flat_labels([_scalar(b) for _, b in items]))
    if widths == {1}:
        return Held(_stacked([item[0] for item in items]))
    if widths != {0} or type(items[0]) in (dict, str):
        what = f"tuples of {max(widths)}" if widths != {0} else type(items[0]).__name__
        raise BadData(f"{type(source).__name__} gives {what}; expected a row, or (row, label), by number; wrap it")
    return Held(_stacked(items))


def _scalar(label: Any) -> Any:
    return label.item() if hasattr(label, "item") and getattr(label, "ndim", 1) == 0 else label


def _stacked(items: list[Any]) -> Any:
    """Rows of one shape as one array, others as the list of sequences that they are."""
    rows = [np.asarray(tensorless(item)) for item in items]
    return np.stack(rows) if len({row.shape for row in rows}) == 1 else rows


_OPENERS: dict[tuple[str, str], Callable[[Any], Held]] = {
    ("pandas", "Series"): _series,
    ("polars", "DataFrame"): _polars,
    ("polars", "Series"): _polars,
    ("polars", "LazyFrame"): _lazy,
    ("pyarrow", "Table"): _arrow,
    ("pyarrow", "RecordBatch"): _arrow,
    ("torch", "TensorDataset"): _tensors,
    ("torch", "DataLoader"): _loader,
    ("torch", "IterableDataset"): _iterable,
    ("torch", "Dataset"): _dataset,
}
