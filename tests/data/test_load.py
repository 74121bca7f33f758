"""Arrays, names and labels: how they are read, split, refused and given back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genalloy.data.errors import BadData
from genalloy.data.load import load_data, rows

RNG = np.random.default_rng(0)
REALS = RNG.normal(size=(100, 3))
BYTES = RNG.integers(0, 256, (60, 6, 5, 3), dtype=np.uint8)


def test_toy() -> None:
    data = load_data("8gaussians", seed=1, limit=500)
    assert [len(p) for p in (data.train, data.validation, data.test)] == [500, 500, 500]
    assert data.log_density is not None and data.modes is not None and data.entropy_optimum == pytest.approx(-2.8319, abs=1e-4)
    assert torch.equal(data.test, load_data("8gaussians", seed=1, limit=500).test)
    assert not torch.equal(data.test, load_data("8gaussians", seed=2, limit=500).test)
    assert not torch.equal(data.test[:9], data.train[:9])


def test_digits_are_split_as_scikit_learn_does() -> None:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_data("digits")
    x, y = load_digits(return_X_y=True)
    rest, test, _, y_test = train_test_split(x, y, test_size=360, random_state=0)
    np.testing.assert_array_equal(data.test.flatten(1).numpy(), test)
    np.testing.assert_array_equal(data.labels["test"].numpy(), y_test)
    ours = torch.cat([data.train, data.validation]).flatten(1).numpy()
    np.testing.assert_array_equal(np.sort(ours, 0), np.sort(rest, 0))
    assert (len(data.train), len(data.validation)) == (1293, 144)
    assert data.space.levels == 17 and data.space.shape == (1, 8, 8) and data.label_names == tuple("0123456789")
    assert data.restore(data.test).dtype == np.uint8 and data.restore(data.test).shape == (360, 8, 8)
    json.dumps(data.source)


def test_split_is_a_partition_by_the_seed() -> None:
    x = np.arange(200.0).reshape(100, 2) + 0.5
    data = load_data(x)
    together = torch.cat([data.train, data.validation, data.test])
    assert [len(p) for p in (data.train, data.validation, data.test)] == [80, 10, 10]
    assert sorted(together[:, 0].tolist()) == x[:, 0].tolist()
    assert torch.equal(data.test, load_data(x, seed=0).test) and not torch.equal(data.test, load_data(x, seed=1).test)
    assert data.source["sha256"] == load_data(x, seed=1).source["sha256"] != load_data(x + 1).source["sha256"]


@pytest.mark.parametrize(
    ("array", "levels", "kind", "shape"),
    [
        (REALS, None, "points", (3,)),
        (RNG.normal(size=(50, 9)), None, "table", (9,)),
        (RNG.normal(size=50), None, "points", (1,)),
        (BYTES, 256, "image", (3, 6, 5)),
        (np.moveaxis(BYTES, -1, 1), 256, "image", (3, 6, 5)),
        (BYTES[..., :1], 256, "image", (1, 6, 5)),
        (BYTES[..., 0], 256, "image", (1, 6, 5)),
        (BYTES[..., 0] // 16, 16, "image", (1, 6, 5)),
        (BYTES[..., 0] > 99, 2, "image", (1, 6, 5)),
        (BYTES[..., 0] // 2, 256, "image", (1, 6, 5)),
        ((BYTES[..., 0] > 99) * 1.0, 2, "image", (1, 6, 5)),
        (np.arange(200).reshape(50, 4) % 100, 100, "table", (4,)),
    ],
)
def test_how_arrays_are_read_and_given_back(array: Any, levels: int | None, kind: str, shape: tuple[int, ...]) -> None:
    data = load_data(array)
    assert (data.space.levels, data.space.kind, data.space.shape) == (levels, kind, shape)
    back = data.restore(data.train)
    assert back.dtype == array.dtype and back.shape[1:] == array.shape[1:]
    assert {row.tobytes() for row in back} <= {row.tobytes() for row in array.astype(np.float32).astype(array.dtype)}
    assert torch.equal(data.admit(back), data.train) and torch.equal(data.admit(data.train), data.train)


def test_samples_are_rounded_and_clipped_to_the_grid() -> None:
    data = load_data(BYTES[..., 0] // 16)
    values = torch.full((1, 1, 6, 5), 3.4)
    values[0, 0, 0, :3] = torch.tensor([-2.0, 99.0, torch.nan])
    assert data.restore(values)[0, 0].tolist() == [0, 15, 0, 3, 3]


def test_labels_and_limit() -> None:
    names = np.array(["cat", "dog"])[RNG.integers(0, 2, 100)]
    data = load_data((REALS, names), limit=20)
    assert data.label_names == ("cat", "dog") and [len(v) for v in data.labels.values()] == [20, 10, 10]
    where = {row.tobytes(): name for row, name in zip(REALS.astype(np.float32), names, strict=True)}
    assert [where[row.tobytes()] for row in data.train.numpy()] == [data.label_names[i] for i in data.labels["train"]]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((0, 3)), "empty"),
        (np.float64(3), "single number"),
        (np.where(np.arange(300).reshape(100, 3) == 7, np.nan, REALS), r"1 NaN or infinite.*row 2, column 1"),
        (np.where(np.arange(300).reshape(100, 3) < 2, np.inf, REALS), r"2 NaN or infinite.*row 0, column 0"),
        (np.where(np.arange(3) == 1, 5.0, REALS), r"1 columns never change.*: 1;"),
        (np.ones((50, 4)), "every entry is 1"),
        (REALS[:9], "9 rows.*at least 10"),
        (np.zeros((20, 2, 2, 2, 2)) + np.arange(20).reshape(-1, 1, 1, 1, 1), "shape"),
        (np.array([["a", "b"]] * 20), "dtype"),
        (REALS * 1j, "dtype complex"),
        ([[1.0, 2.0], [3.0]], "unequal lengths"),
        (RNG.integers(-5, 5, (50, 2)) * 10**6, "data frame"),
        (REALS * 1e300, "float32"),
        ((REALS, np.arange(99) % 2), "one label per row"),
        ((REALS, np.arange(100)), "distinct values"),
        ("8gausians", "did you mean '8gaussians'"),
        ("no/such/file.csv", "no file"),
    ],
)
def test_refusals_in_one_line(source: Any, message: str) -> None:
    with pytest.raises(BadData, match=message) as error:
        load_data(source)
    assert "\n" not in str(error.value)


def test_other_refusals() -> None:
    with pytest.raises(BadData, match="limit"):
        load_data(REALS, limit=0)
    with pytest.raises(BadData, match="label column"):
        load_data("moons", label="y")
    with pytest.raises(BadData, match="tuple"):
        load_data(REALS, label="y")


def test_constant_pixels_are_a_note() -> None:
    images = BYTES[..., 0].copy()
    images[:, 0] = 0
    assert any("5 of 30 entries never change" in note for note in load_data(images).notes)


def test_repeats_and_grids_leave_notes() -> None:
    assert any("test rows also occur" in note for note in load_data(np.concatenate([REALS, REALS])).notes)
    gridded = np.column_stack([REALS[:, 0], np.arange(100) % 5 / 10])
    assert any("columns 1 have at most" in note for note in load_data(gridded).notes)


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (np.zeros((4, 6, 6)), r"shape \(4, 6, 6\); expected \(N, 1, 6, 5\)"),
        (np.full((4, 6, 5), 16), r"off the grid.*0\.\.15"),
        (np.full((4, 6, 5), 0.5), "off the grid"),
        (np.full((4, 6, 5), np.nan), "NaN"),
        ([[1], [1, 2]], "unequal"),
    ],
)
def test_new_rows_are_checked(new: Any, message: str) -> None:
    with pytest.raises(BadData, match=message):
        load_data(BYTES[..., 0] // 16).admit(new)


def test_rows_for_scoring(tmp_path: Path) -> None:
    np.save(tmp_path / "new.npy", REALS)
    [(part, values, labels)] = rows(tmp_path / "new.npy")
    assert part == "all" and labels is None and load_data(REALS).admit(values).shape == (100, 3)
