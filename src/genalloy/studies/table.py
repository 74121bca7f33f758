"""A table: contenders at one or several seeds on one data set, trained and measured in worker processes.

What `compare`, `reproduce` and `sweep` have in common. Every run has a folder of its own and every measurement a file in it, so
whatever is finished is kept: the same question asked again continues, and two tables that ask for the same run share it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch

from genalloy.core.schema import FORMAT, Comparison, Data, Row, plain, row_from
from genalloy.data.dataset import Dataset
from genalloy.experiments.declare import Method
from genalloy.recipes.registry import find
from genalloy.runs.agreement import agreed
from genalloy.runs.create import RunData
from genalloy.runs.identity import Identity
from genalloy.runs.lock import locked
from genalloy.runs.progress import figures
from genalloy.runs.settings import RunSettings
from genalloy.studies.columns import LABELS, columns
from genalloy.studies.figures import write_reference
from genalloy.studies.panels import EvaluationSettings
from genalloy.studies.pool import Job, run_jobs, say
from genalloy.studies.seeds import merge_rows
from genalloy.training.checkpoint import write_text
from genalloy.training.interrupt import STOPS
from genalloy.training.records import read_json

BASELINES = "baselines"
ROW = ("cells", "panels", "curves")
"""What a row's record must hold."""
UNFINISHED = "not finished: run the same command again"
QUESTION = ("recipe", "label", "limit", "settings", "steps", "minutes", "seed", "patience", "precision")
"""What a run in a table's place must have been asked for."""


@dataclass(frozen=True)
class TableRun:
    """A contender at one seed: its run's folder and what is measured of it. cap: minutes limit the recipe's own steps."""

    contender: Method
    settings: RunSettings
    run: Path
    request: EvaluationSettings
    cap: bool = False

    @property
    def place(self) -> Path:
        """Where row.json and pictures.npz go: the run's folder, below it where something else is asked of the same run."""
        if self.contender.after is None and self.request == EvaluationSettings():
            return self.run
        return self.run / ("measured-" + digest([repr(self.contender.after), asdict(self.request)]))

    @property
    def row(self) -> Path:
        return self.place / "row.json"


@dataclass(frozen=True)
class Table:
    """entries: rows at each seed. folder: of the table. question: what its rows answer; another one may not share the folder.

    baselines: folder of the rows that learn nothing. facts: further keys of comparison.json. jobs: runs at once, 0 one a core.
    """

    title: str
    folder: Path
    entries: tuple[TableRun, ...]
    baselines: Path
    question: dict[str, Any]
    facts: dict[str, Any] = field(default_factory=dict)
    jobs: int = 0

    @property
    def names(self) -> list[str]:
        """The rows' names, in order."""
        return list(dict.fromkeys(entry.contender.name for entry in self.entries))


def digest(value: Any) -> str:
    """Eight hex digits that identify a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:8]


def make_table(table: Table, dataset: Dataset) -> Comparison:
    """Train and measure what is missing; return the record.

    comparison.json and the page are written at the start, after every row that ends, and at the end, interrupted or not.
    Raises ValueError where the folder, or a run or a measurement that it would take over, answers another question or is of
    other data, and where another process works in the folder.
    """
    began, identity = time.monotonic(), Identity.of(dataset)
    with locked(table.folder, print):
        _same_question(table, identity)
        _same_runs(table, identity)
        write_reference(dataset, table.folder)
        publish(table, dataset, began)
        try:
            _work(table, identity, lambda: publish(table, dataset, began))
        except STOPS:
            print("stopped; all rows are saved: run the same command again to continue")
            raise
        finally:
            record = publish(table, dataset, began)
    return record


def publish(table: Table, dataset: Dataset, began: float) -> Comparison:
    """Write comparison.json and the page of what is there; the record. A disk that is full now may not be at the next row."""
    from genalloy.report.page import write_page

    record = collect(table, dataset, (time.monotonic() - began) / 60)
    try:
        write_comparison(table.folder / "comparison.json", record)
        write_page(table.folder)
    except OSError as error:
        print(f"warning: {error}; the rows are kept in folders of their own")
    return record


def write_comparison(file: Path, comparison: Comparison) -> None:
    """The one writer of the format that `read_comparison` reads."""
    write_text(file, json.dumps({"format": FORMAT, **plain(comparison)}, indent=1))


def _same_question(table: Table, identity: Identity) -> None:
    """Rows of another question, or of other data, must not end up in one table."""
    file = table.folder / "question.json"
    question = json.loads(json.dumps(table.question))
    if file.exists():
        before = read_json(file, "choose another --out, or delete it if its rows are of the same question")
        # the place of the data is no question where their identity is known
        names = [k for k in question if k in before and not (k == "data" and "identity" in before)]
        words = [f"{k} {before[k]} there, {question[k]} asked for" for k in names if before[k] != question[k]]
        if words:
            raise ValueError(f"{table.folder} holds rows of another comparison: {'; '.join(words)}; choose another --out")
        Identity.from_json(before.get("identity", {})).require(identity, f"the comparison {table.folder}")
        question["identity"] = before.get("identity", identity.to_json())
    write_text(file, json.dumps({"identity": identity.to_json(), **question}))


def _same_runs(table: Table, identity: Identity) -> None:
    """Runs and measurements that are there already must be of these data, and runs of these settings."""
    for entry in table.entries:
        if (entry.run / "run.json").exists():
            recorded = RunSettings.read(entry.run)
            agreed(recorded, entry.settings, QUESTION, entry.run, exact=True)
            RunData.read(entry.run).identity.require(identity, f"the run {entry.run}")
        _require(kept(entry.row, ROW), identity, entry.row)
    _require(kept(table.baselines / "row.json", ("rows",)), identity, table.baselines)


def _require(record: dict[str, Any] | None, identity: Identity, place: Path) -> None:
    Identity.from_json((record or {}).get("identity", {})).require(identity, f"what was measured in {place}")


def kept(file: Path, parts: tuple[str, ...]) -> dict[str, Any] | None:
    """A measurement's record with these parts; None where there is none, or none that can be read: it is measured again."""
    try:
        if not file.exists():
            return None
        record = read_json(file, "it is measured again")
        if record.get("format") == FORMAT and all(record.get(part) is not None for part in parts):
            return record
        words = f"{file} has not all of {', '.join(parts)} in format {FORMAT}: it is measured again"
    except ValueError as error:
        words = str(error)
    print(f"warning: {words}")
    file.unlink(missing_ok=True)
    return None


# -- the work ------------------------------------------------------------------------------------------------------


def _work(table: Table, identity: Identity, publish: Callable[[], object]) -> None:
    """One job a run, however many rows are measured of it."""
    runs: dict[Path, list[TableRun]] = {}
    for entry in table.entries:
        runs.setdefault(entry.run, []).append(entry)
    first = table.entries[0]
    jobs = [Job(BASELINES, table.baselines, make_baselines, (table.baselines, first.settings, first.request, identity))]
    jobs += [Job(run.name, run, make_entries, (entries, identity)) for run, entries in runs.items()]
    todo = [job for job in jobs if not _finished(job)]
    for job in todo:
        (job.folder / "error.txt").unlink(missing_ok=True)
    run_jobs(todo, table.jobs, len(jobs) - len(todo), partial(_ended, publish=publish))


def _ended(job: Job, words: str, publish: Callable[[], object]) -> None:
    """A job is over; words: why its process died."""
    if words:
        note_error(job.folder, words)
    publish()


def note_error(folder: Path, words: str) -> None:
    """error.txt stands in place of a row."""
    try:
        write_text(folder / "error.txt", words)
    except OSError as error:
        print(f"warning: {folder}: {words}; {error}", file=sys.stderr)


def _finished(job: Job) -> bool:
    if job.name == BASELINES:
        return (job.folder / "row.json").exists()
    entries, _ = job.argument
    return all(entry.row.exists() for entry in entries)


def make_baselines(what: tuple[Path, RunSettings, EvaluationSettings, Identity]) -> None:
    """Rows that learn nothing, in a worker. An error becomes the row's text."""
    from genalloy.runs.create import dataset_of
    from genalloy.studies.baselines import baseline_rows

    folder, settings, request, identity = what
    torch.set_num_threads(1)
    try:
        with locked(folder, print):
            dataset = dataset_of(settings)
            identity.require(Identity.of(dataset), "the comparison")
            rows = baseline_rows(dataset, settings.split_seed, request)
            write_text(folder / "row.json", json.dumps({"format": FORMAT, "identity": identity.to_json(), "rows": plain(rows)}))
    except Exception as error:  # a bad baseline must not cost the models' rows
        note_error(folder, f"{type(error).__name__}: {error}")


def make_entries(what: tuple[list[TableRun], Identity]) -> None:
    """Train one run and measure all that is asked of it, in a worker. An error becomes the rows' text."""
    from genalloy.studies.evaluate import evaluate_entry

    entries, identity = what
    torch.set_num_threads(1)
    folder = entries[0].run
    try:
        with locked(folder, print):
            (folder / "error.txt").unlink(missing_ok=True)
            if not (folder / "model.safetensors").exists():
                _train(entries[0], identity)
            for entry in entries:
                if not entry.row.exists():
                    evaluate_entry(folder, entry.request, entry.contender.after, entry.place, partial(_tell, entry))
    except Exception as error:  # one bad row must not cost the others
        note_error(folder, f"{type(error).__name__}: {error}")


def _tell(entry: TableRun, words: str) -> None:
    say(entry.run, say=f"{entry.contender.name}: {words}")


def _train(entry: TableRun, identity: Identity) -> None:
    from genalloy.runs.create import create_run, dataset_of, resume_run
    from genalloy.runs.memory import reset_peak

    reset_peak()
    folder = entry.run
    if (folder / "run.json").exists():
        trainer = resume_run(folder)
    else:
        dataset = dataset_of(entry.settings)
        identity.require(Identity.of(dataset), "the comparison")
        trainer = create_run(entry.settings, folder, dataset, cap=entry.cap)
    last = 0.0
    with closing(trainer.run()) as steps:
        for step in steps:
            if time.monotonic() - last > 1.0:
                last = time.monotonic()
                say(folder, step.done, step.total, figures(step))


# -- the record ----------------------------------------------------------------------------------------------------


def collect(table: Table, dataset: Dataset, minutes: float) -> Comparison:
    """The table of the rows that exist."""
    return Comparison(
        table.title,
        seed=table.entries[0].settings.seed,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=versions(),
        machine=f"{torch.multiprocessing.cpu_count()} CPU cores, one thread a row",
        minutes=minutes,
        data=describe(dataset),
        columns=columns(dataset.space),
        rows=[_row(table, name) for name in table.names] + list(_baseline_rows(table.baselines)),
        labels=LABELS,
        **table.facts,
    )


def describe(dataset: Dataset) -> Data:
    """The data's paragraph on the page."""
    space, source = dataset.space, dataset.source
    return Data(
        dataset.name,
        space.kind,
        list(space.shape),
        space.measure_text,
        len(dataset.train),
        len(dataset.validation),
        len(dataset.test),
        list(dataset.notes),
        dataset.entropy_optimum,
        alphabet=list(space.columns[0].categories) if space.kind == "text" else [],
        style=dataset.form.style if space.kind == "sequence" else "",
        rate=dataset.form.rate,
        sha256=source.get("sha256", ""),
        split=source.get("split", ""),
        split_seed=source.get("seed"),
        limit=source.get("limit"),
    )


def versions() -> dict[str, str]:
    """Versions that numbers depend on."""
    from importlib.metadata import version

    return {name: version(name) for name in ("genalloy", "torch", "numpy", "scikit-learn")}


def _row(table: Table, name: str) -> Row:
    """A contender's row: the mean over its seeds, the pictures of the first."""
    entries = [e for e in table.entries if e.contender.name == name]
    recipe = find(entries[0].contender.recipe)
    records = [(e, kept(e.row, ROW)) for e in entries]
    finished = {e.settings.seed: (e, row_from(record)) for e, record in records if record is not None}
    facts: dict[str, Any] = {"recipe": name, "family": recipe.family, "reference": recipe.reference}
    facts |= {"settings": dict(entries[0].contender.settings), "runs": [entry.run.name for entry in entries]}
    if not finished:
        errors = [e.run / "error.txt" for e in entries if (e.run / "error.txt").exists()]
        return Row(**facts, error=errors[0].read_text(encoding="utf-8", errors="replace") if errors else UNFINISHED)
    merged = merge_rows({seed: row for seed, (_, row) in finished.items()}, [e.settings.seed for e in entries])
    first, _ = next(iter(finished.values()))
    return replace(merged, **facts, folder=_pictures_folder(table, name, first))


def _pictures_folder(table: Table, name: str, entry: TableRun) -> str | None:
    """A folder below the table's that holds the row's pictures: the run's own, or a copy of a shared run's."""
    if entry.place.parent == table.folder:
        return entry.place.name
    if not (entry.place / "pictures.npz").exists():
        return None
    folder = name.replace("/", "-")
    (table.folder / folder).mkdir(exist_ok=True)
    shutil.copyfile(entry.place / "pictures.npz", table.folder / folder / "pictures.npz")
    return folder


def _baseline_rows(folder: Path) -> Iterator[Row]:
    record = kept(folder / "row.json", ("rows",))
    if record is not None:
        yield from map(row_from, record["rows"])
