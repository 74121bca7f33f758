"""Cells of a comparison: a value, its label in words, or the reason why there is none."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from genalloy.core.evidence import Evidence, Kind
from genalloy.data.space import Space
from genalloy.evaluation.metric import Metric, Missing

RELATION = {Kind.EXACT: "", Kind.LOWER: "\u2264 ", Kind.UPPER: "\u2265 ", Kind.ESTIMATE: "\u2248 ", Kind.UNBIASED: "\u2248 "}
"""Signs of bits/dim: a LOWER bound of log p bounds bits/dim from above."""


@dataclass(frozen=True)
class Cell:
    """One entry of the table; see `docs/comparison-format.md`."""

    value: float | None = None
    stderr: float | None = None
    kind: str | None = None
    text: str = ""
    how: str = ""
    n: int | None = None
    missing: str | None = None
    low: float | None = None
    high: float | None = None
    given: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def absent(reason: str) -> Cell:
    """n/a, and why."""
    return Cell(text=f"n/a ({reason})", missing=reason)


def metric_cell(result: Metric | Missing) -> Cell:
    """A metric with its error, or its reason."""
    if isinstance(result, Missing):
        return absent(result.reason)
    error = "" if result.stderr is None else f" \u00b1 {result.stderr:.2g}"
    text = f"{result.value:.4g}{error}"
    return Cell(result.value, result.stderr, None, text, result.how, result.n, None, result.low, result.high)


def density_cell(scores: Evidence, space: Space) -> Cell:
    """Mean over the rows, with the standard error over the test set; the estimator's own stands in `how`."""
    if scores.kind is Kind.NONE:
        return absent(scores.how)
    values = scores.value.double()
    mean, n = float(values.mean()), len(values)
    error = float(values.std()) / math.sqrt(n)
    return replace(nats_cell(mean, error, scores.kind, _with_noise(scores), n, space), given=scores.given)


def _with_noise(scores: Evidence) -> str:
    if scores.stderr is None:
        return scores.how
    own = float(scores.stderr.double().square().sum().sqrt()) / len(scores.stderr)
    return f"{scores.how}; estimator's own error {own:.2g} nats"


def nats_cell(mean: float, error: float | None, kind: Kind, how: str, n: int, space: Space) -> Cell:
    """Nats for densities and bits, bits per dimension for integers; the sign in front is the claim."""
    if not math.isfinite(mean):
        return absent(f"log-density is not finite on the test rows ({how})")
    if not space.in_bits:
        sign = {Kind.LOWER: "\u2265 ", Kind.UPPER: "\u2264 "}.get(kind, RELATION[kind])
        return Cell(mean, error, kind.value, f"{sign}{mean:.3f}{_plus_minus(error, 3)}", f"{how}; log p in nats", n)
    unit = space.dims * math.log(2.0)
    bits, bits_error = -mean / unit, None if error is None else error / unit
    text = f"{RELATION[kind]}{bits:.3f}{_plus_minus(bits_error, 3)}"
    return Cell(bits, bits_error, kind.value, text, f"{how}; log p {mean:.2f} nats", n)


def _plus_minus(error: float | None, digits: int) -> str:
    return "" if error is None else f" \u00b1 {error:.{digits}f}"
