"""Frames come back exact in dtype, order and label, through JSON as a stored run does it."""

from __future__ import annotations

import datetime
import decimal
import io
import json
from typing import Any

import numpy as np
import pytest
import torch

from genalloy.data.dataset import Dataset
from genalloy.data.errors import BadData
from genalloy.data.form import Form
from genalloy.data.load import load_data
from genalloy.data.space import Space

pandas = pytest.importorskip("pandas", reason="tables are data frames")
pyarrow = pytest.importorskip("pyarrow", reason="Arrow's dtypes")
RNG = np.random.default_rng(0)
N = 60
G = RNG.normal(size=N).astype(np.float32)
FEW = RNG.integers(0, 9, N)
DAYS = RNG.integers(0, 99, N)
WORDS = np.where(G > 0, "a", "b")
START = pandas.Timestamp("2020-01-01")
DATES = pandas.Series(START + pandas.to_timedelta(DAYS, "D"))
OBJECTS = {
    "integers": [int(k) for k in FEW],
    "floats": [float(g) for g in G],
    "decimals": [decimal.Decimal(int(k)) / 4 for k in RNG.integers(0, 9999, N)],
    "truths": [bool(g > 0) for g in G],
    "texts": list(WORDS.astype(str)),
    "mixed": [1, "1", True, "x"] * (N // 4),
    "dates": [datetime.date(2020, 1, 1) + datetime.timedelta(days=int(d)) for d in DAYS],
    "timestamps": list(DATES),
}


def arrow(values: Any, dtype: Any) -> Any:
    return pandas.Series(values, dtype=pandas.ArrowDtype(dtype))


COLUMNS = {
    **{f"object of {name}": pandas.Series(values, dtype=object) for name, values in OBJECTS.items()},
    **{dtype: pandas.Series(FEW.astype(dtype)) for dtype in ("int8", "uint8", "int16", "int32", "int64", "uint64", ">i4")},
    **{dtype: pandas.Series(G.astype(dtype)) for dtype in ("float16", "float32", "float64", ">f8")},
    **{dtype: pandas.Series(FEW, dtype=dtype) for dtype in ("Int8", "Int64", "UInt32")},
    **{dtype: pandas.Series(G, dtype=dtype) for dtype in ("Float32", "Float64")},
    "bool": pandas.Series(G > 0),
    "boolean": pandas.Series(G > 0, dtype="boolean"),
    "str": pandas.Series(WORDS),
    **{f"string {where}": pandas.Series(WORDS, dtype=pandas.StringDtype(where)) for where in ("python", "pyarrow")},
    "arrow int32": arrow(FEW, pyarrow.int32()),
    "arrow double": arrow(G.astype(float), pyarrow.float64()),
    "arrow string": arrow(WORDS, pyarrow.string()),
    "arrow bool": arrow(G > 0, pyarrow.bool_()),
    "arrow timestamp": DATES.astype(pandas.ArrowDtype(pyarrow.timestamp("us"))),
    "arrow date": arrow(OBJECTS["dates"], pyarrow.date32()),
    "arrow decimal": arrow(OBJECTS["decimals"], pyarrow.decimal128(10, 2)),
    "arrow dictionary": pandas.Series(WORDS).astype(pandas.ArrowDtype(pyarrow.dictionary(pyarrow.int32(), pyarrow.string()))),
    "sparse float": pandas.Series(pandas.arrays.SparseArray(np.where(G > 0, G, 0).astype(float), fill_value=0.0)),
    "sparse int": pandas.Series(pandas.arrays.SparseArray(RNG.integers(0, 3, N), fill_value=0)),
    "sparse bool": pandas.Series(pandas.arrays.SparseArray(G > 0, fill_value=False)),
    "categories": pandas.Series(pandas.Categorical(WORDS, ["b", "a", "c"])),
    "ordered": pandas.Series(pandas.Categorical(WORDS, ["b", "a", "c"], ordered=True)),
    "integer categories": pandas.Series(pandas.Categorical(np.where(G > 0, 10, 9))),
    "truth categories": pandas.Series(pandas.Categorical(G > 0)),
    "float categories": pandas.Series(pandas.Categorical(np.where(G > 0, 0.5, 1.0))),
    "date categories": pandas.Series(pandas.Categorical(pandas.to_datetime(np.where(G > 0, "2020-01-01", "2021-01-01")))),
    "mixed categories": pandas.Series(pandas.Categorical(["1", 1] * (N // 2))),
    "intervals": pandas.cut(pandas.Series(G), 4),
    "days": DATES,
    "days ns": DATES.astype("datetime64[ns]"),
    "hours": pandas.Series(START + pandas.to_timedelta(RNG.integers(0, 9999, N), "h")),
    "minutes": pandas.Series(START + pandas.to_timedelta(RNG.integers(0, 500_000, N), "min")),
    "days in a zone": pandas.Series(pandas.date_range("2020-03-01", periods=N, tz="Europe/Berlin")),
    "hours in a zone": pandas.Series(pandas.date_range("2020-03-01", periods=N, freq="7h", tz="Europe/Berlin")),
    "spans of days": pandas.Series(pandas.to_timedelta(DAYS, "D")),
    "spans of hours": pandas.Series(pandas.to_timedelta(DAYS, "h")),
    "periods": pandas.Series(pandas.period_range("2000-01", periods=N, freq="M")),
    "whole floats": pandas.Series(RNG.integers(0, 90, N).astype(float)),
    "prices": pandas.Series(np.round(RNG.lognormal(3, 1, N), 2)),
    "prices in float32": pandas.Series(np.round(RNG.lognormal(3, 1, N), 2).astype(np.float32)),
    "far integers": pandas.Series(RNG.integers(0, 999, N) + 10**15),
    "far floats": pandas.Series(1.7e9 + RNG.integers(0, 999, N) / 4),
}


def stored(data: Dataset) -> tuple[Form, Space]:
    """Form and space as a run's data.json holds them."""
    record = json.loads(json.dumps([data.form.to_json(), data.space.to_json()]))
    return Form(**record[0]), Space.from_json(record[1])


def check(frame: Any) -> Dataset:
    data = load_data(frame)
    form, space = stored(data)
    rows = form.admit(space, frame)
    back = form.restore(space, rows)
    pandas.testing.assert_frame_equal(back, frame, check_exact=True)
    assert torch.equal(form.admit(space, back), rows) and data.source["sha256"]
    return data


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_comes_back(name: str) -> None:
    check(pandas.DataFrame({name: COLUMNS[name], "g": G}))


def test_all_columns_come_back_and_through_text_too() -> None:
    frame = pandas.DataFrame(COLUMNS)
    data = check(frame)
    form, space = stored(data)
    sample = form.restore(space, data.train + 0.3)
    assert list(sample.dtypes) == list(frame.dtypes)
    plain = frame.drop(columns=["object of mixed", "mixed categories", "date categories"])
    form, space = stored(load_data(plain))
    read = pandas.read_csv(io.StringIO(plain.to_csv(index=False)), dtype=str, keep_default_na=False)
    assert torch.equal(form.admit(space, read), form.admit(space, plain))


LABELS = {
    "twice": ["a", "a"],
    "three times": ["a", "b", "a"],
    "number and text": [1, "1"],
    "text and number": ["1", 1],
    "numbers": [3, 1, 2],
    "floats": [0.5, 1.5],
    "tuples": [("u", 1), ("u", 2)],
    "dates": list(pandas.to_datetime(["2020-01-01", "2021-06-01"])),
    "truth": [True, "True"],
    "none": [None, "None"],
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_are_objects_and_columns_are_found_by_place(name: str) -> None:
    labels = LABELS[name]
    frame = pandas.DataFrame(RNG.normal(size=(N, len(labels))).astype(np.float32))
    for index in (pandas.Index(labels), pandas.Index(labels, dtype=object, tupleize_cols=False)):
        frame.columns = index
        data = check(frame)
        np.testing.assert_array_equal(data.admit(frame).numpy(), frame.to_numpy())
        backwards = frame.iloc[:, ::-1]
        if len(set(frame.columns)) == len(labels):
            assert torch.equal(data.admit(backwards), data.admit(frame))
        # a file knows texts alone: equal ones are taken in their order
        spelt = frame.set_axis([str(label) for label in frame.columns], axis=1)
        assert torch.equal(data.admit(spelt), data.admit(frame))


def test_named_indices_come_back() -> None:
    frame = pandas.DataFrame(G.reshape(-1, 2), columns=pandas.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["x", None]))
    check(frame)
    check(pandas.DataFrame(G.reshape(-1, 2), columns=pandas.Index(["a", "b"], name="q")))
    check(pandas.DataFrame(G.reshape(-1, 2), columns=pandas.Categorical(["u", "v"])))


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ([[1, 2]], "list cells"),
        ([{"a": 1}], "dict cells"),
        ([np.ones(2)], "ndarray cells"),
        ([b"x"], "bytes cells"),
        ([1j], "complex"),
        ([{1}], "set cells"),
    ],
)
def test_cells_that_no_model_takes(cells: list[Any], words: str) -> None:
    frame = pandas.DataFrame({"a": pandas.Series(cells * N, dtype=object), "g": G})
    with pytest.raises(BadData, match=f"column 'a' holds {words}") as error:
        load_data(frame)
    assert "\n" not in str(error.value)


def test_everything_that_is_wrong_is_said_at_once() -> None:
    frame = pandas.DataFrame(
        {
            "lists": [[1]] * N,
            "gaps": np.where(G > 0, np.nan, G),
            "names": [f"n{i}" for i in range(N)],
            "still": 0.5,
            "ids": np.arange(N) ** 2 * 2**30 + np.arange(N),
            "fine": G,
        }
    )
    with pytest.raises(BadData) as error:
        load_data(frame)
    message = str(error.value)
    assert message.startswith("5 things are wrong") and "\n" not in message
    assert all(repr(name) in message for name in frame.columns[:-1]) and "'fine'" not in message
    data = load_data(frame, columns=dict.fromkeys(frame.columns[:-1], "drop"))
    assert [c.name for c in data.space.columns] == ["fine"] and data.admit(frame).shape == (N, 1)
