"""From a question to a trainer: load the data, build the recipe, plan the steps, write down all of it before step 0."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from genalloy.data.dataset import Dataset, drawn
from genalloy.data.form import Form
from genalloy.data.labels import log_shares
from genalloy.data.load import load_data
from genalloy.data.reading import parse
from genalloy.data.space import Space
from genalloy.recipes.composition import Composition, Target
from genalloy.recipes.registry import find
from genalloy.runs.identity import UNKNOWN, Identity, modified, repeated
from genalloy.runs.planning import plan, seconds_per_step
from genalloy.runs.settings import RunSettings
from genalloy.runs.train import Trainer
from genalloy.training import checkpoint
from genalloy.training.devices import World
from genalloy.training.records import read_record
from genalloy.training.seeding import Stream, seed_all


def dataset_of(settings: RunSettings, folder: Path | None = None) -> Dataset:
    """The data set of a run, split by its seed. folder: of a run that exists, whose byte-pair vocabulary is used as it is."""
    source, reading = parse(settings.data)
    if folder is not None and (folder / "data.json").exists():
        reading = replace(reading, vocabulary=RunData.read(folder).form.vocabulary)
    return load_data(
        source, label=settings.label, seed=settings.split_seed, limit=settings.limit, reading=reading, columns=settings.asked
    )


def data_of(folder: Path, settings: RunSettings | None = None) -> Dataset:
    """The data that a run was trained on, loaded again. Raises OtherData where they are not the same any more.

    settings: with the place to load them from, the run's own where None.
    """
    recorded = RunData.read_existing(folder).identity
    dataset = dataset_of(settings or RunSettings.read(folder), folder)
    recorded.require(Identity.of(dataset), f"the run {folder}")
    return dataset


def build(settings: RunSettings, dataset: Dataset) -> Composition:
    """The recipe's composition with initial weights that depend on the seed alone."""
    with Stream(dataset.train):
        seed_all(settings.seed, -5)
        return find(settings.recipe)(Target.of(dataset), **settings.settings)


def create_run(
    settings: RunSettings,
    folder: Path | None,
    dataset: Dataset | None = None,
    cap: bool = False,
    fabric: Any = None,
    composition: Composition | None = None,
) -> Trainer:
    """A fresh run, of the recipe's own composition where none is given. Raises ValueError where `folder` already holds one."""
    first = fabric is None or fabric.global_rank == 0
    if first and folder is not None and (folder / "run.json").exists():
        finished = (folder / "model.safetensors").exists()
        move = "choose another --out" if finished else "add --resume to continue it, or choose another --out"
        raise ValueError(f"{folder} already holds a {'finished ' * finished}run; {move}")
    dataset = dataset_of(settings) if dataset is None else dataset
    composition = build(settings, dataset) if composition is None else composition
    planned = plan(composition, dataset, settings, cap, fabric)
    settings = World(fabric).same(planned.settings)  # one clock decides for all processes
    trainer = Trainer(composition, dataset, settings, folder, fabric)
    trainer.memory.plan = planned.words
    if first and folder is not None:
        write_data(dataset, folder, settings.label)
        trainer.log.rewind(0)  # of a start that was cut short
        trainer.checkpoint()
        settings.write(folder)  # last: a folder without it holds no run, and is begun anew
    return trainer


def write_data(dataset: Dataset, folder: Path, label: str | None = None) -> None:
    """Write data.json: what a run must know of its data without them at hand."""
    facts = {"name": dataset.name, "space": dataset.space.to_json(), "source": dataset.source, "notes": dataset.notes}
    facts["classes"] = dataset.label_names
    counts = torch.bincount(dataset.labels["train"], minlength=len(dataset.label_names)) if dataset.labels else torch.zeros(0)
    facts |= {"counts": counts.long().tolist(), "label": label or ""}
    facts["lengths"] = dataset.lengths["train"].tolist() if dataset.lengths else []
    facts["identity"] = Identity.of(dataset).to_json()
    checkpoint.write_text(folder / "data.json", json.dumps(facts, indent=1, default=str))


def resume_run(folder: Path, fabric: Any = None, settings: RunSettings | None = None) -> Trainer:
    """An interrupted run, from its last checkpoint. settings: its own where None. Raises OtherData on other data."""
    settings = RunSettings.read(folder) if settings is None else settings
    return Trainer.resume(folder, data_of(folder, settings), settings, fabric)


def create_run_from(settings: RunSettings, folder: Path, earlier: Path, fabric: Any = None) -> Trainer:
    """A fresh run whose weights are an earlier run's (fine-tuning, or another data set of the same space).

    On the same data the earlier run's split is kept; on other data a note says how many test rows the earlier run was trained on.
    Raises ValueError where another recipe, other settings of it, or another space is asked for.
    """
    record, before = RunData.read_existing(earlier), RunSettings.read(earlier)
    if settings.recipe != before.recipe or any(before.settings.get(k) != v for k, v in settings.settings.items()):
        there, asked = (f"{s.recipe} {s.settings or ''}".strip() for s in (before, settings))
        raise ValueError(f"{earlier} holds weights of {there}, not of {asked}; ask for the same recipe and settings")
    settings = replace(settings, settings=before.settings)
    dataset = dataset_of(settings, earlier)
    if Identity.of(dataset).sha256 == record.identity.sha256 != "":
        settings = replace(settings, split=before.split_seed if before.split_seed != settings.seed else None)
        dataset = dataset_of(settings, earlier)
    reason = dataset.space.comparable(record.space)
    if reason is not None:
        raise ValueError(f"{earlier} was trained on another space: {reason}; choose data of the same shape and kind")
    dataset = dataset.stored_as(record.space, record.form)
    dataset.notes = (*dataset.notes, *seen_before(dataset, earlier))
    return create_run(settings, folder, dataset, fabric=fabric, composition=stored_composition(earlier))


def stored_composition(folder: Path) -> Composition:
    """A run's composition with its best weights so far."""
    stored = checkpoint.read_run(folder / "checkpoint.safetensors")
    if stored.best:
        stored.composition.model.load_state_dict(stored.best)
    return cast("Composition", stored.composition)


def seen_before(dataset: Dataset, earlier: Path) -> list[str]:
    """In a sentence, how many test rows an earlier run was trained on; that it cannot be told, where its data are gone."""
    try:
        train = data_of(earlier).train
    except (ValueError, OSError):
        return [f"whether {earlier} was trained on some of these test rows cannot be told: its data cannot be loaded any more"]
    count = repeated(dataset.test, train) if train.shape[1:] == dataset.test.shape[1:] else 0
    return [f"{count:,} of {len(dataset.test):,} test rows are among those that {earlier} was trained on"] if count else []


@dataclass(frozen=True)
class RunData:
    """What a run recorded of its data: enough to give samples back in the user's form without the data at hand."""

    name: str
    space: Space
    form: Form
    source: dict[str, Any]
    classes: tuple[str, ...] = ()
    lengths: tuple[int, ...] = ()
    identity: Identity = UNKNOWN
    counts: tuple[int, ...] = ()
    label: str | None = None

    @property
    def label_law(self) -> Tensor:
        """log p(y) (classes,) of the training rows. Raises ValueError where the run kept no shares."""
        if len(self.counts) != len(self.classes):
            raise ValueError(f"the run kept the shares of {len(self.counts)} labels of {len(self.classes)}; train it again")
        return log_shares(self.counts)

    def drawn_lengths(self, count: int, seed: int) -> Tensor | None:
        """Lengths (count,) for samples, drawn from the training rows'; None where all rows are whole."""
        return drawn(torch.tensor(self.lengths), count, seed) if self.lengths else None

    @staticmethod
    def read_existing(folder: Path) -> RunData:
        """The record of a run. Raises ValueError where the folder is no run."""
        RunSettings.read(folder)
        return RunData.read(folder)

    @staticmethod
    def read(folder: Path) -> RunData:
        """The record. Raises ValueError naming the file where it is missing or damaged."""
        file = folder / "data.json"
        return read_record(file, lambda record: RunData.of(record, modified(str(file))))

    @staticmethod
    def of(record: dict[str, Any], written: str) -> RunData:
        """written: when the record was, for runs of older versions, which know the hash of the file alone."""
        source, space = record["source"], Space.from_json(record["space"])
        known = {"name": record["name"], "made": written, **source, **record.get("identity", {})}
        classes, lengths = tuple(record.get("classes", ())), tuple(record.get("lengths", ()))
        form = Form(**source.get("form", {}))
        counts = tuple(int(n) for n in record.get("counts", ()))
        identity, label = Identity.from_json(known), record.get("label") or None
        return RunData(record["name"], space, form, source, classes, lengths, identity, counts, label)


def resume_command(settings: RunSettings, folder: Path) -> str:
    """What continues an interrupted run, to be pasted into a shell."""
    return shlex.join(["genalloy", "fit", settings.recipe, settings.data, "--out", str(folder), "--resume"])


def trained_model(folder: Path, trust: Iterable[str] = ()) -> nn.Module:
    """The model of a finished run; trust: as in `genalloy.load`. Raises ValueError where training has not finished."""
    file = folder / "model.safetensors"
    if not file.exists():
        raise ValueError(f"{folder} has not finished training; continue it: {resume_command(RunSettings.read(folder), folder)}")
    return checkpoint.load(file, trust)


@dataclass(frozen=True)
class CostEstimate:
    """What `--dry-run` prints."""

    parameters: int
    steps: int
    megabytes: float
    minutes: float


def estimate(settings: RunSettings) -> CostEstimate:
    """Parameters, steps, memory and minutes of a run that is not started."""
    dataset = dataset_of(settings)
    composition = build(settings, dataset)
    settings = plan(composition, dataset, settings).settings
    each = seconds_per_step(composition, 2.0, dataset)
    seconds = sum(cost * steps for cost, steps in zip(each, settings.planned, strict=True))
    count = sum(p.numel() for p in composition.parameters())
    held = sum(p.numel() for p in (dataset.train, dataset.validation, dataset.test)) * 4
    # weights, gradients, two Adam moments, the average and the best copy
    return CostEstimate(count, sum(settings.planned), (6 * 4 * count + held) / 2**20, seconds / 60)
