"""A flow's base is any distribution that a pass makes: given features, given a context, latent, or of plain torch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

import genalloy as ga
from genalloy.core.evidence import Kind
from genalloy.core.part import Conditional, Part
from genalloy.core.spec import from_spec, to_spec
from genalloy.estimators.importance_weighted import ImportanceWeighted
from genalloy.heads.gaussian import Gaussian, StandardNormal
from genalloy.laws.linear_gaussian import plain
from genalloy.models.flow import Flow
from genalloy.models.latent import LatentVariable
from genalloy.networks.mlp import MLP
from genalloy.objectives.bounds import ELBO
from genalloy.transforms.linear import ActNorm


class FromFeatures(Part):
    """A plain torch distribution made anew from features in every pass."""

    event_shape = (2,)

    def __init__(self) -> None:
        super().__init__()
        self.network, self.context_shapes = MLP(((3,),), 4, (8,)), ((3,),)

    def forward(self, context: Any = None) -> Independent:
        mean, raw = self.network(context).chunk(2, -1)
        return Independent(Normal(mean, raw.exp()), 1)


def moved() -> ActNorm:
    layer = ActNorm((2,))
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.tensor([0.3, -0.4]))
    return layer


def test_a_base_made_of_features_has_the_density_of_the_change_of_variables() -> None:
    torch.manual_seed(0)
    flow, c, x = Flow(FromFeatures(), [moved()], (2,), ((3,),)), torch.randn(5, 3), torch.randn(4, 5, 2)
    evidence = ga.density(flow(c), x)
    z, ladj = moved().encode(x)
    torch.testing.assert_close(evidence.value, flow.base(c).log_prob(z) + ladj)
    assert evidence.kind is Kind.EXACT and flow(c).sample((4,)).shape == (4, 5, 2)
    evidence.value.mean().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in flow.parameters())
    again = from_spec(*to_spec(flow), trust=[f"{__name__}:FromFeatures"])
    torch.testing.assert_close(ga.density(again(c), x).value, evidence.value)


def test_as_a_posterior_it_is_encoded_once() -> None:
    posterior = Flow(FromFeatures(), [moved()], (2,), ((3,),))
    calls: list[int] = []
    posterior.base.register_forward_hook(lambda *_: calls.append(1))
    likelihood = Conditional(Gaussian(), MLP(((2,),), 6, (8,)), (3,), ((2,),))
    model = LatentVariable(StandardNormal((2,)), likelihood, posterior)
    batches: list[Tensor] = [torch.randn(8, 3)]
    list(ga.fit(model, ELBO(samples=3), batches))
    calls.clear()
    model().trace(batches[0], 5)
    assert len(calls) == 1


def test_a_latent_model_as_base_stays_a_bound_that_tightens() -> None:
    case: Any = plain()
    layer: nn.Module = ActNorm((1,))
    flow, x = Flow(case.model, [layer], (1,)), torch.tensor([[0.5], [-1.0]])
    z, ladj = layer.encode(x)  # type: ignore[operator]
    torch.manual_seed(0)
    bound = ImportanceWeighted(20_000)(flow(), x)
    assert bound.kind is Kind.LOWER
    torch.testing.assert_close(bound.value, case.truth(z) + ladj, atol=0.02, rtol=0)
