"""What metrics share: the fewest rows, a mean with its error, and the rows that no metric can be made of."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from genalloy.core.observations import finite
from genalloy.core.schema import Number, absent

FEWEST = 20
"""Rows below which no sample metric is given."""


Panel = dict[str, Number]


def mean_of(values: Tensor, how: str) -> Number:
    """Mean of (N,) values with the standard error over them."""
    n = len(values)
    spread = values.double().std().item() if n > 1 else math.nan
    return Number(values.double().mean().item(), spread / math.sqrt(n) if n > 1 else None, n, how)


def validate(needed: int, sets: dict[str, Any]) -> Number | None:
    """An absence, with its reason, if any named set (N, ...) has fewer than `needed` rows or rows that are not finite."""
    for name, rows in sets.items():
        if len(rows) < needed:
            return absent(f"needs at least {needed:,} {name}; found {len(rows):,}")
        bad = int((~finite(rows)).sum())
        if bad:
            return absent(f"{bad:,} of {len(rows):,} {name} are not finite")
    return None
