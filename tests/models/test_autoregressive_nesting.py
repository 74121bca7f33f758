"""Every autoregressive model of integers inside others: likelihood of a VAE, prior over discrete codes, given a context image."""

from __future__ import annotations

import math

import pytest
import torch

from genalloy.core.batch import Batch
from genalloy.core.evidence import Kind
from genalloy.core.part import Conditional
from genalloy.heads.discrete import Bernoulli, Categorical
from genalloy.heads.gaussian import Gaussian, StandardNormal
from genalloy.laws.every import every_part
from genalloy.laws.listed import LEVELS, Listed
from genalloy.laws.subject import perturb_parameters
from genalloy.models.latent import LatentVariable
from genalloy.networks.mlp import MLP
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.training.fit import fit


def stepwise() -> list[Listed]:
    """Parts of integers that are generated element by element."""
    found = [p for p in every_part() if p.discrete and p.conditional and not p.levels]
    return [p for p in found if hasattr(p.build()(p.subject().context((2,))), "init_state")]


PARTS = stepwise()


@pytest.fixture(params=PARTS, ids=lambda p: p.name)
def part(request) -> Listed:
    torch.manual_seed(0)
    return request.param


def integers(part: Listed, rows: int) -> torch.Tensor:
    levels = 2 if not part.levels else part.levels
    return torch.randint(0, levels, (rows, *part.shape(4))).float()


def steps(model, objective, batch) -> list[float]:
    return [step.losses["model"] for step in fit(model, objective, [batch] * 3)]


def gaussian(e, c):
    return Conditional(Gaussian(), MLP(c, math.prod(e) * 2, (8,)), e, c)


def test_the_list_holds_every_family() -> None:
    assert {"made, categorical", "gated pixelcnn", "pixelcnn++", "wavenet", "transformer", "row lstm"} <= {p.name for p in PARTS}


def test_as_likelihood_of_a_vae(part: Listed) -> None:
    x = integers(part, 8)
    e = x.shape[1:]
    model = LatentVariable(StandardNormal((2,)), part.make(e, ((2,),)), gaussian((2,), (e,)), e)
    taken = steps(model, MaximumLikelihood(), Batch(x))
    assert len(taken) == 3 and all(map(math.isfinite, taken))
    evidence = model().density(x)
    assert evidence.kind is Kind.LOWER and evidence.proper
    assert model().sample((5,)).shape == (5, *e)


def test_as_prior_over_discrete_codes(part: Listed) -> None:
    """Fitted to codes after the rest; the whole is a proper lower bound, right by enumeration of the codes."""
    codes = integers(part, 8)
    z, x = codes.shape[1:], torch.randint(0, 2, (4, 3)).float()
    prior = perturb_parameters(part.make(z, ()), 0.1)
    taken = steps(prior, MaximumLikelihood(), Batch(codes))
    assert len(taken) == 3 and all(map(math.isfinite, taken))
    posterior = Conditional(Categorical(LEVELS), MLP(((3,),), math.prod(z) * LEVELS, (8,)), z, ((3,),))
    likelihood = Conditional(Bernoulli(), MLP((z,), 3, (8,)), (3,), (z,))
    model = LatentVariable(prior, likelihood, posterior, (3,)).eval()
    with torch.no_grad():
        evidence = model().density(x)
        assert evidence.kind is Kind.LOWER and evidence.proper
        drawn = model.posterior(x).sample((4000,))
        values = model().prior.density(drawn).value + model.likelihood(drawn).density(x).value
        weights = values - model.posterior(x).density(drawn).value
        estimate = weights.logsumexp(0) - math.log(len(drawn))
        if math.prod(z) <= 4:
            grid = torch.cartesian_prod(*[torch.arange(float(LEVELS))] * math.prod(z)).reshape(-1, 1, *z)
            truth = (model().prior.density(grid).value + model.likelihood(grid).density(x).value).logsumexp(0)
            torch.testing.assert_close(estimate, truth, atol=0.1, rtol=0)


def test_given_a_context_image(part: Listed) -> None:
    x = integers(part, 8)
    c = torch.randn(8, 1, 2, 2)
    model = part.make(x.shape[1:], ((1, 2, 2),))
    taken = steps(model, MaximumLikelihood(), Batch(x, c))
    assert len(taken) == 3 and all(map(math.isfinite, taken))
    evidence = model(c).density(x)
    assert evidence.kind is Kind.EXACT and evidence.value.shape == (8,)
    assert model(c).sample((2,)).shape == (2, *x.shape)
    with torch.no_grad():
        moved = model(c + 1).density(x).value
    assert (moved - evidence.value).abs().max() > 0
