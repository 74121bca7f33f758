"""The rule of ranking: certain or nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from genalloy.core.evidence import Kind
from genalloy.evaluation.metric import Metric
from genalloy.evaluation.ranking import Entry, best, better_than, separated, sort_key, winner


def entry(kind: Kind, value: float, stderr: float = 0.1) -> Entry:
    return Entry.of(kind, value, stderr)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((Kind.EXACT, -1.0), (Kind.EXACT, -2.0), True),
        ((Kind.EXACT, -1.0), (Kind.EXACT, -1.3), False),
        ((Kind.LOWER, -1.0), (Kind.EXACT, -2.0), True),
        ((Kind.EXACT, -1.0), (Kind.LOWER, -9.0), False),
        ((Kind.LOWER, -1.0), (Kind.LOWER, -9.0), False),
        ((Kind.EXACT, -1.0), (Kind.UPPER, -2.0), True),
        ((Kind.UPPER, -1.0), (Kind.EXACT, -9.0), False),
        ((Kind.LOWER, -1.0), (Kind.UPPER, -2.0), True),
        ((Kind.UNBIASED, -1.0), (Kind.EXACT, -2.0), True),
        ((Kind.ESTIMATE, -1.0), (Kind.EXACT, -9.0), False),
        ((Kind.EXACT, -1.0), (Kind.ESTIMATE, -9.0), False),
        ((Kind.EXACT, -1.0), (Kind.NONE, math.nan), False),
    ],
)
def test_better_than(a: tuple[Kind, float], b: tuple[Kind, float], expected: bool) -> None:
    assert better_than(entry(*a), entry(*b)) is expected
    assert not better_than(entry(*b), entry(*a))


def test_ends_are_two_standard_errors() -> None:
    assert (entry(Kind.EXACT, -1.0).low, entry(Kind.EXACT, -1.0).high) == pytest.approx((-1.2, -0.8))
    assert entry(Kind.LOWER, -1.0).high == math.inf and entry(Kind.UPPER, -1.0).low == -math.inf
    assert Entry.of(Kind.EXACT, math.nan, None) == Entry(Kind.EXACT, -math.inf, math.inf)


def test_best_winner_and_order() -> None:
    entries = [
        entry(Kind.EXACT, -3),
        entry(Kind.LOWER, -2),
        entry(Kind.ESTIMATE, 5),
        entry(Kind.UPPER, -1),
        entry(Kind.EXACT, -1.5),
    ]
    # the first is beaten by the lower bound; the lower bound itself has no upper end, so nothing beats it
    assert best(entries) == [4, 1, 3]
    assert sorted(range(5), key=lambda i: sort_key(entries[i])) == [4, 1, 0, 3, 2]
    assert winner(entries) is None
    assert winner([entries[0], entries[4], entries[2]]) == 1
    assert winner([entries[0]]) is None and best([]) == []


def test_separated() -> None:
    assert separated(Metric(1.0, 0.1, 9, ""), Metric(1.3, 0.1, 9, ""))
    assert not separated(Metric(1.0, 0.1, 9, ""), Metric(1.28, 0.1, 9, ""))
    assert not separated(Metric(1.0, None, 9, ""), Metric(9.0, 0.1, 9, ""))


def test_a_conditional_number_is_not_ranked_beside_an_unconditional_one() -> None:
    plain, given = Entry.of(Kind.EXACT, -3.0, 0.1), replace(Entry.of(Kind.EXACT, -1.0, 0.1), given="the label")
    for ask in (lambda: better_than(given, plain), lambda: best([plain, given]), lambda: winner([given, plain])):
        with pytest.raises(ValueError, match=r"found log p\(x \| the label\) beside log p\(x\); expected one kind"):
            ask()
    assert winner([given, replace(given, low=-9.0, high=-8.0)]) == 0
