r"""Which model is better, said only where it is certain.

A claim about :math:`\mathbb E \log p` has a lower and an upper end: EXACT and UNBIASED have both, at two standard errors;
LOWER has no upper end, UPPER no lower end; ESTIMATE and NONE have neither and are not ranked. A stands above B when A's
lower end exceeds B's upper end. So a lower bound above an exact value is better, and an exact value above a lower bound
proves nothing. A number without a label is no claim about log p: its two ends are its error's.
"""

from __future__ import annotations

import math

from genalloy.core.evidence import Kind
from genalloy.core.schema import ERRORS, Number

_HAS_LOW = frozenset((None, Kind.EXACT, Kind.UNBIASED, Kind.LOWER))
_HAS_HIGH = frozenset((None, Kind.EXACT, Kind.UNBIASED, Kind.UPPER))


def bounds(number: Number, sign: float = 1.0) -> tuple[float, float]:
    """Ends of the score sign * value, of which more is better: -inf, inf where the label or a missing value leaves none.

    The label is about log p(x), and so about the score: a LOWER bound has a lower end in nats and in bits per dimension.
    """
    score = number.times(sign, "")
    low, high = score.ends if number.known else (-math.inf, math.inf)
    return low if number.kind in _HAS_LOW else -math.inf, high if number.kind in _HAS_HIGH else math.inf


def better_than(a: Number, b: Number, sign: float = 1.0) -> bool:
    """Whether A is certainly the better model: its lower end exceeds B's upper end.

    Raises ValueError where one is log p(x) and the other conditional: what is given would count as the model's merit.
    """
    if a.given != b.given:
        claims = sorted(f"log p(x | {e.given})" if e.given else "log p(x)" for e in (a, b))
        raise ValueError(f"found {claims[0]} beside {claims[1]}; expected one kind: sum the conditional over what it is given")
    return bounds(a, sign)[0] > bounds(b, sign)[1]


def sort_key(number: Number, sign: float = 1.0) -> tuple[float, bool]:
    """Sorts by falling lower end; what has none comes last, what has neither end at the very end."""
    low, high = bounds(number, sign)
    return -low, low == -math.inf and high == math.inf


def separated(a: Number, b: Number) -> bool:
    """Whether two numbers differ by more than two combined standard errors; never without both errors."""
    if a.stderr is None or b.stderr is None:
        return False
    return abs(a.value - b.value) > ERRORS * math.hypot(a.stderr, b.stderr)
