"""Logs of a run: log.csv and TensorBoard events in its folder."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

FIELDS = ("step", "seconds", "name", "value")


class Log:
    """Appends (step, seconds, name, value) rows; `folder` None writes nothing."""

    def __init__(self, folder: Path | None) -> None:
        self.path = None if folder is None else folder / "log.csv"
        self._board: Any = None

    def write(self, step: int, figures: dict[str, float], seconds: float) -> None:
        if self.path is None:
            return
        fresh = not self.path.exists()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if fresh:
                writer.writerow(FIELDS)
            writer.writerows([step, f"{seconds:.3f}", name, f"{value:.8g}"] for name, value in figures.items())
        for name, value in figures.items():
            self._tensorboard().add_scalar(name, value, step)

    def rewind(self, step: int) -> None:
        """Drop what was logged after a checkpoint's step: a resumed run writes it again."""
        if self.path is None or not self.path.exists():
            return
        with self.path.open(newline="", encoding="utf-8") as file:
            rows = [r for r in csv.DictReader(file) if int(r["step"]) <= step]
        with self.path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, FIELDS)
            writer.writeheader()
            writer.writerows(rows)

    def _tensorboard(self) -> Any:
        if self._board is None:
            from torch.utils.tensorboard import SummaryWriter

            assert self.path is not None
            self._board = SummaryWriter(str(self.path.parent / "tensorboard"))
        return self._board

    def close(self) -> None:
        if self._board is not None:
            self._board.close()
            self._board = None
