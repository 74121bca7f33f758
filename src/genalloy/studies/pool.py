"""Jobs in worker processes with a line of progress each.

The parent holds the workers itself: one that dies takes its own job with it and no other, and a signal to the parent reaches all
of them, so that each can save. A worker whose parent is gone stops as if it had been told to.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

import torch

from genalloy.runs.progress import EVERY, say_line
from genalloy.training.checkpoint import write_text
from genalloy.training.interrupt import deferred_interrupt, stoppable

GLANCE = 0.5
"""Seconds between two looks at the workers' progress."""


@dataclass(frozen=True)
class Job:
    """A module-level function and its argument; what it says while it works is in folder/progress.json."""

    name: str
    folder: Path
    call: Callable[[Any], None]
    argument: Any


Ended = Callable[[Job, str], None]
"""Hears of each job when it has ended: with an empty text, or with why its process died."""


def run_jobs(jobs: list[Job], at_once: int, finished: int, ended: Ended) -> None:
    """Run all; `at_once` 0 takes one a core, 1 stays in this process. `finished`: jobs done before.

    A job is expected to write its own errors down; raises what one raises in this process, and the signal that stops it.
    """
    if not jobs:
        return
    if at_once == 1:
        _run_here(jobs, finished, ended)
        return
    crew = Crew(jobs, max(1, min(at_once or torch.multiprocessing.cpu_count(), len(jobs))), ended)
    with stoppable(), watching(finished + len(jobs)) as view:
        try:
            while crew.work():
                view.draw(finished + crew.done, crew.working())
        except BaseException:  # a signal, or a page that cannot be written: no worker is left behind
            crew.stop()
            raise
        view.draw(finished + crew.done, [])


def _run_here(jobs: list[Job], finished: int, ended: Ended) -> None:
    """One after the other; the number of threads, which jobs set, is put back."""
    threads = torch.get_num_threads()
    try:
        with stoppable(), watching(finished + len(jobs)) as view:
            for count, job in enumerate(jobs):
                view.draw(finished + count, [job])
                job.call(job.argument)
                ended(job, "")
            view.draw(finished + len(jobs), [])
    finally:
        torch.set_num_threads(threads)


# -- workers -------------------------------------------------------------------------------------------------------


def serve(line: Connection) -> None:
    """A worker: takes jobs until there are none."""
    threading.Thread(target=_mourn, daemon=True).start()
    with stoppable():
        while True:
            try:
                job = line.recv()
            except EOFError:
                return
            job.call(job.argument)
            line.send("")


def _mourn() -> None:
    """Stop, and save, when the parent is gone without a word."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


class Worker:
    """A process and the job that it works at, None between jobs."""

    def __init__(self) -> None:
        context = get_context("spawn")
        self.line, other = context.Pipe()
        # workers inherit it: numerical libraries with threads of their own fight over the cores
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        self.process = context.Process(target=serve, args=(other,))
        # inherited: Ctrl-C in a terminal reaches all processes, and only the parent is to answer it
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        other.close()
        self.job: Job | None = None

    def take(self, job: Job) -> None:
        self.job = job
        with suppress(BrokenPipeError):  # a process that died at once: its end is found by the next look
            self.line.send(job)

    def look(self) -> str | None:
        """None while at work; otherwise how the job ended: "" well, else why the process died."""
        if self.line.poll():
            with suppress(EOFError, OSError):
                return str(self.line.recv())
        elif self.process.is_alive():
            return None
        self.process.join()
        return death(self.process.exitcode or 0)

    def leave(self) -> None:
        """Let an idle process end."""
        self.line.close()
        self.process.join()


AGAIN = "run the same command again to continue"


def death(code: int) -> str:
    """Why a process ended, from its exit status."""
    if code > 128:
        return f"its process was stopped by {signal.Signals(code - 128).name} and has saved; {AGAIN}"
    if code >= 0:
        return f"its process ended with status {code}; the error stands above"
    cause = "; out of memory?" if -code == signal.SIGKILL else ""
    return f"its process was killed by {signal.Signals(-code).name}{cause}; {AGAIN}"


class Crew:
    """At most `size` workers that share the jobs."""

    def __init__(self, jobs: list[Job], size: int, ended: Ended) -> None:
        self.waiting, self.size, self.ended = list(jobs), size, ended
        self.workers: list[Worker] = []
        self.done = 0

    def working(self) -> list[Job]:
        return [worker.job for worker in self.workers if worker.job is not None]

    def work(self) -> bool:
        """Hand out jobs, wait for a moment, and take in what has ended. False when all is done."""
        while self.waiting and len(self.workers) < self.size:
            self.workers.append(Worker())
            self.workers[-1].take(self.waiting.pop(0))
        wait([worker.line for worker in self.workers] + [w.process.sentinel for w in self.workers], GLANCE)
        for worker in list(self.workers):
            words = worker.look()
            if words is not None:
                self._take_in(worker, words)
        return bool(self.workers)

    def _take_in(self, worker: Worker, words: str) -> None:
        job, worker.job = worker.job, None
        dead = bool(words)
        if not dead and self.waiting:
            worker.take(self.waiting.pop(0))
        else:
            self.workers.remove(worker)
            worker.leave()
        self.done += 1
        if job is not None:
            self.ended(job, words)

    def stop(self) -> None:
        """Tell all to save and end, and wait until they have; a second signal waits too."""
        with deferred_interrupt():
            for worker in self.workers:
                worker.process.terminate()
            for worker in self.workers:
                worker.process.join()


# -- what is seen --------------------------------------------------------------------------------------------------


class View(Protocol):
    """Draws how many jobs are done, and those at work."""

    def __enter__(self) -> View: ...
    def __exit__(self, *error: object) -> None: ...
    def draw(self, done: int, jobs: list[Job]) -> None: ...


def watching(total: int) -> View:
    """Bars on a terminal, lines elsewhere."""
    from rich.console import Console

    console = Console()
    return Bars(console, total) if console.is_terminal else Told(console, total)


class Told:
    """A line of the whole and of each job at work, every few seconds and when one ends."""

    def __init__(self, console: Any, total: int) -> None:
        self.console, self.total = console, total
        self._at, self._done = -float("inf"), -1

    def __enter__(self) -> Told:
        return self

    def __exit__(self, *error: object) -> None:
        return

    def draw(self, done: int, jobs: list[Job]) -> None:
        if done == self._done and time.monotonic() - self._at < EVERY:
            return
        self._at, self._done = time.monotonic(), done
        each = "".join(f"; {job.name}: {_words(said(job.folder))}" for job in jobs)
        say_line(self.console, f"{done} of {self.total} rows done{each}")


def _words(fields: dict[str, Any]) -> str:
    steps = f"step {fields['completed']:,}/{fields['total']:,}  " if "completed" in fields and "total" in fields else ""
    return f"{steps}{fields.get('say', 'starting')}"


class Bars:
    """A bar of the whole and one of each job at work."""

    def __init__(self, console: Any, total: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        shown = (TextColumn("{task.description:<18}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[say]}"))
        self.bar = Progress(*shown, TimeElapsedColumn(), console=console, refresh_per_second=2)
        self.whole = self.bar.add_task("all rows", total=total, say="")
        self.tasks: dict[str, Any] = {}

    def __enter__(self) -> Bars:
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def draw(self, done: int, jobs: list[Job]) -> None:
        names = {job.name for job in jobs}
        for name in [name for name in self.tasks if name not in names]:
            self.bar.remove_task(self.tasks.pop(name))
        for job in jobs:
            if job.name not in self.tasks:
                self.tasks[job.name] = self.bar.add_task(job.name, total=None, say="starting")
            self.bar.update(self.tasks[job.name], **said(job.folder))
        self.bar.update(self.whole, completed=done)


def say(folder: Path, completed: int | None = None, total: int | None = None, say: str = "") -> None:
    """A worker's latest line, in words and in steps. A line that cannot be written is no reason to stop."""
    steps = {} if completed is None else {"completed": completed, "total": total}
    with suppress(OSError):
        write_text(folder / "progress.json", json.dumps({**steps, "say": say}))


def said(folder: Path) -> dict[str, Any]:
    """The latest line of a job; empty where there is none that can be read."""
    try:
        fields = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
        steps = {key: int(fields[key]) for key in ("completed", "total") if key in fields}
        return {**steps, "say": str(fields["say"])}
    except (OSError, ValueError, TypeError, KeyError):
        return {}
