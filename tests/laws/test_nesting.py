"""The nesting law: every part as prior, likelihood, posterior, base and mixture component of the others."""

from __future__ import annotations

import pytest
import torch

from genalloy.core.evidence import Kind
from genalloy.laws.every import every_part
from genalloy.laws.nesting import cases, nested, nests

PARTS = every_part()


def named(case) -> str:
    slot, part, others = case
    return f"{slot}-{part.name}-{'+'.join(o.name for o in others)}"


@pytest.mark.parametrize("case", cases(PARTS), ids=named)
def test_nests(case) -> None:
    torch.manual_seed(0)
    slot, part, others = case
    nests(nested(slot, part, *others))


@pytest.mark.slow
@pytest.mark.parametrize("case", cases(PARTS, representatives=6), ids=named)
def test_nests_with_six_representatives(case) -> None:
    torch.manual_seed(0)
    slot, part, others = case
    nests(nested(slot, part, *others))


def test_cases_reach_every_part_and_every_kind_of_label() -> None:
    every = [nested(slot, part, *others) for slot, part, others in cases(PARTS)]
    assert {c.claims.density.kind for c in every} == {Kind.EXACT, Kind.LOWER, Kind.UNBIASED, Kind.ESTIMATE, Kind.NONE}
    assert any(c.claims.density.kind is Kind.LOWER and not c.claims.density.proper for c in every)
    played = {(slot, part.name) for slot, part, _ in cases(PARTS)}
    assert played == {(slot, part.name) for part in PARTS for slot in part.roles}
