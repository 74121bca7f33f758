"""Objectives compose by adding: one flow under likelihood, under a critic, and under their sum (FlowGAN), on eight Gaussians.

The density is EXACT whatever trained it: the critic alone puts samples on the modes and loses the density, the sum keeps it.
python examples/adding.py [--smoke]
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor

import genalloy as ga


def flow() -> ga.Flow:
    steps = [ga.transforms.ActNorm((2,))]
    for i in range(8):
        steps += [ga.transforms.coupling(ga.transforms.alternating(2, i % 2 == 1)), ga.transforms.ActNorm((2,))]
    return ga.Flow(ga.heads.StandardNormal((2,)), steps, (2,))


def objectives() -> list[ga.Objective]:
    """One critic judges one game, so each objective gets its own."""
    critics = [ga.objectives.Critic(ga.networks.ResidualMLP(((2,),))) for _ in range(2)]
    return [
        ga.objectives.MaximumLikelihood(),
        ga.objectives.Adversarial(critics[0]),
        ga.objectives.MaximumLikelihood() + 0.1 * ga.objectives.Adversarial(critics[1]),
    ]


def far(samples: Tensor, modes: Tensor) -> float:
    """Share further than three standard deviations (0.354) from every mode; of the data it is 0.011."""
    return float((torch.cdist(samples, modes).amin(1) > 3 * 0.354).float().mean())


def main(smoke: bool) -> None:
    data, steps = ga.load_data("8gaussians"), 10 if smoke else 800
    print(f"best possible: {data.entropy_optimum:.4f} nats")
    for index in range(3):
        torch.manual_seed(0)
        model, objective = flow(), objectives()[index]
        rows = (ga.Batch(data.train[torch.randint(len(data.train), (256,))]) for _ in range(steps))
        for _ in ga.fit(model, objective, rows, training=ga.Training(rate=ga.schedules.Cosine(1.0, 0.01, steps), clip=10.0)):
            pass
        print(f"{objective!r}: {ga.density(model(), data.test)}, {far(model().sample((5000,)), data.modes):.1%} off the modes")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main("--smoke" in sys.argv)
