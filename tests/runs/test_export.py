"""What `sample` and `encode` write, `score` reads back: every form of data, every ending, the same rows; or a refusal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genalloy.data.dataset import Dataset
from genalloy.data.encoded import Known
from genalloy.data.load import load_data
from genalloy.runs.create import RunData
from genalloy.runs.export import (
    CODES,
    SCORES,
    _write_rows,
    check_ending,
    check_samples,
    rows_of,
    write_codes,
    write_drawn,
    write_samples,
    write_scores,
)
from genalloy.runs.settings import RunSettings

pandas = pytest.importorskip("pandas", reason="tables are data frames")
RNG = np.random.default_rng(0)
N = 60
G = RNG.normal(size=N)
ENDINGS = (".npz", ".npy", ".csv", ".parquet", ".txt", ".wav", ".png", ".CSV", ".zap", "")


def facts_of(data: Dataset) -> RunData:
    """What a run records of its data, through JSON."""
    record = json.loads(json.dumps({"space": data.space.to_json(), "form": data.form.to_json()}))
    form, space = type(data.form)(**record["form"]), type(data.space).from_json(record["space"])
    lengths = tuple(data.lengths["train"].tolist()) if data.lengths else ()
    return RunData(data.name, space, form, data.source, data.label_names, lengths)


def table() -> Any:
    return pandas.DataFrame(
        {
            "real": G,
            "price": np.round(np.exp(G) * 20, 2),
            "age": RNG.integers(20, 60, N).astype(float),
            "when": pandas.Timestamp("2020-01-01") + pandas.to_timedelta(RNG.integers(0, 99, N), "D"),
            "hour": pandas.Timestamp("2020-01-01") + pandas.to_timedelta(RNG.integers(0, 999, N), "h"),
            "kind": RNG.choice(["a b", "c,d", 'e"f', "NA", "011", " g", "", "x\ny"], N),
            "flag": pandas.array(G > 0, dtype="boolean"),
            "size": pandas.cut(pandas.Series(G), 3),
            "far": 1.7e9 + 60 * G,
            "id": RNG.integers(0, 2**20, N) + 2**60,
            "thin": pandas.arrays.SparseArray(np.where(G > 0, G, 0), fill_value=0.0),
        }
    )


def text_file(folder: Path, extra: str = "") -> Path:
    (folder / "t.txt").write_text("".join(RNG.choice(list("abc\n " + extra), 4000)), encoding="utf-8")
    return folder / "t.txt"


SOURCES: dict[str, Any] = {
    "reals": lambda _: np.column_stack([G, 1.7e9 + 60 * G]),
    "one column": lambda _: G.astype(np.float32),
    "levels": lambda _: RNG.integers(0, 9, (N, 4)),
    "negative levels": lambda _: RNG.integers(-4, 5, (N, 4)),
    "bits": lambda _: RNG.integers(0, 2, (N, 4)).astype(bool),
    "grey pictures": lambda _: RNG.integers(0, 256, (N, 4, 3), dtype=np.uint8),
    "colour pictures": lambda _: RNG.integers(0, 256, (N, 4, 3, 3), dtype=np.uint8),
    "table": lambda _: table(),
    "numeric table": lambda _: pandas.DataFrame({"a": G, "k": RNG.integers(0, 9, N)}),
    "table of numbers as labels": lambda _: pandas.DataFrame(RNG.integers(0, 9, (N, 3))),
    "two columns of one name": lambda _: pandas.DataFrame(np.column_stack([G, G[::-1]]), columns=["a", "a"]),
    "1 and '1'": lambda _: pandas.DataFrame(np.column_stack([G, G[::-1]]), columns=pandas.Index([1, "1"])),
    "levels of labels": lambda _: pandas.DataFrame(
        np.column_stack([G, G[::-1]]), columns=pandas.MultiIndex.from_tuples([("a", 1), ("a", 2)])
    ),
    "mixed cells": lambda _: pandas.DataFrame({"m": pandas.Series([1, "1"] * (N // 2), dtype=object), "g": G}),
    "text": text_file,
    "text with page breaks": lambda folder: text_file(folder, "\f"),
    "sequences": lambda _: [RNG.normal(size=(3 + i % 4, 2)) for i in range(N)],
    "sequences of integers": lambda _: [RNG.integers(-3, 5, (3 + i % 4,)) for i in range(N)],
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", SOURCES)
def test_samples_are_read_again_or_refused_before_sampling(name: str, ending: str, tmp_path: Path) -> None:
    data = load_data(SOURCES[name](tmp_path))
    facts, out = facts_of(data), tmp_path / f"samples{ending}"
    values = data.train[:7]
    lengths = data.lengths["train"][:7] if data.lengths else None
    if _refused(out, facts):
        assert ending not in (".npz", ".csv", ".txt") or _may_refuse(name, ending)
        return
    written = write_samples(values, facts, out, lengths)
    assert written == out and out.stat().st_size > 0
    if ending == ".png":
        return
    back = rows_of(facts, str(out), None)
    if lengths is not None:
        assert back.lengths.tolist() == lengths.tolist()  # type: ignore[union-attr]
        back = back.x  # type: ignore[union-attr]
    assert back.shape == values.shape
    torch.testing.assert_close(back, values, rtol=1e-6, atol=1e-6 if name != "reals" else 1e-5)


def _refused(out: Path, facts: RunData) -> bool:
    try:
        check_samples(out, facts)
    except ValueError as error:
        words = str(error)
    else:
        return False
    assert "\n" not in words and "expected" in words and not out.exists()
    return True


def _may_refuse(name: str, ending: str) -> bool:
    """Only what a kind of file cannot hold is refused."""
    text, sequence, mixed = name.startswith("text"), name.startswith("sequences"), name == "mixed cells"
    allowed = {".txt": not text, ".csv": text or sequence or mixed, ".npz": text or name in ("table", "mixed cells")}
    return allowed[ending]


def test_refusals_come_before_work(tmp_path: Path) -> None:
    facts = facts_of(load_data(np.column_stack([G, G])))
    for out in ("codes.xyz", "codes", "codes.txt"):
        with pytest.raises(ValueError, match="expected for codes one of"):
            write_codes(tmp_path / "no-run", "no-data", None, tmp_path / out)
    for out in ("scores.zap", "scores.npz"):
        with pytest.raises(ValueError, match="expected for scores one of"):
            write_scores(tmp_path / "no-run", "no-data", None, tmp_path / out, 10)
    with pytest.raises(ValueError, match="expected for samples of array one of"):
        write_drawn(None, facts, None, 5, tmp_path / "x.zap", 0)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ValueError, match="is a folder"):
        check_ending(tmp_path / "folder.csv", SCORES, "scores")
    assert [p.name for p in tmp_path.iterdir()] == ["folder.csv"]


@pytest.mark.parametrize("ending", CODES)
def test_codes_are_data_again(ending: str, tmp_path: Path) -> None:
    codes = RNG.normal(size=(40, 3)).astype(np.float32)
    out = _write_rows(codes, tmp_path / f"codes{ending}", "codes")
    data = load_data(out)
    together = torch.cat([data.train, data.validation, data.test]).numpy()
    assert {row.tobytes() for row in together} == {row.tobytes() for row in codes}


def test_labels_are_exact() -> None:
    for labels, names in (
        (np.where(G > 0, 20240101.0, 20240102.0), ("20240101", "20240102")),
        (np.where(G > 0, 0.1, 0.25).astype(np.float32), ("0.1", "0.25")),
        (np.where(G > 0, 1e-7, 123456.75), ("1e-07", "123456.75")),
        (np.where(G > 0, 2**60 + 1, 2**60), ("1152921504606846976", "1152921504606846977")),
        (pandas.Series(np.where(G > 0, "u", "v"), dtype=object), ("u", "v")),
        (pandas.Categorical(np.where(G > 0, 2, 1)), ("1", "2")),
        (np.where(G > 0, np.datetime64("2020-01-01"), np.datetime64("2021-01-01")), ("2020-01-01", "2021-01-01")),
        (G > 0, ("False", "True")),
    ):
        data = load_data((np.column_stack([G, G]), labels))
        assert data.label_names == names


def test_other_data_are_read_as_a_runs_own() -> None:
    """Columns by label, shifts, categories and labels of the first; what it has not is refused."""
    first = table().assign(y=np.where(G > 0, "c", np.where(G > -1, "b", "a")))
    data = load_data(first, label="y")
    known = Known(data.space, data.form, data.label_names)
    other = first[first["y"] != "a"].iloc[:30].assign(far=first["far"] + 5e6, extra=1)
    read = load_data(other[other.columns[::-1]], label="y", like=known)
    assert read.space == data.space and read.label_names == ("a", "b", "c")
    together = torch.cat([read.train, read.validation, read.test])
    assert sorted(together[:, 8].tolist()) == sorted(data.admit(other)[:, 8].tolist())
    assert set(torch.cat(list(read.labels.values())).tolist()) <= {1, 2}
    with pytest.raises(ValueError, match="the label 'zz'"):
        load_data(other.assign(y="zz"), label="y", like=known)
    with pytest.raises(ValueError, match="no column 'far'"):
        load_data(other.drop(columns="far"), label="y", like=known)


def test_columns_stand_in_the_record_and_in_the_command(tmp_path: Path) -> None:
    settings = RunSettings("maf", "t.csv", columns="age=integer,a b=drop", planned=(3,))
    settings.write(tmp_path)
    assert RunSettings.read(tmp_path) == settings and settings.asked == {"age": "integer", "a b": "drop"}
    assert "--columns 'age=integer,a b=drop'" in settings.command()
