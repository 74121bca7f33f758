"""Importance weighting: the bound at several k from one pass, and whether it has converged."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from linear_models import Case
from torch import Tensor

from genalloy.core.distribution import Distribution
from genalloy.core.evidence import Evidence, Kind, Unavailable
from genalloy.core.part import Conditional
from genalloy.core.traces import Term, Trace
from genalloy.estimators.importance_weighted import Convergence, ImportanceWeighted, importance_curve
from genalloy.heads.gaussian import Gaussian, StandardNormal
from genalloy.models.flow import Preprocessed
from genalloy.models.latent import LatentVariable
from genalloy.networks.mlp import MLP
from genalloy.transforms.observation import Dequantise


class Listed(Distribution):
    """A latent model whose k-th draw has the log-weights of row k of a table; counts what it is asked for."""

    def __init__(self, table: Tensor) -> None:
        super().__init__((), (3,), StandardNormal((3,))().measure)
        self.table, self.drawn, self.encoded, self.widest = table, 0, 0, 0

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return torch.zeros(*sample_shape, 3)

    def density(self, x: Tensor) -> Evidence:
        return Evidence(torch.zeros(x.shape[:-1]), Kind.LOWER, "", True, None, self.measure)

    def infer(self, x: Tensor) -> Any:
        self.encoded += len(x)
        self.drawn = 0
        return x[:, 0].long()

    def trace(self, x: Tensor, k: int = 1, posterior: Any = None) -> Any:
        rows = self.table[self.drawn : self.drawn + k, posterior]
        self.drawn, self.widest = self.drawn + k, max(self.widest, k * len(x))
        one = Evidence(rows, Kind.LOWER, "listed", True, None, self.measure)
        nothing = Evidence.exact(torch.zeros_like(rows))
        return Trace(one, (Term("z", rows, nothing, nothing),), StandardNormal((3,))())


@pytest.mark.parametrize("memory", [3e-5, 1e-3, 8.0])
def test_streamed_bounds_equal_those_of_the_whole_table(memory: float) -> None:
    torch.manual_seed(0)
    table = torch.randn(70, 6) * 3 - 100
    x = torch.arange(6.0).unsqueeze(-1).expand(6, 3)
    listed = Listed(table)
    bounds, convergence = importance_curve(listed, x, (1, 3, 20, 70), memory)
    for k in (1, 3, 20, 70):
        groups = table[: 70 // k * k].unflatten(0, (-1, k)).logsumexp(1) - math.log(k)
        torch.testing.assert_close(bounds[k].value, groups.mean(0))
        if len(groups) > 1:
            torch.testing.assert_close(bounds[k].stderr, groups.std(0) / len(groups) ** 0.5)
        assert bounds[k].proper == (k == 70)
    weights = table.softmax(0)
    torch.testing.assert_close(convergence.ess, 1 / weights.square().sum(0))
    tenth = table.unflatten(0, (10, 7)).logsumexp(1) - math.log(7)
    torch.testing.assert_close(convergence.slope, bounds[70].value - tenth.mean(0))
    assert listed.encoded == 6, "each row is encoded once"
    assert listed.widest <= max(int(memory * 2**20 / 12), 1)


def test_memory_does_not_grow_with_k() -> None:
    widths = []
    for k in (40, 400):
        listed = Listed(torch.zeros(k, 6))
        importance_curve(listed, torch.zeros(6, 3), (k,), 1e-3)
        widths.append(listed.widest)
    assert widths[0] == widths[1]


def test_bounds_rise_to_the_truth_of_a_linear_gaussian_model() -> None:
    torch.manual_seed(0)
    case = Case(4, 12)
    x = case.law.sample((200,))
    bounds, convergence = importance_curve(case.model(), x, (1, 10, 100, 1000))
    gaps = [float((bounds[k].value - case.law.log_prob(x)).mean()) for k in (1, 10, 100, 1000)]
    assert gaps[0] < gaps[1] < gaps[2] < gaps[3] < 0.02
    assert gaps[0] < -0.2 and abs(gaps[3]) < 0.03
    assert convergence.warning == "" and float(convergence.ess.mean()) > 50
    errors = (bounds[1000].value - case.law.log_prob(x)) / bounds[1000].stderr
    assert 0.6 < float(errors.square().mean().sqrt()) < 1.6
    single = ImportanceWeighted(1000)(case.model(), x)
    assert single.kind is Kind.LOWER and single.proper and single.how == "importance weighted, k=1000"
    assert abs(float((single.value - bounds[1000].value).mean())) < 0.03


def test_a_poor_posterior_is_reported_in_the_label() -> None:
    torch.manual_seed(0)
    case = Case(12, 30, 0.2, posterior_scale=0.6)
    found = ImportanceWeighted(100)(case.model(), case.law.sample((60,)))
    assert "not converged: the lowest 5 % of rows" in found.how and "still rising" in found.how
    good = Convergence(100, torch.full((50,), 40.0), torch.full((50,), 0.01))
    assert good.warning == "" and "effective samples 40 of 100" in str(good)
    one_bad = Convergence(100, torch.tensor([1.0] * 10 + [40.0] * 90), None)
    assert "lowest 5 % of rows have at most 1 effective" in one_bad.warning
    assert "still rising, +0.2 nats since k=10" in Convergence(100, torch.full((9,), 50.0), torch.full((9,), 0.2)).warning


def test_what_is_exact_stays_so_and_what_is_improper_is_refused() -> None:
    exact = importance_curve(StandardNormal((2,))(), torch.zeros(4, 2), (1, 5))
    assert {e.kind for e in exact.bounds.values()} == {Kind.EXACT} and exact.convergence.warning == ""

    class Improper(Listed):
        def density(self, x: Tensor) -> Evidence:
            return Evidence(torch.zeros(len(x)), Kind.LOWER, "analytic", False)

    with pytest.raises(Unavailable, match="needs a proper bound; found LOWER"):
        importance_curve(Improper(torch.zeros(5, 1)), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="expected positive numbers"):
        importance_curve(StandardNormal((2,))(), torch.zeros(4, 2), (0, 5))


def test_contexts_keep_their_rows_and_dequantisation_is_named() -> None:
    torch.manual_seed(0)
    decoder = Conditional(Gaussian(), MLP(((2,), (1,)), 4, (8,)), (2,), ((2,), (1,)))
    encoder = Conditional(Gaussian(), MLP(((2,), (1,)), 4, (8,)), (2,), ((2,), (1,)))
    model = LatentVariable(StandardNormal((2,)), decoder, encoder, context_shapes=((1,),))
    assert ImportanceWeighted(20, 1e-3)(model(torch.randn(7, 1)), torch.randn(7, 2)).value.shape == (7,)
    grid = Dequantise(torch.ones(12, dtype=torch.bool), torch.zeros(12), torch.full((12,), 9.0))
    found = ImportanceWeighted(20)(Preprocessed(Case(2, 12).model, [grid], (12,))(), torch.zeros(5, 12))
    assert found.kind is Kind.LOWER and found.measure.counting == 12
    assert "one draw of uniform dequantisation" in found.how
