r"""Where float32 is too coarse: a shift that is taken off in float64 on the way in, and put back in float64 on the way out.

Rows are stored as float32, whose spacing at :math:`x` is :math:`2^{-23}|x|`. A column ``1.7e9 + 60 g`` has a spacing of 128: four
values are left of it, and a density on them is unbounded. With :math:`x - s` stored instead, the spacing is relative to the
spread. A shift leaves every Lebesgue density and every probability mass as it was, :math:`p_X(x) = p_{X - s}(x - s)`, so no
number and no label changes. Scaling stays inside the models: float32 is relative, scaling would win nothing here.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]

FINE = 2.0**-10
"""A spacing above this share of the local spread is coarse: a Gaussian's mean is then some 2,000 deviations away from 0."""
FEW = 0.01
"""Share of the rows that may lie on a coarse spacing: a few rows far out are stored as well as float32 can."""
SEEN = 20_000
"""Rows that are looked at."""
LARGEST = float(np.finfo(np.float32).max)
INTEGERS = 2**24
"""Integers below this are exact in float32."""
WHOLE = 2.0**48
"""Above this float64 itself has hardly any fractions, so that being whole says nothing."""


class StoredPrecision(NamedTuple):
    """How one column of reals is stored. shift: taken off in float64. coarse: share of rows whose float32 spacing is not small
    beside the spread around them. kept: share of the distinct values that float32 tells apart.
    """

    shift: float
    coarse: float
    kept: float

    @property
    def blurred(self) -> bool:
        return self.coarse > FEW or self.kept < 1 - FEW

    @property
    def collapsed(self) -> bool:
        return self.kept < 0.9


def stored(values: Array) -> StoredPrecision:
    """How finite reals (N,) are best stored: as they are where float32 is fine enough there, less a round number otherwise."""
    x = np.sort(thinned(values))
    plain = coarse(x, 0.0)
    if plain <= FEW:
        return StoredPrecision(0.0, plain, kept(x, 0.0))
    shift = round_centre(x)
    moved = coarse(x, shift)
    return StoredPrecision(shift, moved, kept(x, shift)) if moved < plain else StoredPrecision(0.0, plain, kept(x, 0.0))


def thinned(values: Array) -> Array:
    """At most `SEEN` of the values as float64, evenly chosen."""
    flat = np.asarray(values).reshape(-1)
    return flat[:: max(1, len(flat) // SEEN)].astype(np.float64)


def coarse(x: Array, shift: float) -> float:
    """Share of sorted x (N,) where float32's spacing at x - shift is not small beside a tenth of the rows around.

    Values on a grid that is wider than four spacings (few decimals) are told apart, however close together they lie.
    """
    gaps = np.diff(x)
    grid = gaps[gaps > 0].min(initial=np.inf)
    reach = max(1, len(x) // 20)
    place = np.arange(len(x))
    width = x[np.minimum(place + reach, len(x) - 1)] - x[np.maximum(place - reach, 0)]
    spacing = _spacing(x - shift)
    return float(((spacing > FINE * width) & (width > 0) & (4 * spacing > grid)).mean())


def _spacing(x: Array) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        gap = np.spacing(np.abs(x).astype(np.float32)).astype(np.float64)
    return np.where(np.isfinite(gap), gap, np.inf)


def kept(x: Array, shift: float) -> float:
    """Share of the distinct values that are still distinct as float32."""
    return len(np.unique(single(x - shift))) / len(np.unique(x))


def round_centre(x: Array) -> float:
    """The median of sorted x, rounded to a power of ten about as large as the spread of the tenth of the rows around it."""
    low, middle, high = np.quantile(x, [0.45, 0.5, 0.55], method="nearest")
    spread = float(high - low)
    if not 0 < spread < math.inf:
        return float(middle)
    unit = 10.0 ** math.ceil(math.log10(spread))
    centre = round(float(middle) / unit) * unit if unit > 0 else float(middle)
    return centre if math.isfinite(centre) else float(middle)


def single(x: Array) -> Array:
    """float32; what is finite and beyond its range becomes infinite, so that its score is -inf."""
    with np.errstate(over="ignore"):
        return np.asarray(x).astype(np.float32)


def less(values: Array, shift: float | Array) -> Array:
    """values - shift as float64, exact for 64-bit integers and an integer shift."""
    if values.dtype.kind in "iu" and type(shift) is int:
        return _integers_less(values, shift)
    return np.asarray(values, np.float64) - shift


def _integers_less(values: Array, shift: int) -> Array:
    """The difference modulo 2^64 is right wherever it fits into 63 bits; float64 tells where."""
    rough = values.astype(np.float64) - float(shift)
    exact = (values.astype(np.uint64) - np.uint64(shift % 2**64)).view(np.int64)
    return np.where(np.abs(rough) < 2.0**62, exact.astype(np.float64), rough)


def more(values: Array, shift: float | int | Array, dtype: Any) -> Array:
    """values + shift as the user's dtype; exact for 64-bit integers and an integer shift."""
    if np.dtype(dtype).kind in "iu" and type(shift) is int and shift:
        whole = values.round().astype(np.int64).astype(np.uint64)
        return np.asarray(whole + np.uint64(shift % 2**64)).astype(dtype)
    return np.asarray(values + shift).astype(dtype)


def decimals(values: Array) -> int | None:
    """The smallest number of decimals, 1 to 6, that writes every value exactly; None where there is none."""
    x = thinned(values) if len(values) > SEEN else np.asarray(values)
    for places in range(1, 7):
        small = (np.abs(x.astype(np.float64)) * 10.0**places < WHOLE).all()
        if small and _written(x, places) and _written(np.asarray(values), places):
            return places
    return None


def _written(values: Array, places: int) -> bool:
    """Whether rounding changes nothing; float32 columns are rounded as float32."""
    return bool((np.round(values.astype(np.float64), places).astype(values.dtype) == values).all())


def whole(values: Array) -> bool:
    """Whether finite numbers are all whole, floats of a size where that says something."""
    if values.dtype.kind in "iu":
        return True
    x = values.astype(np.float64)
    return bool((np.abs(x) < WHOLE).all() and (x == np.round(x)).all())


def offset(values: Array) -> tuple[int, int] | None:
    """(shift, step) such that float32 holds (values - shift) / step of whole numbers exactly; None where nothing helps.

    (0, 1) where it does anyway. A bijection leaves a probability mass as it is; steps are the numbers' greatest common divisor.
    """
    low, high = int(values.min()), int(values.max())
    if max(-low, high) < INTEGERS:
        return 0, 1
    if high - low < INTEGERS:
        return low, 1
    if high - low >= 2**62:
        return None
    step = int(np.gcd.reduce(_integers_less(integers(values), low).astype(np.int64)))
    return (low, step) if (high - low) // step < INTEGERS and high - low < 2**53 else None


def integers(values: Array) -> Array:
    """Whole numbers in an integer dtype."""
    return values if values.dtype.kind in "iu" else values.astype(np.int64)
