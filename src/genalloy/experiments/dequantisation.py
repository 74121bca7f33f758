"""What learned dequantisation noise buys."""

from __future__ import annotations

from genalloy.experiments.declare import Experiment, Method, PublishedNumber
from genalloy.experiments.verdict import Better

STEPS = {"quick": 300, "full": 5000}
EXPERIMENTS = (
    Experiment(
        "variational-dequantisation",
        "flow",
        "Learned against uniform dequantisation",
        "Flow++ has a tighter bound on the likelihood of digits with learned dequantisation noise than with uniform noise.",
        "digits",
        (
            Method("flow++, learned noise", "flow++", STEPS),
            Method("flow++, uniform noise", "flow++", STEPS, {"variational": False}),
        ),
        ("density", "cost"),
        ("density",),
        Better("flow++, learned noise", "flow++, uniform noise", "density"),
        {"quick": 10, "full": 150},
        (PublishedNumber("Flow++, learned noise", 3.08, "bits/dim", "CIFAR-10, days on GPUs", "Ho et al., 2019"),),
        importance=64,
    ),
)
