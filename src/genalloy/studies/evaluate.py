"""One row of the table: everything a finished run can say, and `n/a (reason)` where it cannot."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from genalloy.core.schema import FORMAT, Number, Row, plain, row_from
from genalloy.data.dataset import Dataset
from genalloy.data.encoded import Known
from genalloy.data.load import load_data
from genalloy.evaluation.features import Features, default_features
from genalloy.evaluation.metric import Panel
from genalloy.evaluation.sequence_features import RandomConvolutions
from genalloy.experiments.declare import Change
from genalloy.report.table_cells import in_words
from genalloy.runs.create import data_of, trained_model
from genalloy.runs.identity import Identity, repeated, rows_of
from genalloy.runs.sequences import strided
from genalloy.runs.settings import RunSettings
from genalloy.studies.columns import columns
from genalloy.studies.figures import write_pictures
from genalloy.studies.panels import DEFAULT, PANELS, Evaluation, EvaluationSettings, run_panels
from genalloy.training.checkpoint import run_facts, write_text
from genalloy.training.devices import CPU, resolve_device

Listener = Callable[[str], None]


def silent(words: str) -> None:
    """Nobody listens."""


def evaluate_run(
    folder: Path,
    data: str | None = None,
    request: EvaluationSettings = EvaluationSettings(),  # noqa: B008
    listener: Listener = silent,
    stride: int | None = None,
    device: torch.device = CPU,
) -> dict[str, Any]:
    """The row of a finished run, also written to row.json: the run's own where all is measured on its own data, else below it.

    data: other rows of the same space to evaluate on; a note counts those that the run was trained on. Raises OtherData where
    the run's own data are not those that it was trained on.
    stride: of overlapping windows of text, for one more number in the density panel; see `genalloy.runs.sequences`.
    device: where densities, samples and codes are computed.
    """
    settings = RunSettings.read(folder)
    own = data_of(folder)
    dataset = own if data is None else _other(own, data, settings)
    identity = Identity.of(dataset)
    place = folder if data is None and _whole(request) else folder / measured(identity.rows, request)
    row = _evaluate(folder, settings, dataset, request, None, place, listener, device)
    if data is not None:
        row["notes"] = trained_on(dataset, data)
        write_text(place / "row.json", json.dumps(row))
    if stride is not None:
        listener("measuring overlapping windows")
        number = plain(strided(trained_model(folder), dataset, stride, settings.seed))
        row["panels"].setdefault(PANELS["density"].title, {})[f"bits per character, windows every {stride}"] = number
        write_text(place / "row.json", json.dumps(row))
    return row


def _whole(request: EvaluationSettings) -> bool:
    """Whether all that a table shows is asked for, so that the row may stand in a table."""
    return set(request.panels) >= set(DEFAULT) and replace(request, panels=DEFAULT) == EvaluationSettings()


def measured(what: str, request: EvaluationSettings) -> str:
    """The name of the folder, below the run's, for a measurement that is not the run's usual one."""
    return "measured-" + hashlib.sha256(json.dumps([what, asdict(request)]).encode()).hexdigest()[:8]


def trained_on(dataset: Dataset, data: str) -> list[str]:
    """In a sentence, how many of the rows that were given to be measured on the model has been trained on."""
    count = repeated(dataset.test, dataset.train)
    words = f"{count:,} of the {len(dataset.test):,} rows of {data} are also among the rows that the model was trained on"
    return [f"{words}: what is measured on them flatters it"] if count else []


def evaluate_entry(
    folder: Path, request: EvaluationSettings, after: Change | None, place: Path, listener: Listener = silent
) -> dict[str, Any]:
    """The row of a finished run's model, changed by `after`; row.json and pictures.npz are written to `place`."""
    settings = RunSettings.read(folder)
    device = resolve_device(settings.device)
    return _evaluate(folder, settings, data_of(folder), request, after, place, listener, device)


def _evaluate(
    folder: Path,
    settings: RunSettings,
    dataset: Dataset,
    request: EvaluationSettings,
    after: Change | None,
    place: Path,
    listener: Listener,
    device: torch.device,
) -> dict[str, Any]:
    model = trained_model(folder)
    model = model if after is None else after(model, dataset)
    memory, formula = run_facts(folder / "checkpoint.safetensors")
    it = Evaluation(model.eval(), dataset, features_of(dataset, settings.split_seed), settings.seed, request, device)
    panels = run_panels(it, listener)
    model.cpu()
    panels.setdefault("cost", {}).update(_training_cost(memory))
    known = columns(dataset.space)
    row = Row(
        settings.recipe,
        formula=formula,
        composition=repr(model),
        parameters=sum(p.numel() for p in model.parameters()),
        steps=sum(settings.planned),
        seed=settings.seed,
        command=settings.command(),
        cells={c.id: panel[c.id] for panel in panels.values() for c in known if c.id in panel},
        curves=_curves(memory, dataset.space.shape[0] if dataset.lengths else 1),
        notes=[memory["plan"]] if memory.get("plan") else [],
        panels={PANELS[name].title: panel for name, panel in panels.items()},
    )
    record = plain(row) | {"format": FORMAT, "columns": plain(known), "identity": Identity.of(dataset).to_json()}
    place.mkdir(parents=True, exist_ok=True)
    write_pictures(model, dataset, it.drawn, place, settings.seed)
    write_text(place / "row.json", json.dumps(record))
    return record


def _training_cost(memory: dict[str, Any]) -> Panel:
    seconds, megabytes = memory["seconds"], memory["megabytes"]
    return {
        "train_seconds": Number(seconds, how="training, validation included", unit="s"),
        "memory": Number(megabytes, how="peak resident while training", unit="MiB"),
    }


def _curves(memory: dict[str, Any], steps: int) -> dict[str, list[tuple[float, float]]]:
    """Training loss and validation loss: minus the validation log-density, so that both fall.

    steps: of padded rows, by which the loss of rows of unequal lengths was divided; 1 for others.
    """
    validation = [(step, -value / steps) for step, value in memory["validation"]]
    return {"train": memory["train"], "validation": validation}


def _other(dataset: Dataset, data: str, settings: RunSettings) -> Dataset:
    """The run's data set with its test part replaced by all rows of `data`."""
    known = Known(dataset.space, dataset.form, dataset.label_names)
    other = load_data(data, label=settings.label, seed=settings.split_seed, like=known)
    reason = dataset.space.comparable(other.space)
    if reason is not None:
        raise ValueError(f"{data} is another space than the run's: {reason}")
    rows = torch.cat([other.train, other.validation, other.test])
    kept = {k: v for k, v in dataset.labels.items() if k != "test"}
    if other.labels:
        kept["test"] = torch.cat([other.labels[p] for p in ("train", "validation", "test")])
    # factors of the run's own test rows say nothing about other rows
    return replace(dataset, test=rows, labels=kept, factors={})


_FITTED: dict[tuple[str, int], Features] = {}


def features_of(dataset: Dataset, seed: int) -> Features:
    """The data set's feature space, fitted once in a process."""
    # the rows themselves: one file gives others under another label, limit or window
    key = (rows_of(dataset), seed)
    if key not in _FITTED:
        shared = dataset.space.levels is not None
        steps = RandomConvolutions(seed, shared).fit(dataset.train) if dataset.lengths else None
        _FITTED[key] = steps or default_features(dataset, seed)
    return _FITTED[key]


def print_row(row: dict[str, Any]) -> None:
    """The row as one table a panel."""
    from rich.console import Console
    from rich.table import Table

    titles, typed = {c["id"]: c["title"] for c in row["columns"]}, row_from(row)
    for title, panel in typed.panels.items():
        table = Table("number", "value", "how", title=f"{typed.recipe}: {title}", title_justify="left")
        for name, number in panel.items():
            label = f" {number.kind.value}" if number.kind and number.known else ""
            table.add_row(titles.get(name, name), f"{in_words(number)}{label}", number.how)
        Console().print(table)
    for note in typed.notes:
        Console().print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
