r"""Density at several noise scales: an alarm for manifold overfitting.

Where data lie on a d-dimensional surface in D dimensions, a density may grow without limit by becoming thin around the surface,
without learning the law on it (Dai & Wipf, 2019; Loaiza-Ganem, Ross, Cresswell & Caterini, 2022): at thickness s it gains
-(D - d) log s. The log-likelihood of such a model says nothing about its quality.

Here the model's log-density is read at :math:`x + s\,\epsilon`, :math:`\epsilon \sim N(0, V)` with V the variances of the
training columns. Around a density of thickness :math:`\tau` the growth per e-fold of falling s is

.. math:: -\frac{d}{d \log s}\, \mathbb E \log p(x + s \epsilon) \approx (D - d)\, s^2 / \tau^2 ,

which vanishes once s is below every scale of the model. If it has not done so at a thousandth of the data's spread, the density
owes its height to directions thinner than that: the alarm. The same growth on training rows alone is a density that has
collapsed onto single rows. Probabilities of integers cannot exceed one, so there is no alarm for them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from genalloy.core.moments import mean_and_scale
from genalloy.core.schema import Number, absent
from genalloy.data.dataset import Dataset
from genalloy.evaluation.metric import FEWEST, Panel, mean_of, validate

SCALES = (0.1, 0.03, 0.01, 0.003, 0.001)
RISING = 0.1
"""Nats per e-fold and dimension at the two smallest scales; a direction of the data's own spread gives about 1e-5."""
MOST_ROWS = 500


@torch.no_grad()
def noise_panel(
    dataset: Dataset, log_p: Callable[[Tensor], Tensor], seed: int = 0, scales: Sequence[float] = SCALES
) -> dict[str, Panel]:
    r"""{"test", "train"}: mean log p at each relative noise scale ("s=0.1", ..., "s=0"), "growth", and "alarm" (1 or 0).

    log_p: (N, \*E) -> (N,) nats. Noise is added to real columns only; entries on a grid keep their value. growth: nats gained per
    e-fold of noise between the two smallest positive scales, per real dimension; rows and noise are the same at all scales.
    """
    real = ~torch.as_tensor(dataset.space.discrete).expand(dataset.space.dims).reshape(dataset.space.shape)
    parts = {"test": dataset.test, "train": dataset.train}
    reason = _refusal(dataset, real, parts)
    if reason is not None:
        return {part: dict.fromkeys(names(scales), reason) for part in parts}
    spread = _spread(dataset.train) * real
    return {part: _curve(_some(rows, seed), log_p, spread, seed, sorted(scales, reverse=True)) for part, rows in parts.items()}


def names(scales: Sequence[float]) -> list[str]:
    """Entries of a panel."""
    return [*(f"s={s:g}" for s in (*sorted(scales, reverse=True), 0.0)), "growth", "alarm"]


def _refusal(dataset: Dataset, real: Tensor, parts: dict[str, Tensor]) -> Number | None:
    if not bool(real.any()):
        return absent("every entry is on a grid: a probability cannot exceed one, so its density cannot run away")
    bad = validate(FEWEST, {f"{name} rows": rows for name, rows in parts.items()})
    if bad is None and bool((dataset.train == dataset.train[:1]).all()):
        return absent("all training rows are equal: there is no scale for the noise")
    return bad


def _spread(train: Tensor) -> Tensor:
    """Standard deviation of each column; the value itself of one that is constant."""
    return mean_and_scale(train)[1].to(train.dtype)


def _some(rows: Tensor, seed: int) -> Tensor:
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:MOST_ROWS]]


def _curve(rows: Tensor, log_p: Callable[[Tensor], Tensor], spread: Tensor, seed: int, scales: Sequence[float]) -> Panel:
    noise = torch.randn(rows.shape, generator=torch.Generator().manual_seed(seed + 1)) * spread
    values = {s: log_p(rows + s * noise).double() for s in (*scales, 0.0)}
    panel: Panel = {f"s={s:g}": _mean(value, s) for s, value in values.items()}
    low, high = scales[-1], scales[-2]
    gained = (values[low] - values[high]) / (math.log(high / low) * int((spread > 0).sum()))
    return panel | _verdict(gained, values[0.0], high, low)


def _mean(value: Tensor, scale: float) -> Number:
    bad = int((~value.isfinite()).sum())
    if bad:
        return absent(f"{bad:,} of {len(value):,} log-densities are not finite at noise {scale:g}")
    return mean_of(value, f"mean log p(x + s eps), s = {scale:g} of each column's spread")


def _verdict(gained: Tensor, clean: Tensor, high: float, low: float) -> Panel:
    """Growth and alarm; a density that is finite on the rows and not beside them is as thin as can be."""
    how = f"nats per e-fold and dimension from s = {high:g} to s = {low:g}"
    finite = gained.isfinite()
    lost = int((~finite & clean.isfinite()).sum())
    if not bool(finite.all()):
        reason = f"{int((~finite).sum()):,} of {len(gained):,} rows have no finite density at noise {low:g} or {high:g}"
        return {"growth": absent(reason), "alarm": Number(1.0, None, len(gained), reason) if lost else absent(reason)}
    growth = mean_of(gained, how)
    rising = growth.value > RISING
    words = "still rises as noise falls: thinner than the noise in some directions" if rising else "has settled"
    alarm = Number(float(rising), None, len(gained), f"the density {words} (threshold {RISING:g} {how})")
    return {"growth": growth, "alarm": alarm}
