"""Train, validation and test: the source's own parts, or cut by a seed; nothing global is seeded."""

from __future__ import annotations

from typing import Any

import numpy as np

from genalloy.data.errors import BadData
from genalloy.data.raw import PARTS, WHOLE

Indices = np.ndarray[Any, Any]
FEWEST_ROWS = 10


def split_rows(sizes: dict[str, int], seed: int, in_order: bool = False) -> tuple[dict[str, tuple[str, Indices]], str]:
    """For each of train, validation, test: which part of the source it comes from and which rows; and how, in words.

    One part "all" is cut 80/10/10 by the seed (90/5/5 in order for text). Own parts are kept, and what is missing
    of validation and test is cut from train, a tenth of it each.
    """
    if WHOLE in sizes:
        n = sizes[WHOLE]
        _enough(n)
        tenth = max(1, round(n * (0.05 if in_order else 0.1)))
        order = np.arange(n) if in_order else np.random.default_rng(seed).permutation(n)
        cuts = np.split(order, [n - 2 * tenth, n - tenth])
        rows = {part: (WHOLE, cut) for part, cut in zip(PARTS, cuts, strict=True)}
        return rows, "90/5/5 in order" if in_order else f"80/10/10, seed {seed}"
    return _own(sizes, seed)


def _own(sizes: dict[str, int], seed: int) -> tuple[dict[str, tuple[str, Indices]], str]:
    _enough(sizes["train"])
    missing = [part for part in PARTS if part not in sizes]
    tenth = max(1, sizes["train"] // 10)
    order = np.random.default_rng(seed).permutation(sizes["train"]) if missing else np.arange(sizes["train"])
    rows = {part: (part, np.arange(n)) for part, n in sizes.items()}
    for part in missing:
        rows[part], order = ("train", np.sort(order[:tenth])), order[tenth:]
    rows["train"] = ("train", np.sort(order))
    how = "the source's own" + (f"; {' and '.join(missing)} cut from train, seed {seed}" if missing else "")
    return rows, how


def thin(rows: Indices, limit: int | None, seed: int) -> Indices:
    """At most `limit` of the rows, chosen by the seed."""
    if limit is None or len(rows) <= limit:
        return rows
    return np.sort(np.random.default_rng(seed).permutation(rows)[:limit])


def _enough(n: int) -> None:
    if n < FEWEST_ROWS:
        raise BadData(f"{n} rows were found; expected at least {FEWEST_ROWS} to train, validate and test; add data")
