"""The command line as a new user meets it: one run from fit to scores, a comparison that continues, and one-line errors."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from genalloy.cli import main


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "height": rng.normal(170, 10, 300),
            "children": rng.integers(0, 5, 300),
            "colour": rng.choice(["red", "green"], 300),
            "kind": rng.choice(["a", "b"], 300),
        }
    )
    path = tmp_path / "people.csv"
    frame.to_csv(path, index=False)
    return path


def run(monkeypatch, capsys, *words) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `genalloy words...`."""
    monkeypatch.setattr(sys, "argv", ["genalloy", *map(str, words)])
    code = 0
    try:
        main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_from_fit_to_scores_on_a_mixed_table(monkeypatch, capsys, tmp_path, table):
    folder = tmp_path / "run"
    settings = ("--set", "layers=2", "--set", "width=16", "--steps", 40, "--label", "kind")
    code, out, _ = run(monkeypatch, capsys, "fit", "maf", table, *settings, "--out", folder)
    assert code == 0 and "MaximumLikelihood()" in out and (folder / "model.safetensors").exists()

    assert run(monkeypatch, capsys, "sample", folder, "-n", 7, "--out", tmp_path / "s.csv")[0] == 0
    drawn = pd.read_csv(tmp_path / "s.csv")
    assert list(drawn.columns) == ["height", "children", "colour"] and len(drawn) == 7
    assert drawn["colour"].isin(["red", "green"]).all() and drawn["children"].dtype == np.int64

    code, out, _ = run(monkeypatch, capsys, "score", folder, table, "--label", "kind", "--out", tmp_path / "d.csv")
    scores = pd.read_csv(tmp_path / "d.csv")
    assert code == 0 and "LOWER" in out and len(scores) == 300
    assert scores.sort_values("outlier_rank")["log_density"].is_monotonic_increasing

    assert run(monkeypatch, capsys, "encode", folder, table, "--label", "kind", "--out", tmp_path / "c.npz")[0] == 0
    assert np.load(tmp_path / "c.npz")["codes"].shape == (300, 3)

    code, out, _ = run(monkeypatch, capsys, "evaluate", folder)
    assert code == 0 and "LOWER" in out
    row = json.loads((folder / "row.json").read_text())
    assert row["cells"]["density"]["kind"] == "LOWER" and row["command"].startswith("genalloy fit maf")


def test_a_comparison_keeps_finished_rows_and_writes_a_page(monkeypatch, capsys, tmp_path):
    words = ("compare", "8gaussians", "--limit", 300, "--minutes", 0.01, "--jobs", 1, "--out", tmp_path / "c")
    code, out, _ = run(monkeypatch, capsys, *words, "--recipes", "made,vae")
    assert code == 0 and "report.html" in out
    first = (tmp_path / "c" / "made" / "row.json").stat().st_mtime_ns
    record = json.loads((tmp_path / "c" / "comparison.json").read_text())
    kinds = {r["recipe"]: r["cells"]["density"]["kind"] for r in record["rows"] if r["kind"] == "model"}
    assert kinds == {"made": "EXACT", "vae": "LOWER"}

    (tmp_path / "c" / "vae" / "row.json").unlink()
    assert run(monkeypatch, capsys, *words, "--recipes", "made,vae")[0] == 0
    assert (tmp_path / "c" / "made" / "row.json").stat().st_mtime_ns == first
    assert (tmp_path / "c" / "vae" / "row.json").exists()

    code, _, err = run(monkeypatch, capsys, *words[:-1], tmp_path / "c", "--recipes", "made", "--seed", 1)
    assert code == 1 and "another comparison" in err


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("fit", "vea", "digits"), "did you mean 'vae'"),
        (("fit", "vae", "digits", "--set", "latnt=3"), "did you mean 'latent'"),
        (("fit", "vae", "digits", "--set", "latent=three"), "expected a whole number"),
        (("fit", "vae", "digits", "--set", "latent"), "expected NAME=VALUE"),
        (("fit", "vae", "nowhere.csv"), "there is no file"),
        (("fit", "gated-pixelcnn", "8gaussians"), "gated-pixelcnn needs images"),
        (("sample", "nowhere"), "no run.json"),
        (("report", "nowhere"), "comparison.json"),
    ],
)
def test_bad_input_is_one_line_with_the_next_move(monkeypatch, capsys, tmp_path, words, found):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(monkeypatch, capsys, *words)
    assert code != 0
    assert found in err and "Traceback" not in err and len(err.strip().splitlines()) == 1


def test_recipes_as_json_lists_labels_and_settings(monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "recipes", "--json")
    known = {r["name"]: r for r in json.loads(out)}
    assert code == 0 and {"made", "gated-pixelcnn", "realnvp", "vae", "ebm", "ddpm", "r3gan", "latent-diffusion"} <= set(known)
    assert known["realnvp"]["density"] == "EXACT" and known["realnvp"]["density_on_integers"] == "LOWER"
    assert "latent" in known["vae"]["settings"]


def test_dry_run_trains_nothing(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(monkeypatch, capsys, "fit", "vae", "8gaussians", "--limit", 200, "--dry-run")
    assert code == 0 and "parameters" in out and "expected minutes" in out
    assert not list(tmp_path.iterdir())
