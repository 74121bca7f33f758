"""The command line as a new user meets it: one run from fit to scores, a comparison that continues, and one-line errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import genalloy
from genalloy import cli
from genalloy.cli import main
from genalloy.core.errors import Diverged
from genalloy.core.evidence import Unavailable
from genalloy.data.errors import BadData
from genalloy.laws.run import Finding


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
    # a page that is passed on says nothing of the folders of one machine; a row's own record does
    assert "identity" in json.loads((tmp_path / "c" / "made" / "row.json").read_text())
    assert not any("identity" in row for row in record["rows"])

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


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("fit", "vae", "digits", "--steps", "0"), "--steps=0, expected a whole number from 1"),
        (("fit", "vae", "digits", "--steps=-3"), "--steps=-3"),
        (("fit", "vae", "digits", "--steps", "x"), "--steps"),
        (("fit", "vae", "digits", "--minutes", "nan"), "--minutes=nan, expected a number above 0"),
        (("fit", "vae", "digits", "--minutes", "inf"), "--minutes=inf"),
        (("fit", "vae", "digits", "--minutes", "1", "--steps", "2"), "--steps and --minutes"),
        (("fit", "vae", "digits", "--patience", "-1"), "--patience=-1"),
        (("fit", "vae", "digits", "--threads", "0"), "--threads=0"),
        (("fit", "vae", "digits", "--processes", "-1"), "--processes=-1"),
        (("fit", "vae", "digits", "--limit", "0"), "--limit=0"),
        (("fit", "vae", "digits", "--seed", str(2**70)), "--seed=1180591620717411303424"),
        (("fit", "vae", "digits", "--split-seed", "-1"), "--split-seed=-1"),
        (("fit", "vae", "digits", "--device", "banana"), "one of auto, cpu, cuda, mps"),
        (("fit", "vae", "digits", "--precision", "zap"), "one of 32-true, bf16-mixed"),
        (("fit", "vae", "digits", "--resume", "--from", "x"), "--resume and --from"),
        (("fit", "vae", "digits", "--resume", "--dry-run"), "--resume and --dry-run"),
        (("fit", "vae", ""), "DATA=''"),
        (("fit", "vae"), "Missing argument"),
        (("fit", "vae", "digits", "--zap"), "--zap"),
        (("zap",), "zap"),
        (("sample", "x", "-n", "0"), "-n=0"),
        (("sample", "x", "-n", "-3"), "-n=-3"),
        (("sample", "x", "--known", "m.npy"), "--known without --complete"),
        (("sample", "x", "--complete", "x.npy", "--prompt", "a"), "--prompt and --complete"),
        (("sample", "x", "--temperature", "0"), "--temperature=0"),
        (("sample", "x", "--temperature", "nan"), "--temperature=nan"),
        (("sample", "x", "--top-k", "0"), "--top-k=0"),
        (("sample", "x", "--top-p", "1.5"), "--top-p=1.5, expected a number above 0 and up to 1"),
        (("score", "x", "digits", "--samples", "0"), "--samples=0"),
        (("encode", "x", "digits", "--device", "meta"), "--device='meta'"),
        (("evaluate", "x", "--importance", "0"), "--importance=0"),
        (("evaluate", "x", "--stride", "0"), "--stride=0"),
        (("compare", "digits", "--seeds", "0"), "--seeds=0"),
        (("compare", "digits", "--jobs", "-1"), "--jobs=-1"),
        (("compare", "digits", "--minutes", "0"), "--minutes=0.0"),
        (("reproduce", "x", "--budget", "zap"), "one of quick, full"),
    ],
)
def test_a_command_line_out_of_bounds_is_one_line_and_starts_nothing(monkeypatch, capsys, tmp_path, words, found):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(monkeypatch, capsys, *words)
    assert code == 2 and not out and found in err and err.startswith("error: ") and len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("fit", "maf", "digits", "--set", "layers=-5"), "maf's layers=-5, expected a whole number from 1 to 128"),
        (("fit", "maf", "digits", "--set", "dropout=1e9"), "maf's dropout=1000000000.0"),
        (("fit", "maf", "digits", "--set", "layers=2.5"), "layers='2.5'"),
        (("fit", "maf", "digits", "--set", "layers=2", "--set", "layers=3"), "given twice"),
        (("fit", "nsf", "digits", "--set", "coupled=maybe"), "expected true or false"),
        (("compare", "digits", "--recipes", "zap"), "no recipe 'zap'"),
        (("compare", "digits", "--recipes", ""), "an empty item"),
        (("compare", "digits", "--recipes", "vae,maf,vae"), "a repeated item"),
        (("compare", "digits", "--recipes", "vae,all"), "no recipe 'all'"),
        (("evaluate", "x", "--panels", "zap"), "'zap', expected one of density"),
        (("sweep", "maf", "digits", "--over", "layers"), "not NAME=A,B,C"),
        (("sweep", "maf", "digits", "--over", "layers=1,,2"), "an empty item"),
        (("sweep", "maf", "digits", "--over", "layers=1", "--over", "layers=2"), "given twice"),
        (("sweep", "maf", "digits", "--over", "zap=1"), "no setting 'zap'"),
        (("sweep", "maf", "digits", "--over", "layers=0,1"), "maf's layers=0"),
    ],
)
def test_a_refused_value_is_one_line_and_starts_nothing(monkeypatch, capsys, tmp_path, words, found):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(monkeypatch, capsys, *words)
    assert code == 1 and not out and found in err and len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("words", [("fit", "vae", "digits"), ("sample", "x"), ("compare", "digits"), ("evaluate", "x")])
def test_a_device_that_is_not_there_is_refused(monkeypatch, capsys, tmp_path, words):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(monkeypatch, capsys, *words, "--device", "cuda")
    assert code == 1 and "found device 'cuda', expected one that this machine has: auto, cpu" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["fit", "--help"], ["fit", "vae", "digits", "--steps=0"], ["zap"]])
def test_help_and_refusals_import_nothing_heavy(words):
    heavy = ("torch", "numpy", "pandas", "matplotlib", "lightning", "sklearn", "scipy")
    code = (
        f"import sys, atexit; sys.argv = ['genalloy', *{words!r}]\n"
        f"atexit.register(lambda: print('HEAVY', [m for m in {heavy!r} if m in sys.modules]))\n"
        "from genalloy.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.stdout.splitlines()[-1] == "HEAVY []"
    if words == ["--version"]:
        assert done.stdout.splitlines()[0] == f"genalloy {genalloy.__version__}"


def test_a_failing_check_exits_with_one(monkeypatch, capsys):
    from genalloy.runs import check

    monkeypatch.setattr(check, "findings_of", lambda *_: [Finding("a law", False, "broken on purpose")])
    assert run(monkeypatch, capsys, "check", "maf")[0] == 1


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (Diverged("step 3: the loss\nis not finite"), 1, "error: step 3: the loss is not finite"),
        (Unavailable("no density"), 1, "error: no density"),
        (BadData("no rows"), 1, "error: no rows"),
        (OSError(28, "No space left on device"), 1, "No space left"),
        (MemoryError(), 1, "not enough memory"),
        (KeyboardInterrupt(), 130, ""),
        (KeyError("x"), 1, "this is a bug: KeyError: 'x'"),
    ],
)
def test_errors_of_every_kind_are_one_line(monkeypatch, capsys, error, code, words):
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "_use", fails)
    found, _, err = run(monkeypatch, capsys, "check", "maf")
    assert found == code and words in err and len(err.splitlines()) <= 1


def test_weights_that_are_not_finite_are_named(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    small = ("--set", "width=4", "--set", "components=1", "--steps", 2, "--limit", 40, "--out", "r")
    assert run(monkeypatch, capsys, "fit", "made", "8gaussians", *small)[0] == 0
    model = genalloy.load("r/model.safetensors")
    name, parameter = list(model.named_parameters())[1]
    parameter.data.view(-1)[:2] = torch.nan
    genalloy.save(model, "r/model.safetensors")
    for words in (("sample", "r"), ("score", "r", "8gaussians"), ("evaluate", "r"), ("check", "r")):
        code, _, err = run(monkeypatch, capsys, *words)
        assert code == 1 and f"parameter {name} holds 2 NaN of {parameter.numel()} values" in err and len(err.splitlines()) == 1
