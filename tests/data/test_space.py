"""Spaces: base measures in words, what may be compared, and the JSON round trip."""

from __future__ import annotations

import json

import pytest

from genalloy.core.evidence import Measure
from genalloy.data.space import Column, Space

REALS = Space((2,))
DIGITS = Space((1, 8, 8), "image", 17)
MIXED = Space(
    (3,),
    "table",
    None,
    (Column("a"), Column("b", "integer", "int64", (), 0, 9), Column("c", "category", "str", ("x", "y"))),
)


def test_measures() -> None:
    assert REALS.measure_text == "density over 2 reals" and REALS.measure == Measure(2, 0)
    assert DIGITS.measure_text == "probability mass on 64 integers 0..16" and DIGITS.measure == Measure(0, 64)
    assert MIXED.measure_text.startswith("mixed: density over 1 real, ") and MIXED.measure == Measure(1, 2)
    assert (REALS.discrete, DIGITS.discrete, MIXED.discrete) == (False, True, (False, True, True))
    assert DIGITS.dims == 64


@pytest.mark.parametrize("space", [REALS, DIGITS, MIXED])
def test_json_round_trip(space: Space) -> None:
    assert Space.from_json(json.loads(json.dumps(space.to_json()))) == space


def test_comparable() -> None:
    assert REALS.comparable(Space((2,), "table", None, (Column("a"), Column("b")))) is None
    assert DIGITS.comparable(Space((64,), "table", 17)) is None
    assert "entries" in str(REALS.comparable(MIXED))
    assert "probability mass" in str(Space((64,)).comparable(DIGITS))
    assert "0..15" in str(Space((1, 8, 8), "image", 16).comparable(DIGITS))
    other = Space((3,), "table", None, (Column("a"), Column("b", "integer"), Column("c", "category", "str", ("x", "z"))))
    assert "column by column" in str(MIXED.comparable(other))


def test_refusals() -> None:
    with pytest.raises(ValueError, match="levels"):
        Space((2,), levels=1)
    with pytest.raises(ValueError, match="kind"):
        Space((2,), "picture")
    with pytest.raises(ValueError, match="kind"):
        Column("a", "text")
