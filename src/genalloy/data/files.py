"""Files to `Raw`: one reader per kind of file, named by extension."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from genalloy.data.audio import read_audio
from genalloy.data.errors import BadData, nearest
from genalloy.data.form import Form
from genalloy.data.images import PICTURES, read_folder, read_idx
from genalloy.data.raw import PARTS, WHOLE, Raw, digest, digest_array

Array = np.ndarray[Any, Any]
PART_WORDS = {
    "train": ("train", "training", "tr"),
    "validation": ("validation", "valid", "val"),
    "test": ("test", "te"),
}
WHOLE_WORDS = ("x", "data", "images", "features", "samples", "sequences", "arr_0")
LABEL_WORDS = ("y", "labels", "label", "targets", "target")


def read_file(path: Path, label: str | None = None) -> Raw:
    """A file or a folder of pictures. `label` names a column (tables) or a key (.npz). Raises BadData."""
    if path.is_dir() and any(path.rglob("*.wav")):
        return _unlabelled(read_audio, path, label)
    if path.is_dir():
        return _unlabelled(read_folder, path, label)
    if not path.exists():
        return _missing(path, label)
    suffix = _suffix(path)
    if suffix not in READERS:
        wrong = "is a single picture" if suffix in PICTURES else f"has the extension {path.suffix!r}"
        raise BadData(f"{path} {wrong}; expected a folder of pictures or one of {', '.join(READERS)}")
    if path.stat().st_size == 0:
        raise BadData(f"{path} is empty (0 bytes); expected data; check how it was written")
    with _reading(path):
        return READERS[suffix](path, label)


def read_frame(frame: Any, label: str | None, name: str = "frame") -> Raw:
    """A data frame, its label column (if named) taken out."""
    if frame.shape[0] == 0 or frame.shape[1] == 0:
        raise BadData(f"the table has {frame.shape[0]} rows and {frame.shape[1]} columns; expected data; check the file")
    import pandas

    sha256 = digest(
        [
            str(list(frame.columns)).encode(),
            pandas.util.hash_pandas_object(frame, index=False).to_numpy().tobytes(),
        ]
    )
    names = [str(column) for column in frame.columns]
    if label is None:
        return Raw(name, {WHOLE: frame}, form=Form("frame"), sha256=sha256)
    if label not in names:
        raise BadData(f"there is no label column {label!r}; expected one of {', '.join(names[:12])}{nearest(label, names)}")
    position = names.index(label)
    gaps = int(frame.iloc[:, position].isna().sum())
    if gaps:
        raise BadData(f"the label column {label!r} misses {gaps:,} values; expected one label per row; drop those rows")
    labels = {WHOLE: frame.iloc[:, position].to_numpy()}
    return Raw(name, {WHOLE: frame.drop(columns=frame.columns[position])}, labels, Form("frame"), sha256=sha256)


def read_array(array: Any, labels: Any = None, name: str = "array") -> Raw:
    """An array in memory, with one label per row or none."""
    array = np.asarray(array)
    return Raw(
        name,
        {WHOLE: array},
        {} if labels is None else {WHOLE: np.asarray(labels)},
        sha256=digest_array(array),
    )


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Whatever a parser throws becomes one line about the file."""
    try:
        yield
    except BadData:
        raise
    except ImportError as error:
        raise BadData(f"cannot read {path}: {error.msg}; install it, or convert the file to .csv or .npz") from None
    except (OSError, ValueError, EOFError, KeyError, zlib.error, BadZipFile) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        if "pickle" in str(error).lower():
            reason = "it holds pickled objects, which are never loaded"
        raise BadData(f"cannot read {path}: {reason}; expected a whole {_suffix(path)} file; write it again") from None


def _missing(path: Path, label: str | None) -> Raw:
    """``archive.npz:key`` names one array of an archive."""
    head, colon, key = str(path).rpartition(":")
    if colon and head.endswith(".npz") and Path(head).exists():
        with _reading(Path(head)), np.load(head, allow_pickle=False) as archive:
            return _whole(Path(head), _sequences(archive, key), archive, label)
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    raise BadData(f"there is no file {path}; expected a file, a folder or the name of a toy{nearest(path.name, siblings)}")


def _suffix(path: Path) -> str:
    name = path.name.lower()
    if "ubyte" in name:
        return ".gz"
    return "".join(Path(name).suffixes[-2:]) if name.endswith((".txt.gz", ".csv.gz")) else Path(name).suffix


def _unlabelled(read: Callable[[Path], Raw], path: Path, label: str | None) -> Raw:
    if label is not None:
        raise BadData(
            f"{path} has no label column {label!r}; expected no label for such a source; subfolders, siblings or"
            " an .npz with y hold labels"
        )
    return read(path)


def _read_npy(path: Path) -> Raw:
    return Raw(
        path.stem,
        {WHOLE: np.load(path, allow_pickle=False)},
        path=str(path),
        sha256=digest([path.read_bytes()]),
    )


def _read_txt(path: Path) -> Raw:
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    return Raw(path.name.partition(".")[0], {WHOLE: text}, {}, Form("text", "str"), str(path), digest([data]))


def _read_table(path: Path, label: str | None) -> Raw:
    import pandas

    frame, notes = (pandas.read_parquet(path), []) if path.suffix == ".parquet" else _read_csv(path)
    raw = read_frame(frame, label, path.name.partition(".")[0])
    return Raw(raw.name, raw.parts, raw.labels, raw.form, str(path), digest([path.read_bytes()]), tuple(notes))


def _read_csv(path: Path) -> tuple[Any, list[str]]:
    import pandas

    notes = []
    top = pandas.read_csv(path, nrows=1, header=None, dtype=str).iloc[0]
    if all(_number(value) for value in top):
        frame = pandas.read_csv(path, header=None).rename(columns=lambda i: f"x{i}")
        notes.append("the first row is all numbers: read as data, and the columns named x0, x1, ...")
    else:
        frame = pandas.read_csv(path)
    first = frame.columns[0]
    if str(first).startswith("Unnamed") and (frame[first] == np.arange(len(frame))).all():
        frame = frame.drop(columns=first)
        notes.append("a first column without a name that only counts the rows was left out")
    return frame, notes


def _number(value: object) -> bool:
    try:
        return bool(np.isfinite(float(str(value))))
    except ValueError:
        return False


# -- archives ------------------------------------------------------------------------------------------------------


def _read_npz(path: Path, label: str | None) -> Raw:
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


READERS: dict[str, Callable[[Path, str | None], Raw]] = {
    ".npy": lambda path, label: _unlabelled(_read_npy, path, label),
    ".npz": _read_npz,
    ".wav": lambda path, label: _unlabelled(read_audio, path, label),
    ".csv": _read_table,
    ".csv.gz": _read_table,
    ".parquet": _read_table,
    ".gz": lambda path, label: _unlabelled(read_idx, path, label),
    ".txt": lambda path, label: _unlabelled(_read_txt, path, label),
    ".txt.gz": lambda path, label: _unlabelled(_read_txt, path, label),
}
