"""Numbers for people."""

from __future__ import annotations

import math


def number(value: float, digits: int = 3) -> str:
    """A number for people: three significant digits, thousands separators, a true minus sign."""
    if not math.isfinite(value):
        return "n/a"
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    plain = -4 <= size < 6
    said, _, exponent = (f"{value:,.{max(digits - 1 - size, 0)}f}" if plain else f"{value:.{digits - 2}e}").partition("e")
    said = said.rstrip("0").rstrip(".") if "." in said else said
    return (said if plain else f"{said}e{int(exponent)}").replace("-", "\u2212")
