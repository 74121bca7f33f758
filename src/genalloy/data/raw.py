"""What a source held before it was checked, encoded and split."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from genalloy.data.form import Form

WHOLE = "all"
PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Raw:
    """Rows in the user's own form: {"all": rows}, or the file's own {"train": ..., "validation": ..., "test": ...}.

    parts:   arrays, data frames, strings or lists of arrays (sequences), according to `form.style`.
    labels:  one array per part, of any dtype, or empty.
    form:    how rows are written, as far as the reader knows; what depends on the values is filled in when they are encoded.
    sha256:  of the content as it was found.
    window:  sequences longer than this are cut where the user does not say otherwise; None: they stay whole.
    split:   how the parts were made, where a reader or an encoder made them; in words.
    texts:   a frame's cells are the texts of a file, and what they are is still to be decided.
    asked:   column -> kind, as a file beside the table says; see `genalloy.data.columns`.
    """

    name: str
    parts: dict[str, Any]
    labels: dict[str, Any] = field(default_factory=dict)
    form: Form = Form()  # noqa: RUF009
    path: str = ""
    sha256: str = ""
    notes: tuple[str, ...] = ()
    window: int | None = None
    split: str = ""
    texts: bool = False
    asked: dict[str, str] = field(default_factory=dict)


def digest(chunks: Iterable[bytes]) -> str:
    """sha256 over all chunks, in hex."""
    sha = hashlib.sha256()
    for chunk in chunks:
        sha.update(chunk)
    return sha.hexdigest()


def digest_array(array: np.ndarray[Any, Any]) -> str:
    """sha256 over dtype, shape and bytes."""
    return digest([f"{array.dtype}{array.shape}".encode(), np.ascontiguousarray(array).tobytes()])
