"""Numbers for people, and the axes that they lie on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass


def number(value: float, digits: int = 3) -> str:
    """A number for people: three significant digits, thousands separators, a true minus sign."""
    if not math.isfinite(value):
        return "n/a"
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if size >= 6 or size < -4:
        mantissa, exponent = f"{value:.{max(digits - 2, 0)}e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}".replace("-", "\u2212")
    said = f"{value:,.{max(digits - 1 - size, 0)}f}"
    said = said.rstrip("0").rstrip(".") if "." in said else said
    return said.replace("-", "\u2212")


@dataclass(frozen=True)
class Scale:
    """A map from [low, high] to [0, 1] through a monotone `warp`, with the ticks to draw."""

    low: float
    high: float
    ticks: tuple[float, ...]
    warp: Callable[[float], float]

    def __call__(self, value: float) -> float:
        a, b = self.warp(self.low), self.warp(self.high)
        return (self.warp(value) - a) / (b - a)


def linear_ticks(low: float, high: float, count: int = 4) -> tuple[float, ...]:
    """Multiples of 1, 2 or 5 times a power of ten inside [low, high], about `count` of them."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(m for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    return tuple(i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1))


def log_ticks(low: float, high: float) -> tuple[float, ...]:
    """Powers of ten, with 2 and 5 between them where fewer than three powers fit."""
    a, b = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = [m * 10.0**k for k in range(a, b + 1) for m in (1, 2, 5)]
    inside = [t for t in every if low <= t <= high]
    tens = [t for t in inside if abs(math.log10(t) - round(math.log10(t))) < 1e-9]
    return tuple(tens if len(tens) >= 3 else inside)


def scale(values: Sequence[float], pad: float = 0.08) -> Scale:
    """Logarithmic where the values are positive and span more than a factor of 30; asinh where they also
    touch zero; else linear.
    """
    low, high = min(values), max(values)
    size = sorted(abs(v) for v in values)[len(values) // 2] or max(abs(low), abs(high)) or 1.0
    if low > 0 and high / low > 30:
        margin = (high / low) ** pad
        return Scale(low / margin, high * margin, log_ticks(low / margin, high * margin), _log)
    if low <= 0 and high - low > 30 * size:
        return _asinh_scale(low, high, size)
    margin = (high - low) * pad or abs(high) * 0.05 or 1.0
    return Scale(low - margin, high + margin, linear_ticks(low - margin, high + margin), float)


def _log(value: float) -> float:
    """The logarithm; where an outlier that the axis leaves out is not positive, far below it."""
    return math.log(value) if value > 0 else -math.inf


def _asinh_scale(low: float, high: float, size: float) -> Scale:
    powers = [10.0**k for k in range(math.ceil(math.log10(size)), math.ceil(math.log10(max(abs(low), high))) + 1)]
    low, high = low - 0.5 * size, high * 1.3
    ticks = [t for t in (*(-p for p in powers), 0.0, *powers) if low <= t <= high]
    return Scale(low, high, tuple(ticks), lambda v: math.asinh(v / size))


def leaves_room(core: Sequence[float], extra: float, room: float = 0.6) -> bool:
    """Whether the core still fills a share `room` of the axis once `extra` is on it too."""
    if min(core) <= extra <= max(core):
        return True
    whole = scale([*core, extra])
    return whole(max(core)) - whole(min(core)) >= room


def kept(core: Sequence[float], extra: Sequence[float]) -> list[bool]:
    """Which of `extra` join `core` on one axis: those that leave it room, and those between values that are drawn anyway."""
    roomy = [leaves_room(core, value) for value in extra]
    drawn = [*core, *(value for value, fits in zip(extra, roomy, strict=True) if fits)]
    return [fits or min(drawn) <= value <= max(drawn) for value, fits in zip(extra, roomy, strict=True)]
