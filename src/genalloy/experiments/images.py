"""Flows of images at several scales: what invertible 1x1 convolutions and scaling bring, at equal steps and networks."""

from __future__ import annotations

from genalloy.experiments.declare import Experiment, Method, PublishedNumber
from genalloy.experiments.verdict import AllOf, Better

SCALES = {"scales": 2, "layers": 4, "width": 32}
CLAIM = "With as many couplings, equal networks and steps, Glow has a higher likelihood than RealNVP, and RealNVP than NICE."
NICE_MNIST = "MNIST, 4 dense couplings of 5 x 1000, logistic base, 150 epochs"
PUBLISHED = (PublishedNumber("NICE", 4.34, "bits/dim", NICE_MNIST, "pytorch-generative, GitHub"),)


FULL_CIFAR = "CIFAR-10, all 50,000 training images, deep residual networks, to convergence"
COLOUR = (
    PublishedNumber("RealNVP", 3.49, "bits/dim", FULL_CIFAR, "Dinh, Sohl-Dickstein & Bengio, 2017"),
    PublishedNumber("Glow", 3.35, "bits/dim", FULL_CIFAR, "Kingma & Dhariwal, 2018"),
)


def _flows(
    name: str,
    title: str,
    data: str,
    steps: dict[str, int],
    minutes: dict[str, float],
    published: tuple[PublishedNumber, ...] = PUBLISHED,
) -> Experiment:
    contenders = tuple(Method(recipe, recipe, steps, SCALES) for recipe in ("nice", "realnvp", "glow"))
    checks = AllOf((Better("glow", "realnvp", "density"), Better("realnvp", "nice", "density")))
    return Experiment(
        name,
        "flow",
        title,
        CLAIM,
        data,
        contenders,
        ("density", "cost"),
        ("density",),
        checks,
        minutes,
        published,
        importance=8,
        group="image-flows",
    )


SMALL = {"quick": 1000, "full": 20_000}
LARGE = {"quick": 400, "full": 20_000}
EXPERIMENTS = (
    _flows("image-flows-digits", "Image flows on small digits", "digits", SMALL, {"quick": 10, "full": 200}),
    _flows("image-flows-garments", "Image flows on garments", "fashion-mnist", LARGE, {"quick": 30, "full": 1200}),
    _flows("image-flows-colour", "Image flows on small photographs", "cifar10-10k", LARGE, {"quick": 40, "full": 1500}, COLOUR),
)
