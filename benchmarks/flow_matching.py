"""Eight Gaussians to two moons by flow matching: W2 of Euler's samples to the data, by number of steps and by coupling.

The set-up of Tong et al. (2024): source of radius 5 and variance 0.1, moons of noise 0.2 stretched by 3 and moved by -1, both
as they are. W2 is not squared, between 1000 samples and 1000 fresh points; two data sets of that size are the floor. Mean and
standard error over seeds; few steps are where couplings differ. Usage: python benchmarks/flow_matching.py [--steps 3000]
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from genalloy.core.batch import Batch
from genalloy.core.part import Part
from genalloy.core.schedules import Cosine
from genalloy.distances import wasserstein2
from genalloy.models.flow import Flow
from genalloy.networks.concat_squash import ConcatSquash
from genalloy.objectives.matching import FlowMatching, OptimalTransport, Reflow
from genalloy.objectives.objective import Objective
from genalloy.solvers.ode import Euler, Steps
from genalloy.training.fit import fit
from genalloy.training.options import Adam, Training
from genalloy.transforms.ode import Continuous

EULER = (1, 2, 4, 8, 100)
ROWS = 1000
NAMES = ("independent", "optimal transport", "independent, then reflow")


class EightGaussians(Part):
    """Radius 5, variance 0.1."""

    def forward(self, context: object = None) -> MixtureSameFamily:
        angles = torch.arange(8) * (math.pi / 4)
        centres = 5 * torch.stack([angles.cos(), angles.sin()], -1)
        return MixtureSameFamily(Categorical(torch.ones(8)), Independent(Normal(centres, math.sqrt(0.1)), 1))


def moons(count: int) -> Tensor:
    """Half circles of radius 3, blurred by 0.6."""
    lower, angle = torch.rand(count) < 0.5, math.pi * torch.rand(count)
    first = torch.where(lower, 1 - angle.cos(), angle.cos())
    second = torch.where(lower, 0.5 - angle.sin(), angle.sin())
    return 3 * (torch.stack([first, second], -1) + 0.2 * torch.randn(count, 2)) - 1


def batches(steps: int, rows: int = 256) -> Iterator[Batch]:
    """Fresh data at every step."""
    return (Batch(moons(rows)) for _ in range(steps))


def train(model: Flow, objective: Objective, steps: int, seed: int) -> None:
    """Adam with a cosine, and the averaged weights at the end."""
    options = Training(Adam(5e-3), rate=Cosine(1.0, 0.01, steps, 100), clip=10.0, ema=0.995, seed=seed)
    *_, last = fit(model, objective, batches(steps), training=options)
    with torch.no_grad():
        for parameter, average in zip(last.state.averaged, last.state.average, strict=True):
            parameter.copy_(average)


def trained(name: str, steps: int, seed: int) -> Flow:
    """The same updates for every coupling; a second phase takes its share of them."""
    torch.manual_seed(seed)
    model = Flow(EightGaussians(), [Continuous(ConcatSquash(((2,), ())), (2,), steps=Steps(8, 16))], (2,))
    if "reflow" not in name:
        train(model, FlowMatching(OptimalTransport()) if name == "optimal transport" else FlowMatching(), steps, seed)
        return model
    train(model, FlowMatching(), steps // 2, seed)
    train(model, Reflow((2,)), steps - steps // 2, seed)
    return model


def distances(model: Flow, seed: int) -> list[float]:
    """W2 after each number of Euler's steps."""
    torch.manual_seed(1000 + seed)
    data, found = moons(ROWS), []
    for steps in EULER:
        layer = Continuous(model.layers[0].field, (2,), Euler(), Steps(steps, steps))
        found.append(wasserstein2(Flow(model.base, [layer], (2,)).eval()().sample((ROWS,)), data))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    floor = torch.tensor([wasserstein2(moons(ROWS), moons(ROWS)) for _ in range(10)])
    print(f"W2 to the moons, {options.steps} updates, {options.seeds} seeds; floor {floor.mean():.3f} (spread {floor.std():.3f})")
    print(f"{'coupling':26}" + "".join(f"{f'Euler {n}':>16}" for n in EULER) + f"{'seconds':>9}")
    for name in NAMES:
        began = time.process_time()
        models = [trained(name, options.steps, seed) for seed in range(options.seeds)]
        seconds = (time.process_time() - began) / options.seeds
        table = torch.tensor([distances(model, seed) for seed, model in enumerate(models)])
        error = table.std(0) / options.seeds**0.5 if options.seeds > 1 else table.new_zeros(len(EULER))
        cells = "".join(f"{f'{m:.3f} +- {e:.3f}':>16}" for m, e in zip(table.mean(0), error, strict=True))
        print(f"{name:26}{cells}{seconds:9.0f}", flush=True)


if __name__ == "__main__":
    main()
