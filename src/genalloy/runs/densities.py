"""Log-densities of rows as numbers in the unit of their data: nats, or bits per dimension for integers."""

from __future__ import annotations

import math
from dataclasses import replace

from genalloy.core.evidence import Evidence
from genalloy.core.schema import Number
from genalloy.data.space import Space


def density_number(scores: Evidence, space: Space) -> Number:
    """Mean over the rows, with the standard error over the test set; the estimator's own stands in `how`."""
    return in_unit(Number.of(scores), space)


def in_unit(nats: Number, space: Space) -> Number:
    """Mean log p in nats as it is, or as -log p / (D log 2) bits per dimension of integers; `how` tells which."""
    if not nats.known:
        return nats
    if not space.in_bits:
        return replace(nats, how=f"{nats.how}; log p in nats")
    bits = nats.times(-1.0 / (space.dims * math.log(2.0)), "bits/dim")
    return replace(bits, how=f"{nats.how}; log p {nats.value:.2f} nats")
