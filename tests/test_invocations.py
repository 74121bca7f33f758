"""Thousands of random command lines in one process: each ends in one line at most, never in a traceback.

No step is taken and nothing is measured; everything around that runs as it is. `GENALLOY_FUZZ_SEED` and
`GENALLOY_FUZZ_COUNT` choose other invocations.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from genalloy.cli import main
from genalloy.core.evidence import Evidence, Kind
from genalloy.recipes.registry import all_recipes
from genalloy.runs import check, create, planning, terminal, train
from genalloy.runs.settings import RunSettings
from genalloy.studies import evaluate, table

SEED = int(os.environ.get("GENALLOY_FUZZ_SEED", "0"))
COUNT = int(os.environ.get("GENALLOY_FUZZ_COUNT", "5000"))

COMMANDS: dict[str, tuple[str, ...]] = {
    "recipes": (),
    "fit": ("recipe", "data"),
    "sample": ("run",),
    "score": ("run", "data"),
    "encode": ("run", "data"),
    "evaluate": ("run",),
    "compare": ("data",),
    "reproduce": ("name",),
    "sweep": ("recipe", "data"),
    "report": ("run",),
    "check": ("run",),
}
OPTIONS: dict[str, tuple[str, ...]] = {
    "recipes": ("--json",),
    "fit": (
        "--out", "--set", "--label", "--steps", "--minutes", "--patience", "--limit", "--from", "--resume", "--seed",
        "--split-seed", "--threads", "--device", "--precision", "--processes", "--dry-run",
    ),
    "sample": (
        "-n", "--out", "--prompt", "--complete", "--known", "--temperature", "--top-k", "--top-p", "--seed", "--threads",
        "--device",
    ),
    "score": ("--out", "--samples", "--label", "--threads", "--device"),
    "encode": ("--out", "--label", "--threads", "--device"),
    "evaluate": ("--samples", "--panels", "--importance", "--outliers", "--stride", "--threads", "--device"),
    "compare": ("--recipes", "--minutes", "--out", "--label", "--limit", "--seed", "--seeds", "--jobs", "--device"),
    "reproduce": ("--list", "--budget", "--seeds", "--workspace", "--results", "--jobs", "--document"),
    "sweep": ("--over", "--minutes", "--steps", "--seeds", "--panels", "--limit", "--workspace", "--jobs"),
    "report": (),
    "check": ("--data", "--threads"),
}  # fmt: skip
FLAGS = ("--json", "--resume", "--dry-run", "--list")
NUMBERS = (
    "0", "1", "2", "3", "-1", "-3", "1.5", "nan", "inf", "-inf", "1e9", "1e400", "", "zap", "true", "9" * 30, "0x10",
    "\u0663", " 2",
    "1e-300",
)  # fmt: skip
WORDS = (
    "zap", "", "all", "made", "vae,made", "vae,,made", "vae,vae", "density", "density,zap", "density,cost", "auto",
    "cpu", "cuda", "mps",
    "meta", "banana", "32-true", "bf16-mixed", "16-true", "quick", "full", "a", "kind", "text", "a\nb", "\udcff",
    "ünïcode", "--", "-x",
    "layers=2", "layers=-5", "layers=1,2", "layers", "=", "=3", "dropout=1e9", "dropout=nan", "latent=2",
    "latent=two", "width=8",
    "weight=nan", "components=0", "conditional=true", "coupled=maybe", "zap=1", "steps=3", "\0",
)  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder of good, odd and broken files, runs among them."""
    root = tmp_path_factory.mktemp("fuzz")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=60), "b": rng.integers(0, 4, 60), "kind": rng.choice(["x", "y"], 60)})
    frame.to_csv(root / "good.csv", index=False)
    frame.to_csv(root / "a b;touch x;.csv", index=False)
    frame.to_csv(root / "ünï.csv", index=False)
    frame.to_parquet(root / "good.parquet")
    np.save(root / "good.npy", rng.normal(size=(60, 2)).astype(np.float32))
    np.save(root / "bits.npy", rng.integers(0, 2, (60, 2, 2)).astype(np.uint8))
    np.save(root / "mask.npy", rng.integers(0, 2, (60, 2)).astype(bool))
    np.save(root / "nan.npy", np.full((20, 2), np.nan))
    (root / "text.txt").write_text("to be or not to be, that is the question. " * 40)
    (root / "empty.csv").write_text("")
    (root / "empty.npy").write_bytes(b"")
    (root / "noise.csv").write_bytes(rng.bytes(300))
    (root / "noise.safetensors").write_bytes(rng.bytes(300))
    (root / "folder.csv").mkdir()
    (root / "unreadable").mkdir()
    for name, recipe, data, label in (
        ("runA", "made", "good.npy", None), ("run b", "vae", "good.csv", "kind"), ("runC", "made", "text.txt@window=8", None),
    ):  # fmt: skip
        small = {"width": 4} if recipe == "made" else {"hidden": 4}
        terminal.train_in_terminal(RunSettings(recipe, str(root / data), label, 40, steps=2, settings=small), root / name)
    for name, file, content in (
        ("broken1", "run.json", "{"), ("broken2", "run.json", "[]"), ("broken3", "run.json", '{"format": 1}'),
        ("broken4", "run.json", json.dumps({"format": 1, "recipe": "vae", "data": "good.csv"})),
        ("broken5", "comparison.json", "{}"), ("broken6", "comparison.json", "{"), ("broken7", "question.json", "{"),
    ):  # fmt: skip
        (root / name).mkdir()
        (root / name / file).write_text(content)
    return root


def argument(kind: str, dice: random.Random) -> str:
    """A word for a positional argument: mostly one that fits."""
    runs = ["runA", "runA", "run b", "runC", *(f"broken{i}" for i in range(1, 8)), "nowhere", "good.csv", ".", "unreadable"]
    data = [
        "good.csv", "good.npy", "good.csv", "a b;touch x;.csv", "ünï.csv", "good.parquet", "bits.npy", "text.txt",
        "text.txt@window=8",
        "text.txt@window=zap", "text.txt@", "nan.npy", "empty.csv", "empty.npy", "noise.csv", "folder.csv",
        "8gaussians", "digits",
        "nowhere.csv", "", "@", ".",
    ]  # fmt: skip
    known = {"recipe": [*all_recipes(), "zap", "", "vea"], "data": data, "run": runs, "name": ["zap", "", "digits", "u1-nowhere"]}
    return dice.choice(known[kind]) if dice.random() < 0.95 else dice.choice([*WORDS, *NUMBERS, *data, *runs])


def option(name: str, dice: random.Random) -> list[str]:
    if name in FLAGS:
        return [name]
    files = [
        "out", "out.csv", "out.npz", "out.png", "out.zap", "good.npy", "mask.npy", "folder.csv", "nan.npy", "noise.csv", "runA",
        "text.txt", "no/where/x.csv",
    ]  # fmt: skip
    changes = [word for word in WORDS if "=" in word] + ["layers"]
    fitting = {
        "--out": files, "--complete": files, "--known": files, "--from": ["runA", "run b", "broken4", "nowhere"],
        "--label": ["kind", "a", "zap"], "--set": changes, "--over": changes, "--device": ["auto", "cpu", "cuda", "banana"],
        "--precision": ["32-true", "zap"], "--panels": ["density", "density,zap", "density,cost", ""],
        "--budget": ["quick", "full", "zap"],
        "--recipes": ["all", "made", "vae,made", "vae,,made", "vae,vae", "zap"], "--outliers": ["good.npy",
        "good.csv", "zap", "moons"],
        "--data": ["8gaussians", "good.csv", "zap"], "--prompt": ["to be", "Z", "", "to be or not to be"],
        "--document": ["out.md", "folder.csv"], "--results": ["results", "good.csv"], "--workspace": ["work", "good.csv"],
    }  # fmt: skip
    words = fitting.get(name, list(NUMBERS)) if dice.random() < 0.9 else [*WORDS, *NUMBERS, *files]
    value = dice.choice(words)
    return [f"{name}={value}"] if name.startswith("--") and dice.random() < 0.2 else [name, value]


def invocation(dice: random.Random) -> list[str]:
    command = dice.choice([*COMMANDS, *list(COMMANDS)[1:7]])
    words = [argument(kind, dice) for kind in COMMANDS[command] if dice.random() < 0.97]
    known = OPTIONS[command]
    for name in dice.sample(known, min(len(known), dice.choice([0, 1, 1, 2, 3, 4]))):
        words += option(name, dice)
    if dice.random() < 0.03:
        words.append(dice.choice(WORDS))
    return [command, *words] if dice.random() < 0.99 else words


@pytest.fixture
def short(monkeypatch) -> None:
    """No step is taken, nothing is measured and no other process is started, whatever was asked for."""
    none = lambda *_, **__: iter(())  # noqa: E731

    def alone(*_: object) -> None:
        raise ValueError("other processes would run the tests again")

    for module, name, instead in (
        (train, "fit", none),
        (planning, "measure", lambda *_, **__: planning.Timing(0.01, 0.1, 0.1)),
        (create, "seconds_per_step", lambda composition, *_: [0.01 for _ in composition.each()]),
        (train, "score", lambda *_, **__: Evidence(torch.zeros(1), Kind.NONE, "")),
        (evaluate, "run_panels", lambda *_, **__: {}),
        (evaluate, "write_pictures", none),
        (evaluate, "features_of", none),
        (table, "run_jobs", none),
        (terminal, "make_fabric", alone),
        (check, "check_part", lambda *_, **__: []),
        (torch, "set_num_threads", none),
    ):
        monkeypatch.setattr(module, name, instead)


@pytest.mark.slow
def test_no_invocation_ends_in_a_traceback(short, place, monkeypatch, capfd):
    monkeypatch.chdir(place)
    monkeypatch.setattr("tempfile.tempdir", str(place))
    dice, wrong, began = random.Random(SEED), [], time.monotonic()
    warnings.simplefilter("ignore")
    for index in range(COUNT):
        words = invocation(dice)
        monkeypatch.setattr(sys, "argv", ["genalloy", *words])
        code: Any = None
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        except BaseException as error:
            wrong.append(f"{index} {words}: escaped {type(error).__name__}: {error}")
            continue
        _, err = capfd.readouterr()
        last = err.strip().splitlines()[-1:] or [""]
        if code not in (0, 1, 2) or "this is a bug" in err or "Traceback" in err or (code and not last[0].startswith("error: ")):
            wrong.append(f"{index} {words}: exit {code}: {last[0][:300]}")
    assert not wrong, f"{len(wrong)} of {COUNT} in {time.monotonic() - began:.0f} s:\n" + "\n".join(wrong)
