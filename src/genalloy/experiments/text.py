"""Characters of a text: a transformer against counted n-grams, and beside it one of factorised attention."""

from __future__ import annotations

from genalloy.experiments.declare import Experiment, Method
from genalloy.experiments.verdict import AllOf, Better, Between

LIMIT = 2.3
"""Bits per character: what a 5-gram with Witten-Bell smoothing does not reach."""
STEPS = {"quick": 9000, "full": 30_000}
EXPERIMENTS = (
    Experiment(
        "tiny-shakespeare",
        "autoregressive",
        "Characters of Shakespeare",
        "A transformer of 0.8 million parameters needs fewer than 2.3 bits per character of Tiny Shakespeare, and fewer than a "
        "5-gram with Witten-Bell smoothing.",
        "tiny-shakespeare@window=128",
        (
            Method("transformer-lm", "transformer-lm", STEPS),
            Method("sparse-transformer", "sparse-transformer", STEPS, {"width": 128}),
        ),
        ("density", "cost"),
        ("per_step",),
        AllOf((Between("transformer-lm", "per_step", high=LIMIT), Better("transformer-lm", "5-gram", "per_step"))),
        {"quick": 70, "full": 300},
    ),
)
