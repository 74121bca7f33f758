"""Autoregressive diffusion on few steps: nats and seconds of one trained network under several budgets of parallel steps.

L_t is measured on validation rows (--draws orders each), the best blocks for every budget follow by the dynamic program, the
bound is that of the test rows (32 random steps each). Even blocks stand beside them. Trained here, unless --run names a
finished run of `ardm`.
Usage: python benchmarks/any_order_steps.py [--data digits] [--steps 600] [--budgets 64 16 10 4]
"""

from __future__ import annotations

import argparse
import copy
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genalloy.core.batch import Batch
from genalloy.data.dataset import Dataset
from genalloy.data.load import load_data
from genalloy.models.any_order import Parallel, RandomStep, bound, even, schedule
from genalloy.recipes.any_order import ardm
from genalloy.recipes.composition import Composition, Target
from genalloy.runs.create import trained_model
from genalloy.training.fit import fit


def trained(dataset: Dataset, steps: int) -> Any:
    """The recipe's model after so many steps, with averaged weights."""
    composition: Composition = ardm(Target.of(dataset))
    phase = composition.each()[0]
    rows = (Batch(dataset.train[torch.randint(len(dataset.train), (phase.batch,))]) for _ in range(steps))
    *_, last = fit(composition.model, phase.objective, rows, training=phase.planned(steps, 0))
    with last.state.averaged_weights():
        return copy.deepcopy(composition.model)


@torch.no_grad()
def measured(part: Any, x: Tensor, samples: int) -> tuple[float, float, float]:
    """(bound in nats, the estimator's own standard error, seconds for the samples); the same noise at every call."""
    torch.manual_seed(1)
    evidence = part().density(x)
    start = time.process_time()
    part().sample((samples,))
    seconds = time.process_time() - start
    return float(evidence.value.mean()), float(evidence.stderr.square().mean() / len(x)) ** 0.5, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--run", default=None)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--budgets", type=int, nargs="+", default=[64, 16, 10, 4])
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--draws", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dataset = load_data(options.data)
    part: Any = trained(dataset, options.steps) if options.run is None else trained_model(Path(options.run))
    part.eval()
    validation, test = dataset.validation[: options.rows], dataset.test[torch.randperm(len(dataset.test))[: options.rows]]
    losses = part.step_losses(validation, draws=options.draws)
    print(f"{options.data}, {part.event_shape}: {len(test)} test rows, {options.samples} samples, one thread")
    print("budget   blocks     nats (bound)    expected   seconds   first blocks")
    for budget in options.budgets:
        for name, sizes in (("best", schedule(losses, budget)), ("even", even(len(losses), budget))):
            nats, error, seconds = measured(part.under(Parallel(sizes), RandomStep(32)), test, options.samples)
            expected = bound(losses, sizes)
            print(f"{budget:6d}   {name:>6} {nats:9.2f} +- {error:4.2f}  {expected:9.2f} {seconds:9.2f}   {sizes[:8]}")


if __name__ == "__main__":
    main()
