"""A comparison: recipes trained side by side in processes of their own, one page at the end.

Every row is a run of its own folder. Finished rows are kept when interrupted; run the same command again to continue.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genalloy.data.columns import parsed
from genalloy.data.dataset import Dataset
from genalloy.data.load import load_data
from genalloy.experiments.declare import Method
from genalloy.recipes.composition import Target
from genalloy.recipes.registry import all_recipes, find
from genalloy.runs.settings import RunSettings, keep_limits
from genalloy.studies.panels import EvaluationSettings
from genalloy.studies.table import BASELINES, Table, TableRun, make_table
from genalloy.training.interrupt import stoppable


@dataclass(frozen=True)
class ComparisonSettings:
    """What `genalloy compare` was asked for. seeds: how many from `seed` on. jobs: runs at once, 0 for one a core.

    recipes: a row each, as :func:`row` reads them; ("all",) for all that fit the data, none for the usual ones.
    """

    data: str
    recipes: tuple[str, ...]
    minutes: float
    folder: Path
    label: str | None = None
    limit: int | None = None
    seed: int = 0
    jobs: int = 0
    command: str = ""
    seeds: int = 1
    device: str = "auto"
    columns: str | None = None

    def __post_init__(self) -> None:
        keep_limits(self)
        if self.recipes != EVERY:
            for text in self.recipes:
                row(text)

    def entry(self, method: Method, seed: int) -> TableRun:
        """A row at a seed; all seeds share the first one's split."""
        split = self.seed if seed != self.seed else None
        settings = RunSettings(
            method.recipe, self.data, self.label, self.limit, dict(method.settings), minutes=self.minutes, seed=seed,
            device=self.device, split=split, columns=self.columns,
        )  # fmt: skip
        name = re.sub(r"[:=]", "-", method.name) + ("" if seed == self.seed else f"-{seed}")
        return TableRun(method, settings, self.folder / name, EvaluationSettings(), cap=True)

    def dataset(self) -> Dataset:
        return load_data(self.data, label=self.label, seed=self.seed, limit=self.limit, columns=parsed(self.columns or ""))

    def table(self, dataset: Dataset) -> Table:
        """The rows that the comparison asks for."""
        seeds = range(self.seed, self.seed + self.seeds)
        entries = [self.entry(method, seed) for seed in seeds for method in fitting(self, dataset)]
        question = {k: getattr(self, k) for k in ("data", "minutes", "label", "limit", "seed")}
        question |= {} if self.columns is None else {"columns": self.columns}
        facts = {"kind": "compare", "command": self.command, "seeds": list(seeds)}
        title = f"Generative models on {dataset.name}"
        return Table(title, self.folder, tuple(entries), self.folder / BASELINES, question, facts, self.jobs)


def run_comparison(comparison: ComparisonSettings) -> Path:
    """Train and evaluate every row, then write comparison.json and the page. Returns the page's path."""
    from genalloy.report.page import write_page

    dataset = comparison.dataset()
    with stoppable():
        make_table(comparison.table(dataset), dataset)
    return write_page(comparison.folder)


USUAL = (
    "made", "gated-pixelcnn", "realnvp", "glow", "maf", "nsf", "flow-matching", "vae", "iwae", "ebm", "ebm-nce", "ddpm", "r3gan",
    "vae-iaf", "vae-flow-prior", "flow-gan", "aae", "latent-diffusion",
)  # fmt: skip
"""What a comparison trains where no recipes are named: of every family what a user would try first."""
EVERY = ("all",)


def row(text: str) -> Method:
    """A row of the table from "made" or "made:layers=3:conditional=true". Raises ValueError on an unknown recipe or setting."""
    name, *pairs = text.split(":")
    recipe, settings = find(name), dict[str, Any]()
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"found {pair!r} behind {name}, expected SETTING=VALUE, as in made:conditional=true")
        settings[key] = recipe.read(key, value)
    return Method(text, name, settings=recipe.checked(settings))


def fitting(comparison: ComparisonSettings, dataset: Dataset) -> list[Method]:
    """The rows asked for; all or the usual recipes as far as the data allow. Raises ValueError on an unknown name."""
    if comparison.recipes and comparison.recipes != EVERY:
        return [row(text) for text in comparison.recipes]
    known = all_recipes()
    target, kept = Target.of(dataset), []
    for recipe in known.values() if comparison.recipes == EVERY else [known[name] for name in USUAL]:
        try:
            recipe(target)
        except ValueError:
            continue
        kept.append(row(recipe.name))
    return kept
