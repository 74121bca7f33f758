"""Logs of a run in its folder: log.csv and TensorBoard events. They never stop it: what cannot be written is tried again."""

from __future__ import annotations

import csv
import io
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from genalloy.training.checkpoint import write_text

FIELDS = ("step", "seconds", "name", "value")


class Point(NamedTuple):
    """One number of one step."""

    step: int
    seconds: float
    name: str
    value: float

    @staticmethod
    def read(cells: list[str]) -> Point:
        """From a line of log.csv. Raises ValueError where it is none."""
        step, seconds, name, value = cells
        return Point(int(step), float(seconds), name, float(value))

    def cells(self) -> list[str]:
        return [str(self.step), f"{self.seconds:.3f}", self.name, f"{self.value:.8g}"]


class Log:
    """Appends points; `folder` None writes nothing. tell: hears, once, of what cannot be written."""

    def __init__(self, folder: Path | None, tell: Callable[[str], None]) -> None:
        self.path = None if folder is None else folder / "log.csv"
        self.tell = tell
        self._waiting: list[Point] = []
        self._failed = False
        self._board = None if folder is None else Board(folder / "tensorboard", tell)

    def write(self, step: int, figures: dict[str, float], seconds: float) -> None:
        if self.path is None or self._board is None:
            return
        points = [Point(step, seconds, name, value) for name, value in figures.items()]
        self._waiting += points
        try:
            append(self.path, self._waiting)
        except OSError as error:
            if not self._failed:
                self.tell(f"{self.path} cannot be written ({error.strerror}); training goes on, and the log is tried again")
            self._failed = True
        else:
            self._waiting, self._failed = [], False
        self._board.add(points)

    def rewind(self, step: int) -> None:
        """Drop what was logged after a checkpoint's step, which a resumed run writes again, and lines that cannot be read."""
        if self.path is None or self._board is None or not self.path.exists():
            return
        points, damaged = read_points(self.path)
        if damaged:
            kept = self.path.with_suffix(".damaged.csv")
            shutil.copyfile(self.path, kept)
            self.tell(f"{damaged} lines of {self.path} cannot be read and are left out; the old file is kept as {kept.name}")
        points = [point for point in points if point.step <= step]
        write_text(self.path, written(points, header=True))
        self._board.restart(points)

    def close(self) -> None:
        if self._board is not None:
            self._board.close()


def append(path: Path, points: list[Point]) -> None:
    """Add lines to log.csv, all or none: what a full disk cut short is taken back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        content = written(points, header=size == 0).encode()
        try:
            if file.write(content) != len(content):
                raise OSError(28, "No space left on device")
        except OSError:
            file.truncate(size)
            raise


def written(points: list[Point], header: bool) -> str:
    """Lines of log.csv."""
    text = io.StringIO()
    lines = [point.cells() for point in points]
    csv.writer(text).writerows([list(FIELDS), *lines] if header else lines)
    return text.getvalue()


def read_points(path: Path) -> tuple[list[Point], int]:
    """The points of a log.csv, and how many lines are none."""
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        lines = [line.replace("\0", "") for line in file]
    good, bad = [], 0
    for line in lines[1:] if lines and lines[0].strip() == ",".join(FIELDS) else lines:
        try:
            good.append(Point.read(next(csv.reader([line]), [])))
        except (ValueError, csv.Error):
            bad += 1
    return good, bad


class Board:
    """TensorBoard events, opened at the first point. A board that fails once is left alone: log.csv has the same numbers."""

    def __init__(self, folder: Path, tell: Callable[[str], None]) -> None:
        self.folder, self.tell = folder, tell
        self._writer: Any = None
        self._failed = False

    def add(self, points: list[Point], wall: float | None = None) -> None:
        """wall: seconds of the clock at which the run's first second is to stand; now where None."""
        for act in self._acts(points, wall):
            if self._failed:
                return
            try:
                act()
            except Exception as error:  # its writer lives in a thread of its own and fails in ways of its own
                self._failed = True
                self.tell(f"{self.folder} cannot be written ({error}); training goes on without TensorBoard")

    def _acts(self, points: list[Point], wall: float | None) -> Iterator[Callable[[], None]]:
        for p in points:
            time_of = None if wall is None else wall + p.seconds
            yield lambda p=p, time_of=time_of: self._open().add_scalar(p.name, p.value, p.step, time_of)  # type: ignore[misc]

    def _open(self) -> Any:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.folder))
        return self._writer

    def restart(self, points: list[Point]) -> None:
        """Write the events of a resumed run anew: some are later than its checkpoint, some have never reached the disk."""
        for file in self.folder.glob("events.out.tfevents.*"):
            file.unlink()
        last = max((p.seconds for p in points if math.isfinite(p.seconds)), default=0.0)
        self.add(points, time.time() - last)

    def close(self) -> None:
        if self._writer is not None and not self._failed:
            try:
                self._writer.close()
            except Exception as error:  # as above
                self.tell(f"{self.folder} could not be closed ({error}); log.csv has the same numbers")
        self._writer = None
