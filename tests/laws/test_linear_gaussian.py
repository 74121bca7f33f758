"""A latent model as prior, likelihood and posterior of a latent model, against the closed form."""

from __future__ import annotations

import math

import pytest
import torch

from genalloy.core.distribution import density
from genalloy.core.evidence import Kind
from genalloy.laws.linear_gaussian import bounds_hold, every_case, own_samples_bounded, with_density_instead_of_draw

CASES = every_case()
X = torch.tensor([[-1.5], [0.0], [1.2]])


@pytest.mark.parametrize("name", CASES)
def test_bounds_hold_within_two_hundredths_of_a_nat(name: str) -> None:
    torch.manual_seed(0)
    mean, averaged = bounds_hold(CASES[name], X)
    assert float(mean.max()) < -0.01, "the case has no slack, so it tests nothing"
    assert float(averaged.abs().max()) < 0.02
    assert density(CASES[name].model(), X).kind is Kind.LOWER


@pytest.mark.parametrize("name", CASES)
def test_own_samples_are_bounded_from_above(name: str) -> None:
    torch.manual_seed(1)
    own_samples_bounded(CASES[name])


def test_density_in_place_of_draw_breaks_the_bound() -> None:
    """The posterior's own sample needs draw(): density() of it is a lower bound, which under the minus sign rises above.

    With a poor inner inference network the "bound" exceeds log p(x), and its exponential average is far off.
    """
    torch.manual_seed(2)
    case = CASES["posterior"]
    value = with_density_instead_of_draw(case, X).double()
    right = (value.logsumexp(0) - math.log(len(value)) - case.truth(X)).abs()
    assert float(right.max()) > 0.1
    inner = case.model.posterior.posterior.network.net[-1]
    with torch.no_grad():
        kept = inner.bias.clone()
        inner.bias[0] += 2.0
    value = with_density_instead_of_draw(case, X).double()
    with torch.no_grad():
        inner.bias.copy_(kept)
    assert bool((value.mean(0) > case.truth(X) + 0.5).all()), "a mistaken use of density() must be seen to exceed log p(x)"
