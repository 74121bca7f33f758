"""Filtered heads: their laws enumerated, ties, and what the evidence says."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from genalloy.core.evidence import Unavailable
from genalloy.core.spec import from_spec, to_spec
from genalloy.heads.audio import MuLaw
from genalloy.heads.discrete import Bernoulli, Categorical, LogisticMixture
from genalloy.heads.filtered import Filter, Filtered, Temperature, TopK, TopP
from genalloy.heads.gaussian import Gaussian
from genalloy.heads.head import Head
from genalloy.heads.logistic import ContinuousLogisticMixture
from genalloy.heads.mixture import GaussianMixture
from genalloy.models.autoregressive import Autoregressive
from genalloy.networks.causal.made import MADE
from genalloy.networks.input_embedding import OneHot
from genalloy.networks.mlp import Hidden

HEADS: dict[str, tuple[Head, int]] = {
    "bernoulli": (Bernoulli(), 2), "categorical": (Categorical(5), 5),
    "logistics": (LogisticMixture(6, 3), 6), "mu-law": (MuLaw(8), 8),
}  # fmt: skip
FILTERS: tuple[tuple[Filter, ...], ...] = (
    (Temperature(0.5),), (Temperature(3.0),), (TopK(2),), (TopP(0.7),), (Temperature(0.8), TopK(3), TopP(0.9)), ()
)  # fmt: skip


def masses(head: Head, raw: Tensor, levels: int) -> Tensor:
    """(rows, levels)."""
    return head(raw, 0).element_log_prob(torch.arange(levels, dtype=raw.dtype).unsqueeze(-1)).exp().T


def smallest(p: Tensor, mass: float) -> set[int]:
    """The smallest set that holds the mass, by trying all sets; of equal sizes, the most probable."""
    for size in range(1, len(p) + 1):
        best = max(itertools.combinations(range(len(p)), size), key=lambda s: float(p[list(s)].sum()))
        if float(p[list(best)].sum()) >= mass:
            return set(best)
    raise AssertionError


@pytest.mark.parametrize("filters", FILTERS, ids=str)
@pytest.mark.parametrize("name", HEADS)
def test_filtered_laws_sum_to_one_and_samples_follow(name: str, filters: tuple[Filter, ...]) -> None:
    head, levels = HEADS[name]
    torch.manual_seed(0)
    raw = torch.randn(4, head.width, dtype=torch.float64)
    changed = Filtered(head, filters)
    p = masses(changed, raw, levels)
    torch.testing.assert_close(p.sum(-1), torch.ones(4, dtype=torch.float64))
    drawn = changed(raw, 0).sample((20000,))
    counts = torch.stack([(drawn == v).double().mean(0) for v in range(levels)], -1)
    assert ((counts - p).abs() < 5 * (p / 20000).sqrt() + 1e-9).all()


@pytest.mark.parametrize("name", HEADS)
def test_the_laws_are_those_of_the_definitions(name: str) -> None:
    head, levels = HEADS[name]
    torch.manual_seed(0)
    raw = torch.randn(6, head.width, dtype=torch.float64)
    p = masses(head, raw, levels)
    power = p ** (1 / 0.4)
    torch.testing.assert_close(masses(Filtered(head, (Temperature(0.4),)), raw, levels), power / power.sum(-1, keepdim=True))
    for mass in (0.2, 0.6, 0.95):
        found = masses(Filtered(head, (TopP(mass),)), raw, levels)
        for row, kept in zip(p, found, strict=True):
            expected = smallest(row, mass)
            assert set(kept.nonzero().flatten().tolist()) == expected
            torch.testing.assert_close(kept[list(expected)], row[list(expected)] / row[list(expected)].sum())
    for k in (1, 2, levels, levels + 3):
        found = masses(Filtered(head, (TopK(k),)), raw, levels)
        assert ((found > 0).sum(-1) == min(k, levels)).all()
        assert (p.where(found > 0, 2.0).amin(-1) >= p.where(found == 0, -1.0).amax(-1)).all()


def test_greedy_and_ties() -> None:
    logits = torch.tensor([[0.0, 1.0, 1.0, -1.0], [2.0, 2.0, 2.0, 2.0]])
    greedy = Filtered(Categorical(4), (TopK(1),))(logits, 0)
    assert (greedy.sample((50,)) == torch.tensor([1.0, 0.0])).all() and (greedy.density(greedy.sample()).value == 0).all()
    two = masses(Filtered(Categorical(4), (TopK(2),)), logits, 4)
    torch.testing.assert_close(two, torch.tensor([[0, 0.5, 0.5, 0], [0.5, 0.5, 0, 0]]))
    # exactly half of the mass in two of four equals: two stay, in spite of rounding
    half = masses(Filtered(Categorical(4), (TopP(0.5),)), logits[1:], 4)
    torch.testing.assert_close(half, torch.tensor([[0.5, 0.5, 0, 0]]))
    rounded = torch.tensor([[0.7, 0.2, 0.1]]).log()
    torch.testing.assert_close(masses(Filtered(Categorical(3), (TopP(0.9),)), rounded, 3), torch.tensor([[7 / 9, 2 / 9, 0]]))
    every = masses(Filtered(Categorical(4), (TopP(1.0),)), logits, 4)
    torch.testing.assert_close(every, logits.softmax(-1))


def test_gaussians_are_tempered() -> None:
    raw = torch.randn(3, 2, dtype=torch.float64)
    x = torch.linspace(-30, 30, 20001, dtype=torch.float64).unsqueeze(-1)
    p = Gaussian()(raw, 0).element_log_prob(x).exp() ** (1 / 0.6)
    cell = x[1] - x[0]
    found = Filtered(Gaussian(), (Temperature(0.6),))(raw, 0)
    torch.testing.assert_close(found.element_log_prob(x).exp(), p / (p.sum(0) * cell))
    assert found.has_rsample


def test_what_has_no_filtered_law_says_so() -> None:
    for head in (GaussianMixture(2), ContinuousLogisticMixture(2)):
        with pytest.raises(Unavailable, match=r"temperature is for Bernoulli, Categorical"):
            Filtered(head, (Temperature(0.7),))(torch.zeros(head.width), 0)
        with pytest.raises(Unavailable, match="top-k and top-p need integers"):
            Filtered(head, (TopK(3),))(torch.zeros(head.width), 0)
    with pytest.raises(Unavailable, match="Gaussian has no finite list"):
        Filtered(Gaussian(), (TopP(0.9),))(torch.zeros(2), 0)
    for bad in (lambda: Temperature(0.0), lambda: TopK(0), lambda: TopP(0.0), lambda: TopP(1.1)):
        with pytest.raises(ValueError, match="found"):
            bad()


def test_the_evidence_says_that_the_law_was_changed() -> None:
    words = "filtered by temperature 0.8, top-p 0.9: not the trained law"
    filters = (Temperature(0.8), TopP(0.9))
    for head in (Categorical(3), Bernoulli(), Gaussian()):
        kind = filters if head.discrete else filters[:1]
        distribution = Filtered(head, kind)(torch.randn(2, 4, head.width), 1)
        expected = words if head.discrete else "filtered by temperature 0.8: not the trained law"
        for evidence in (distribution.density(distribution.sample()), distribution.draw()[1]):
            assert (evidence.kind.value, evidence.how) == ("EXACT", f"closed form, {expected}")
    assert Filtered(Categorical(3), ()).law == ""
    assert Bernoulli()(torch.zeros(3, 1), 1).density(torch.zeros(3)).how == "closed form"


def test_a_filtered_autoregressive_model_sums_to_one_and_says_so() -> None:
    torch.manual_seed(0)
    head = Filtered(Categorical(3), (Temperature(0.7), TopK(2)))
    model = Autoregressive(MADE((3,), 3, Hidden((16,)), entry=OneHot(3)), head, (3,)).double()
    x = torch.cartesian_prod(*[torch.arange(3.0, dtype=torch.float64)] * 3)
    evidence = model().density(x)
    assert evidence.how == "product of conditionals, filtered by temperature 0.7, top-k 2: not the trained law"
    torch.testing.assert_close(evidence.value.exp().sum(), torch.ones((), dtype=torch.float64))
    assert int((evidence.value > -torch.inf).sum()) == 8
    again = from_spec(*to_spec(model))
    torch.testing.assert_close(again().density(x).value, evidence.value)
