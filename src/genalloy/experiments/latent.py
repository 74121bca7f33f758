"""Latent-variable models on the fixed binarised MNIST."""

from __future__ import annotations

from genalloy.experiments.declare import Experiment, Method, PublishedNumber
from genalloy.experiments.verdict import AllOf, Better

SIZES = {"latent": 50, "hidden": 200, "dropout": 0.0}
STEPS = {"quick": 8000, "full": 200_000}
SETUP = "z = 50, 200-200 tanh, 3280 epochs of batches of 20, k = 5000"
EXPERIMENTS = (
    Experiment(
        "iwae-vae",
        "latent",
        "More samples in the bound",
        "At equal networks and updates an importance-weighted autoencoder (k = 5) has a higher likelihood than a VAE, and a "
        "lower one-sample bound.",
        "static-mnist",
        (
            Method("vae", "vae", STEPS, SIZES),
            Method("iwae, k = 5", "iwae", STEPS, {**SIZES, "samples": 5}),
        ),
        ("density", "generation", "cost"),
        ("density", "bound"),
        AllOf((Better("iwae, k = 5", "vae", "density"), Better("vae", "iwae, k = 5", "bound"))),
        {"quick": 20, "full": 1200},
        (
            PublishedNumber("VAE", -89.9, "nats", "z = 40, 400 ReLU, 500 epochs, k = 200", "Rezende & Mohamed, 2015, via pythae"),
            PublishedNumber("IWAE, k = 50", -87.1, "nats", SETUP, "Burda, Grosse & Salakhutdinov, 2016, via pythae"),
        ),
    ),
)
