"""Jobs in worker processes with a line of progress each; Ctrl-C lets every worker save and stops."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from genalloy.training.checkpoint import write_text


@dataclass(frozen=True)
class Job:
    """A module-level function and its argument; what it says while it works is in folder/progress.json."""

    name: str
    folder: Path
    call: Callable[[Any], None]
    argument: Any


def run_jobs(jobs: list[Job], at_once: int, finished: int = 0) -> None:
    """Run all; `at_once` 0 takes one a core, 1 stays in this process. `finished`: jobs done before. Raises what a job raised."""
    if not jobs:
        return
    if at_once == 1:
        _run_here(jobs, finished)
        return
    # workers inherit it: numerical libraries with threads of their own fight over the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    workers = max(1, min(at_once or torch.multiprocessing.cpu_count(), len(jobs)))
    pool = ProcessPoolExecutor(max_workers=workers, mp_context=get_context("spawn"))
    try:
        futures = {job.name: pool.submit(job.call, job.argument) for job in jobs}
        _watch({job.name: job for job in jobs}, futures, finished)
        for future in futures.values():
            future.result()
    except (KeyboardInterrupt, BrokenProcessPool):
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    pool.shutdown()


def _run_here(jobs: list[Job], finished: int) -> None:
    """One after the other; the number of threads, which jobs set, is put back."""
    from rich.progress import track

    threads = torch.get_num_threads()
    try:
        for job in track(jobs, f"{len(jobs)} jobs, {finished} done before"):
            job.call(job.argument)
    finally:
        torch.set_num_threads(threads)


def _watch(jobs: dict[str, Job], futures: dict[str, Future[None]], finished: int) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    shown = (TextColumn("{task.description:<18}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[say]}"))
    with Progress(*shown, TimeElapsedColumn(), refresh_per_second=2) as bar:
        whole = bar.add_task("all rows", total=finished + len(futures), completed=finished, say="")
        tasks: dict[str, Any] = {}
        while not all(f.done() for f in futures.values()):
            for name, future in futures.items():
                if future.running() and name not in tasks:
                    tasks[name] = bar.add_task(name, total=None, say="starting")
                if name in tasks and future.done():
                    bar.remove_task(tasks.pop(name))
                elif name in tasks:
                    bar.update(tasks[name], **_said(jobs[name].folder))
            bar.update(whole, completed=finished + sum(f.done() for f in futures.values()))
            time.sleep(0.5)
        bar.update(whole, completed=finished + len(futures))


def say(folder: Path, **fields: Any) -> None:
    """A worker's latest line: `say` in words; `completed`, `total` steps."""
    write_text(folder / "progress.json", json.dumps(fields))


def _said(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "progress.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return {}
