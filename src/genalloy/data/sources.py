"""Every source to `Raw`: rows as they are found, with names, labels, notes and the content's hash; nothing is decided here.

a name or a path -> published.py or files.py     in memory -> memory.py, then frames.py, arrays or sequences below
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from genalloy.data.errors import BadData, nearest
from genalloy.data.files import read_file
from genalloy.data.form import Form
from genalloy.data.frames import read_frame
from genalloy.data.memory import held, numeric, unmasked
from genalloy.data.procedural import PROCEDURAL
from genalloy.data.published import PUBLISHED, read_published
from genalloy.data.raw import WHOLE, Raw, digest, digest_array
from genalloy.data.toy import TOYS

BUILT_IN = (*TOYS, "digits", *PROCEDURAL)


def read(source: Any, label: str | None = None) -> Raw:
    """A source's rows as they are, neither encoded nor split: what `Dataset.admit` takes, with their labels."""
    if isinstance(source, str | Path):
        return _named(str(source), label)
    rows, labels, notes = held(source)
    frame = hasattr(rows, "columns") and hasattr(rows, "iloc")
    if label is not None and not frame:
        raise BadData(f"an array has no label column {label!r}; expected (rows, labels) as a tuple")
    raw = read_frame(rows, label) if frame else _sequences(rows) if unequal(rows) else _array(rows)
    labelled = {} if labels is None else {"labels": {WHOLE: np.asarray(labels)}}
    return replace(raw, notes=(*raw.notes, *notes), **labelled)  # type: ignore[arg-type]


def _named(source: str, label: str | None) -> Raw:
    path = Path(source)
    if not source.strip():
        raise BadData("the source is an empty text; expected a path or the name of a data set; give one")
    if source in PUBLISHED and not path.exists():
        return read_published(source)
    known = nearest(source, BUILT_IN)
    if known and not path.suffix and not path.exists():
        raise BadData(f"there is no file and no toy {source!r}; expected a path or one of {', '.join(BUILT_IN)}{known}")
    return read_file(path, label)


def unequal(source: Any) -> bool:
    """Whether a list holds arrays of one or more axes and of different lengths."""
    if not isinstance(source, list) or not all(hasattr(row, "ndim") and row.ndim for row in source):
        return False
    return len({len(row) for row in source}) > 1


def _sequences(rows: list[Any]) -> Raw:
    arrays = [numeric(row) for row in rows]
    sha256 = digest([digest_array(row).encode() for row in arrays])
    return Raw("sequences", {WHOLE: arrays}, {}, Form("sequence", str(arrays[0].dtype)), sha256=sha256)


def _array(rows: Any) -> Raw:
    if type(rows) is list and any(hasattr(row, "columns") or type(row) is dict for row in rows):
        raise BadData(f"a list of {type(rows[0]).__name__}s was found; expected rows of numbers; make one data frame of them")
    array = numeric(rows) if not hasattr(rows, "mask") else unmasked(rows)
    return Raw("array", {WHOLE: array}, sha256=digest_array(array))
