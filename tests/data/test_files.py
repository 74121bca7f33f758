"""Files: every kind is read whole, and every broken one is refused in one line."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from genalloy.data.errors import BadData
from genalloy.data.load import load_data

RNG = np.random.default_rng(1)
REALS = RNG.normal(size=(40, 3))
BYTES = RNG.integers(0, 256, (40, 5, 4), dtype=np.uint8)


def idx(path: Path, array: np.ndarray) -> None:
    path.write_bytes(gzip.compress(struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()))


def pictures(folder: Path, arrays: np.ndarray, suffix: str = "png") -> None:
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for i, array in enumerate(arrays):
        Image.fromarray(array).save(folder / f"{i:03}.{suffix}")


def test_npy_and_npz(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", BYTES)
    assert load_data(tmp_path / "a.npy").space.shape == (1, 5, 4)
    np.savez(tmp_path / "a.npz", x=BYTES, y=np.arange(40) % 3)
    data = load_data(str(tmp_path / "a.npz"))
    assert data.label_names == ("0", "1", "2") and len(data.labels["train"]) == 32
    np.savez(tmp_path / "b.npz", first=REALS, second=BYTES)
    assert load_data(f"{tmp_path}/b.npz:first").space.shape == (3,)
    with pytest.raises(BadData, match="keys first, second"):
        load_data(tmp_path / "b.npz")
    with pytest.raises(BadData, match="did you mean 'second'"):
        load_data(f"{tmp_path}/b.npz:secnd")


@pytest.mark.parametrize(
    "names",
    [("train", "valid", "test"), ("x_train", "x_val", "x_test"), ("train_x", "validation_x", "test_x")],
)
def test_own_parts_are_kept(tmp_path: Path, names: tuple[str, ...]) -> None:
    np.savez(tmp_path / "p.npz", **dict(zip(names, (REALS[:25], REALS[25:30], REALS[30:]), strict=True)))
    data = load_data(tmp_path / "p.npz", seed=5)
    np.testing.assert_array_equal(data.train.numpy(), REALS[:25].astype(np.float32))
    np.testing.assert_array_equal(data.validation.numpy(), REALS[25:30].astype(np.float32))
    np.testing.assert_array_equal(data.test.numpy(), REALS[30:].astype(np.float32))


def test_validation_is_cut_from_train(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "p.npz",
        x_train=BYTES[:30],
        x_test=BYTES[30:],
        y_train=np.arange(30) % 2,
        y_test=np.arange(10) % 2,
    )
    data = load_data(tmp_path / "p.npz")
    assert [len(p) for p in (data.train, data.validation, data.test)] == [27, 3, 10]
    np.testing.assert_array_equal(data.test[:, 0].numpy(), BYTES[30:])
    together = torch.cat([data.train, data.validation]).flatten(1).numpy()
    np.testing.assert_array_equal(np.sort(together, 0), np.sort(BYTES[:30].reshape(30, -1), 0))
    assert data.labels["test"].tolist() == [0, 1] * 5


def test_npz_refusals(tmp_path: Path) -> None:
    np.savez(tmp_path / "ragged.npz", train=REALS, train_len=np.array([20, 19]))
    with pytest.raises(BadData, match="adds up to 39 steps, train has"):
        load_data(tmp_path / "ragged.npz")
    np.savez(tmp_path / "p.npz", train=REALS, test=REALS[:, :2])
    with pytest.raises(BadData, match="expected one shape"):
        load_data(tmp_path / "p.npz")
    np.savez(tmp_path / "o.npz", x=np.array([{}, []], dtype=object))
    with pytest.raises(BadData, match="pickled"):
        load_data(tmp_path / "o.npz")


def test_idx_finds_its_siblings(tmp_path: Path) -> None:
    for part, rows in (("train", slice(0, 30)), ("t10k", slice(30, 40))):
        idx(tmp_path / f"{part}-images-idx3-ubyte.gz", BYTES[rows])
        idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", (np.arange(40) % 4).astype(np.uint8)[rows])
    for source in (tmp_path, tmp_path / "train-images-idx3-ubyte.gz"):
        data = load_data(source)
        np.testing.assert_array_equal(data.test[:, 0].numpy(), BYTES[30:])
        assert data.labels["test"].tolist() == [2, 3, 0, 1] * 2 + [2, 3] and len(data.train) == 27


def test_folder_of_pictures(tmp_path: Path) -> None:
    pictures(tmp_path / "cats", BYTES[:20])
    pictures(tmp_path / "dogs", BYTES[20:])
    data = load_data(tmp_path)
    assert data.label_names == ("cats", "dogs") and data.space.levels == 256 and data.space.shape == (1, 5, 4)
    cats = {row.tobytes() for row in BYTES[:20]}
    assert [row.tobytes() in cats for row in data.restore(data.train)] == [i == 0 for i in data.labels["train"]]


def test_folder_with_own_parts_and_colours(tmp_path: Path) -> None:
    colour = RNG.integers(0, 256, (12, 5, 4, 3), dtype=np.uint8)
    for label in ("a", "b"):
        pictures(tmp_path / "train" / label, colour)
        pictures(tmp_path / "test" / label, colour[:3])
    data = load_data(tmp_path)
    assert data.space.shape == (3, 5, 4) and len(data.test) == 6 and data.label_names == ("a", "b")
    assert data.restore(data.test).shape == (6, 5, 4, 3)


def test_folder_refusals(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="no pictures"):
        load_data(tmp_path)
    pictures(tmp_path / "a", BYTES)
    pictures(tmp_path / "b", BYTES[:1, :3])
    with pytest.raises(BadData, match="pictures of 4x5 and of 4x3"):
        load_data(tmp_path)
    (tmp_path / "b" / "000.png").write_bytes(b"not a picture")
    with pytest.raises(BadData, match="cannot read the picture"):
        load_data(tmp_path)
    with pytest.raises(BadData, match="label column"):
        load_data(tmp_path / "a", label="y")
    with pytest.raises(BadData, match="single picture"):
        load_data(tmp_path / "a" / "000.png")


def test_text(tmp_path: Path) -> None:
    text = "the quick brown fox jumps over the lazy dog; " * 60
    (tmp_path / "t.txt").write_text(text)
    (tmp_path / "t.txt.gz").write_bytes(gzip.compress(text.encode()))
    data = load_data(tmp_path / "t.txt")
    assert data.space.kind == "text" and data.space.levels == len(set(text)) and data.space.shape == (64,)
    assert text.startswith("".join(data.restore(data.train)))
    assert len(text) - 3 * 64 < 64 * (len(data.train) + len(data.validation) + len(data.test)) <= len(text)
    assert torch.equal(data.train, load_data(tmp_path / "t.txt.gz").train)
    assert torch.equal(data.admit(data.restore(data.test)), data.test) and data.admit(text).shape == (
        len(text) // 64,
        64,
    )
    with pytest.raises(BadData, match=r"unknown characters \['Q'\]"):
        data.admit("Q" * 64)
    with pytest.raises(BadData, match="expected 64"):
        data.admit(["too short"])


BROKEN = {
    "empty.csv": b"",
    "cut.npy": b"\x93NUMPY\x01\x00v\x00",
    "cut.npz": b"PK\x03\x04 cut short",
    "pickle.npy": b"\x80\x04K\x01.",
    "cut.parquet": b"PAR1 cut short",
    "binary.csv": bytes(range(128, 256)),
    "binary.txt": bytes(range(128, 256)),
    "cut-ubyte.gz": gzip.compress(struct.pack(">BBBB3I", 0, 0, 8, 3, 99, 28, 28) + b"few bytes"),
    "torn-ubyte.gz": gzip.compress(bytes(1000))[:-9],
    "other-ubyte.gz": gzip.compress(b"something else entirely"),
    "rows.xyz": b"1,2,3",
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(BROKEN[name])
    with pytest.raises(BadData, match=name) as error:
        load_data(tmp_path / name)
    assert "\n" not in str(error.value) and ";" in str(error.value)
