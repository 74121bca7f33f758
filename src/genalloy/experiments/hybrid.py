"""One invertible network that models the data and names their labels."""

from __future__ import annotations

from genalloy.experiments.declare import Experiment, Method, PublishedNumber
from genalloy.experiments.verdict import AllOf, Better

GROUP = "hybrid-flows"
KINDS = ("residual", "conv1x1", "coupling")
STEPS = {"quick": 1000, "full": 20_000}
SIZES = {"blocks": 2, "width": 32, "dense": 2}
"""As in the published comparison, equal blocks and widths: a residual block moves all entries, a coupling half of them."""
SETUP = "CIFAR-10, lam = {}, a deeper network and classifier, trained to convergence"
SOURCE = "Chen, Behrmann, Duvenaud & Jacobsen, 2019"
NAMES = {"residual": "residual", "conv1x1": "coupling + 1x1 convolution", "coupling": "coupling"}


def _published(lam: str, accuracy: tuple[float, ...], bits: tuple[float, ...]) -> tuple[PublishedNumber, ...]:
    """Values of KINDS, in order."""
    setup = SETUP.format(lam)
    shares = (PublishedNumber(NAMES[k], a, "accuracy", setup, SOURCE, "accuracy") for k, a in zip(KINDS, accuracy, strict=True))
    return (*shares, *(PublishedNumber(NAMES[k], b, "bits/dim", setup, SOURCE) for k, b in zip(KINDS, bits, strict=bool(bits))))


def _contenders(lam: float | None) -> tuple[Method, ...]:
    chosen = {} if lam is None else {"lam": lam}
    return tuple(Method(kind, "hybrid-flow", STEPS, {"kind": kind, **SIZES, **chosen}) for kind in KINDS)


ORDERED = (Better("residual", "conv1x1", "accuracy"), Better("conv1x1", "coupling", "accuracy"))
RESIDUAL = tuple(Better("residual", other, "accuracy") for other in KINDS[1:])
DENSEST = tuple(Better("residual", other, "density") for other in KINDS[1:])
PANELS = ("density", "accuracy", "cost")
EXPERIMENTS = (
    Experiment(
        "hybrid-flow",
        "flow",
        "Flows that classify, lam = 1/D",
        "Trained on log p(x) / D + log p(label | x), residual blocks name labels more accurately than as many couplings of equal "
        "width with 1x1 convolutions, these more accurately than couplings alone, and have the best bits per dimension.",
        "mnist",
        _contenders(None),
        PANELS,
        ("accuracy", "density"),
        AllOf((*ORDERED, *DENSEST)),
        {"quick": 30, "full": 600},
        _published("1/D", (0.9047, 0.8796, 0.8758), (3.62, 4.09, 4.30)),
        samples=100,
        importance=1,
        group=GROUP,
    ),
    Experiment(
        "hybrid-flow-labels",
        "flow",
        "Flows that classify, lam = 0",
        "Trained on log p(label | x) alone, a residual flow names labels more accurately than couplings with 1x1 convolutions, "
        "and these more accurately than couplings alone.",
        "mnist",
        _contenders(0.0),
        ("accuracy", "cost"),
        ("accuracy",),
        AllOf(ORDERED),
        {"quick": 30, "full": 600},
        _published("0", (0.9178, 0.9082, 0.8977), ()),
        samples=100,
        importance=1,
        group=GROUP,
    ),
    Experiment(
        "hybrid-flow-joint",
        "flow",
        "Flows that classify, lam = 1",
        "Trained on log p(x) + log p(label | x), a residual flow names labels more accurately than couplings, with or without "
        "1x1 convolutions, and has the best bits per dimension.",
        "mnist",
        _contenders(1.0),
        PANELS,
        ("accuracy", "density"),
        AllOf((*RESIDUAL, *DENSEST)),
        {"quick": 30, "full": 600},
        _published("1", (0.7032, 0.6738, 0.6762), (3.39, 3.47, 3.54)),
        samples=100,
        importance=1,
        group=GROUP,
    ),
)
