"""n-grams: the smoothing against a direct count, mass one, beginnings, samples, and prompts."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
import torch

from genalloy.core.evidence import Kind, Unavailable
from genalloy.core.observations import Masked
from genalloy.core.spec import from_spec, to_spec
from genalloy.models.ngram import NGram

ROWS = torch.randint(0, 3, (12, 5), generator=torch.Generator().manual_seed(0)).float()
EVERY = torch.tensor(list(itertools.product(range(3), repeat=4))).float()


def witten_bell(history: tuple[int, ...], word: int) -> float:
    """p(word | history) by the formula, counting afresh."""
    after = Counter()
    for row in ROWS.int().tolist():
        for i in range(len(history), len(row)):
            if tuple(row[i - len(history) : i]) == history:
                after[row[i]] += 1
    below = witten_bell(history[1:], word) if history else 1 / 3
    total, types = sum(after.values()), len(after)
    return below if total == 0 else (after[word] + types * below) / (total + types)


def test_every_row_has_the_smoothed_probability() -> None:
    part = NGram.of(ROWS, 3, 3, window=4)
    for row, value in zip(EVERY.int().tolist(), part().density(EVERY).value.tolist(), strict=True):
        expected = sum(math.log(witten_bell(tuple(row[max(0, i - 2) : i]), row[i])) for i in range(4))
        assert value == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_masses_add_up(order: int) -> None:
    evidence = NGram.of(ROWS, 3, order, window=4)().density(EVERY)
    assert evidence.kind is Kind.EXACT and evidence.measure == (0, 4)
    assert evidence.value.exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_a_beginning_is_a_marginal() -> None:
    distribution = NGram.of(ROWS, 3, 3, window=4)()
    whole = distribution.density(EVERY).value.exp().reshape(9, 9)
    begin = distribution.density(Masked.first(EVERY[::9], torch.full((9,), 2))).value.exp()
    torch.testing.assert_close(begin, whole.sum(1))
    with pytest.raises(Unavailable, match="before an observed one"):
        distribution.density(Masked(EVERY, torch.tensor([True, False, True, True]).expand(81, 4)))


def test_samples_and_completions_follow_the_mass() -> None:
    torch.manual_seed(0)
    distribution = NGram.of(ROWS, 3, 3, window=4)()
    drawn = distribution.sample((20_000,)) @ torch.tensor([27.0, 9, 3, 1])
    found = torch.bincount(drawn.long(), minlength=81) / 20_000
    assert (found - distribution.density(EVERY).value.exp()).abs().max() < 0.012
    known = torch.tensor([True, True, False, False])
    made = distribution.complete(torch.tensor([2.0, 1, 0, 0]), known, (5000,))
    assert (made[:, :2] == torch.tensor([2.0, 1])).all() and distribution.completes_exactly(known)
    assert not distribution.completes_exactly(~known)
    after = torch.bincount((made[:, 2] * 3 + made[:, 3]).long(), minlength=9) / 5000
    joint = distribution.density(EVERY[(EVERY[:, 0] == 2) & (EVERY[:, 1] == 1)]).value.exp()
    assert (after - joint / joint.sum()).abs().max() < 0.03


def test_what_is_no_symbol_has_no_mass() -> None:
    bad = torch.tensor([[0.0, 3, 0, 0], [0, 0.5, 0, 0], [-1, 0, 0, 0]])
    assert (NGram.of(ROWS, 3, 2, window=4)().density(bad).value == -math.inf).all()
    with pytest.raises(ValueError, match=r"levels\^order"):
        NGram.of(ROWS, 70_000, 4)


def test_it_is_stored() -> None:
    part = NGram.of(ROWS, 3, 3, window=4)
    back = from_spec(*to_spec(part))
    assert torch.equal(back().density(EVERY).value, part().density(EVERY).value)
