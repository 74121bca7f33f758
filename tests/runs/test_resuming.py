"""A run that was killed, interrupted or stopped by NaN goes on to the numbers of one that was not."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from toy_run import SETTINGS, composition, dataset, numbers

from genalloy.runs.batches import BatchOrder
from genalloy.runs.train import Trainer
from genalloy.training.checkpoint import read_tensors

SCRIPT = Path(__file__).with_name("toy_run.py")


def run(mode: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, str(SCRIPT), mode, str(folder)], capture_output=True, text=True, env=environment, timeout=120
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("whole")
    done = run("whole", folder)
    assert done.returncode == 0, done.stderr
    return {**written(folder), "log": log(folder)}


def written(folder: Path) -> dict:
    curves = json.loads((folder / "curves.json").read_text())
    return {"weights": load_file(folder / "weights.safetensors"), **curves}


def log(folder: Path) -> list[tuple[str, str, str]]:
    with (folder / "log.csv").open() as file:
        return [(r["step"], r["name"], r["value"]) for r in csv.DictReader(file)]


def same(folder: Path, whole: dict) -> None:
    found = written(folder)
    assert found["weights"].keys() == whole["weights"].keys()
    different = [k for k, v in whole["weights"].items() if not torch.equal(v, found["weights"][k])]
    assert not different
    assert found["train"] == whole["train"] and found["validation"] == whole["validation"]
    assert log(folder) == whole["log"], "the log has every row once"
    assert (folder / "model.safetensors").exists()


def test_a_killed_run_resumes_to_the_same_numbers(tmp_path: Path, whole: dict) -> None:
    killed = run("kill", tmp_path)
    assert killed.returncode == -signal.SIGKILL
    assert read_tensors(tmp_path / "checkpoint.safetensors")[1]["memory"]["step"] == 7
    resumed = run("resume", tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    same(tmp_path, whole)


def test_a_run_killed_at_random_moments_keeps_weights_curves_and_logs(tmp_path: Path, whole: dict) -> None:
    killed = run("kills", tmp_path)
    assert killed.returncode == 0, killed.stderr
    assert killed.stdout.count(f"ended with {-signal.SIGALRM}") >= 1, killed.stdout  # how many, the machine's load decides
    resumed = run("resume", tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    same(tmp_path, whole)


def test_ctrl_c_inside_a_step_saves_whole_steps(tmp_path: Path, whole: dict) -> None:
    stopped = run("interrupt", tmp_path)
    assert stopped.returncode == 0, stopped.stderr
    assert "interrupted after 10" in stopped.stdout, "the step that was under way is finished first"
    assert not (tmp_path / "model.safetensors").exists()
    resumed = run("resume", tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    same(tmp_path, whole)


def test_nan_stops_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    stopped = run("nan", tmp_path)
    assert "diverged: step 1: the term Critic(" in stopped.stdout, stopped.stdout + stopped.stderr
    assert "critic's network.net.0.weight" in stopped.stdout and "last good checkpoint is kept" in stopped.stdout
    tensors, facts = read_tensors(tmp_path / "checkpoint.safetensors")
    assert facts["memory"]["step"] >= 1
    assert all(bool(torch.isfinite(t).all()) for t in tensors.values() if t.is_floating_point())
    assert not (tmp_path / "model.safetensors").exists()


def test_closing_the_loop_early_saves(tmp_path: Path) -> None:
    trainer = Trainer(composition(), dataset(), SETTINGS, tmp_path)
    stream = trainer.run()
    for _ in range(4):
        next(stream)
    stream.close()
    assert read_tensors(tmp_path / "checkpoint.safetensors")[1]["memory"]["step"] == 4


def test_the_best_weights_so_far_survive(tmp_path: Path) -> None:
    trainer = Trainer(composition(), dataset(), SETTINGS, tmp_path)
    stream = trainer.run()
    next(stream)
    trainer.memory.best = 1e9
    kept = {k: v.clone() for k, v in trainer.best.items()}
    stream.close()
    resumed = Trainer.resume(tmp_path, dataset(), SETTINGS)
    assert kept and resumed.best.keys() == kept.keys()
    for progress in resumed.run():
        if progress.phase == 0:
            assert all(torch.equal(resumed.best[k], v) for k, v in kept.items())


def test_validation_does_not_change_training(monkeypatch) -> None:
    results = []
    for checks in (1, 18):
        monkeypatch.setattr("genalloy.runs.train.CHECKS", checks)
        trainer = Trainer(composition(), dataset(), SETTINGS, None)
        trail = [p.figures for p in trainer.run()]
        results.append((trail[:18], len(trainer.memory.validation)))
    assert results[0][0] == results[1][0]
    assert results[1][1] > results[0][1]


def test_the_best_validated_weights_are_the_phases_result(monkeypatch) -> None:
    monkeypatch.setattr("genalloy.runs.train.CHECKS", 18)
    trainer = Trainer(composition(), dataset(), SETTINGS, None)
    best = {}
    for progress in trainer.run():
        if progress.phase == 0:
            best = {k: v.clone() for k, v in trainer.best.items()} or best
        elif progress.step == 0:
            break
    values = [v for s, v in trainer.memory.validation if s <= 18]
    assert len(values) == 18 and best
    again = Trainer(composition(), dataset(), SETTINGS, None)
    for progress in again.run():
        if progress.phase == 0 and progress.validation == max(values):
            with again.state.averaged_weights():
                kept = {k: v.clone() for k, v in again.model.state_dict().items()}
    assert all(torch.equal(kept[k], best[k]) for k in kept)
    assert set(numbers(again)) == {"weights", "train", "validation"}


def test_data_order_is_a_function_of_seed_and_step() -> None:
    order, other = BatchOrder(45, 10, 7), BatchOrder(45, 10, 7)
    forwards = [order.indices(s) for s in range(15)]
    backwards = [other.indices(s) for s in reversed(range(15))][::-1]
    assert all(torch.equal(a, b) for a, b in zip(forwards, backwards, strict=True))
    assert [len(i) for i in forwards[:5]] == [10, 10, 10, 10, 5]
    for epoch in range(3):
        seen = torch.cat(forwards[5 * epoch : 5 * epoch + 5])
        assert sorted(seen.tolist()) == list(range(45)), "no row is dropped, none is seen twice"
    assert not torch.equal(torch.cat(forwards[:5]), torch.cat(forwards[5:10]))
    assert not torch.equal(BatchOrder(45, 10, 8).indices(0), forwards[0])
    assert [len(BatchOrder(3, 10, 0).indices(s)) for s in range(2)] == [3, 3]
    state = torch.get_rng_state()
    BatchOrder(45, 10, 7).indices(3)
    assert torch.equal(state, torch.get_rng_state())
