"""Flows on small tables: four sets of real columns against a Gaussian and a mixture.

Tables whose columns are continuous: a density on a column that repeats a few values has no bound. `uci-protein` has one column of
integers, declared as such: a mass there, and LOWER numbers for all rows. MINIBOONE is trained on a tenth of the published
training rows and tested on the published test rows; BSDS300's patches are drawn anew by the published protocol.
"""

from __future__ import annotations

from genalloy.experiments.declare import Experiment, Method, PublishedNumber
from genalloy.experiments.verdict import AllOf, Better

GROUP = "uci-small"
FULL = 50_000
SOLVER = 500
"""Updates of the flow that is a differential equation, at most, in the quick budget: each costs many network evaluations."""


def _experiment(data: str, title: str, steps: int, minutes: float, published: tuple[PublishedNumber, ...] = ()) -> Experiment:
    """MAF (on a Gaussian, as the published one), RealNVP, NSF and FFJORD on one table."""
    budget = {"quick": steps, "full": FULL}
    contenders = [Method("maf", "maf", budget, {"components": 1})]
    contenders += [Method("realnvp", "realnvp", budget, {"layers": 12, "width": 96}), Method("nsf", "nsf", budget)]
    contenders.append(Method("ffjord", "ffjord", {"quick": min(steps, SOLVER), "full": FULL}))
    return Experiment(
        f"{GROUP}-{data.removeprefix('uci-')}",
        "flow",
        title,
        "Affine autoregressive, coupling and spline flows have a higher likelihood than a full-covariance Gaussian, and the "
        "spline flow a higher one than a mixture of ten Gaussians.",
        data,
        tuple(contenders),
        ("density", "cost"),
        ("density",),
        AllOf(
            (
                *(Better(name, "Gaussian", "density") for name in ("maf", "realnvp", "nsf")),
                Better("nsf", "mixture of 10 Gaussians", "density"),
            )
        ),
        {"quick": minutes, "full": 100 * minutes},
        published,
        importance=1,
        group=GROUP,
    )


def _full_set(rows: str, **values: float) -> tuple[PublishedNumber, ...]:
    """Published values in nats; the set-up says which rows and from where."""
    named = {"made": "MADE", "realnvp": "RealNVP, 10 layers", "maf": "MAF, 5 layers", "ffjord": "FFJORD", "ddsf": "NAF"}
    sources = {"ffjord": "Grathwohl et al., 2019", "ddsf": "Huang et al., 2018"}
    return tuple(
        PublishedNumber(named[k], v, "nats", rows, sources.get(k, "Papamakarios, Pavlakou & Murray, 2017"))
        for k, v in values.items()
    )


EXPERIMENTS = (
    _experiment("uci-power-plant", "Flows on tables: a power plant", 1500, 6),
    _experiment("uci-protein", "Flows on tables: protein structure", 1500, 7),
    _experiment(
        "miniboone-10",
        "Flows on tables: a tenth of MINIBOONE",
        600,
        6,
        _full_set("all 29,556 training rows", made=-15.59, realnvp=-13.84, maf=-11.75, ffjord=-10.43, ddsf=-8.86),
    ),
    _experiment(
        "bsds300",
        "Flows on tables: patches of BSDS300",
        1500,
        18,
        _full_set(
            "1,000,000 training patches, other patches", made=148.85, realnvp=153.28, maf=155.69, ffjord=157.40, ddsf=157.73
        ),
    ),
)
