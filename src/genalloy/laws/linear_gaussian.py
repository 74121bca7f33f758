r"""Law: bounds of nested latent models hold against the one case with a closed form.

With z ~ N(0, 1) and x | z ~ N(a z + b, s^2), log p(x) = log N(x; b, a^2 + s^2). Any of prior, likelihood and posterior may
itself be such a model with the same or another marginal, and every bound is then compared with the truth: E v <= log p
and, since the nested bounds are proper, log E exp(v) = log p.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, Normal

from genalloy.core.contexts import both
from genalloy.core.distribution import density, draw
from genalloy.core.part import Conditional
from genalloy.heads.gaussian import Gaussian, StandardNormal
from genalloy.laws.subject import check
from genalloy.models.chain import Chain, ChainNetwork
from genalloy.models.latent import LatentVariable
from genalloy.models.mixture import Mixture
from genalloy.networks.mlp import MLP

FLOOR = 1e-4


@dataclass(frozen=True)
class Line:
    """N(mean, scale^2) of one real, mean = slopes . inputs + offset."""

    slopes: tuple[float, ...]
    scale: float
    offset: float = 0.0

    def part(self) -> nn.Module:
        """As a Part over events of shape (1,), each input a context of shape (1,)."""
        network = MLP(((1,),) * len(self.slopes), 2, hidden=())
        last: Any = network.net[-1]
        raw = math.log(math.expm1(self.scale - FLOOR)) - 0.5413248546
        with torch.no_grad():
            last.weight.copy_(torch.tensor([self.slopes, (0.0,) * len(self.slopes)]))
            last.bias.copy_(torch.tensor([self.offset, raw]))
        return Conditional(Gaussian(FLOOR), network, (1,), ((1,),) * len(self.slopes))


@dataclass(frozen=True)
class Case:
    """A model of latent models, and the law of its one real in closed form."""

    model: Any
    law: torch.distributions.Distribution

    def truth(self, x: Tensor) -> Tensor:
        """log p(x), (N, 1) -> (N,)."""
        return self.law.log_prob(x.squeeze(-1))


def plain() -> Case:
    """p: z ~ N(0, 1), x | z ~ N(0.8 z + 0.3, 0.6^2); the posterior is off on purpose."""
    model = LatentVariable(StandardNormal((1,)), Line((0.8,), 0.6, 0.3).part(), Line((0.7,), 0.7, -0.1).part())
    return Case(model, Normal(0.3, math.hypot(0.8, 0.6)))


def latent_prior() -> Case:
    """The prior is a latent model: u ~ N(0, 1), z | u ~ N(0.6 u, 0.8^2)."""
    prior = LatentVariable(StandardNormal((1,)), Line((0.6,), 0.8).part(), Line((0.5,), 0.9).part())
    model = LatentVariable(prior, Line((0.8,), 0.6, 0.3).part(), Line((0.7,), 0.7, -0.1).part())
    return Case(model, Normal(0.3, math.hypot(0.8, 0.6)))


def latent_likelihood() -> Case:
    """The likelihood is a latent model given z: u ~ N(0, 1), x | u, z ~ N(0.4 u + 0.8 z + 0.3, 0.5^2)."""
    inference = Line((0.5, -0.3), 0.95, 0.0)
    likelihood = LatentVariable(StandardNormal((1,)), Line((0.4, 0.8), 0.5, 0.3).part(), inference.part(), (1,), ((1,),))
    model = LatentVariable(StandardNormal((1,)), likelihood, Line((0.7,), 0.7, -0.1).part())
    return Case(model, Normal(0.3, math.sqrt(0.4**2 + 0.8**2 + 0.5**2)))


def latent_posterior() -> Case:
    """The posterior is a latent model given x: u ~ N(0, 1), z | u, x ~ N(0.4 u + 0.7 x - 0.1, 0.6^2)."""
    inference = Line((0.3, -0.2), 1.1, 0.5)
    posterior = LatentVariable(StandardNormal((1,)), Line((0.4, 0.7), 0.6, -0.1).part(), inference.part(), (1,), ((1,),))
    model = LatentVariable(StandardNormal((1,)), Line((0.8,), 0.6, 0.3).part(), posterior)
    return Case(model, Normal(0.3, math.hypot(0.8, 0.6)))


def latent_components() -> Case:
    """A mixture of two latent models, x ~ N(0.3, 1) and x ~ N(-0.8, 0.9^2 + 0.4^2), with poor inference networks."""
    other = LatentVariable(StandardNormal((1,)), Line((0.9,), 0.4, -0.8).part(), Line((0.4,), 0.8, 0.2).part())
    normals = Normal(torch.tensor([0.3, -0.8]), torch.tensor([1.0, math.hypot(0.9, 0.4)]))
    law = MixtureSameFamily(Categorical(torch.ones(2)), normals)
    return Case(Mixture([plain().model, other]), law)


class _Lines(ChainNetwork):
    """A chain of reals, each given the one before: lines p(z_0), p(z_1 | z_0), p(x | z_1), and posteriors that also see x."""

    def __init__(self, priors: nn.ModuleList, likelihood: nn.Module, posteriors: nn.ModuleList) -> None:
        super().__init__()
        self.priors, self.likelihood, self.posteriors, self.steps = priors, likelihood, posteriors, len(priors)

    def begin(self, lead: tuple[int, ...], context: Any = None) -> Tensor:
        return torch.zeros(*lead, 1)

    def prior(self, t: int, state: Tensor) -> Any:
        return self.priors[t](state)

    def posterior(self, t: int, state: Tensor, encoding: Tensor) -> Any:
        return self.posteriors[t](both(state, encoding))

    def advance(self, t: int, state: Tensor, z: Tensor) -> Tensor:
        return z

    def emit(self, t: int, state: Tensor) -> Any:
        return self.likelihood(state)


def lines(priors: Sequence[Line], likelihood: Line, posteriors: Sequence[Line]) -> Chain:
    """A chain over one real, of as many latents as there are priors; a posterior sees the latent before it and x."""
    lower, upper = (nn.ModuleList(line.part() for line in each) for each in (priors, posteriors))
    return Chain(_Lines(lower, likelihood.part(), upper), (1,))


def chain() -> Case:
    """A chain of two: u ~ N(0, 1), z | u ~ N(0.6 u, 0.8^2), x | z ~ N(0.8 z + 0.3, 0.6^2); posteriors off on purpose."""
    priors, posteriors = [Line((0.0,), 1.0), Line((0.6,), 0.8)], [Line((0.0, 0.5), 0.9, -0.1), Line((0.3, 0.5), 0.7, -0.1)]
    model = lines(priors, Line((0.8,), 0.6, 0.3), posteriors)
    return Case(model, Normal(0.3, math.hypot(0.8, 0.6)))


def every_case() -> dict[str, Case]:
    """The plain model, a latent model in each of its three slots, a mixture of latent models, and a chain of latents."""
    makers = (plain, latent_prior, latent_likelihood, latent_posterior, latent_components, chain)
    names = ("plain", "prior", "likelihood", "posterior", "components", "chain")
    return {name: make() for name, make in zip(names, makers, strict=True)}


@torch.no_grad()
def bounds_hold(case: Case, x: Tensor, samples: int = 200_000, tolerance: float = 0.02) -> tuple[Tensor, Tensor]:
    """E v <= log p(x) and |log E exp(v) - log p(x)| <= tolerance; returns both gaps below the truth, (N,)."""
    evidence = density(case.model(), x.expand(samples, *x.shape))
    check(evidence.proper, f"a nested latent model should be proper; found {evidence.kind.value} ({evidence.how})")
    return _judge(evidence.value, case.truth(x), samples, tolerance)


def _judge(value: Tensor, truth: Tensor, samples: int, tolerance: float) -> tuple[Tensor, Tensor]:
    value = value.double()
    mean = value.mean(0) - truth
    averaged = value.logsumexp(0) - math.log(samples) - truth
    slack = 5 * value.std(0) / samples**0.5
    check(bool((mean <= slack).all()), f"E[value] exceeds log p(x) by {float(mean.max()):.3f} nats")
    gap = float(averaged.abs().max())
    check(gap <= tolerance, f"log E exp(value) is {gap:.4f} nats away from log p(x)")
    return mean, averaged


@torch.no_grad()
def own_samples_bounded(case: Case, samples: int = 200_000, tolerance: float = 0.02) -> None:
    """draw(): E[v - log p(x)] >= 0, and E[g(x) exp(-v)] = 1 for a normal g narrower than the model."""
    x, own = draw(case.model(), (samples,))
    gap = own.value - case.truth(x)
    check(float(gap.mean()) >= -5 * float(gap.std()) / samples**0.5, f"draw() lies {-float(gap.mean()):.3f} nats below log p(x)")
    narrow = Normal(case.law.mean, 0.5 * case.law.stddev)
    mass = float((narrow.log_prob(x.squeeze(-1)) - own.value).double().exp().mean().log())
    check(abs(mass) <= tolerance, f"draw(): log E[g(x) exp(-v)] is {mass:.4f}, expected 0")


@torch.no_grad()
def with_density_instead_of_draw(case: Case, x: Tensor, samples: int = 200_000) -> Tensor:
    """What the bound would be if the posterior judged its own sample by density(): (samples, N), not a bound."""
    model = case.model()
    many = x.expand(samples, *x.shape)
    posterior: Any = model.infer(many)
    z = posterior.sample()
    return (density(model.decode(z), many) + density(model.prior, z) - density(posterior, z)).value
