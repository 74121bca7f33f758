"""Tensors, masked and sparse arrays, polars, Arrow and torch data sets are read rightly or refused in one line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from genalloy.data.errors import BadData
from genalloy.data.load import load_data

pandas = pytest.importorskip("pandas", reason="tables are data frames")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 2)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)


class Rows(Dataset):
    """Rows by number, as a user writes them."""

    def __init__(self, item: Any) -> None:
        self.item = item

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, i: int) -> Any:
        return self.item(i)


class Stream(IterableDataset):
    def __iter__(self) -> Iterator[Any]:
        return iter(X)


def tensors(*parts: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(part) for part in parts]


@pytest.mark.parametrize(
    ("source", "labelled"),
    [
        (torch.from_numpy(X), False),
        (torch.from_numpy(X).requires_grad_(), False),
        (torch.from_numpy(X).to_sparse(), False),
        (tuple(tensors(X, Y)), True),
        ((X, torch.from_numpy(Y)), True),
        ((X, pandas.Series(Y)), True),
        ((X, pandas.DataFrame({"y": Y})), True),
        ((torch.from_numpy(X),), False),
        (list(torch.from_numpy(X)), False),
        (TensorDataset(*tensors(X)), False),
        (TensorDataset(*tensors(X, Y)), True),
        (Subset(TensorDataset(*tensors(X, Y)), range(60)), True),
        (ConcatDataset([TensorDataset(*tensors(X[:30], Y[:30])), TensorDataset(*tensors(X[30:], Y[30:]))]), True),
        (DataLoader(TensorDataset(*tensors(X, Y)), batch_size=7, shuffle=True), True),
        (Rows(lambda i: X[i]), False),
        (Rows(lambda i: (torch.from_numpy(X[i]), int(Y[i]))), True),
        (Rows(lambda i: [X[i], torch.tensor(Y[i])]), True),
        (scipy.sparse.csr_matrix(X), False),
        (scipy.sparse.coo_array(X), False),
        (np.ma.array(X), False),
        (np.ma.array(X, mask=False), False),
        (np.asfortranarray(X), False),
        (X.astype(">f4"), False),
        (X.tolist(), False),
    ],
)
def test_rows_are_what_they_are(source: Any, labelled: bool) -> None:
    data = load_data(source)
    together = torch.cat([data.train, data.validation, data.test]).numpy()
    assert {row.tobytes() for row in together} == {row.tobytes() for row in X} and data.source["sha256"]
    assert bool(data.labels) == labelled
    if labelled:
        np.testing.assert_array_equal(data.labels["train"], data.train[:, 0] > 0)


def test_frames_of_other_libraries() -> None:
    polars, pyarrow = (pytest.importorskip(name, reason="read where it is there") for name in ("polars", "pyarrow"))
    columns = {"a": X[:, 0].astype(float), "k": np.arange(60) % 4, "c": ["u", "v", "w"] * 20, "t": np.arange(60).astype("M8[D]")}
    for source in (polars.DataFrame(columns), pyarrow.table(columns), pyarrow.table(columns).to_batches()[0]):
        data = load_data(source, label="c")
        assert [c.kind for c in data.space.columns] == ["real", "integer", "integer"] and data.label_names == ("u", "v", "w")
        assert data.source["sha256"] and any("come back as a pandas frame" in note for note in data.notes)
    for source in (polars.DataFrame({**columns, "a": [None, *columns["a"][1:]]}), pyarrow.table({**columns, "a": [None] * 60})):
        with pytest.raises(BadData, match="missing"):
            load_data(source)
    with pytest.raises(BadData, match="collect"):
        load_data(polars.DataFrame(columns).lazy())
    assert load_data(polars.Series("q", columns["a"])).space.columns[0].name == "q"


def test_series_and_records() -> None:
    data = load_data(pandas.Series(X[:, 0], name="q"))
    assert [c.name for c in data.space.columns] == ["q"]
    records = np.array([(1.5 * i, i % 3) for i in range(40)], dtype=[("a", "f8"), ("k", "i4")])
    assert [(c.name, c.kind) for c in load_data(records).space.columns] == [("a", "real"), ("k", "integer")]


def hidden(array: np.ndarray, *places: Any) -> Any:
    masked = np.ma.array(array)
    for place in places:
        masked[place] = np.ma.masked
    return masked


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (hidden(X, (3, 1)), "1 masked entries, the first in row 3, column 1"),
        (hidden(X, (5, 0), (7, 1)), "2 masked entries, the first in row 5, column 0"),
        (hidden(RNG.integers(0, 200, (40, 4, 4)), (2, 1, 1)), r"row 2, column \(1, 1\)"),
        (hidden(X[:, 0], 9), "row 9;"),
        ((hidden(X, (3, 1)), Y), "1 masked"),
        ((X, hidden(Y, 4)), "labels hold 1 masked entries, the first in row 4"),
        ([hidden(X[i], 0) if i == 3 else X[i] for i in range(60)], "masked"),
        ([np.ma.array(np.ones(3 + i % 2), mask=[i == 2, *[False] * (2 + i % 2)]) for i in range(30)], "masked"),
        (pandas.DataFrame({"a": pandas.array([1, None] * 30, dtype="Int64"), "b": X[:, 0]}), "30 entries are missing"),
        (pandas.DataFrame({"a": pandas.array([1.5, None] * 30, dtype="Float64"), "b": X[:, 0]}), "30 entries are missing"),
        (pandas.DataFrame({"a": pandas.array([True, None] * 30, dtype="boolean"), "b": X[:, 0]}), "30 entries are missing"),
        (pandas.DataFrame({"a": pandas.array(["u", None] * 30, dtype="string"), "b": X[:, 0]}), "30 entries are missing"),
        (pandas.DataFrame({"a": pandas.Categorical(["u", None] * 30), "b": X[:, 0]}), "30 entries are missing"),
        (pandas.DataFrame({"a": pandas.to_datetime(["2020-01-01", None] * 30), "b": X[:, 0]}), "30 entries are missing"),
        (pandas.DataFrame({"a": pandas.arrays.SparseArray([1.5, np.nan] * 30), "b": X[:, 0]}), "30 entries are missing"),
        (pandas.DataFrame({"a": pandas.Series([1, np.inf] * 30, dtype=object), "b": X[:, 0]}), "30 entries are missing"),
        ((X, pandas.Series([1, None] * 30)), "missing values"),
    ],
)
def test_what_is_hidden_or_absent_is_refused(source: Any, words: str) -> None:
    with pytest.raises(BadData, match=words) as error:
        load_data(source)
    assert "\n" not in str(error.value)


def test_estimators_see_the_mask_too() -> None:
    from genalloy.alloy import Alloy

    with pytest.raises(BadData, match="1 masked entries, the first in row 3, column 1"):
        Alloy("maf", steps=1).fit(hidden(X, (3, 1)))


def test_new_rows_with_a_mask_are_refused() -> None:
    for data in (load_data(X), load_data([X[i : i + 4 + i % 2] for i in range(50)])):
        with pytest.raises(BadData, match="masked"):
            data.admit(hidden(X, (3, 1)) if not data.lengths else [hidden(X[:4], (3, 1))])


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ((X, X, Y), "tuple of 3 arrays"),
        (TensorDataset(*tensors(X, Y, Y)), "tuple of 3 arrays"),
        (Stream(), "no length"),
        (DataLoader(Stream()), "no length"),
        (Rows(lambda i: {"x": X[i]}), "gives dict"),
        (Rows(lambda i: (X[i], Y[i], Y[i])), "tuples of 3"),
        (Subset(TensorDataset(*tensors(X)), []), "no rows"),
        ({"a": X}, "a dict"),
        ((row for row in X), "a generator"),
        ({1.0, 2.0}, "a set"),
        ([{"a": 1}] * 20, "list of dicts"),
        ([pandas.DataFrame({"a": [1.0, 2.0]})] * 20, "list of DataFrames"),
        (None, "dtype object"),
        (np.arange(20).astype("M8[D]"), "dtype datetime64"),
        (np.array([["a"]] * 20), "dtype <U1"),
        (torch.randn(20, 2, dtype=torch.complex64), "dtype complex64"),
        (scipy.sparse.csr_matrix((2**20, 2**20)), "GiB as float32"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(source: Any, words: str) -> None:
    with pytest.raises(BadData, match=words) as error:
        load_data(source)
    assert "\n" not in str(error.value)
