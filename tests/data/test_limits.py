"""Files that claim or become more than they can hold are refused in one line, before memory is asked for."""

from __future__ import annotations

import gzip
import io
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from genalloy.data import limits
from genalloy.data.errors import BadData
from genalloy.data.load import load_data


def claiming(shape: tuple[int, ...], dtype: str = "<f8") -> bytes:
    """An .npy file of 80 bytes whose header claims a shape."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": dtype, "fortran_order": False, "shape": shape})
    return buffer.getvalue() + bytes(80)


def npy(folder: Path) -> Path:
    (folder / "a.npy").write_bytes(claiming((300 * 2**27,)))
    return folder / "a.npy"


def npz(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "a.npz", "w") as zipped:
        zipped.writestr("x.npy", claiming((2**40, 3), "<i2"))
    return folder / "a.npz"


def key(folder: Path) -> str:  # type: ignore[return]
    return f"{npz(folder)}:x"


def zip_bomb(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "b.npz", "w", zipfile.ZIP_DEFLATED) as zipped, zipped.open("x.npy", "w") as file:
        file.write(claiming((270 * 2**20,), "|u1")[:-80])
        for _ in range(270):
            file.write(bytes(2**20))
    return folder / "b.npz"


def gz_bomb(suffix: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        with gzip.open(folder / f"b{suffix}", "wb", compresslevel=1) as file:
            for _ in range(270):
                file.write(b"0" * 2**20)
        return folder / f"b{suffix}"

    return write


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (npy, "claims shape"),
        (npz, "claims shape"),
        (key, "claims shape"),
        (zip_bomb, "unpacks to"),
        (gz_bomb(".csv.gz"), "unpacks to"),
        (gz_bomb(".txt.gz"), "unpacks to"),
        (gz_bomb("-ubyte.gz"), "unpacks to"),
    ],
)
def test_claims_and_bombs(tmp_path: Path, write: Callable[[Path], Path], words: str) -> None:
    path = write(tmp_path)
    tracemalloc.start()
    try:
        with pytest.raises(BadData, match=words) as error:
            load_data(str(path))
        assert "\n" not in str(error.value)
        assert tracemalloc.get_traced_memory()[1] < 2.5 * limits.FLOOR
    finally:
        tracemalloc.stop()


def test_honest_files_pass(tmp_path: Path) -> None:
    for order in ("C", "F"):
        np.save(tmp_path / "a.npy", np.asarray(np.random.default_rng(0).normal(size=(50, 3)), order=order))
        assert load_data(tmp_path / "a.npy").space.shape == (3,)
    np.savez_compressed(tmp_path / "z.npz", x=np.pad(np.eye(40, dtype=np.uint8), ((0, 0), (0, 5000))))
    assert load_data(tmp_path / "z.npz").space.dims == 5040
