"""How much memory a file may ask for: sizes are checked before anything is allocated or decoded.

A file's header may claim anything, and a few kilobytes of gzip may hold gigabytes. What a file is allowed to become is bounded
by its own size on disk.
"""

from __future__ import annotations

import gzip
import math
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from genalloy.data.errors import BadData

TIMES = 100
"""Deflate shrinks nothing but constant bytes a hundred times (its limit is 1,032);
tables of zeros reach 200, so there is a floor.
"""
FLOOR = 2**28
MOST_PIXELS = 2**26
"""Of one picture: 8,192 x 8,192."""
MOST_ENTRIES = 2**31
"""Of a data set, 8 GiB as float32."""


def expanded(path: Path) -> int:
    """Bytes that a compressed file may become: a hundred times its own, or 256 MiB where that is more."""
    return max(FLOOR, TIMES * path.stat().st_size)


def content(path: Path) -> bytes:
    """A file's bytes, gunzipped where it is a gzip file. Raises BadData where they are more than `expanded`."""
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            file.seek(0)
            return file.read()
    most = expanded(path)
    with gzip.open(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise BadData(
            f"{path} holds {path.stat().st_size:,} bytes and unpacks to more than {most:,}; expected at most"
            f" {TIMES} times as many;"
            " unpack it yourself if it is what it should be"
        )
    return data


def npy(path: Path) -> np.ndarray[Any, Any]:
    """An .npy file. Raises BadData where its header claims more than the file holds, ValueError for pickled objects."""
    with path.open("rb") as file:
        _claimed(file, path.stat().st_size, str(path))
    return np.asarray(np.load(path, allow_pickle=False))


def archive(path: Path) -> None:
    """Check every array of an .npz before one is read. Raises BadData for claims beyond what the file can hold."""
    most = expanded(path)
    with zipfile.ZipFile(path) as zipped:
        total = sum(entry.file_size for entry in zipped.infolist())
        if total > most:
            raise BadData(
                f"{path} holds {path.stat().st_size:,} bytes and unpacks to {total:,}; expected at most {most:,};"
                " write it again with numpy.savez if it is what it should be"
            )
        for entry in zipped.infolist():
            if entry.filename.endswith(".npy"):
                with zipped.open(entry) as file:
                    _claimed(file, entry.file_size, f"{path}:{entry.filename[:-4]}")  # type: ignore[arg-type]


def _claimed(file: BinaryIO, size: int, name: str) -> None:
    """Compare the bytes that an .npy header claims with those that are there."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("pickled objects")
    claim = math.prod(shape) * dtype.itemsize
    if claim > size - file.tell():
        raise BadData(
            f"{name} claims shape {shape} of {dtype}, {claim:,} bytes, and holds {max(0, size - file.tell()):,};"
            " expected as many as it"
            " claims; the file is cut short or forged, write it again"
        )


def pixels(name: object, size: tuple[int, int]) -> None:
    """Refuse one picture by its size, before it is decoded."""
    if size[0] * size[1] > MOST_PIXELS:
        raise BadData(
            f"{name} has {size[0]:,} x {size[1]:,} pixels; expected at most {MOST_PIXELS:,} in one picture; cut or resize it"
        )


def entries(name: object, count: int, each: int) -> None:
    """Refuse a data set that does not fit into memory as float32."""
    if count * each > MOST_ENTRIES:
        raise BadData(
            f"{name} holds {count:,} rows of {each:,} entries, {count * each * 4 / 2**30:.0f} GiB as float32; expected at most"
            f" {MOST_ENTRIES * 4 // 2**30}; resize the rows or take fewer"
        )
