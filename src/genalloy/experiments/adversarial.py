"""Adversarial training on grey pictures."""

from __future__ import annotations

from genalloy.experiments.declare import Experiment, Method
from genalloy.experiments.verdict import AllOf, Better, Between

EXPERIMENTS = (
    Experiment(
        "gan-vae",
        "adversarial",
        "A critic's samples",
        "At equal updates a relativistic GAN's garments are nearer to held-out ones than a VAE's and than a fitted Gaussian's "
        "and mixture's, and they are not copies.",
        "fashion-mnist",
        (
            Method("r3gan", "r3gan", {"quick": 1500, "full": 50_000}),
            Method("vae", "vae", {"quick": 600, "full": 10_000}, {"dropout": 0.0}),
        ),
        ("generation", "memorisation", "cost"),
        ("kernel_distance", "recall"),
        AllOf(
            (
                Better("r3gan", "vae", "kernel_distance"),
                Better("r3gan", "Gaussian", "kernel_distance"),
                Better("r3gan", "mixture of 10 Gaussians", "kernel_distance"),
                Between("r3gan", "copying", high=0.75),
            )
        ),
        {"quick": 25, "full": 600},
    ),
)
