r"""Numbers of rows that have steps: a density per time step or per character, beside the one per row.

With :math:`v_i` nats and :math:`n_i` steps of row :math:`i`, the number is the ratio of the totals,
:math:`r = \sum_i v_i / \sum_i n_i` (long rows weigh more), and its standard error that of a ratio,
:math:`\sqrt{N}\,\mathrm{sd}(v_i - r n_i) / \sum_i n_i`.
Characters are in bits, :math:`-r / \ln 2`. The mass of byte-pair tokens is at most that of the text they spell, so EXACT
becomes LOWER there.

Windows of text may overlap: with a stride :math:`s`, every window but the first counts its last :math:`s` symbols given those
before them, :math:`\log p(x_{1:W}) - \log p(x_{1:W-s})`, so that each counts once and has at least :math:`W - s` before it.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from genalloy.core.evidence import Evidence, Kind
from genalloy.core.observations import Masked
from genalloy.core.schema import Number, absent
from genalloy.data.dataset import Dataset
from genalloy.runs.score import score

TOKENS = {Kind.EXACT: Kind.LOWER, Kind.UNBIASED: Kind.LOWER, Kind.UPPER: Kind.ESTIMATE}
"""What a claim about tokens says of the text that they spell, where it is not the same."""


def step_number(scores: Evidence, dataset: Dataset, part: str = "test") -> Number | None:
    """The density of a part's rows per step: nats a time step, bits a character; None where rows have no steps."""
    steps = dataset.steps(part)
    if steps is None:
        return None
    if scores.kind is Kind.NONE:
        return absent(scores.how)
    unit, counts = steps
    kind = TOKENS.get(scores.kind, scores.kind) if dataset.units else scores.kind
    return replace(per_step(scores.value, counts, unit, kind, scores.how), given=scores.given)


def per_step(values: Tensor, counts: Tensor, unit: str, kind: Kind, how: str) -> Number:
    """values (N,) nats and counts (N,) of steps as one number, see the module's text."""
    v, n = values.double().cpu(), counts.double().cpu()
    rate = float(v.sum() / n.sum())
    if not math.isfinite(rate):
        return absent(f"log-density is not finite on some rows ({how})")
    error = float((v - rate * n).std() * math.sqrt(len(v)) / n.sum()) if len(v) > 1 else None
    words = f"{how}; {int(n.sum()):,} {unit}s in {len(v):,} rows"
    number = Number(rate, error, len(v), words, kind=kind, unit="nats/step")
    if unit == "character":
        return number.times(-1.0 / math.log(2), "bits/char")
    return number


def strided(model: nn.Module, dataset: Dataset, stride: int, seed: int = 0) -> Number:
    """Bits a character of the test text by windows that overlap, see the module's text; characters only.

    Raises ValueError where rows are no windows of characters or the stride is not 1..window, Unavailable where the model has no
    density of a beginning.
    """
    window = dataset.space.shape[0]
    if dataset.space.kind != "text" or dataset.units or not 1 <= stride <= window:
        raise ValueError(f"a stride of {stride} was asked for; expected text in characters, and 1 to {window}, the window")
    stream = dataset.test.flatten()
    first, rest = stream[None, :window], stream.unfold(0, window, stride)[1:]
    whole = [score(model, x, seed=seed) for x in (first, rest) if len(x)]
    kind, values = whole[0].kind, [s.value.double() for s in whole]
    if len(rest) and stride < window:
        given = score(model, Masked.first(rest, torch.full((len(rest),), window - stride)), seed=seed)
        values[1], kind = values[1] - given.value, kind + (-given.kind)
    counts = torch.tensor([float(window)] + [float(stride)] * len(rest))
    how = f"{whole[0].how}; windows of {window} every {stride}: all but the first counted given {window - stride} characters"
    return per_step(torch.cat(values), counts, "character", kind, how)


def with_steps(cells: dict[str, Number], scores: Evidence, dataset: Dataset) -> dict[str, Number]:
    """The density panel's numbers with the number per step in front."""
    number = step_number(scores, dataset)
    return cells if number is None else {"per_step": number, **cells}
