r"""Which model is better, said only where it is certain.

A claim about :math:`\mathbb E \log p` has a lower and an upper end: EXACT and UNBIASED have both, at two standard errors;
LOWER has no upper end, UPPER no lower end; ESTIMATE and NONE have neither and are not ranked. A stands above B when A's
lower end exceeds B's upper end. So a lower bound above an exact value is better, and an exact value above a lower bound
proves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from genalloy.core.evidence import Kind
from genalloy.evaluation.metric import Metric

ERRORS = 2.0


@dataclass(frozen=True)
class Entry:
    """A claim: its kind and its ends, -inf and inf where it has none; in nats, or in any score of which more is better.

    given: what it is conditional on, "" for log p(x) itself.
    """

    kind: Kind
    low: float
    high: float
    given: str = ""

    @staticmethod
    def of(kind: Kind, value: float, stderr: float | None, low: float | None = None, high: float | None = None) -> Entry:
        """The ends that `kind` allows: `low` and `high` where they are stated on their side of the value, otherwise two
        standard errors away. A value that is not finite claims nothing.
        """
        margin = ERRORS * (stderr or 0.0)
        below = low if low is not None and low <= value else value - margin
        above = high if high is not None and high >= value else value + margin
        known = math.isfinite(value)
        return Entry(kind, below if kind in _HAS_LOW and known else -math.inf, above if kind in _HAS_HIGH and known else math.inf)

    @property
    def ranked(self) -> bool:
        return self.kind in _HAS_LOW | _HAS_HIGH


_HAS_LOW = frozenset((Kind.EXACT, Kind.UNBIASED, Kind.LOWER))
_HAS_HIGH = frozenset((Kind.EXACT, Kind.UNBIASED, Kind.UPPER))


def better_than(a: Entry, b: Entry) -> bool:
    """Whether A is certainly the better model: its lower end exceeds B's upper end.

    Raises ValueError where one is log p(x) and the other conditional: what is given would count as the model's merit.
    """
    if a.given != b.given:
        found = sorted(f"log p(x | {e.given})" if e.given else "log p(x)" for e in (a, b))
        raise ValueError(f"found {found[0]} beside {found[1]}; expected one kind: sum the conditional over what it is given")
    return a.ranked and b.ranked and a.low > b.high


def best(entries: Sequence[Entry]) -> list[int]:
    """Indices of the ranked entries that no other beats, by falling certified lower end."""
    kept = [i for i, a in enumerate(entries) if a.ranked and not any(better_than(b, a) for b in entries)]
    return sorted(kept, key=lambda i: sort_key(entries[i]))


def winner(entries: Sequence[Entry]) -> int | None:
    """The entry that beats every other ranked one, or None: "not separated"."""
    ranked = [i for i, entry in enumerate(entries) if entry.ranked]
    for i in ranked:
        if len(ranked) > 1 and all(better_than(entries[i], entries[j]) for j in ranked if j != i):
            return i
    return None


def sort_key(entry: Entry) -> tuple[float, bool]:
    """Sorts by falling certified lower end; what has none comes last, unranked entries at the very end."""
    return (-entry.low if entry.ranked else math.inf, not entry.ranked)


def separated(a: Metric, b: Metric) -> bool:
    """Whether two numbers differ by more than two combined standard errors; never without both errors."""
    if a.stderr is None or b.stderr is None:
        return False
    return abs(a.value - b.value) > ERRORS * math.hypot(a.stderr, b.stderr)
