"""float32 before centring: what is far from zero is shifted in float64, comes back as it was, and changes no density."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from genalloy.data import precision
from genalloy.data.errors import BadData
from genalloy.data.form import Form
from genalloy.data.load import load_data
from genalloy.data.space import Space

pandas = pytest.importorskip("pandas", reason="tables are data frames")
RNG = np.random.default_rng(0)
G = RNG.normal(size=2000)
FAR = [(1.7e9, 60.0), (1e6, 1e-2), (-4e12, 3.0), (101325.0, 10.0)]


def doors(x: np.ndarray) -> dict[str, Any]:
    """The same reals by every door: array, one axis, frame, tensor, sequences."""
    both = np.column_stack([x, G])
    return {
        "(N, D)": both,
        "(N,)": x,
        "frame": pandas.DataFrame({"t": x, "g": G}),
        "tensor": torch.from_numpy(both),
        "sequences": [both[i : i + 7 + i % 3] for i in range(0, 1900, 10)],
    }


@pytest.mark.parametrize(("centre", "spread"), FAR)
@pytest.mark.parametrize("door", ["(N, D)", "(N,)", "frame", "tensor", "sequences"])
def test_far_from_zero(centre: float, spread: float, door: str) -> None:
    source = doors(centre + spread * G)[door]
    data = load_data(source)
    assert any("taken off in float64" in note for note in data.notes)
    first = data.train.reshape(-1, data.train.shape[-1])[:, 0] if door != "sequences" else data.train[..., 0].flatten()
    assert first.abs().max() < 6 * spread and len(first.unique()) > 0.9 * min(len(first), 1200)
    admitted = data.admit(source)
    if door == "sequences":
        back, own = np.concatenate(data.restore(admitted.x, admitted.lengths)), np.concatenate(source)
    else:
        back, own = np.asarray(data.restore(admitted)), np.asarray(source)
    assert np.abs(back - own).max() < 1e-6 * spread * 5 + 1e-6 and back.dtype == np.float64
    # a model of rows less the shift has the same density: the mean and the spread come back
    assert abs(back.reshape(len(back), -1)[:, 0].mean() - own.reshape(len(own), -1)[:, 0].mean()) < 1e-5 * spread
    assert Form(**data.form.to_json()) == data.form and Space.from_json(data.space.to_json()) == data.space


NEAR = [(0.0, 1.0), (5.0, 1.0), (2000.0, 10.0), (1e-30, 1e-30), (0.0, 1e30), (-40.0, 0.3)]


@pytest.mark.parametrize(("centre", "spread"), NEAR)
def test_ordinary_data_stay_bit_for_bit(centre: float, spread: float) -> None:
    for source in doors(centre + spread * G).values():
        data = load_data(source)
        assert data.form.shift == () and all(column.shift == 0 for column in data.space.columns)
    x = (centre + spread * np.column_stack([G, G[::-1]])).astype(np.float32)
    data = load_data(x)
    together = torch.cat([data.train, data.validation, data.test]).numpy()
    assert {row.tobytes() for row in together} == {row.tobytes() for row in x}


def test_a_few_rows_far_out_do_not_decide() -> None:
    x = 1.7e9 + 60 * G
    x[:3] = 0
    [shift, _] = [column.shift for column in load_data(pandas.DataFrame({"t": x, "g": G})).space.columns]
    assert abs(shift - 1.7e9) < 1e3
    x[np.arange(2000) % 3 == 0] = 0
    data = load_data(pandas.DataFrame({"t": x, "g": G}))
    assert abs(data.space.columns[0].shift - 1.7e9) < 1e3 and any("are exactly 0" in note for note in data.notes)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.where(G > 0, 1e6, 0) + 1e-3 * RNG.normal(size=2000), "tells only"),
        (1e39 * G, "at most 3e38"),
        (1e-42 * G, "at least 1e-37"),
    ],
)
def test_rows_that_float32_merges_are_refused(values: np.ndarray, words: str) -> None:
    for source in (np.column_stack([values, G]), pandas.DataFrame({"a": values, "g": G})):
        with pytest.raises(BadData, match=words) as error:
            load_data(source)
        assert "\n" not in str(error.value)


def test_a_part_that_is_coarse_is_noted() -> None:
    values = np.where(RNG.random(2000) < 0.04, 1e5 + 1e-1 * RNG.normal(size=2000), G)
    data = load_data(pandas.DataFrame({"a": values, "g": G}))
    assert any("float32 is coarse beside the spread of" in note for note in data.notes)


def test_beyond_float32_a_new_row_is_infinite_and_nan_is_refused() -> None:
    for source, row in (
        (np.column_stack([G, G]), np.array([[1e39, 0.0], [-1e300, 1.0]])),
        (pandas.DataFrame({"a": G, "b": G}), pandas.DataFrame({"a": [1e39, -1e300], "b": [0.0, 1.0]})),
    ):
        data = load_data(source)
        assert data.admit(row).tolist() == [[np.inf, 0.0], [-np.inf, 1.0]]
        for bad in (np.nan, np.inf):
            with pytest.raises(BadData, match="infinite"):
                data.admit(row * 0 + bad)
    far = load_data(np.column_stack([1.7e9 + 60 * G, G]))
    assert far.admit(np.array([[1.7e9, 0.0], [0.0, 0.0]])).isfinite().all()


@pytest.mark.parametrize(
    ("integers", "shift", "step"),
    [
        (RNG.integers(1990, 2020, 2000) * 10**6, 1990 * 10**6, 10**6),
        (RNG.integers(0, 9999, 2000) + 1_700_000_000_000_000_000, None, 1),
        (RNG.integers(0, 99, 2000).astype(np.uint64) + np.uint64(2**64 - 200), 2**64 - 200, 1),
        (RNG.integers(0, 99, 2000) - 2**62, -(2**62), 1),
        (RNG.integers(-5, 5, 2000), 0, 1),
        ((RNG.integers(0, 99, 2000) + 1.7e9).astype(np.float64), 1_700_000_000, 1),
    ],
)
def test_large_integers_are_exact(integers: np.ndarray, shift: int | None, step: int) -> None:
    frame = pandas.DataFrame({"k": integers, "g": G})
    data = load_data(frame)
    column = data.space.columns[0]
    assert column.kind == "integer" and column.step == step and column.shift == (integers.min() if shift is None else shift)
    restored = Form(**data.form.to_json()).restore(Space.from_json(data.space.to_json()), data.admit(frame))
    pandas.testing.assert_series_equal(restored["k"], frame["k"])
    if abs(column.shift) < 2**40:
        with pytest.raises(BadData, match="off the grid"):
            data.admit(pandas.DataFrame({"k": [float(column.shift) + 0.5], "g": 0.0}))


def test_integer_arrays_start_at_their_smallest() -> None:
    for integers in (RNG.integers(-5, 5, (200, 3)), RNG.integers(0, 99, (200, 3)) + 2**40, RNG.integers(-9, 99, (60, 4, 4))):
        data = load_data(integers)
        assert data.space.levels == integers.max() - integers.min() + 1 and data.form.shift == (integers.min(),)
        np.testing.assert_array_equal(data.restore(data.admit(integers)), integers)
    rows = [RNG.integers(-3, 3, (4 + i % 3, 2)) for i in range(40)]
    data = load_data(rows)
    admitted = data.admit(rows[:4])
    assert [row.tolist() for row in data.restore(admitted.x, admitted.lengths)] == [row.tolist() for row in rows[:4]]


def test_other_rows_are_stored_as_the_first_were() -> None:
    first, other = (load_data(pandas.DataFrame({"t": c + 60 * G, "g": G})) for c in (1.7e9, 1.8e9))
    moved = other.stored_as(first.space, first.form)
    assert moved.space.columns[0].shift == first.space.columns[0].shift != other.space.columns[0].shift
    np.testing.assert_allclose(moved.restore(moved.test)["t"], other.restore(other.test)["t"], atol=16)
    assert first.stored_as(first.space, first.form) is first


def test_a_density_far_from_zero_is_not_above_the_best_possible() -> None:
    """E log q <= E log p; on the four values that float32 left of such a column log q was 3.5 nats above it."""
    from genalloy.alloy import Alloy

    alloy = Alloy("maf", steps=30).fit(np.column_stack([1.7e9 + 60 * G, G[::-1]])[:1000])
    g = np.random.default_rng(9).normal(size=(2000, 2))
    best = -0.5 * (g**2).sum(1) - np.log(2 * np.pi * 60)
    above = alloy.score_samples(g * [60, 1] + [1.7e9, 0]) - best
    assert -0.5 < above.mean() < 3 * above.std() / 2000**0.5
    sample = alloy.sample(200)
    assert len(np.unique(sample[:, 0])) == 200 and np.abs(sample[:, 0] - 1.7e9).max() < 1000


def test_values_of_few_decimals_are_told_apart_without_a_shift() -> None:
    steady = np.round(np.repeat([1900.0, 2500.0, 3500.0], 700) + RNG.normal(size=2100) * 0.02, 3)
    data = load_data(pandas.DataFrame({"a": steady, "g": RNG.normal(size=2100)}))
    assert data.space.columns[0].shift == 0 and not any("coarse" in note for note in data.notes)


def test_decimals() -> None:
    assert precision.decimals(np.array([1.25, 3.5])) == 2 and precision.decimals(np.array([0.1], np.float32)) == 1
    assert precision.decimals(G) is None and precision.decimals(np.array([1e15 + 0.25])) is None
