"""Verdicts on numbers whose answer is known, and every declared claim on numbers that refute it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from genalloy.core.evidence import Kind
from genalloy.core.schema import Number, Outcome, Verdict
from genalloy.data.space import Space
from genalloy.experiments.declare import Experiment
from genalloy.experiments.registry import all_experiments, find_experiment
from genalloy.experiments.verdict import AllOf, Better, Between, Check, Results
from genalloy.recipes.registry import find
from genalloy.studies.columns import columns

EXPERIMENTS = list(all_experiments().values())


def score(value: float, stderr: float = 0.01, kind: Kind | None = Kind.EXACT, each: tuple[float, ...] = ()) -> Number:
    return Number(value, stderr, kind=kind, seeds=each or (value,) * 3)


def judged(check: Check, sign: float = -1.0, runs: dict[str, tuple[str, ...]] | None = None, **rows: Number) -> Verdict:
    trained = dict.fromkeys(rows, ()) if runs is None else runs
    return check(Results({name: {"density": number} for name, number in rows.items()}, {"density": sign}, trained))


def outcome(check: Check, sign: float = -1.0, runs: dict[str, tuple[str, ...]] | None = None, **rows: Number) -> Outcome:
    return judged(check, sign, runs, **rows).outcome


BETTER = Better("a", "b", "density")


def test_a_claim_holds_is_open_or_fails_by_two_combined_errors() -> None:
    assert outcome(BETTER, a=score(1.0), b=score(1.029)) is Outcome.HOLDS
    assert outcome(BETTER, a=score(1.0), b=score(1.027)) is Outcome.OPEN
    assert outcome(BETTER, a=score(1.027), b=score(1.0)) is Outcome.OPEN
    assert outcome(BETTER, a=score(1.029), b=score(1.0)) is Outcome.FAILS
    assert outcome(BETTER, 1.0, a=score(1.0), b=score(1.1)) is Outcome.FAILS


def test_a_margin_moves_the_line_in_the_columns_own_direction() -> None:
    no_worse = Better("a", "b", "density", -0.2)
    assert outcome(no_worse, a=score(1.1), b=score(1.0)) is Outcome.HOLDS
    assert outcome(no_worse, a=score(1.3), b=score(1.0)) is Outcome.FAILS


def test_fewer_than_three_seeds_decide_nothing() -> None:
    verdict = judged(BETTER, a=score(1.0, each=(0.9, 1.1)), b=score(2.0))
    assert verdict.outcome is Outcome.INCOMPLETE and "needs at least 3 seeds; found 2" in verdict.words
    # a baseline was not trained: it needs no seeds
    assert outcome(BETTER, runs={"a": ()}, a=score(1.0), b=Number(2.0, 0.01, kind=Kind.EXACT)) is Outcome.HOLDS


UNRANKED = [("ESTIMATE", "EXACT"), ("UPPER", "EXACT"), ("EXACT", "ESTIMATE"), ("NONE", "EXACT")]


@pytest.mark.parametrize(("mine", "theirs"), UNRANKED)
def test_what_has_no_certified_side_is_not_ranked(mine: str, theirs: str) -> None:
    assert outcome(BETTER, a=score(1.0, kind=Kind(mine)), b=score(2.0, kind=Kind(theirs))) is Outcome.INCOMPLETE


def test_two_lower_bounds_are_compared_as_bounds_and_the_words_say_so() -> None:
    verdict = judged(BETTER, a=score(1.0, kind=Kind.LOWER), b=score(2.0, kind=Kind.LOWER))
    assert verdict.outcome is Outcome.HOLDS and "both are lower bounds" in verdict.words


def test_a_lower_bound_below_an_exact_number_refutes_nothing() -> None:
    verdict = judged(BETTER, a=score(3.0, kind=Kind.LOWER), b=score(2.0))
    assert verdict.outcome is Outcome.OPEN and "refutes nothing" in verdict.words


def test_rows_of_the_same_runs_are_paired() -> None:
    noisy, shifted = (1.0, 2.0, 3.0), (1.1, 2.1, 3.1)
    a, b = score(2.0, 0.58, each=noisy), score(2.1, 0.58, each=shifted)
    assert outcome(BETTER, runs={"a": ("r0", "r1", "r2"), "b": ("r0", "r1", "r2")}, a=a, b=b) is Outcome.HOLDS
    assert outcome(BETTER, runs={"a": ("r0", "r1", "r2"), "b": ("q0", "q1", "q2")}, a=a, b=b) is Outcome.OPEN


def test_a_missing_or_infinite_number_decides_nothing() -> None:
    assert outcome(BETTER, a=score(1.0)) is Outcome.INCOMPLETE
    assert outcome(BETTER, a=score(1.0), b=score(math.inf)) is Outcome.INCOMPLETE


def test_the_weakest_part_decides() -> None:
    parts = (BETTER, Between("a", "density", high=1.5))
    assert outcome(AllOf(parts), a=score(1.0), b=score(2.0)) is Outcome.HOLDS
    assert outcome(AllOf(parts), a=score(1.6), b=score(2.0)) is Outcome.FAILS
    assert outcome(AllOf(parts), a=score(1.5), b=score(2.0)) is Outcome.OPEN


# -- the declarations


def leaves(check: Check) -> Iterator[Better | Between]:
    if isinstance(check, AllOf):
        for part in check.parts:
            yield from leaves(part)
    else:
        yield check  # type: ignore[misc]


def claim(experiment: Experiment) -> Check:
    assert experiment.verdict is not None
    return experiment.verdict


SPACES = (Space((8,), "text", 17), Space((1, 8, 8), "image", 17))
SIGNS = {c.id: c.sign or 1.0 for space in SPACES for c in columns(space)}


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda e: e.name)
def test_a_declaration_can_be_built(experiment: Experiment) -> None:
    names = {contender.name for contender in experiment.contenders}
    alone = all(type(leaf) is Between for leaf in leaves(claim(experiment)))
    assert len(names) == len(experiment.contenders) >= (1 if alone else 2), "one row can only be held to a number"
    assert experiment.claim and {"quick", "full"} <= experiment.minutes.keys()
    for contender in experiment.contenders:
        assert set(contender.settings) <= set(find(contender.recipe).settings())
        assert {"quick", "full"} <= contender.steps.keys()
    known = names | {"independent entries", "Gaussian after a logit", "Gaussian", "mixture of 10 Gaussians", "5-gram"}
    for leaf in leaves(claim(experiment)):
        assert {leaf.a, getattr(leaf, "b", leaf.a)} <= known, leaf
        assert leaf.column in SIGNS, leaf


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda e: e.name)
def test_every_part_of_a_claim_can_refute_it(experiment: Experiment) -> None:
    """Each leaf alone, on numbers that go against it by far, turns the verdict."""
    parts = list(leaves(claim(experiment)))
    for leaf in parts:
        for sense, expected in ((1.0, Outcome.HOLDS), (-1.0, Outcome.FAILS)):
            assert leaf(numbers(leaf, sense)).outcome is expected, (leaf, sense)


def numbers(leaf: Better | Between, sense: float) -> Results:
    sign = SIGNS[leaf.column]
    kind = Kind.LOWER if leaf.column in ("density", "bound") else None
    if isinstance(leaf, Between):
        middle = leaf.high - 1.0 if math.isfinite(leaf.high) else leaf.low + 1.0
        outside = leaf.high + 1.0 if math.isfinite(leaf.high) else leaf.low - 1.0
        values = {leaf.a: middle if sense > 0 else outside}
    else:
        values = {leaf.a: sense * sign * 10.0, leaf.b: 0.0}
    rows = {name: {leaf.column: score(value, kind=kind)} for name, value in values.items()}
    return Results(rows, {leaf.column: sign}, dict.fromkeys(rows, ()))


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'theis'"):
        find_experiment("thies")
