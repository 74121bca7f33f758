"""A data frame to `Raw`: its label column taken out, its content hashed."""

from __future__ import annotations

from typing import Any

import numpy as np

from genalloy.data.delimited import typed
from genalloy.data.errors import BadData, nearest
from genalloy.data.form import Form
from genalloy.data.raw import WHOLE, Raw, digest


def read_frame(frame: Any, label: str | None, name: str = "frame", texts: bool = False, sha256: str = "") -> Raw:
    """A pandas frame. label: the text of a column's label. texts: its cells are a file's, whose hash is given. Raises BadData."""
    if frame.shape[0] == 0 or frame.shape[1] == 0:
        raise BadData(f"the table has {frame.shape[0]} rows and {frame.shape[1]} columns; expected data; check the file")
    raw = Raw(name, {WHOLE: frame}, form=Form("frame"), sha256=sha256 or digest_frame(frame), texts=texts)
    if label is None:
        return raw
    names = [str(column) for column in frame.columns]
    if label not in names:
        raise BadData(f"there is no label column {label!r}; expected one of {', '.join(names[:12])}{nearest(label, names)}")
    position = names.index(label)
    column = typed(frame.iloc[:, position])[0] if texts else frame.iloc[:, position]
    gaps = int(column.isna().sum())
    if gaps:
        raise BadData(f"the label column {label!r} misses {gaps:,} values; expected one label per row; drop those rows")
    rest = frame.iloc[:, [i for i in range(len(names)) if i != position]]
    return Raw(name, {WHOLE: rest}, {WHOLE: column.to_numpy()}, raw.form, sha256=raw.sha256, texts=texts)


def digest_frame(frame: Any) -> str:
    """sha256 over labels and cells; cells that cannot be hashed (lists) count as what they print."""
    import pandas

    cells = [_cells(frame.iloc[:, i], pandas) for i in range(frame.shape[1])]
    return digest([str(list(frame.columns)).encode(), *cells])


def _cells(series: Any, pandas: Any) -> bytes:
    try:
        hashes = pandas.util.hash_pandas_object(series, index=False).to_numpy()
    except TypeError:
        return repr(series.tolist()).encode()
    return np.ascontiguousarray(hashes).tobytes()
