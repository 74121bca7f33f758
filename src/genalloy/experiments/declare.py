"""What an experiment is: a claim, the contenders that could refute it, what is measured, and who decides.

A declaration holds no code beyond its own changes of a trained model; `genalloy reproduce` trains, measures and keeps the
results. Runs are shared: two contenders of the same recipe, settings, steps and seed are one run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from genalloy.data.dataset import Dataset
from genalloy.experiments.verdict import Check

Change = Callable[[nn.Module, Dataset], nn.Module]
"""A trained model as another one: mixed with noise, sampled otherwise. A frozen value, so that its text identifies it."""


@dataclass(frozen=True)
class Method:
    """One row. recipe, settings: what is trained; steps: by budget, the recipe's own where absent.

    after: what becomes of the trained model before it is measured; contenders that differ only in it share a run.
    """

    name: str
    recipe: str
    steps: Mapping[str, int] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    after: Change | None = None


@dataclass(frozen=True)
class PublishedNumber:
    """A value of the literature. setup: how it differs from ours; it stands beside our table, never in it.

    column: the column whose axis it may be drawn on, where its unit does not tell.
    """

    name: str
    value: float
    unit: str
    setup: str
    source: str
    column: str = ""


@dataclass(frozen=True)
class Experiment:
    """A claim and what decides it.

    claim: one sentence that can be false. data: a name or path. panels: what is measured. headline: the columns that the
    claim is about. minutes: expected on two cores, by budget, for three seeds. outliers: names of foreign data sets of the
    same space. samples: drawn for the generation panel. importance: samples k of the tightest bound. group: experiments of one
    question on several data sets share it; `genalloy reproduce GROUP` runs them one after the other.
    """

    name: str
    family: str
    title: str
    claim: str
    data: str
    contenders: tuple[Method, ...]
    panels: tuple[str, ...]
    headline: tuple[str, ...]
    verdict: Check | None
    minutes: Mapping[str, float]
    published: tuple[PublishedNumber, ...] = ()
    outliers: tuple[str, ...] = ()
    samples: int = 1000
    importance: int = 64
    group: str = ""
