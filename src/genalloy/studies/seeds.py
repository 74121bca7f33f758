"""Rows of several seeds as one: means with the standard error over seeds, and every seed's value beside them."""

from __future__ import annotations

import math
import re
from typing import Any

_SIGN = re.compile(r"^[\u2264\u2265\u2248] ")


def merge_rows(made: list[tuple[int, dict[str, Any]]], seeds: list[int]) -> dict[str, Any]:
    """(seed, row) of the finished runs -> the first row with its cells averaged; a single seed stays as it is."""
    row = dict(made[0][1])
    if len(seeds) == 1:
        return row
    rows = dict(made)
    row["cells"] = _merge([rows[s]["cells"] if s in rows else {} for s in seeds], row["cells"])
    row["panels"] = {
        title: _merge([rows[s]["panels"].get(title, {}) if s in rows else {} for s in seeds], cells)
        for title, cells in row["panels"].items()
    }
    row["seeds"] = [seed for seed in seeds if seed in rows]
    return row


def _merge(each: list[dict[str, Any]], names: dict[str, Any]) -> dict[str, Any]:
    return {name: merge_cells([cells.get(name) for cells in each]) for name in names}


def merge_cells(cells: list[dict[str, Any] | None]) -> dict[str, Any]:
    """One cell from a metric's cells by seed (None: that run is not finished). Its error is over seeds alone."""
    known = [c for c in cells if c is not None]
    values = [c["value"] for c in known if c["value"] is not None]
    if len({c["kind"] for c in known if c["value"] is not None}) > 1:
        labels = ", ".join(sorted({str(c["kind"]) for c in known}))
        return {**known[0], "value": None, "missing": f"seeds carry different labels ({labels}); they are not averaged"}
    if not values:
        return {**known[0], "seeds": [None] * len(cells)}
    first = next(c for c in known if c["value"] is not None)
    n, mean = len(values), math.fsum(values) / len(values)
    error = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1) / n) if n > 1 else None
    sign = _SIGN.match(first["text"] or "")
    text = (sign.group() if sign else "") + f"{mean:.4g}" + (f" \u00b1 {error:.2g}" if error is not None else "")
    how = f"mean of {n} seed{'s' * (n > 1)}" + (f" of {len(cells)} asked for" if n < len(cells) else "") + f"; {first['how']}"
    by_seed = [None if c is None else c["value"] for c in cells]
    return {**first, "value": mean, "stderr": error, "text": text, "how": how, "low": None, "high": None, "seeds": by_seed}
