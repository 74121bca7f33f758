"""From a question to a trainer: load the data, build the recipe, plan the steps, write down all of it before step 0."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genalloy.data.dataset import Dataset, drawn
from genalloy.data.form import Form
from genalloy.data.load import load
from genalloy.data.reading import parse
from genalloy.data.space import Space
from genalloy.recipes.composition import Composition, Target
from genalloy.recipes.registry import find
from genalloy.runs.settings import RunSettings
from genalloy.runs.train import Trainer, plan, seconds_per_step
from genalloy.spec import from_spec
from genalloy.training import checkpoint
from genalloy.training.seeding import Stream, seed_all


def dataset_of(settings: RunSettings, folder: Path | None = None) -> Dataset:
    """The data set of a run, split by its seed. folder: of a run that exists, whose byte-pair vocabulary is used as it is."""
    source, reading = parse(settings.data)
    if folder is not None and (folder / "data.json").exists():
        reading = replace(reading, vocabulary=RunData.read(folder).form.vocabulary)
    return load(
        source, label=settings.label, seed=settings.split_seed, limit=settings.limit, reading=reading, columns=settings.asked
    )


def build(settings: RunSettings, dataset: Dataset) -> Composition:
    """The recipe's composition with initial weights that depend on the seed alone."""
    stream = Stream(dataset.train)
    stream.enter()
    seed_all(settings.seed, -5)
    try:
        return find(settings.recipe)(Target.of(dataset), **settings.settings)
    finally:
        stream.leave()


def start(
    settings: RunSettings, folder: Path | None, dataset: Dataset | None = None, cap: bool = False, fabric: Any = None
) -> Trainer:
    """A fresh run. Raises ValueError where `folder` already holds one."""
    first = fabric is None or fabric.global_rank == 0
    if first and folder is not None and (folder / "run.json").exists():
        raise ValueError(f"{folder} already holds a run; add --resume to continue it, or choose another --out")
    dataset = dataset_of(settings) if dataset is None else dataset
    composition = build(settings, dataset)
    settings = plan(composition, dataset, settings, cap)
    settings = settings if fabric is None else fabric.broadcast(settings, src=0)  # one clock decides for all processes
    trainer = Trainer(composition, dataset, settings, folder, fabric)
    if first and folder is not None:
        trainer.checkpoint()
        settings.write(folder)
        facts = {"name": dataset.name, "space": dataset.space.to_json(), "source": dataset.source, "notes": dataset.notes}
        facts["classes"] = dataset.label_names
        facts["lengths"] = dataset.lengths["train"].tolist() if dataset.lengths else []
        checkpoint.write_text(folder / "data.json", json.dumps(facts, indent=1, default=str))
    return trainer


def continue_run(folder: Path, fabric: Any = None) -> Trainer:
    """An interrupted run, from its last checkpoint."""
    settings = RunSettings.read(folder)
    return Trainer.resume(folder, dataset_of(settings, folder), settings, fabric)


def start_from(settings: RunSettings, folder: Path, earlier: Path, fabric: Any = None) -> Trainer:
    """A fresh run whose weights are an earlier run's (fine-tuning, or another data set of the same space)."""
    dataset = dataset_of(settings, earlier)
    tensors, facts = checkpoint.read_tensors(earlier / "checkpoint.safetensors")
    before = RunData.read(earlier)
    reason = dataset.space.comparable(before.space)
    if reason is not None:
        raise ValueError(f"{earlier} was trained on another space: {reason}; choose data of the same shape and kind")
    dataset = dataset.stored_as(before.space, before.form)
    trainer = start(settings, folder, dataset, fabric=fabric)
    composition: Any = from_spec(facts["spec"], tensors)
    best = {k[5:]: v for k, v in tensors.items() if k.startswith("best/")}
    if best:
        composition.model.load_state_dict(best)
    trainer.composition = composition
    trainer.checkpoint()
    return trainer


@dataclass(frozen=True)
class RunData:
    """What a run recorded of its data: enough to give samples back in the user's form without the data at hand."""

    name: str
    space: Space
    form: Form
    source: dict[str, Any]
    classes: tuple[str, ...] = ()
    lengths: tuple[int, ...] = ()

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
        record = json.loads((folder / "data.json").read_text(encoding="utf-8"))
        form = Form(**record["source"].get("form", {}))
        classes = tuple(record.get("classes", ()))
        lengths = tuple(record.get("lengths", ()))
        return RunData(record["name"], Space.from_json(record["space"]), form, record["source"], classes, lengths)


def trained_model(folder: Path, trust: Iterable[str] = ()) -> nn.Module:
    """The model of a finished run; trust: as in `genalloy.load`. Raises ValueError where training has not finished."""
    file = folder / "model.safetensors"
    if not file.exists():
        RunSettings.read(folder)
        raise ValueError(f"{folder} has not finished training; continue it with `genalloy fit ... --out {folder} --resume`")
    return checkpoint.load(file, trust)


@dataclass(frozen=True)
class Cost:
    """What `--dry-run` prints."""

    parameters: int
    steps: int
    megabytes: float
    minutes: float


def estimate(settings: RunSettings) -> Cost:
    """Parameters, steps, memory and minutes of a run that is not started."""
    dataset = dataset_of(settings)
    composition = build(settings, dataset)
    settings = plan(composition, dataset, settings)
    seconds = sum(
        seconds_per_step(composition, phase, dataset) * steps
        for phase, steps in zip(composition.each(), settings.planned, strict=True)
    )
    count = sum(p.numel() for p in composition.parameters())
    held = sum(p.numel() for p in (dataset.train, dataset.validation, dataset.test)) * 4
    # weights, gradients, two Adam moments, the average and the best copy
    return Cost(count, sum(settings.planned), (6 * 4 * count + held) / 2**20, seconds / 60)
