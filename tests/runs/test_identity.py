"""A run, a table and every kept measurement are of one data set: other data are refused at every door, in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from genalloy.data.load import load_data
from genalloy.runs.create import RunData, create_run, create_run_from, data_of
from genalloy.runs.identity import Identity, OtherData, rows_of
from genalloy.runs.settings import RunSettings
from genalloy.runs.terminal import train_in_terminal
from genalloy.studies import table
from genalloy.studies.compare import ComparisonSettings, run_comparison
from genalloy.studies.evaluate import evaluate_run, features_of
from genalloy.studies.panels import EvaluationSettings
from genalloy.studies.reproduce import RunPlan, reproduce, sweep_of

FAST = {"layers": 1, "width": 8}
DENSITY = EvaluationSettings(("density",), samples=10, importance=1)


def write(path: Path, seed: int, rows: int = 200) -> Path:
    frame = pd.DataFrame(np.random.default_rng(seed).normal(size=(rows, 2)), columns=["x", "y"])
    frame.to_csv(path, index=False)
    return path


def settings(data: Path | str, **changes: object) -> RunSettings:
    return RunSettings("maf", str(data), **{"settings": FAST, "steps": 4, "device": "cpu", **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("trained")
    train_in_terminal(settings(write(place / "t.csv", 0)), place / "run")
    return place


@pytest.fixture
def place(trained: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, whose data file may be changed."""
    shutil.copytree(trained, tmp_path / "copy")
    file = tmp_path / "copy" / "run" / "run.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "data": str(tmp_path / "copy" / "t.csv")}))
    return tmp_path / "copy"


def refused(words: str, act: object, *arguments: object) -> str:
    with pytest.raises(ValueError, match=words) as caught:
        act(*arguments)  # type: ignore[operator]
    message = str(caught.value)
    assert "\n" not in message
    return message


def append(path: Path) -> None:
    rows = pd.read_csv(path)
    more = pd.concat([rows, rows.iloc[:20] + 0.5]).sample(frac=1, random_state=0)
    more.to_csv(path, index=False)


@pytest.mark.parametrize("change", [append, lambda p: write(p, 1), lambda p: pd.read_csv(p)[["y", "x"]].to_csv(p, index=False)])
def test_no_door_takes_a_changed_file(place: Path, change) -> None:
    change(place / "t.csv")
    message = refused("is of other data", evaluate_run, place / "run", None, DENSITY)
    before = json.loads((place / "run" / "data.json").read_text())["identity"]["sha256"][:8]
    now = load_data(place / "t.csv").source["sha256"][:8]
    assert before in message and now in message and "UTC" in message and "put the old data back" in message
    refused("is of other data", data_of, place / "run")
    (place / "run" / "model.safetensors").unlink()
    refused("is of other data", train_in_terminal, settings(place / "t.csv"), place / "run", True)


def test_the_same_bytes_elsewhere_are_the_same_data(place: Path) -> None:
    shutil.move(place / "t.csv", place / "moved.csv")
    (place / "run" / "model.safetensors").unlink()
    train_in_terminal(settings(place / "moved.csv"), place / "run", resume=True)
    assert RunSettings.read(place / "run").data == str(place / "moved.csv")
    assert evaluate_run(place / "run", None, DENSITY)["identity"]["rows"] == RunData.read(place / "run").identity.rows


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"label": "y"}, "label"), ({"limit": 50}, "limit its own there, 50 asked for"), ({"steps": 9}, "steps 4 there, 9"),
        ({"seed": 3}, "seed 0 there, 3"), ({"minutes": 1.0, "steps": None}, "minutes its own there, 1.0"),
        ({"settings": {"width": 16}}, "--set width 8 there, 16"), ({"patience": 2}, "patience"),
    ],
)  # fmt: skip
def test_a_resumed_run_contradicts_nothing(place: Path, capsys, change: dict, words: str) -> None:
    asked = settings(place / "t.csv", **change)
    given = {"recipe", "data", *change}
    for _ in ("finished", "unfinished"):
        refused(words, train_in_terminal, asked, place / "run", True, None, given)
        (place / "run" / "model.safetensors").unlink(missing_ok=True)
    refused("recipe maf there, nice asked for", train_in_terminal, RunSettings("nice", str(place / "t.csv")), place / "run", True)
    assert "wrote" not in capsys.readouterr().out


def test_a_finished_run_says_so_and_writes_nothing(place: Path, capsys) -> None:
    files = {f: f.stat().st_mtime_ns for f in (place / "run").rglob("*")}
    train_in_terminal(settings(place / "t.csv", steps=4), place / "run", resume=True)
    out = capsys.readouterr().out
    assert "is finished (4 steps)" in out and "--from" in out and "wrote " not in out.replace("was written", "")
    assert files == {f: f.stat().st_mtime_ns for f in (place / "run").rglob("*")}
    refused("is of other data", train_in_terminal, settings(write(place / "new.csv", 5)), place / "run", True)


def test_rows_trained_on_are_counted_where_other_rows_are_measured(place: Path) -> None:
    row = evaluate_run(place / "run", None, DENSITY)
    assert row["notes"] == [] and not (place / "run" / "row.json").exists()
    own = evaluate_run(place / "run", str(place / "t.csv"), DENSITY)
    train = len(load_data(place / "t.csv").train)
    assert f"{train} of the 200 rows" in own["notes"][0] and "flatters" in own["notes"][0]
    assert evaluate_run(place / "run", str(write(place / "new.csv", 7)), DENSITY)["notes"] == []
    kept = {json.loads(f.read_text())["cells"]["density"]["value"] for f in (place / "run").glob("measured-*/row.json")}
    assert len(kept) == 3, "each measurement has a place of its own"


def test_a_run_from_another_keeps_the_split_or_counts_what_was_seen(place: Path) -> None:
    same = create_run_from(settings(place / "t.csv", seed=1), place / "same", place / "run")
    assert same.settings.seed == 1 and same.settings.split_seed == 0
    assert rows_of(same.dataset) == rows_of(load_data(place / "t.csv"))
    append(shutil.copyfile(place / "t.csv", place / "more.csv"))
    other = create_run_from(settings(place / "more.csv"), place / "other", place / "run")
    seen = {row.tobytes() for row in load_data(place / "t.csv").train.numpy()}
    count = sum(row.tobytes() in seen for row in other.dataset.test.numpy())
    assert count and any(f"{count} of {len(other.dataset.test)} test rows are among those" in n for n in other.dataset.notes)
    refused("holds weights of maf", create_run_from, RunSettings("nice", str(place / "t.csv")), place / "n", place / "run")


def test_a_comparison_is_of_one_data_set(tmp_path: Path, monkeypatch) -> None:
    file = write(tmp_path / "t.csv", 0)
    comparison = ComparisonSettings(str(file), ("maf",), 0.01, tmp_path / "c")
    monkeypatch.setattr(table, "run_jobs", lambda *words: None)
    page = run_comparison(comparison).read_text(encoding="utf-8")
    identity = Identity.of(load_data(str(file)))
    assert identity.sha256 in page and "the split’s seed is 0" in page and "not finished: run the same command again" in page
    write(file, 1)
    more = ComparisonSettings(str(file), ("maf", "nice"), 0.01, tmp_path / "c")
    assert identity.short() in refused("the comparison .* is of other data", run_comparison, more)
    write(file, 0)
    words = refused("rows of another comparison", run_comparison, ComparisonSettings(str(file), ("maf",), 0.5, tmp_path / "c"))
    assert "minutes 0.01 there, 0.5 asked for" in words and "{" not in words
    (tmp_path / "c" / "question.json").write_text('{"minutes": 0.0')
    refused("question.json cannot be read: .* choose another --out", run_comparison, comparison)


@pytest.mark.parametrize("kept", ["runs/maf*/measured-*/row.json", "runs/baselines*/row.json", "runs/maf*/data.json"])
def test_every_kept_measurement_is_asked_what_it_is_of(tmp_path: Path, capsys, kept: str) -> None:
    file = write(tmp_path / "t.csv", 0, 60)
    swept = sweep_of("maf", str(file), ["width=8"], ("density",), lambda r, n, text: int(text))
    order = RunPlan(seeds=1, workspace=tmp_path / "w", jobs=1, steps=2)
    reproduce(swept, order, None)
    (found,) = (tmp_path / "w").glob(kept)
    record = json.loads(found.read_text())
    record["identity"] |= {"sha256": "0" * 64, "made": "2020-01-02T03:04:05+00:00"}
    found.write_text(json.dumps(record))
    assert "00000000" in refused("is of other data", reproduce, swept, order, None)
    if kept.endswith("row.json"):  # cut short: measured again
        found.write_text(json.dumps(record)[:50])
        reproduce(swept, order, None)
        assert "cannot be read" in capsys.readouterr().out
        assert json.loads(found.read_text())["identity"]["sha256"] == load_data(str(file)).source["sha256"]


def test_features_are_of_the_rows_not_of_the_file(tmp_path: Path) -> None:
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(120, 3)), columns=list("abc"))
    frame["k"], frame["m"] = [0, 1] * 60, [0, 0, 1, 1] * 30
    frame.to_csv(tmp_path / "t.csv", index=False)
    one, other = (load_data(str(tmp_path / "t.csv"), label=label) for label in ("k", "m"))
    assert one.source["sha256"] == other.source["sha256"]
    assert features_of(one, 0) is features_of(load_data(str(tmp_path / "t.csv"), label="k"), 0)
    assert features_of(one, 0) is not features_of(other, 0)
    assert "another label" in Identity.of(one).difference(Identity.of(other))


@pytest.mark.parametrize("name", ["data.json", "checkpoint.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "list", "lost"])
def test_damaged_records_of_a_run_are_one_line(place: Path, name: str, damage: str) -> None:
    (place / "run" / "model.safetensors").unlink()
    file = place / "run" / name
    if damage == "lost":
        file.unlink()
    else:
        file.write_bytes(b"[1, 2]" if damage == "list" else file.read_bytes()[: file.stat().st_size // 2])
    refused("run", train_in_terminal, settings(place / "t.csv"), place / "run", True)


def test_sources_of_every_kind_have_a_hash(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(60, 2))
    np.save(tmp_path / "a.npy", rows)
    np.savez(tmp_path / "a.npz", x=rows)
    frame = pd.DataFrame(rows, columns=["x", "y"])
    frame.to_parquet(tmp_path / "a.parquet")
    (tmp_path / "a.txt").write_text("to be or not to be, that is the question " * 40)
    sources = [rows, (rows, np.arange(60) % 2), frame, "8gaussians", "digits", "sprites", "waves"]
    sources += [str(tmp_path / f"a.{end}") for end in ("npy", "npz", "parquet")] + [f"{tmp_path / 'a.txt'}@window=8"]
    for source in sources:
        assert len(load_data(source, limit=50).source["sha256"]) == 64, source


def test_a_run_of_an_older_version_is_known_by_its_files_hash(place: Path) -> None:
    file = place / "run" / "data.json"
    record = json.loads(file.read_text())
    del record["identity"]
    file.write_text(json.dumps(record))
    data_of(place / "run")
    append(place / "t.csv")
    with pytest.raises(OtherData, match=record["source"]["sha256"][:8]):
        data_of(place / "run")


def test_a_start_that_was_cut_short_begins_anew(place: Path) -> None:
    (place / "run" / "run.json").unlink()
    trainer = create_run(settings(place / "t.csv"), place / "run")
    assert (place / "run" / "log.csv").read_text().splitlines() == ["step,seconds,name,value"] and trainer.done == 0
