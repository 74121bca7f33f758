"""What a run was asked for, as stored beside its results; the bounds of every setting of a run or a command. Needs no torch."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from genalloy.core.bounds import Bounds, Choice, Maybe, Number, Text, Whole, shown
from genalloy.training.records import of_record, read_record

FORMAT = 1
SEED = Whole(0, 2**32 - 1)  # what NumPy and scikit-learn take
COUNT = Whole(1, 10**7)
STEPS = Whole(1, 10**9)
PROCESSES = Whole(1, 1024)
POSITIVE = Number(0, 1e6, above=True)
DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("32-true", "bf16-mixed")
"""Lightning Fabric's names. Its other precisions convert the model or scale the loss, which the loop here does not."""

LIMITS: dict[str, Bounds] = {
    "recipe": Text(),
    "data": Text(),
    "label": Maybe(Text()),
    "columns": Maybe(Text()),
    "limit": Maybe(STEPS),
    "steps": Maybe(STEPS),
    "minutes": Maybe(POSITIVE),
    "patience": Maybe(Whole(0, 10**6)),
    "seed": SEED,
    "split": Maybe(SEED),
    "threads": PROCESSES,
    "processes": PROCESSES,
    "device": Choice(DEVICES),
    "precision": Choice(PRECISIONS),
    "dtype": Choice(("float32",)),
    # of commands that read runs or make many of them
    "n": COUNT,
    "samples": COUNT,
    "importance": COUNT,
    "stride": Maybe(COUNT),
    "temperature": Maybe(POSITIVE),
    "top_k": Maybe(COUNT),
    "top_p": Maybe(Number(0, 1, above=True)),
    "seeds": Whole(1, 1000),
    "jobs": Whole(0, 1024),
    "budget": Choice(("quick", "full")),
}
"""What each setting of a run, and each option of the command line, may be, by name."""


def within_limits(names: Mapping[str, Any]) -> dict[str, Any]:
    """The values as plain Python ones. Raises ValueError on the first out of its bounds; names without bounds pass."""
    return {name: LIMITS[name].check(name, value) if name in LIMITS else value for name, value in names.items()}


def keep_limits(record: Any) -> None:
    """Checks a frozen dataclass's fields against `LIMITS`, in its `__post_init__`, and makes their values plain Python ones."""
    for name, value in within_limits({f.name: getattr(record, f.name) for f in fields(record)}).items():
        object.__setattr__(record, name, value)


@dataclass(frozen=True)
class RunSettings:
    """The question that a run answers; `planned` is filled in once, when minutes have become steps.

    recipe, settings: name and `--set` values. data, label, limit, columns ("age=integer,id=drop"): how to load the data
    again. steps or minutes: the budget (both None: the recipe's own). seed: of split, initial weights and everything random;
    split: another seed for the split alone, so that runs of several seeds share one test set. device: auto takes a GPU where
    there is one. precision, processes: Lightning Fabric's. planned: steps of each phase. Raises ValueError on a value out of
    `LIMITS`.
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
    columns: str | None = None

    def __post_init__(self) -> None:
        keep_limits(self)
        if self.steps is not None and self.minutes is not None:
            raise ValueError(f"found steps={self.steps} and minutes={self.minutes:g}, expected one budget; leave out either")
        if not isinstance(self.settings, Mapping) or not all(isinstance(name, str) for name in self.settings):
            raise ValueError(f"found settings={shown(self.settings)}, expected a dict of a recipe's settings by name")
        object.__setattr__(self, "settings", dict(self.settings))
        object.__setattr__(self, "planned", tuple(STEPS.check("planned", steps) for steps in self.planned))

    @property
    def split_seed(self) -> int:
        """The seed that cuts the data."""
        return self.seed if self.split is None else self.split

    @property
    def asked(self) -> dict[str, str]:
        """How columns of a table are to be read, by name. Raises ValueError where `columns` cannot be read."""
        from genalloy.data.columns import parsed

        return parsed(self.columns or "")

    def with_plan(self, planned: tuple[int, ...]) -> RunSettings:
        return replace(self, planned=planned)

    def command(self) -> str:
        """The command line that trains the same model again, quoted for a POSIX shell: steps as they were planned, no minutes."""
        asked = replace(self, steps=sum(self.planned), minutes=None) if self.planned else self
        options = [word for name, value in self.settings.items() for word in ("--set", f"{name}={spelt(value)}")]
        for name, default in DEFAULTS.items():
            value = getattr(asked, name)
            if value != default or name in STATED:
                options += [] if value is None else [OPTIONS.get(name, f"--{name}"), spelt(value)]
        named = [self.recipe, self.data]
        # a name that begins with a dash is taken for an option unless all options come before it
        words = [*options, "--", *named] if any(word.startswith("-") for word in named) else [*named, *options]
        return shlex.join(["genalloy", "fit", *words])

    def write(self, folder: Path) -> None:
        """Write run.json, atomically."""
        from genalloy.training.checkpoint import write_text

        write_text(folder / "run.json", json.dumps({"format": FORMAT, **asdict(self)}, indent=1))

    @staticmethod
    def read(folder: Path) -> RunSettings:
        """Settings of an existing run. Raises ValueError where the folder is no run, or its run.json is none of this version."""
        file = folder / "run.json"
        if not file.is_file():
            raise ValueError(f"{folder} holds no run.json; expected the folder that `genalloy fit --out` wrote")
        return read_record(file, RunSettings.of)

    @staticmethod
    def of(record: dict[str, Any]) -> RunSettings:
        """Settings from the record of a run. Raises ValueError where it was written by a newer version, or is none."""
        version = record.pop("format", None)
        if type(version) is not int or version > FORMAT:
            raise ValueError(f"it has format {version!r}, this version reads up to {FORMAT}; install a newer genalloy")
        return of_record(RunSettings, record)


DEFAULTS = {f.name: f.default for f in fields(RunSettings) if f.name not in ("recipe", "data", "settings", "planned", "dtype")}
STATED = ("seed",)
"""Settings that a command states at their defaults too."""
OPTIONS = {"split": "--split-seed"}
"""Options of the command line that are called otherwise than the setting."""


def spelt(value: Any) -> str:
    """A setting's value as the command line reads it."""
    return {"True": "true", "False": "false", "None": "none"}.get(repr(value), str(value))
