"""Rows of several seeds as one: means with the standard error over seeds, and every seed's value beside them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

from genalloy.core.schema import Number, Row


def merge_rows(rows: Mapping[int, Row], seeds: list[int]) -> Row:
    """Rows of the finished runs by seed -> the first row with its numbers averaged; a single seed stays as it is."""
    first = next(iter(rows.values()))
    if len(seeds) == 1:
        return first
    each = [rows.get(seed, Row()) for seed in seeds]
    panels = {title: _merge(panel, (row.panels.get(title, {}) for row in each)) for title, panel in first.panels.items()}
    cells = _merge(first.cells, (row.cells for row in each))
    return replace(first, cells=cells, panels=panels, seeds=[seed for seed in seeds if seed in rows])


def _merge(names: Iterable[str], each: Iterable[Mapping[str, Number]]) -> dict[str, Number]:
    by_seed = list(each)
    return {name: merge_numbers([numbers.get(name) for numbers in by_seed]) for name in names}


def merge_numbers(numbers: list[Number | None]) -> Number:
    """One number from a metric's values by seed (None: that run is not finished). Its error is over seeds alone."""
    there = [number for number in numbers if number is not None]
    known = [number for number in there if number.known]
    if not known:
        return replace(there[0], seeds=(None,) * len(numbers))
    if len({number.kind for number in known}) > 1:
        labels = ", ".join(sorted(number.kind.value if number.kind else "none" for number in known))
        return replace(there[0], value=math.nan, missing=f"seeds carry different labels ({labels}); they are not averaged")
    n, first = len(known), known[0]
    mean = math.fsum(number.value for number in known) / n
    error = math.sqrt(sum((number.value - mean) ** 2 for number in known) / (n - 1) / n) if n > 1 else None
    how = f"mean of {n} seed{'s' * (n > 1)}" + (f" of {len(numbers)} asked for" if n < len(numbers) else "") + f"; {first.how}"
    by_seed = tuple(number.value if number is not None and number.known else None for number in numbers)
    return replace(first, value=mean, stderr=error, how=how, low=None, high=None, seeds=by_seed)
