"""Energy-based models as detectors of foreign data."""

from __future__ import annotations

from genalloy.experiments.declare import Experiment, Method
from genalloy.experiments.verdict import AllOf, Better, Between

EXPERIMENTS = (
    Experiment(
        "energy-outliers",
        "energy",
        "Energies and foreign data",
        "Trained on garments, an energy tells digits apart better than the log-density of a VAE, which ranks digits above "
        "garments (AUROC below one half).",
        "fashion-mnist",
        (
            Method("ebm", "ebm", {"quick": 600, "full": 10_000}),
            Method("vae", "vae", {"quick": 600, "full": 10_000}, {"dropout": 0.0}),
        ),
        ("generation", "outliers", "cost"),
        ("outliers",),
        AllOf((Better("ebm", "vae", "outliers"), Between("vae", "outliers", high=0.5))),
        {"quick": 25, "full": 400},
        outliers=("mnist",),
    ),
)
