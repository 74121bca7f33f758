"""What can be measured of a trained model: panels by name, each a dict of cells, so that a table asks for what it needs.

A panel never raises for a model that lacks a capability: the cell says `n/a` and why. Numbers that several panels need (the
one-draw density, the samples) are made once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from genalloy.data.dataset import Dataset
from genalloy.data.load import load
from genalloy.estimators.importance_weighted import ImportanceWeighted
from genalloy.evaluation.auroc import auroc
from genalloy.evaluation.features import Features
from genalloy.evaluation.generation import panel
from genalloy.evaluation.outliers import outlier_sets
from genalloy.evaluation.representation import probe
from genalloy.evidence import Kind, Unavailable
from genalloy.runs.cells import Cell, absent, density_cell, metric_cell
from genalloy.runs.cost import Spent, evaluations, spend
from genalloy.runs.score import Scores, encode, sample, score

IMPORTANCE = 64
"""Importance samples of the table's tightest bound."""

Cells = dict[str, Cell]


@dataclass(frozen=True)
class Asked:
    """What is measured. samples: drawn for generation. importance: k of the tightest bound. outliers: names of foreign sets."""

    panels: tuple[str, ...] = ("density", "generation", "representation", "outliers", "cost")
    samples: int = 1000
    importance: int = IMPORTANCE
    outliers: tuple[str, ...] = ()


@dataclass
class Examined:
    """A model in eval mode beside the data it was trained on, and what is made once for all panels."""

    model: nn.Module
    dataset: Dataset
    features: Features
    seed: int
    asked: Asked

    @cached_property
    def one(self) -> Scores:
        """The model's own density() of the test rows."""
        return score(self.model, self.dataset.test, seed=self.seed)

    @cached_property
    def tightest(self) -> Scores:
        """Importance-weighted where the density is a proper bound, otherwise the density as it is."""
        if self.one.kind is not Kind.LOWER:
            return self.one
        try:
            return score(self.model, self.dataset.test, ImportanceWeighted(self.asked.importance), seed=self.seed)
        except Unavailable:
            return self.one

    @cached_property
    def sampling(self) -> Spent:
        """The samples and what they cost."""
        return spend(lambda: sample(self.model, self.asked.samples, seed=self.seed))

    @property
    def drawn(self) -> Tensor:
        return self.sampling.made

    @cached_property
    def outlier_sets(self) -> dict[str, Tensor]:
        """See `foreign_sets`."""
        return foreign_sets(self.dataset, self.asked, self.seed)


def foreign_sets(dataset: Dataset, asked: Asked, seed: int) -> dict[str, Tensor]:
    """The named foreign sets that were asked for, otherwise the synthetic ones."""
    if not asked.outliers:
        return outlier_sets(dataset, seed)
    return {name: _foreign(dataset, name, seed) for name in asked.outliers}


def _foreign(dataset: Dataset, name: str, seed: int) -> Tensor:
    """Test rows of another data set of the same space. Raises ValueError where the spaces differ."""
    other = load(name, seed=seed)
    reason = dataset.space.comparable(other.space)
    if reason is not None:
        raise ValueError(f"outliers {name} are of another space than {dataset.name}: {reason}")
    return other.test


def density_panel(it: Examined) -> Cells:
    """The tightest number and the one-draw number."""
    return {"density": density_cell(it.tightest, it.dataset.space), "bound": density_cell(it.one, it.dataset.space)}


def generation_panel(it: Examined) -> Cells:
    """Samples against test rows."""
    cells = {name: metric_cell(result) for name, result in panel(it.dataset, it.drawn, it.features, it.seed).items()}
    cells["prdc_density"] = cells.pop("density")
    return cells


def representation_panel(it: Examined) -> Cells:
    """What the codes say of the labels."""
    try:
        return {"probe": metric_cell(probe(it.dataset, lambda x: encode(it.model, x)))}
    except Unavailable:
        return {"probe": absent("the model has no codes")}


def outlier_panel(it: Examined) -> Cells:
    """AUROC of the one-draw density against each named set; the first stands in the table."""
    if it.one.kind is Kind.NONE:
        return {"outliers": absent(it.one.how)}
    cells = Cells()
    for name, rows in it.outlier_sets.items():
        outside = score(it.model, rows, seed=it.seed)
        how = f"{it.one.kind.value} log-density, test rows against {name}"
        cells[name] = metric_cell(auroc(-it.one.values, -outside.values, how))
    return {"outliers": next(iter(cells.values())), **cells}


def cost_panel(it: Examined) -> Cells:
    """Seconds, network evaluations, memory and size."""
    count, seconds = sum(p.numel() for p in it.model.parameters()), it.sampling.seconds * 1000 / it.asked.samples
    calls = evaluations(it.model, lambda: it.model().sample((2,)))
    return {
        "sample_seconds": Cell(seconds, None, None, f"{seconds:.3g} s", f"{it.asked.samples} samples", it.asked.samples),
        "sample_evaluations": Cell(calls, None, None, f"{calls:,}", "network calls for one batch, cached steps included"),
        "sample_memory": _megabytes(it.sampling, "sampling"),
        **_density_cost(it),
        "parameters": Cell(count, None, None, f"{count:,}", "of the model alone", None),
    }


def _megabytes(spent: Spent, what: str) -> Cell:
    return Cell(spent.megabytes, None, None, f"{spent.megabytes:.0f} MiB", f"peak resident while {what}")


TIMED_ROWS = 200


def _density_cost(it: Examined) -> Cells:
    """Seconds for 1,000 densities as density() gives them, and its network evaluations."""
    rows = it.dataset.test[torch.randperm(len(it.dataset.test), generator=torch.Generator().manual_seed(it.seed))[:TIMED_ROWS]]
    spent = spend(lambda: score(it.model, rows, seed=it.seed))
    scores, seconds = spent.made, spent.seconds * 1000 / len(rows)
    if scores.kind is Kind.NONE:
        return {"density_seconds": absent(scores.how), "density_evaluations": absent(scores.how)}
    calls = evaluations(it.model, lambda: score(it.model, rows[:2], seed=it.seed))
    return {
        "density_seconds": Cell(seconds, None, None, f"{seconds:.3g} s", f"{len(rows)} random test rows, {scores.how}"),
        "density_memory": _megabytes(spent, "scoring"),
        "density_evaluations": Cell(calls, None, None, f"{calls:,}", "network calls for a batch of densities"),
    }


class Panel(NamedTuple):
    """A heading of the page, and what makes its cells."""

    title: str
    make: Callable[[Examined], Cells]


PANELS = {
    "density": Panel("Density", density_panel),
    "generation": Panel("Samples", generation_panel),
    "representation": Panel("Codes", representation_panel),
    "outliers": Panel("Outliers", outlier_panel),
    "cost": Panel("Cost", cost_panel),
}


def panels_of(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names, checked. Raises ValueError on an unknown one."""
    wrong = [name for name in names if name not in PANELS]
    if wrong:
        raise ValueError(f"there is no panel {wrong[0]!r}; expected some of {', '.join(PANELS)}")
    return names


@torch.no_grad()
def examine(it: Examined) -> dict[str, Cells]:
    """The cells of every panel that was asked for, by the panel's name."""
    return {name: PANELS[name].make(it) for name in panels_of(it.asked.panels)}
