"""Every explicit family on one set of images, by one measure: the fixed binarised MNIST."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from genalloy.core.spec import Value
from genalloy.data.dataset import Dataset
from genalloy.estimators.variational_bound import VariationalBound
from genalloy.experiments import autoregressive, latent
from genalloy.experiments.declare import Experiment, Method, PublishedNumber
from genalloy.experiments.verdict import AllOf, Better


@dataclass(frozen=True)
class BoundWith(Value):
    """The same diffusion with fewer times a row in its bound: as low in expectation, a little noisier, and affordable."""

    draws: int

    def __call__(self, model: Any, dataset: Dataset) -> nn.Module:
        model.estimator = VariationalBound(self.draws)
        return model


STEPS = {"quick": 1000, "full": 50_000}
CONTENDERS = (
    *autoregressive.EXPERIMENTS[0].contenders,
    *latent.EXPERIMENTS[0].contenders,
    Method("vae-iaf", "vae-iaf", STEPS, {"latent": 50, "hidden": 200, "dropout": 0.0}),
    Method("vae-flow-prior", "vae-flow-prior", STEPS, {"latent": 50, "hidden": 200, "dropout": 0.0}),
    Method("realnvp", "realnvp", STEPS),
    Method("ddpm", "ddpm", {"quick": 400, "full": 30_000}, after=BoundWith(4)),
)
EXPERIMENTS = (
    Experiment(
        "nll-images",
        "evaluation",
        "Every explicit family",
        "Every explicit family models fixed binarised digits better than independent entries do, and the convolutional "
        "autoregressive model better than every other.",
        "static-mnist",
        CONTENDERS,
        ("density", "cost"),
        ("density",),
        AllOf(
            (
                *(Better(c.name, "independent entries", "density") for c in CONTENDERS),
                *(Better("gated-pixelcnn", c.name, "density") for c in CONTENDERS if c.name != "gated-pixelcnn"),
            )
        ),
        {"quick": 75, "full": 5000},
        (
            *autoregressive.EXPERIMENTS[0].published,
            *latent.EXPERIMENTS[0].published,
            PublishedNumber("VAE with an IAF posterior", -95.33, "nats", "z = 128, 150,000 updates, k = 128", "altosaar, GitHub"),
            PublishedNumber("ladder VAE", -79.24, "nats", "3 layers of 32, k = 1000, four seeds", "addtt, GitHub"),
        ),
    ),
)
