"""Signals, locks and full disks: whatever ends a run, its last checkpoint and its log agree, and nobody else is in its folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from toy_run import SETTINGS, composition, dataset

from genalloy.cli import main
from genalloy.runs import train
from genalloy.runs.lock import InUse, locked
from genalloy.runs.logs import read_points
from genalloy.runs.train import Trainer
from genalloy.studies import pool
from genalloy.studies.pool import Job, run_jobs
from genalloy.training.checkpoint import read_tensors
from genalloy.training.interrupt import Stopped, deferred_interrupt, stoppable

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def genalloy(*words: object) -> list[str]:
    return [sys.executable, "-c", "from genalloy.cli import main; main()", *map(str, words)]


def wait_for(file: Path, process: subprocess.Popen[str]) -> None:
    began = time.monotonic()
    while not file.exists() and process.poll() is None and time.monotonic() - began < 120:
        time.sleep(0.02)


# -- signals -------------------------------------------------------------------------------------------------------


def heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_fit_saves_says_how_to_go_on_and_exits_as_stopped(tmp_path: Path, number: int) -> None:
    folder = tmp_path / "a run"
    words = genalloy("fit", "maf", "8gaussians", "--limit", 200, "--set", "layers=1", "--steps", 300_000, "--out", folder)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # where the tests run in the background of a shell, Ctrl-C is ignored, and so it would be by what they start
    with subprocess.Popen(words, **pipes, text=True, env=ENVIRONMENT, preexec_fn=heed_interrupts) as process:
        wait_for(folder / "log.csv", process)
        with pytest.raises(InUse, match=f"in use by process {process.pid} on "), locked(folder, print):
            pass
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    assert "Traceback" not in err and f"genalloy fit maf 8gaussians --out '{folder}' --resume" in out.splitlines()
    memory = read_tensors(folder / "checkpoint.safetensors")[1]["memory"]
    points, _ = read_points(folder / "log.csv")
    assert memory["step"] >= 1 and f"saved up to step {memory['step']:,}" in out
    assert [p.step for p in points if p.name == "model"] == [step for step, _ in memory["train"]]
    assert not (folder / "lock").exists() and not list(folder.glob("*.part"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_wait_for_the_end_of_a_step_and_of_a_checkpoint(tmp_path: Path, monkeypatch, number: int) -> None:
    trainer, write = Trainer(composition(), dataset(), SETTINGS, tmp_path), train.write_tensors

    def interrupted(*arguments: object) -> None:
        signal.raise_signal(number)  # a second signal, while the first one saves
        write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(train, "write_tensors", interrupted)
    steps = trainer.run()
    assert [next(steps).done for _ in range(4)] == [1, 2, 3, 4]
    with stoppable(), pytest.raises((KeyboardInterrupt, Stopped)):
        steps.throw(Stopped(number))
    assert read_tensors(tmp_path / "checkpoint.safetensors")[1]["memory"]["step"] == 4


def test_handlers_are_put_back_and_ignored_signals_stay_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable(), deferred_interrupt() as caught:
            signal.raise_signal(signal.SIGHUP)
        assert caught == [] and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    earlier = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped) as stopped, stoppable():
        signal.raise_signal(signal.SIGTERM)
    assert stopped.value.code == 143 and signal.getsignal(signal.SIGTERM) is earlier
    with pytest.raises(Stopped), deferred_interrupt():  # without `stoppable`, a step is still finished and its end told
        signal.raise_signal(signal.SIGTERM)


def test_checkpoints_are_taken_by_time(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(train, "CHECKS", 1)
    trainer = Trainer(composition(), dataset(), SETTINGS, tmp_path)
    seen = []
    for progress in trainer.run():
        if progress.done == 3:
            trainer._saved = -1e9  # long ago
        seen.append(trainer.saved)
        if progress.done == 6:
            break
    assert seen == [0, 0, 0, 4, 4, 4]


@pytest.mark.parametrize(("holds", "code"), [(True, 0), (False, 1)])
def test_a_failing_check_exits_1(monkeypatch, holds: bool, code: int) -> None:
    monkeypatch.setattr("genalloy.runs.check.check_thing", lambda *words: holds)
    monkeypatch.setattr(sys, "argv", ["genalloy", "check", "vae"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert (stopped.value.code or 0) == code


# -- locks ---------------------------------------------------------------------------------------------------------


def test_a_lock_is_removed_also_after_errors_and_so_is_an_empty_folder(tmp_path: Path) -> None:
    def fail() -> None:
        with locked(tmp_path / "a" / "b", print):
            assert json.loads((tmp_path / "a" / "b" / "lock").read_text())["process"] == os.getpid()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not (tmp_path / "a").exists()
    with locked(tmp_path / "c", print):
        (tmp_path / "c" / "kept").touch()
    assert [f.name for f in (tmp_path / "c").iterdir()] == ["kept"]


def test_a_folder_that_cannot_be_written_is_named_and_nothing_is_left(tmp_path: Path, monkeypatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    folder = tmp_path / "new" / "run"
    with pytest.raises(OSError, match=r"new/run cannot be written \(No space left on device\)"), locked(folder, print):
        pass
    assert not list(tmp_path.iterdir())


def test_a_dead_process_s_lock_is_told_and_taken_over(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        with locked(tmp_path, print):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    told: list[str] = []
    with locked(tmp_path, told.append):
        assert len(told) == 1 and f"process {child} on " in told[0] and "taken over" in told[0]
        with pytest.raises(InUse, match=f"process {os.getpid()} on "), locked(tmp_path, print):
            pass
    (tmp_path / "lock").write_text(json.dumps({"process": 1, "host": "elsewhere", "since": "2020"}))
    with pytest.raises(InUse, match=r"process 1 on elsewhere, since 2020; if that process is gone, delete .*lock"):
        locked(tmp_path, print).__enter__()
    (tmp_path / "lock").write_text("{cut")
    with locked(tmp_path, print):
        pass
    assert not (tmp_path / "lock").exists()


# -- full disks ----------------------------------------------------------------------------------------------------


def test_training_goes_on_where_a_checkpoint_cannot_be_written(tmp_path: Path, monkeypatch) -> None:
    from safetensors import torch as files

    trainer, save = Trainer(composition(), dataset(), SETTINGS, tmp_path), files.save_file
    trainer.checkpoint()
    first = (tmp_path / "checkpoint.safetensors").read_bytes()

    def full(tensors: object, name: str, metadata: object = None) -> None:
        Path(name).write_bytes(b"half")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(files, "save_file", full)
    told: list[str] = []
    trainer.tell = told.append
    with pytest.raises(OSError, match=r"model.safetensors cannot be written \(.*No space left") as failed:
        for _ in trainer.run():
            pass
    assert "\n" not in str(failed.value) and trainer.done == 24
    assert len(told) == 2 and all("checkpoint.safetensors cannot be written" in words for words in told)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == first and not list(tmp_path.glob("*.part"))
    monkeypatch.setattr(files, "save_file", save)
    again = Trainer.resume(tmp_path, dataset(), SETTINGS)
    assert [p.done for p in again.run()] == list(range(1, 25)) and (tmp_path / "model.safetensors").exists()
    assert all(torch.equal(a, b) for a, b in zip(again.model.parameters(), trainer.model.parameters(), strict=True))


# -- workers -------------------------------------------------------------------------------------------------------


def work(folder: Path) -> None:
    """A job as its folder's name says: dies, or writes who did it."""
    if folder.name == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / "done").write_text(str(os.getpid()))


def test_a_killed_worker_costs_its_own_job_alone(tmp_path: Path, capsys) -> None:
    names = ("dies", "one", "two", "three")
    for name in names:
        (tmp_path / name).mkdir()
    ended: dict[str, str] = {}
    jobs = [Job(name, tmp_path / name, work, tmp_path / name) for name in names]
    run_jobs(jobs, 2, 5, lambda job, words: ended.update({job.name: words}))
    assert ended["dies"].startswith("its process was killed by SIGKILL; out of memory?")
    assert {name: words for name, words in ended.items() if name != "dies"} == {"one": "", "two": "", "three": ""}
    assert {(tmp_path / name / "done").read_text() for name in names[1:]} != {str(os.getpid())}
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "9 of 9 rows done" and any("one: starting" in line for line in lines)


def test_a_line_of_progress_that_is_damaged_is_no_line(tmp_path: Path) -> None:
    pool.say(tmp_path, 3, 10, "model 1.2")
    assert pool.said(tmp_path) == {"completed": 3, "total": 10, "say": "model 1.2"}
    for text in ('{"completed": "x", "say": ""}', "[1]", '{"com', "{}", "\xff"):
        (tmp_path / "progress.json").write_text(text, encoding="latin-1")
        assert pool.said(tmp_path) == {}


@pytest.mark.slow
def test_a_stopped_comparison_saves_its_workers_and_goes_on(tmp_path: Path) -> None:
    words = genalloy("compare", "8gaussians", "--limit", 200, "--recipes", "maf,made", "--minutes", 0.2, "--jobs", 2)
    words += ["--out", str(tmp_path / "c")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        wait_for(tmp_path / "c" / "maf" / "log.csv", process)
        process.terminate()
        out, err = process.communicate(timeout=120)
    assert process.returncode == 143 and "run the same command again" in out and "Traceback" not in err
    record = json.loads((tmp_path / "c" / "comparison.json").read_text())
    assert "not finished: run the same command again" in [row["error"] for row in record["rows"]]
    assert read_tensors(tmp_path / "c" / "maf" / "checkpoint.safetensors")[1]["memory"]["step"] >= 1
    again = subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT, timeout=300)
    assert again.returncode == 0, again.stderr
    record = json.loads((tmp_path / "c" / "comparison.json").read_text())
    assert [row["error"] for row in record["rows"] if row["kind"] == "model"] == [None, None]
