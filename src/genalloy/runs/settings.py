"""What a run was asked for, as stored beside its results."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from genalloy.training.checkpoint import write_text
from genalloy.training.records import of_record, read_record

FORMAT = 1


@dataclass(frozen=True)
class RunSettings:
    """The question that a run answers; `planned` is filled in once, when minutes have become steps.

    recipe, settings: name and `--set` values. data, label, limit: how to load the data again. steps or minutes: the
    budget (both None: the recipe's own). seed: of split, initial weights and everything random; split: another seed for
    the split alone, so that runs of several seeds share one test set. device, precision,
    processes: Lightning Fabric's. planned: steps of each phase.
    """

    recipe: str
    data: str
    label: str | None = None
    limit: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    steps: int | None = None
    minutes: float | None = None
    seed: int = 0
    threads: int = 1
    device: str = "auto"
    precision: str = "32-true"
    processes: int = 1
    patience: int | None = None
    planned: tuple[int, ...] = ()
    dtype: str = "float32"
    split: int | None = None

    @property
    def split_seed(self) -> int:
        """The seed that cuts the data."""
        return self.seed if self.split is None else self.split

    def with_plan(self, planned: tuple[int, ...]) -> RunSettings:
        return replace(self, planned=planned)

    def command(self) -> str:
        """The command line that trains the same model again."""
        pairs = [f"--set {name}={value}" for name, value in self.settings.items()]
        label = [f"--label {self.label}"] if self.label else []
        limit = [f"--limit {self.limit}"] if self.limit else []
        words = [
            "genalloy fit",
            self.recipe,
            self.data,
            *pairs,
            *label,
            *limit,
            f"--steps {sum(self.planned)}",
            f"--seed {self.seed}",
        ]
        return " ".join(words)

    def write(self, folder: Path) -> None:
        """Write run.json, atomically."""
        write_text(folder / "run.json", json.dumps({"format": FORMAT, **asdict(self)}, indent=1))

    @staticmethod
    def read(folder: Path) -> RunSettings:
        """Settings of an existing run. Raises ValueError where the folder is no run."""
        file = folder / "run.json"
        if not file.exists():
            raise ValueError(f"{folder} holds no run.json; expected the folder that `genalloy fit --out` wrote")
        return read_record(file, RunSettings.of)

    @staticmethod
    def of(record: dict[str, Any]) -> RunSettings:
        """Settings from the record of a run. Raises ValueError where it was written by a newer version, or is none."""
        if record.pop("format") > FORMAT:
            raise ValueError("it was written by a newer genalloy; install that version to read it")
        return of_record(RunSettings, {**record, "planned": tuple(record["planned"])})
