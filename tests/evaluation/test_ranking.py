"""The rule of ranking: certain or nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from genalloy.core.evidence import Kind
from genalloy.core.schema import Number
from genalloy.evaluation.ranking import better_than, bounds, separated, sort_key


def entry(kind: Kind, value: float, stderr: float = 0.1) -> Number:
    return Number(value, stderr, kind=kind)


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
    assert bounds(entry(Kind.EXACT, -1.0)) == pytest.approx((-1.2, -0.8))
    assert bounds(entry(Kind.LOWER, -1.0))[1] == math.inf and bounds(entry(Kind.UPPER, -1.0))[0] == -math.inf
    assert bounds(Number(math.nan, kind=Kind.EXACT)) == (-math.inf, math.inf)


def test_a_label_is_about_the_score_whatever_the_unit() -> None:
    assert bounds(entry(Kind.LOWER, 2.0), -1.0) == pytest.approx((-2.2, math.inf))
    assert better_than(entry(Kind.LOWER, 1.9, 0.01), entry(Kind.EXACT, 2.0, 0.01), -1.0)
    assert not better_than(entry(Kind.EXACT, 1.9, 0.01), entry(Kind.LOWER, 2.0, 0.01), -1.0)


def test_order() -> None:
    kinds = (Kind.EXACT, Kind.LOWER, Kind.ESTIMATE, Kind.UPPER, Kind.EXACT)
    entries = [entry(kind, value) for kind, value in zip(kinds, (-3, -2, 5, -1, -1.5), strict=True)]
    assert sorted(range(5), key=lambda i: sort_key(entries[i])) == [4, 1, 0, 3, 2]


def test_separated() -> None:
    assert separated(Number(1.0, 0.1, 9, ""), Number(1.3, 0.1, 9, ""))
    assert not separated(Number(1.0, 0.1, 9, ""), Number(1.28, 0.1, 9, ""))
    assert not separated(Number(1.0, None, 9, ""), Number(9.0, 0.1, 9, ""))


def test_a_conditional_number_is_not_ranked_beside_an_unconditional_one() -> None:
    plain, given = entry(Kind.EXACT, -3.0), replace(entry(Kind.EXACT, -1.0), given="the label")
    with pytest.raises(ValueError, match=r"found log p\(x \| the label\) beside log p\(x\); expected one kind"):
        better_than(given, plain)
    assert better_than(given, replace(given, value=-9.0))
