"""Flows on grey pictures."""

from __future__ import annotations

from genalloy.experiments.declare import Experiment, Method
from genalloy.experiments.verdict import AllOf, Better

STEPS = {"quick": 1000, "full": 50_000}
EXPERIMENTS = (
    Experiment(
        "flows-gaussian",
        "flow",
        "Flows against a Gaussian",
        "Affine coupling and affine autoregressive flows have a higher likelihood of grey garments than a full-covariance "
        "Gaussian after the same logit.",
        "fashion-mnist",
        (
            Method("realnvp", "realnvp", STEPS),
            Method("maf", "maf", STEPS, {"components": 1, "width": 256, "dropout": 0.0}),
        ),
        ("density", "generation", "cost"),
        ("density",),
        AllOf(tuple(Better(name, "Gaussian after a logit", "density") for name in ("realnvp", "maf"))),
        {"quick": 30, "full": 900},
        importance=8,
    ),
)
