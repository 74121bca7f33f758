"""Autoregressive models on the fixed binarised MNIST."""

from __future__ import annotations

from genalloy.experiments.declare import Contender, Experiment, Published
from genalloy.experiments.verdict import Better

SETUP = "28x28, 50,000 training rows, trained to convergence"
EXPERIMENTS = (
    Experiment(
        "pixelcnn-made",
        "autoregressive",
        "Convolutions against masks",
        "A gated PixelCNN of 0.1 million parameters has a higher likelihood than a MADE of 2.7 million, after fewer updates of "
        "fewer rows.",
        "static-mnist",
        (
            Contender("made", "made", {"quick": 1500, "full": 20_000}),
            Contender("gated-pixelcnn", "gated-pixelcnn", {"quick": 500, "full": 20_000}),
        ),
        ("density", "generation", "cost"),
        ("density",),
        Better("gated-pixelcnn", "made", "density"),
        {"quick": 20, "full": 900},
        (
            Published("PixelCNN", -81.30, "nats", SETUP, "van den Oord, Kalchbrenner & Kavukcuoglu, 2016"),
            Published("MADE, 2 hidden layers, 32 masks", -86.64, "nats", SETUP, "Germain et al., 2015"),
        ),
    ),
)
