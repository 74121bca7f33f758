"""Nats by which recipes with default settings stand above independent columns (a normal or a histogram each) on held-out rows.

    python benchmarks/small_tables.py --recipes realnvp maf nsf --data iris wine uci-concrete --seconds 30

Tables that scikit-learn brings, and any that `genalloy.load_data` reads by name. Every run takes the recipe's own number of
steps, or as many as `--seconds` allow. A model that knows less than independent columns is worse than useless: below -3 the
number is marked. `far` is the density at 5, 10 and 100 deviations less that of independent normals, its worst row.
"""

from __future__ import annotations

import argparse
import time

import torch
from sklearn import datasets

from genalloy.data.dataset import Dataset
from genalloy.data.load import load_data
from genalloy.evaluation.baselines import independent
from genalloy.runs.create import create_run
from genalloy.runs.score import score
from genalloy.runs.settings import RunSettings
from genalloy.runs.train import Trainer

SKLEARN = ("iris", "wine", "breast_cancer", "diabetes", "linnerud")
RECIPES = ("realnvp", "glow", "nice", "maf", "iaf", "nsf", "flow-gan", "hybrid-flow", "residual-flow", "made", "vae")
ALLOWED = -3.0


def table(name: str, seed: int) -> Dataset:
    """A table of scikit-learn's, with labels where it has classes, or whatever else is known by the name."""
    if name not in SKLEARN:
        return load_data(name, seed=seed)
    bunch = getattr(datasets, f"load_{name}")()
    return load_data(
        (bunch.data, bunch.target) if hasattr(bunch, "target_names") and bunch.target.ndim == 1 else bunch.data, seed=seed
    )


def trained(recipe: str, dataset: Dataset, seed: int, seconds: float) -> Trainer:
    """The recipe's default run, cut short where it would take longer."""
    settings = RunSettings(recipe, dataset.name, seed=seed, minutes=seconds / 60)
    trainer = create_run(settings, None, dataset, cap=True)
    for _ in trainer.run():
        pass
    return trainer


def gap(trainer: Trainer, dataset: Dataset) -> float:
    """Held-out nats above independent columns."""
    floor = independent(dataset).nats
    assert not floor.missing
    labels = dataset.labels["test"].float() if getattr(trainer.model, "context_shapes", ()) else None
    return score(trainer.model, dataset.test, context=labels).mean() - floor.value


def far(trainer: Trainer, dataset: Dataset) -> list[float]:
    """Log-density less that of independent normals at 5, 10 and 100 deviations, in random directions; the worst row."""
    mean, scale = dataset.train.mean(0), dataset.train.std(0).clamp(min=1e-6)
    direction = torch.nn.functional.normalize(torch.randn(64, dataset.space.dims), dim=1).reshape(64, *dataset.space.shape)
    worst = []
    for distance in (5.0, 10.0, 100.0):
        x = mean + scale * direction * distance * dataset.space.dims**0.5
        normal = torch.distributions.Normal(mean, scale).log_prob(x).flatten(1).sum(1)
        worst.append(float((score(trainer.model, x).value - normal).min()))
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES))
    parser.add_argument("--data", nargs="+", default=list(SKLEARN))
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--far", action="store_true")
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    for data in wanted.data:
        for seed in wanted.seeds:
            dataset = table(data, seed)
            for recipe in wanted.recipes:
                began = time.monotonic()
                try:
                    trainer = trained(recipe, dataset, seed, wanted.seconds)
                except ValueError as error:
                    print(f"{data:16} {recipe:16} {seed}  {error}", flush=True)
                    continue
                nats, seconds = gap(trainer, dataset), round(time.monotonic() - began)
                best, steps = trainer.memory.best_step + 1, sum(trainer.settings.planned)
                tails = " ".join(f"{value:.3g}" for value in far(trainer, dataset)) if wanted.far else ""
                mark = "" if nats >= ALLOWED else "  below"
                print(
                    f"{data:16} {recipe:16} {seed} {nats:12.2f}  step {best} of {steps}, {seconds} s  {tails}{mark}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
