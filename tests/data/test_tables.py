"""Tables come in as columns of three kinds, and go back with names, dtypes and categories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genalloy.data.errors import BadData
from genalloy.data.load import load_data

pandas = pytest.importorskip("pandas", reason="tables are data frames")


def frame() -> Any:
    rng = np.random.default_rng(0)
    return pandas.DataFrame(
        {
            "length": rng.normal(size=60).astype(np.float32),
            "count": rng.integers(-3, 12, 60),
            "colour": rng.choice(["red", "green"], 60),
            "ripe": rng.random(60) > 0.5,
            "size": pandas.Categorical(rng.choice(["S", "M"], 60), categories=["S", "M", "L"]),
            "species": rng.choice(["a", "b", "c"], 60),
        }
    )


def test_columns_and_the_way_back() -> None:
    table = frame()
    data = load_data(table, label="species")
    assert [column.kind for column in data.space.columns] == [
        "real",
        "integer",
        "category",
        "category",
        "category",
    ]
    assert data.space.discrete == (False, True, True, True, True) and data.label_names == ("a", "b", "c")
    back = data.restore(data.train)
    assert back.dtypes.equals(table.dtypes.drop("species"))
    assert list(back["size"].cat.categories) == ["S", "M", "L"]
    joined = back.merge(table, how="left", on=list(back.columns), indicator=True)
    assert (joined["_merge"] == "both").all()
    assert torch.equal(data.admit(back), data.train)
    assert torch.equal(data.admit(back[back.columns[::-1]].assign(extra=1)), data.train)


def test_samples_are_rounded_and_clipped() -> None:
    data = load_data(frame(), label="species")
    back = data.restore(torch.tensor([[9.5, -8.0, 0.6, 2.0, -1.0], [0.5, 2.4, 0.4, 0.2, 5.0]]))
    assert back["count"].tolist() == [-3, 2] and back["colour"].tolist() == ["red", "green"]
    assert back["ripe"].tolist() == [True, False] and back["size"].tolist() == ["S", "L"]
    assert back["length"].tolist() == [9.5, 0.5]


def test_csv_and_parquet_agree(tmp_path: Path) -> None:
    frame().to_csv(tmp_path / "t.csv")
    data = load_data(tmp_path / "t.csv", label="species")
    assert [c.name for c in data.space.columns] == ["length", "count", "colour", "ripe", "size"]
    assert any("only counts the rows" in note for note in data.notes)
    pytest.importorskip("pyarrow", reason="parquet files need it")
    frame().to_parquet(tmp_path / "t.parquet")
    torch.testing.assert_close(load_data(tmp_path / "t.parquet", label="species").train[:, :4], data.train[:, :4])


def test_csv_without_a_header(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "t.csv", np.random.default_rng(0).normal(size=(30, 2)), delimiter=",")
    data = load_data(tmp_path / "t.csv")
    assert len(data.train) + len(data.validation) + len(data.test) == 30
    assert [column.name for column in data.space.columns] == ["x0", "x1"] and data.space.discrete is False


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.assign(length=t["length"].where(t.index != 4)), r"1 entries.*row 4, column 'length'"),
        (lambda t: t.assign(colour=t["colour"].where(t.index > 2)), r"3 entries.*row 0, column 'colour'"),
        (lambda t: t.assign(length=0.5), r"1 columns never change.*'length'"),
        (lambda t: t.assign(name=[f"n{i}" for i in t.index]), "'name' has 60 distinct texts"),
        (lambda t: t.assign(id=t.index**2 * 2**30 + t.index), "identifier"),
        (lambda t: t.iloc[:0], "0 rows"),
        (lambda t: t.rename(columns={"species": "specis"}), "did you mean 'specis'"),
        (lambda t: t.assign(species=t["species"].where(t.index > 0)), "misses 1 values"),
    ],
)
def test_refusals(change: Any, message: str) -> None:
    with pytest.raises(BadData, match=message):
        load_data(change(frame()), label="species")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="count"), "no column 'count'"),
        (lambda t: t.assign(colour="gren"), "unknown category 'gren'.*did you mean 'green'"),
        (lambda t: t.assign(length="long"), "'length' holds texts"),
        (lambda t: t.assign(count=0.5), "off the grid"),
    ],
)
def test_new_rows_are_checked(change: Any, message: str) -> None:
    data = load_data(frame(), label="species")
    with pytest.raises(BadData, match=message):
        data.admit(change(frame()))
