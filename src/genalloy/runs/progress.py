"""What a person sees of training: a bar on a terminal, a line every few seconds in a log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from genalloy.runs.train import Progress

EVERY = 5.0
"""Seconds between two lines of a log."""


class ProgressDisplay(Protocol):
    """Draws steps as they come."""

    def step(self, step: Progress) -> None: ...


class Lines:
    """A line at once, then one every few seconds, and one for the last step. elapsed is counted from the first step seen here."""

    def __init__(self, console: Any) -> None:
        self.console = console
        self._began = self._told = -float("inf")
        self._first = 0
        self._checked = ""

    def step(self, step: Progress) -> None:
        now = time.monotonic()
        if self._began < 0:
            self._began, self._first = now, step.done
        if step.validation is not None:
            self._checked = f"  validation {step.validation:.4g}"
        if now - self._told < EVERY and step.done < step.total:
            return
        self._told = now
        taken = step.done - self._first
        left = (now - self._began) / max(taken, 1) * (step.total - step.done)
        words = f"  {minutes(left)} left" if taken else ""
        say_line(self.console, f"step {step.done:,}/{step.total:,}  {figures(step)}{self._checked}{words}")


class Bar:
    """A bar that is drawn four times a second."""

    def __init__(self, bar: Any, task: Any) -> None:
        self.bar, self.task = bar, task
        self._checked = ""

    def step(self, step: Progress) -> None:
        if step.validation is not None:
            self._checked = f"  validation {step.validation:.4g}"
        if step.done % 10 == 0 or step.validation is not None or step.done == step.total:
            speed = self.bar.tasks[0].speed or 0.0
            self.bar.update(self.task, completed=step.done, figures=figures(step) + self._checked, rate=f"{speed:.0f} steps/s")


@contextmanager
def shown(console: Any, name: str, total: int) -> Iterator[ProgressDisplay]:
    """A bar where the console is a terminal, lines elsewhere."""
    if not console.is_terminal:
        yield Lines(console)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Bars(*columns, console=console, refresh_per_second=4) as bar:
        yield Bar(bar, bar.add_task(name, total=total, rate="", figures=""))


def say_line(console: Any, words: str) -> None:
    """One line as it is: not wrapped, so that a command in it can be copied, and not coloured."""
    console.print(words, highlight=False, markup=False, soft_wrap=True)


def figures(step: Progress) -> str:
    """Losses and terms of a step."""
    return "  ".join(f"{k} {v:.4g}" for k, v in step.figures.items())


def minutes(seconds: float) -> str:
    """A time in words."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"
