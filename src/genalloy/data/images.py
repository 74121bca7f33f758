"""Images on disk: folders of picture files, and MNIST's idx files."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from genalloy.data import limits
from genalloy.data.errors import BadData
from genalloy.data.pictures import PICTURES, read_pictures
from genalloy.data.raw import PARTS, WHOLE, Raw, digest

Array = np.ndarray[Any, Any]
OWN_PARTS = {
    "train": "train",
    "training": "train",
    "valid": "validation",
    "val": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


# -- a folder ------------------------------------------------------------------------------------------------------


def read_folder(folder: Path) -> Raw:
    """A folder of equally sized pictures; subfolders are labels, or train/valid/test parts that may hold labels.

    A folder with MNIST's train-images file is read as such. Raises BadData where there is no picture.
    """
    idx = sorted(folder.glob("train-images*idx3-ubyte*"))
    if idx:
        return read_idx(idx[0])
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in PICTURES and not p.name.startswith("."))
    if not files:
        raise BadData(f"the folder {folder} holds no pictures; expected {', '.join(PICTURES[:3])}, ... files; check the path")
    places = [file.relative_to(folder).parts for file in files]
    parts, inner = _parts(places)
    pictures, notes = read_pictures(files)
    notes += _others(folder, files)
    labels = np.array([place[0] if len(place) > 1 else "" for place in inner])
    has_labels = bool((labels != "").all()) and len(set(labels)) > 1
    rows = {part: np.flatnonzero(parts == part) for part in (WHOLE, *PARTS) if (parts == part).any()}
    return Raw(
        folder.name,
        {part: pictures[i] for part, i in rows.items()},
        {part: labels[i] for part, i in rows.items()} if has_labels else {},
        path=str(folder),
        notes=tuple(notes),
        sha256=digest(
            chunk for file, place in zip(files, places, strict=True) for chunk in ("/".join(place).encode(), file.read_bytes())
        ),
    )


def _others(folder: Path, files: list[Path]) -> list[str]:
    rest = sum(1 for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")) - len(files)
    return [f"{rest} files that are no pictures were left out"] if rest else []


def _parts(places: list[tuple[str, ...]]) -> tuple[Array, list[tuple[str, ...]]]:
    """Each picture's part, and its place inside the part; the top folders are parts only if all of them are."""
    own = [OWN_PARTS.get(place[0].lower(), "") if len(place) > 1 else "" for place in places]
    if all(own) and "train" in own:
        return np.array(own), [place[1:] for place in places]
    return np.array([WHOLE] * len(places)), places


# -- idx files -----------------------------------------------------------------------------------------------------


def read_idx(path: Path) -> Raw:
    """An idx file of MNIST's kind, gzipped or not; its siblings (t10k images, labels) are found by name.

    Parts "train" and "test" where both files are there, otherwise one whole. Raises BadData as :func:`parse_idx` does.
    """
    train = path.with_name(path.name.replace("t10k", "train"))
    test = path.with_name(path.name.replace("train", "t10k"))
    own = "train" in path.name and test.exists() and test != path
    images = {"train": train, "test": test} if own else {WHOLE: path}
    labels = {part: file.with_name(file.name.replace("images-idx3", "labels-idx1")) for part, file in images.items()}
    known = all(labels[part].exists() and labels[part] != images[part] for part in images)
    files = [*images.values(), *(labels.values() if known else ())]
    return Raw(
        path.parent.name or path.name,
        {part: parse_idx(file) for part, file in images.items()},
        {part: parse_idx(file) for part, file in labels.items()} if known else {},
        path=str(path),
        sha256=digest(file.read_bytes() for file in files),
    )


def parse_idx(path: Path) -> Array:
    """The uint8 array of an idx file: bytes 0, 0, 8, number of axes, each axis as big-endian int32, then the data.

    Raises BadData where the file is damaged, cut short, or of another kind.
    """
    try:
        data = limits.content(path)
    except BadData:
        raise
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise BadData(f"cannot read {path}: {error}; expected a whole gzip file; fetch it again") from None
    if len(data) < 8 or data[:3] != b"\0\0\x08":
        raise BadData(f"{path} starts with {data[:4]!r}; expected an idx file of bytes (0, 0, 8, axes); check the file")
    axes = data[3]
    shape = struct.unpack(f">{axes}I", data[4 : 4 + 4 * axes])
    body = np.frombuffer(data, np.uint8, offset=4 + 4 * axes)
    if body.size != np.prod(shape, dtype=np.int64):
        raise BadData(f"{path} holds {body.size:,} bytes; its header says {shape}; the file is cut short, fetch it again")
    return body.reshape(shape)
