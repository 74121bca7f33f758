"""Combinations: what a second principle costs and buys.

The distance is in the features of a small classifier, which forgives pixel noise: read the panel's sharpness (1 is the data's)
and two-sample accuracy beside it.
"""

from __future__ import annotations

from genalloy.experiments.declare import Experiment, Method, PublishedNumber
from genalloy.experiments.verdict import AllOf, Better

STEPS = {"quick": 500, "full": 30_000}
UNIT, SOURCE = "nats of a density on [0, 1]", "Grover, Dhar & Ermon, 2018"
EXPERIMENTS = (
    Experiment(
        "flow-gan",
        "combination",
        "Likelihood with a critic",
        "A critic beside maximum likelihood brings a flow's garments nearer to held-out ones, and costs at most 0.2 bits per "
        "dimension.",
        "fashion-mnist",
        (
            Method("realnvp", "realnvp", STEPS),
            Method("flow-gan", "flow-gan", STEPS),
        ),
        ("density", "generation", "cost"),
        ("density", "kernel_distance"),
        AllOf((Better("flow-gan", "realnvp", "kernel_distance"), Better("flow-gan", "realnvp", "density", -0.2))),
        {"quick": 35, "full": 900},
        (
            PublishedNumber("NICE, likelihood alone", 3334.56, UNIT, "MNIST, 5 couplings x 1000", SOURCE),
            PublishedNumber("NICE, likelihood and critic", 3342.95, UNIT, "MNIST, lambda = 0.1", SOURCE),
            PublishedNumber("NICE, critic alone", 1604.09, UNIT, "MNIST", SOURCE),
        ),
        importance=8,
    ),
)
