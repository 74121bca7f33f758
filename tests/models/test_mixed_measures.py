"""Law: where base measures or shapes do not meet, density() and draw() refuse alike, however deep it lies."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import Distribution, Independent, Normal, Poisson

from genalloy.core.distribution import density, draw
from genalloy.core.evidence import Evidence, Kind, counting, lebesgue, same_unit
from genalloy.core.part import Conditional, Estimated, Part
from genalloy.heads.discrete import Bernoulli, Categorical
from genalloy.heads.gaussian import Gaussian, StandardNormal
from genalloy.models.flow import Flow
from genalloy.models.implicit import Implicit
from genalloy.models.latent import LatentVariable
from genalloy.models.mixture import Mixture
from genalloy.networks.mlp import MLP
from genalloy.transforms.observation import Dequantise, Standardise


class Fixed(Part):
    """A torch distribution as a part over (2,)."""

    def __init__(self, distribution: Distribution) -> None:
        super().__init__()
        self.distribution, self.event_shape = Independent(distribution, 1), (2,)

    def forward(self, context: object = None) -> Distribution:
        return self.distribution


def masses() -> list[nn.Module]:
    rate = torch.full((2,), 0.5)
    head = Flow(StandardNormal((2,)), [Dequantise(torch.ones(2, dtype=torch.bool), torch.zeros(2), torch.ones(2))], (2,))
    return [Fixed(TorchBernoulli(rate)), Fixed(Poisson(rate)), head, latent(Bernoulli(), 2), latent(Categorical(3), 6)]


def reals() -> list[nn.Module]:
    flow = Flow(StandardNormal((2,)), [Standardise(torch.zeros(2), torch.ones(2))], (2,))
    return [Fixed(Normal(torch.zeros(2), torch.ones(2))), StandardNormal((2,)), flow, latent(Gaussian(), 4)]


def latent(head: nn.Module, outputs: int) -> LatentVariable:
    likelihood = Conditional(head, MLP(((1,),), outputs, (4,)), (2,), ((1,),))
    return LatentVariable(StandardNormal((1,)), likelihood, Conditional(Gaussian(), MLP(((2,),), 2, (4,)), (1,), ((2,),)))


def prior(part: nn.Module) -> LatentVariable:
    likelihood = Conditional(Gaussian(), MLP(((2,),), 4, (4,)), (2,), ((2,),))
    return LatentVariable(part, likelihood, Conditional(Gaussian(), MLP(((2,),), 4, (4,)), (2,), ((2,),)))


WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "itself": lambda part: part,
    "in a mixture": lambda part: Mixture([part, StandardNormal((2,))]),
    "as a prior": prior,
    "under an estimator": lambda part: Estimated(part, density),
    "twice": lambda part: Mixture([Mixture([part])]),
}


NEEDS_REALS = ("in a mixture", "as a prior")


def outcome(make: Callable[[], object]) -> str:
    try:
        make()
    except ValueError as error:
        return "measure" if "measure" in str(error) else str(error)
    return "given"


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_density_and_draw_agree(wrapper: str) -> None:
    torch.manual_seed(0)
    x, found = torch.ones(3, 2), []
    parts = [*masses(), *reals()]
    for i, a in enumerate(parts):
        for j, b in enumerate(parts):
            whole = WRAPPERS[wrapper](Mixture([a, b]))()
            outcomes = {outcome(lambda: density(whole, x)), outcome(lambda: draw(whole, (3,)))}  # noqa: B023
            # beside a real component, or under a real posterior, a mass does not fit either
            mixed = (i < len(masses())) != (j < len(masses())) or (wrapper in NEEDS_REALS and i < len(masses()))
            assert outcomes == ({"measure"} if mixed else {"given"}), (wrapper, i, j, outcomes)
            found.append(mixed)
    assert any(found) and not all(found)


def test_components_of_other_shapes_are_refused_before_they_broadcast() -> None:
    with pytest.raises(ValueError, match=r"share their event shape; found \(1,\) and \(2,\)"):
        Mixture([StandardNormal((2,)), StandardNormal((1,))])()


def test_what_has_no_density_has_none_in_both() -> None:
    silent = Implicit(StandardNormal((1,)), MLP(((1,),), 2, (4,)), (2,))
    whole = Mixture([silent, masses()[0]])()
    assert density(whole, torch.ones(3, 2)).kind is Kind.NONE and draw(whole, (3,))[1].kind is Kind.NONE


def test_same_unit() -> None:
    mass, real = (Evidence.exact(torch.zeros(2), "", m) for m in (counting(2), lebesgue(2)))
    same_unit([mass, mass, Evidence.none("nothing")])
    with pytest.raises(ValueError, match="base measure"):
        same_unit([Evidence.none("nothing"), mass, real])
