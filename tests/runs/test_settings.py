"""Settings of a run: bounds with one line each, and the printed command reads back into equal settings."""

from __future__ import annotations

import math
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from genalloy.runs.settings import LIMITS, RunSettings, spelt
from genalloy.studies.compare import ComparisonSettings
from genalloy.studies.panels import EvaluationSettings
from genalloy.studies.reproduce import RunPlan

REFUSED = {
    "steps": (0, -3, 1.5, True, "3", math.nan, 10**12, [3]),
    "minutes": (0, -1, math.nan, math.inf, True, "1", 1e9),
    "patience": (-1, 0.5, False),
    "limit": (0, -1, 2.0),
    "seed": (-1, 1.5, 2**70, None, "0", True),
    "split": (-1, 2**70, 0.5),
    "threads": (0, -2, 10**6, 1.0),
    "processes": (0, -1, True),
    "device": ("banana", "", None, "meta", 0),
    "precision": ("zap", 32, "16-mixed"),
    "label": ("", 3),
    "columns": ("", {"age": "integer"}),
    "recipe": ("", None),
    "data": ("", "a\0b", 3),
    "settings": (None, [], {1: 2}),
    "planned": ((0,), (2.5,), ("3",)),
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in REFUSED.items() for v in values], ids=repr)
def test_values_out_of_bounds_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=name) as refusal:
        RunSettings(**{"recipe": "vae", "data": "digits", name: value})
    assert "expected" in str(refusal.value) and "\n" not in str(refusal.value)


def test_edges_and_numpy_values_are_taken_as_plain_ones():
    settings = RunSettings("vae", "digits", steps=np.int64(1), seed=2**32 - 1, patience=0, threads=np.uint8(2))
    assert (settings.steps, settings.seed, settings.patience, settings.threads) == (1, 2**32 - 1, 0, 2)
    assert type(settings.steps) is int and type(RunSettings("a", "b", minutes=np.float32(0.5)).minutes) is float
    with pytest.raises(ValueError, match="steps=3 and minutes=1"):
        RunSettings("vae", "digits", steps=3, minutes=1.0)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: EvaluationSettings(samples=0), "samples"),
        (lambda: EvaluationSettings(importance=-1), "importance"),
        (lambda: EvaluationSettings(panels=("zap",)), "zap"),
        (lambda: RunPlan(seeds=0), "seeds"),
        (lambda: RunPlan(jobs=-1), "jobs"),
        (lambda: RunPlan(minutes=math.nan), "minutes"),
        (lambda: ComparisonSettings("digits", (), -1.0, Path("out")), "minutes"),
        (lambda: ComparisonSettings("digits", ("vea",), 1.0, Path("out")), "did you mean 'vae'"),
        (lambda: ComparisonSettings("digits", ("vae:latnt=3",), 1.0, Path("out")), "did you mean 'latent'"),
        (lambda: ComparisonSettings("digits", ("vae:latent",), 1.0, Path("out")), "expected SETTING=VALUE"),
        (lambda: ComparisonSettings("digits", (), 1.0, Path("out"), device="banana"), "device"),
    ],
)
def test_questions_about_runs_have_the_same_bounds(make, name):
    with pytest.raises(ValueError, match=name):
        make()


MANY = (
    RunSettings("vae", "digits"),
    RunSettings("vae", "a b;touch x;.csv", label="the 'label'", limit=7, steps=3, seed=9),
    RunSettings("vae", "-n.csv", label="--label", minutes=0.25, threads=2),
    RunSettings("maf", "x$(y)`z`\"'*.csv", settings={"dropout": 1e-3, "layers": 2, "width": 16}, split=0),
    RunSettings("nsf", "données\n.csv", settings={"coupled": True}, patience=0, precision="bf16-mixed", processes=2),
    RunSettings("nsf", "8gaussians", settings={"coupled": False, "layers": None}, device="cpu", steps=1),
    RunSettings("vae-sylvester", "moons", settings={"kind": "none", "width": None}, steps=12, split=2**32 - 1),
    RunSettings("r3gan", "moons", settings={"gamma": 0.0, "latent": 3}, minutes=1e-3),
    RunSettings("flow-gan", "moons", settings={"weight": 1 / 3}, minutes=2.0).with_plan((17, 4)),
    RunSettings("flow-matching", "text.txt@window=8,bpe=30", settings={"coupling": "optimal-transport", "reflow": True}),
)


@pytest.mark.parametrize("settings", MANY, ids=lambda s: s.recipe)
def test_the_printed_command_reads_back_into_equal_settings(monkeypatch, settings):
    from genalloy.cli import main
    from genalloy.runs import terminal

    read: list[RunSettings] = []
    monkeypatch.setattr(terminal, "train_in_terminal", lambda found, *_, **__: read.append(found))
    monkeypatch.setattr(sys, "argv", shlex.split(settings.command()))
    with pytest.raises(SystemExit) as stop:
        main()
    expected = replace(settings, steps=sum(settings.planned), minutes=None, planned=()) if settings.planned else settings
    assert not stop.value.code and read == [expected]
    assert "\n" not in settings.command().replace("\n.csv", "")


def test_the_command_of_a_planned_run_fixes_its_steps_and_states_its_seed():
    command = RunSettings("vae", "digits", minutes=3.0, split=4).with_plan((30, 12)).command()
    assert command == "genalloy fit vae digits --steps 42 --seed 0 --split-seed 4"
    assert [spelt(v) for v in (True, False, None, 1, 0, 1.0, "true")] == ["true", "false", "none", "1", "0", "1.0", "true"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "JSONDecodeError"),
        ("[" * 100_000, "nested too deep"),
        ("[1]", "expected a JSON object"),
        ("{}", "format None"),
        ('{"format": 9}', "install a newer"),
        ('{"format": "1"}', "format '1'"),
        ('{"format": 1}', "missing 2 required"),
        ('{"format": 1, "recipe": "vae", "data": "x", "zap": 3}', "zap"),
        ('{"format": 1, "recipe": "vae", "data": "x", "steps": -3}', "steps=-3"),
        ('{"format": 1, "recipe": "vae", "data": "x", "planned": 3}', "no entry of RunSettings"),
    ],
)
def test_a_damaged_record_is_one_line_that_names_the_file(tmp_path, text, words):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ValueError, match=words) as refusal:
        RunSettings.read(tmp_path)
    assert "run.json" in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_record_reads_back(tmp_path):
    for settings in MANY:
        settings.write(tmp_path)
        assert RunSettings.read(tmp_path) == settings


def test_every_limit_says_itself():
    for name, limits in LIMITS.items():
        with pytest.raises(ValueError, match=r"expected (a|one) "):
            limits.check(name, object())
