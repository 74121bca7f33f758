"""NumPy's files to `Raw`: one array (.npy), or an archive of named ones (.npz) with its own parts, labels and lengths."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from genalloy.data import limits
from genalloy.data.errors import BadData, nearest
from genalloy.data.form import Form
from genalloy.data.frames import read_frame
from genalloy.data.memory import held
from genalloy.data.raw import PARTS, WHOLE, Raw, digest

Array = np.ndarray[Any, Any]
PART_WORDS = {
    "train": ("train", "training", "tr"),
    "validation": ("validation", "valid", "val"),
    "test": ("test", "te"),
}
WHOLE_WORDS = ("x", "data", "images", "features", "samples", "sequences", "arr_0")
LABEL_WORDS = ("y", "labels", "label", "targets", "target")


def read_npy(path: Path) -> Raw:
    """One array; one of records is a table."""
    array, sha256 = limits.npy(path), digest([path.read_bytes()])
    if array.dtype.names:
        frame = held(array)
        return replace(read_frame(frame.rows, None, path.stem, sha256=sha256), path=str(path), notes=frame.notes)
    return Raw(path.stem, {WHOLE: array}, path=str(path), sha256=sha256)


def read_key(path: Path, key: str, label: str | None) -> Raw:
    """One array of an archive, by its name."""
    limits.archive(path)
    with np.load(path, allow_pickle=False) as archive:
        return _whole(path, _sequences(archive, key), archive, label)


def read_npz(path: Path, label: str | None) -> Raw:
    """An archive of parts, or of one array x with or without labels y.
    Raises BadData where it is not clear which array is meant.
    """
    limits.archive(path)
    with np.load(path, allow_pickle=False) as archive:
        parts = {part: key for part in PARTS if (key := _part_key(archive.files, part))}
        if "train" in parts:
            return _own_parts(path, archive, parts, label)
        whole = next((key for word in WHOLE_WORDS for key in archive.files if key.lower() == word), None)
        if whole is None and len(archive.files) == 1:
            whole = archive.files[0]
        if whole is None:
            raise BadData(
                f"{path} has the keys {', '.join(archive.files[:10])}; expected train/valid/test, x_train/... or x;"
                f" name one as {path.name}:{archive.files[0]}"
            )
        return _whole(path, _sequences(archive, whole), archive, label)


def _part_key(files: list[str], part: str) -> str | None:
    spellings = [s for w in PART_WORDS[part] for s in (w, f"x_{w}", f"{w}_x", f"{w}_images", f"{w}_data")]
    return next((key for s in spellings for key in files if key.lower() == s), None)


def _own_parts(path: Path, archive: Any, parts: dict[str, str], label: str | None) -> Raw:
    names = {part: _label_key(archive.files, PART_WORDS[part], label) for part in parts}
    if label is not None and not all(names.values()):
        raise BadData(
            f"{path} has no labels {label!r} for every part; expected keys like {label}_train{nearest(label, archive.files)}"
        )
    rows = {part: _sequences(archive, key) for part, key in parts.items()}
    lengths = [f"{key}_len" for key in parts.values() if f"{key}_len" in archive.files]
    return Raw(
        path.stem,
        rows,
        {part: _get(archive, key) for part, key in names.items() if key} if all(names.values()) else {},
        _form(rows["train"]),
        path=str(path),
        sha256=digest([path.read_bytes()]),
        notes=_ignored(archive, [*parts.values(), *lengths, *filter(None, names.values())]),
    )


def _sequences(archive: Any, key: str) -> Any:
    """An array, or a list of sequences where their lengths stand beside it as `KEY_len` (or as `lengths`)."""
    array = _get(archive, key)
    beside = next((name for name in (f"{key}_len", "lengths") if name in archive.files), None)
    if beside is None:
        return array
    lengths = np.asarray(archive[beside])
    if lengths.ndim != 1 or (lengths < 1).any() or lengths.sum() != len(array):
        raise BadData(f"{beside} adds up to {lengths.sum():,} steps, {key} has {len(array):,}; expected one length a sequence")
    return np.split(array, np.cumsum(lengths)[:-1])


def _form(rows: Any) -> Form:
    return Form("sequence", str(rows[0].dtype)) if type(rows) is list else Form()


def _whole(path: Path, array: Any, archive: Any, label: str | None) -> Raw:
    words = LABEL_WORDS if label is None else (label,)
    key = next((k for word in words for k in archive.files if k.lower() == word.lower()), None)
    if label is not None and key is None:
        raise BadData(
            f"{path} has no key {label!r} to label by{nearest(label, archive.files)}; expected one of"
            f" {', '.join(archive.files[:10])}"
        )
    labels = {} if key is None or np.shape(archive[key]) != (len(array),) else {WHOLE: _get(archive, key)}
    return Raw(path.stem, {WHOLE: array}, labels, _form(array), path=str(path), sha256=digest([path.read_bytes()]))


def _label_key(files: list[str], part_words: tuple[str, ...], label: str | None) -> str | None:
    words = LABEL_WORDS if label is None else (label,)
    spellings = {s.lower() for w in words for p in part_words for s in (f"{w}_{p}", f"{p}_{w}")}
    return next((key for key in files if key.lower() in spellings), None)


def _get(archive: Any, key: str) -> Array:
    if key not in archive.files:
        raise BadData(
            f"the archive has no key {key!r}; expected one of {', '.join(archive.files[:10])}{nearest(key, archive.files)}"
        )
    return np.asarray(archive[key])


def _ignored(archive: Any, used: list[str]) -> tuple[str, ...]:
    rest = [key for key in archive.files if key not in used]
    return (f"keys not used: {', '.join(rest)}",) if rest else ()
