"""Sound: a WaveNet against linear prediction, both masses on the same 256 mu-law levels, given the spoken digit."""

from __future__ import annotations

from genalloy.experiments.declare import Experiment, Method
from genalloy.experiments.verdict import AllOf, Better

GIVEN = {"conditional": True}
COLUMN = "conditional_step"
EXPERIMENTS = (
    Experiment(
        "spoken-digits",
        "autoregressive",
        "Dilated convolutions against linear prediction",
        "Given the digit, the log-likelihood a sample of spoken digits is higher under a WaveNet than under a linear "
        "autoregression of order 24 whose residual follows the loudness, and higher under that than with a residual of "
        "constant scale.",
        "spoken-digits@window=1024",
        (
            Method("wavenet", "wavenet", {"quick": 600, "full": 30_000}, {**GIVEN, "repeats": 1}),
            Method("linear, loudness", "linear-prediction", {"quick": 300, "full": 1000}, GIVEN),
            Method("linear", "linear-prediction", {"quick": 300, "full": 1000}, {**GIVEN, "loudness": False}),
        ),
        ("density", "cost"),
        (COLUMN,),
        AllOf((Better("wavenet", "linear, loudness", COLUMN), Better("linear, loudness", "linear", COLUMN))),
        {"quick": 20, "full": 900},
    ),
)
