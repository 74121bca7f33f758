"""Files to `Raw`: one reader per kind of file, named by extension."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from genalloy.data import limits
from genalloy.data.archives import read_key, read_npy, read_npz
from genalloy.data.audio import read_audio
from genalloy.data.delimited import beside, read_delimited
from genalloy.data.errors import BadData, nearest
from genalloy.data.form import Form
from genalloy.data.frames import read_frame
from genalloy.data.images import read_folder, read_idx
from genalloy.data.pictures import PICTURES
from genalloy.data.raw import WHOLE, Raw, digest


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


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Whatever a parser throws becomes one line about the file."""
    try:
        yield
    except BadData:
        raise
    except ImportError as error:
        raise BadData(f"cannot read {path}: {error.msg}; install it, or convert the file to .csv or .npz") from None
    except (OSError, ValueError, EOFError, KeyError, TypeError, RuntimeError, zlib.error, BadZipFile) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        if "pickle" in str(error).lower():
            reason = "it holds pickled objects, which are never loaded"
        raise BadData(f"cannot read {path}: {reason}; expected a whole {_suffix(path)} file; write it again") from None


def _missing(path: Path, label: str | None) -> Raw:
    """``archive.npz:key`` names one array of an archive."""
    head, colon, key = str(path).rpartition(":")
    if colon and head.endswith(".npz") and Path(head).exists():
        with _reading(Path(head)):
            return read_key(Path(head), key, label)
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    raise BadData(f"there is no file {path}; expected a file, a folder or the name of a toy{nearest(path.name, siblings)}")


def _suffix(path: Path) -> str:
    name = path.name.lower()
    if "ubyte" in name:
        return ".gz"
    return "".join(Path(name).suffixes[-2:]) if name.endswith((".txt.gz", ".csv.gz", ".tsv.gz")) else Path(name).suffix


def _unlabelled(read: Callable[[Path], Raw], path: Path, label: str | None) -> Raw:
    if label is not None:
        raise BadData(
            f"{path} has no label column {label!r}; expected no label for such a source; subfolders, siblings or"
            " an .npz with y hold labels"
        )
    return read(path)


def _read_txt(path: Path) -> Raw:
    data = path.read_bytes()
    text = limits.content(path).decode("utf-8-sig")
    return Raw(path.name.partition(".")[0], {WHOLE: text}, {}, Form("text", "str"), str(path), digest([data]))


def _read_table(path: Path, label: str | None) -> Raw:
    said = beside(path)
    frame, notes = _parquet(path) if path.suffix == ".parquet" else read_delimited(path, said)
    files = [path] if said.path is None else [path, said.path]
    notes = notes if said.path is None else [f"read as {said.path.name} says", *notes]
    sha256 = digest(file.read_bytes() for file in files)
    raw = read_frame(frame, label, path.name.partition(".")[0], path.suffix != ".parquet", sha256)
    return replace(raw, path=str(path), notes=tuple(notes), asked=said.columns)


def _parquet(path: Path) -> tuple[Any, list[str]]:
    import pandas
    import pyarrow.parquet

    facts = pyarrow.parquet.read_metadata(path)
    limits.entries(path, facts.num_rows, facts.num_columns)
    return pandas.read_parquet(path), []


READERS: dict[str, Callable[[Path, str | None], Raw]] = {
    ".npy": lambda path, label: _unlabelled(read_npy, path, label),
    ".npz": read_npz,
    ".wav": lambda path, label: _unlabelled(read_audio, path, label),
    ".csv": _read_table,
    ".csv.gz": _read_table,
    ".tsv": _read_table,
    ".tsv.gz": _read_table,
    ".parquet": _read_table,
    ".gz": lambda path, label: _unlabelled(read_idx, path, label),
    ".txt": lambda path, label: _unlabelled(_read_txt, path, label),
    ".txt.gz": lambda path, label: _unlabelled(_read_txt, path, label),
}
