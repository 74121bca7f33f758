"""What recipes' settings may be: by the name that they share, else by their default's type.

Upper limits are far beyond what trains well on one machine, and a few hundred MiB of weights at the default of all else: a
larger value would only exhaust memory, or was mistyped.
"""

from __future__ import annotations

from inspect import Parameter

from genalloy.core.bounds import Bounds, Choice, Maybe, Number, Switch, Text, Whole

UNITS = Whole(1, 1024)
MANY_UNITS = Whole(1, 4096)
CHANNELS = Whole(1, 512)
DEPTH = Whole(1, 128)
WEIGHT = Number(0, 1e6)

LIMITS: dict[str, Bounds] = {
    # sizes of networks
    "width": UNITS,
    "hidden": UNITS,
    **{f"{recipe}.width": MANY_UNITS for recipe in ("made", "maf", "iaf", "nsf")},
    **{f"{recipe}.hidden": MANY_UNITS for recipe in ("vae", "iwae", "vae-iaf", "vae-flow-prior", "vae-sylvester", "aae")},
    # convolutions in two, or four, gates
    "row-lstm.hidden": CHANNELS,
    "diagonal-bilstm.hidden": CHANNELS,
    "size": CHANNELS,
    "channels": CHANNELS,
    "features": CHANNELS,
    "latent": UNITS,
    "units": Whole(1, 128),
    "layers": DEPTH,
    "blocks": DEPTH,
    "dense": Whole(0, 128),
    "flows": Whole(0, 128),
    "depth": Whole(1, 24),
    "repeats": Whole(1, 32),
    "resolutions": Whole(1, 8),
    "scales": Whole(0, 8),
    "components": Whole(1, 64),
    "bins": Whole(2, 128),
    "orders": Whole(1, 32),
    "extra": CHANNELS,
    # what a network sees at once
    "kernel": Whole(1, 99),
    "near": Whole(0, 99),
    "block": Whole(0, 99),
    "patch": Whole(1, 99),
    "stride": Whole(1, 4096),
    "order": Whole(1, 4096),
    # of training and sampling
    "steps": Whole(1, 10**9),
    "rate": Number(0, 1),
    "decay": Number(0, 1000),
    "dropout": Number(0, 0.99),
    "samples": Whole(1, 1000),
    "ratio": Whole(1, 1000),
    "buffer": Whole(1, 65_536),
    "budget": Whole(1, 65_536),
    "solves": Whole(1, 1000),
    "terms": Whole(1, 1000),
    "exact": Whole(0, 4096),
    # a residual block is a contraction: below one
    "lipschitz": Number(0.01, 0.999),
    "beta": WEIGHT,
    "gamma": WEIGHT,
    "jacobian": WEIGHT,
    "kinetic": WEIGHT,
    "lam": WEIGHT,
    "weight": WEIGHT,
    # words
    "cell": Choice(("lstm", "gru")),
    "coupling": Choice(("independent", "optimal-transport")),
    "energy": Choice(("", "u1", "u2", "u3", "u4")),
    "grid": Choice(("mu-law", "even")),
    "head": Choice(("categorical", "logistics")),
    "hybrid-flow.kind": Choice(("residual", "conv1x1", "coupling")),
    "vae-sylvester.kind": Choice(("orthogonal", "householder", "triangular", "planar", "none")),
}
"""Limits of "SETTING" of every recipe, or of one recipe's "RECIPE.SETTING"."""

OF_TYPES: dict[str, Bounds] = {
    "bool": Switch(),
    "int": Whole(-(10**9), 10**9),
    "float": Number(-1e9, 1e9),
    "str": Text(),
}
"""For settings of recipes elsewhere whose names are not above."""


def limits_of(recipe: str, setting: Parameter) -> Bounds | None:
    """What a recipe's setting may be; None where its name is unknown and its default is of another type than a plain one."""
    plain = OF_TYPES.get(type(setting.default).__name__)
    limits = LIMITS.get(f"{recipe}.{setting.name}", LIMITS.get(setting.name, plain))
    return None if limits is None else Maybe(limits)
