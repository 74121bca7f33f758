"""Logs of a run in its folder: log.csv and TensorBoard events. They never stop it: what cannot be written is tried again."""

from __future__ import annotations

import csv
import errno
import io
import math
import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from genalloy.training.checkpoint import write_text

FIELDS = ("step", "seconds", "name", "value")


class LogPoint(NamedTuple):
    """One number of one step. wall: the clock's seconds, which only TensorBoard shows."""

    step: int
    seconds: float
    name: str
    value: float
    wall: float = 0.0

    @staticmethod
    def read(cells: list[str]) -> LogPoint:
        """From a line of log.csv. Raises ValueError where it is none."""
        step, seconds, name, value = cells
        return LogPoint(int(step), float(seconds), name, float(value))

    def cells(self) -> list[str]:
        return [str(self.step), f"{self.seconds:.3f}", self.name, f"{self.value:.8g}"]


class Log:
    """Appends points; `folder` None writes nothing. tell: hears, once, of what cannot be written."""

    def __init__(self, folder: Path | None, tell: Callable[[str], None]) -> None:
        self.folder, self.tell = folder, tell
        self.sinks = [] if folder is None else [Sink(folder / "log.csv", written, tell), Sink(events_file(folder), events, tell)]

    def write(self, step: int, figures: dict[str, float], seconds: float) -> None:
        """Log figures of a step, at so many seconds of training."""
        points = [LogPoint(step, seconds, name, value, time.time()) for name, value in figures.items()]
        for sink in self.sinks:
            sink.add(points)

    def rewind(self, step: int) -> None:
        """Drop what was logged after a checkpoint's step, which a resumed run writes again, and lines that cannot be read."""
        path = None if self.folder is None else self.folder / "log.csv"
        if self.folder is None or path is None or not path.exists():
            return
        points, damaged = read_points(path)
        if damaged:
            kept = path.with_suffix(".damaged.csv")
            shutil.copyfile(path, kept)
            self.tell(f"{damaged} lines of {path} cannot be read and are left out; the old file is kept as {kept.name}")
        points = [point for point in points if point.step <= step]
        write_text(path, written(points, fresh=True).decode())
        # some events are later than the checkpoint, some have never been written: all are written anew
        for file in (self.folder / "tensorboard").glob("events.out.tfevents.*"):
            file.unlink()
        last = max((p.seconds for p in points if math.isfinite(p.seconds)), default=0.0)
        self.sinks[1].add([point._replace(wall=time.time() - last + point.seconds) for point in points])


class Sink:
    """A file that points are appended to. What cannot be written waits for the next time."""

    def __init__(self, path: Path, render: Callable[[list[LogPoint], bool], bytes], tell: Callable[[str], None]) -> None:
        self.path, self.render, self.tell = path, render, tell
        self._waiting: list[LogPoint] = []
        self._failed = False

    def add(self, points: list[LogPoint]) -> None:
        self._waiting += points
        try:
            self._append()
        except OSError as error:
            if not self._failed:
                self.tell(f"{self.path} cannot be written ({error.strerror}); training goes on, and the log is tried again")
            self._failed = True
        else:
            self._waiting, self._failed = [], False

    def _append(self) -> None:
        """All or nothing: what a full disk cut short is taken back."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            content = self.render(self._waiting, size == 0)
            try:
                if file.write(content) != len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                file.truncate(size)
                raise


def written(points: list[LogPoint], fresh: bool) -> bytes:
    """Lines of log.csv; fresh: with its heading."""
    text = io.StringIO()
    lines = [point.cells() for point in points]
    csv.writer(text).writerows([list(FIELDS), *lines] if fresh else lines)
    return text.getvalue().encode()


def events_file(folder: Path) -> Path:
    """A name that TensorBoard looks for."""
    return folder / "tensorboard" / f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}"


def events(points: list[LogPoint], fresh: bool) -> bytes:
    """TensorBoard's records of scalars. Its own writer has a thread, which loses events of a killed process."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    content = io.BytesIO()
    writer = RecordWriter(content)
    if fresh:
        writer.write(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())
    for p in points:
        summary = Summary(value=[Summary.Value(tag=p.name, simple_value=p.value)])
        writer.write(Event(wall_time=p.wall, step=p.step, summary=summary).SerializeToString())
    return content.getvalue()


def read_points(path: Path) -> tuple[list[LogPoint], int]:
    """The points of a log.csv, and how many lines are none."""
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        lines = [line.replace("\0", "") for line in file]
    good, bad = [], 0
    for line in lines[1:] if lines and lines[0].strip() == ",".join(FIELDS) else lines:
        try:
            good.append(LogPoint.read(next(csv.reader([line]), [])))
        except (ValueError, csv.Error):
            bad += 1
    return good, bad
