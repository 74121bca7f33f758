"""Every part of the library, small, with what it should claim: one line each. A new part adds its line here."""

from __future__ import annotations

import math

import torch
from torch import nn

from genalloy.core.distribution import Shape
from genalloy.core.part import Conditional, Embedded, Estimated, Tempered
from genalloy.estimators.importance_weighted import ImportanceWeighted
from genalloy.estimators.probability_flow import ProbabilityFlowLikelihood
from genalloy.estimators.variational_bound import VariationalBound
from genalloy.heads.discrete import Bernoulli, Categorical, LogisticMixture
from genalloy.heads.gaussian import Gaussian, StandardNormal
from genalloy.heads.logistic import ContinuousLogisticMixture, Logistic
from genalloy.heads.mixture import GaussianMixture
from genalloy.heads.student import StudentT
from genalloy.heads.unit import Beta, Kumaraswamy, LogitNormal
from genalloy.laws.every_autoregressive import autoregressive_parts
from genalloy.laws.every_transform import SMALL, Shapes, halves_coupled
from genalloy.laws.listed import (
    BOUND,
    DIFFUSION,
    ESTIMATE,
    LEVELS,
    LIKELIHOOD,
    NOTHING,
    UNBIASED,
    UNCONDITIONAL,
    Listed,
    gaussian,
    headed,
)
from genalloy.mcmc.buffer import ReplayBuffer
from genalloy.mcmc.langevin import Langevin
from genalloy.models.diffusion import ContinuousData, Diffusion, DiscretisedData
from genalloy.models.energy import EnergyModel
from genalloy.models.fitted import FittedGaussian, KernelSmoothed, UniformLevels
from genalloy.models.flow import Flow, Preprocessed
from genalloy.models.hybrid import Hybrid
from genalloy.models.implicit import Implicit
from genalloy.models.latent import LatentVariable
from genalloy.models.mixture import Mixture
from genalloy.models.split import Split, halves
from genalloy.networks.concat_squash import ConcatSquash
from genalloy.networks.denoiser import DenoiserMLP
from genalloy.networks.lipschitz import LipschitzMLP
from genalloy.networks.mlp import MLP
from genalloy.networks.mlp import ResidualMLP as Critic
from genalloy.samplers.ode import AdamsBashforth
from genalloy.solvers.divergence import ExactTrace, Hutchinson, TraceEstimator
from genalloy.solvers.ode import Steps
from genalloy.transforms.autoregressive import masked
from genalloy.transforms.coupling import alternating, coupling
from genalloy.transforms.layer import Inverse, Layer, Transform
from genalloy.transforms.linear import ActNorm, Reverse
from genalloy.transforms.observation import Dequantise, Logit, Standardise
from genalloy.transforms.ode import Continuous
from genalloy.transforms.planar import Planar, Radial
from genalloy.transforms.residual import ExactLogDet, LogDet, Residual, Roulette, StochasticResidual, Truncated
from genalloy.transforms.surjection import Extend, Ordered, Reduce, Signs, Slices, Sort, augment
from genalloy.transforms.sylvester import Basis, Orthogonal, Sylvester
from genalloy.transforms.univariate import Additive


def _realnvp(e: Shape, c: Shapes) -> nn.Module:
    return Flow(StandardNormal(e), [ActNorm(e), halves_coupled(e, c), halves_coupled(e, c, True)], e, c)


def _maf(e: Shape, c: Shapes) -> nn.Module:
    return Flow(StandardNormal(e), [masked(e[0], SMALL, None, c), Reverse(), masked(e[0], SMALL, None, c)], e, c)


def _iaf(e: Shape, c: Shapes) -> nn.Module:
    """The usual posterior: an amortised Gaussian pushed through an inverse autoregressive flow."""
    return Flow(gaussian(e, c), [Inverse(masked(e[0], SMALL, None, c))], e, c)


def _planar(e: Shape, c: Shapes) -> nn.Module:
    return Flow(StandardNormal(e), [Planar(e[0], SMALL, c), Radial(e[0], SMALL, c)], e, c)


def _sylvester(e: Shape, c: Shapes, basis: Basis = Orthogonal(2)) -> nn.Module:  # noqa: B008
    """As a posterior uses it: draws in closed form."""
    return Flow(gaussian(e, c), [Inverse(Sylvester(e[0], basis, SMALL, c))], e, c)


def _residual(e: Shape, c: Shapes, log_det: LogDet = ExactLogDet()) -> nn.Module:  # noqa: B008
    blocks = [StochasticResidual(Residual(LipschitzMLP(e, (8,), c), e, c), log_det) for _ in range(2)]
    return Flow(StandardNormal(e), [ActNorm(e), *blocks], e, c)


def _vae(e: Shape, c: Shapes) -> nn.Module:
    prior, head = StandardNormal((2,)), headed(Gaussian())
    return LatentVariable(prior, head(e, ((2,), *c)), head((2,), (e, *c)), e, c)


def _bernoulli_vae(e: Shape, c: Shapes) -> nn.Module:
    return LatentVariable(StandardNormal((2,)), headed(Bernoulli())(e, ((2,), *c)), headed(Gaussian())((2,), (e, *c)), e, c)


def _vae_mixture(e: Shape, c: Shapes) -> nn.Module:
    return Mixture([_vae(e, c), gaussian(e, c)])


def _diffusion(e: Shape, c: Shapes) -> nn.Module:
    return Diffusion(_denoiser(e, c), e, ContinuousData(), sampler=AdamsBashforth(steps=2), estimator=VariationalBound(times=4))


def _grid_diffusion(e: Shape, c: Shapes) -> nn.Module:
    return Diffusion(
        _denoiser(e, c), e, DiscretisedData(LEVELS), sampler=AdamsBashforth(steps=2), estimator=VariationalBound(times=4)
    )


def _flow_diffusion(e: Shape, c: Shapes) -> nn.Module:
    estimator = ProbabilityFlowLikelihood(steps=1, exact=0, probes=1)
    return Diffusion(_denoiser(e, c), e, ContinuousData(), sampler=AdamsBashforth(steps=2), estimator=estimator)


def _denoiser(e: Shape, c: Shapes) -> nn.Module:
    return DenoiserMLP((e, (), *c), width=16, blocks=1)


def _energy(e: Shape, c: Shapes) -> nn.Module:
    network = Critic((e, *c), width=8, blocks=1, activation=nn.SiLU)
    return EnergyModel(network, StandardNormal(e), e, Langevin(steps=3), context_shapes=c)


def _buffered_energy(e: Shape, c: Shapes) -> nn.Module:
    network = Critic((e, *c), width=8, blocks=1, activation=nn.SiLU)
    return EnergyModel(network, StandardNormal(e), e, Langevin(steps=3), ReplayBuffer(16, e))


def _implicit(e: Shape, c: Shapes) -> nn.Module:
    return Implicit(StandardNormal((2,)), Critic(((2,), *c), math.prod(e), width=8, blocks=1), e, c)


def _dequantised(e: Shape, c: Shapes) -> nn.Module:
    """Narrow enough that next to nothing is clipped: what is clipped belongs to the samples and not to the density."""
    every = torch.ones(e, dtype=torch.bool)
    dequantise = Dequantise(every, torch.zeros(e), torch.full(e, LEVELS - 1.0))
    layers: list[Layer | Transform] = [dequantise, Standardise(torch.full(e, 1.5), torch.full(e, 0.2))]
    return Preprocessed(_realnvp(e, c), layers, e, c)


def _continuous(e: Shape, c: Shapes, trace: TraceEstimator = ExactTrace()) -> nn.Module:  # noqa: B008
    field = ConcatSquash((e, (), *c), (8,), features=8)
    return Flow(gaussian(e, c), [Continuous(field, e, steps=Steps(2, 2), trace=trace)], e, c)


def _noisy(e: Shape, c: Shapes) -> nn.Module:
    """Dequantised by noise that is learned: q(u | x, c) on (0, 1)."""
    inner, (mask, flip) = (e, *c), (alternating(e[0]), alternating(e[0], True))
    couplings = [coupling(m, SMALL, inner) for m in ((mask, flip) if e[0] > 1 else ())]
    noise = Flow(StandardNormal(e), [Logit(1.0, 0.0), Standardise(torch.zeros(e), torch.full(e, 1.7)), *couplings], e, inner)
    dequantise = Dequantise(torch.ones(e, dtype=torch.bool), torch.zeros(e), torch.full(e, LEVELS - 1.0), noise)
    return Flow(_realnvp(e, c), [dequantise, Standardise(torch.full(e, 1.5), torch.full(e, 0.5))], e, c)


def _augmented(e: Shape, c: Shapes) -> nn.Module:
    wide = (e[0] + 1,)
    return Flow(StandardNormal(wide), [augment(e, 1), halves_coupled(wide, c), halves_coupled(wide, c, True)], e, c)


def _sliced(e: Shape, c: Shapes) -> nn.Module:
    rest = headed(Gaussian())((e[0] - 1,), ((1,), *c))
    return Flow(StandardNormal((1,)), [halves_coupled(e, c), Reduce(Slices(e, 1), rest)], e, c)


def _sorted(e: Shape, c: Shapes) -> nn.Module:
    return Flow(StandardNormal(e), [Reduce(Sort(e)), Ordered(), halves_coupled(e, c), halves_coupled(e, c, True)], e, c)


def _folded(e: Shape, c: Shapes) -> nn.Module:
    """Absolute values dropped by decoding and, so that all reals are met, drawn again."""
    return Flow(_realnvp(e, c), [Reduce(Signs(e)), Extend(Signs(e))], e, c)


def _memory(e: Shape, c: Shapes) -> nn.Module:
    return KernelSmoothed(torch.randint(0, LEVELS, (5, *e)).float(), LEVELS, 0.3)


def _embedded(e: Shape, c: Shapes) -> nn.Module:
    """Any context as three learned features; a part without a context has nothing to embed."""
    return Embedded(_maf(e, ((3,),)), MLP(c, 3, (8,)), c) if c else _maf(e, ())


def _hybrid(e: Shape, c: Shapes) -> nn.Module:
    size = math.prod(e)
    return Hybrid(_maf(e, c), Conditional(Categorical(2), nn.Linear(size, 2), (), ((size,),)))


def _split(e: Shape, c: Shapes) -> nn.Module:
    deep, rest = halves(e)
    return Split(gaussian(deep, c), headed(Gaussian())(rest, (deep, *c)), e, c)


def _tempered_nice(e: Shape, c: Shapes) -> nn.Module:
    layers = [coupling(alternating(e[0], odd), SMALL, c, Additive()) for odd in (False, True)]
    return Tempered(Flow(StandardNormal(e), [*layers, ActNorm(e)], e, c), 0.7)


def every_part() -> tuple[Listed, ...]:
    """One line a part."""
    return (
        Listed("gaussian", gaussian, represents=True),
        Listed("fitted gaussian", lambda e, c: FittedGaussian.of(torch.randn(20, *e)), roles=UNCONDITIONAL, conditional=False),
        Listed(
            "uniform levels",
            lambda e, c: UniformLevels(LEVELS, e),
            roles=("component",),
            conditional=False,
            discrete=True,
            carries_gradient=False,
            levels=LEVELS,
        ),
        Listed("memory", _memory, roles=("component",), conditional=False, discrete=True, carries_gradient=False, levels=LEVELS),
        Listed("tempered", lambda e, c: Tempered(gaussian(e, c), 0.7)),
        Listed("tempered, constant volume", _tempered_nice),
        Listed("tempered, a heuristic", lambda e, c: Tempered(_realnvp(e, c), 0.7), NOTHING),
        Listed("bernoulli", headed(Bernoulli()), roles=LIKELIHOOD, discrete=True, carries_gradient=False, represents=True),
        Listed("categorical", headed(Categorical(LEVELS)), roles=LIKELIHOOD, discrete=True, carries_gradient=False),
        Listed("logistic mixture", headed(LogisticMixture(LEVELS, 2)), roles=LIKELIHOOD, discrete=True, carries_gradient=False),
        Listed("gaussian mixture", headed(GaussianMixture(2)), roles=("likelihood", "posterior"), carries_gradient=False),
        Listed("logistics over reals", headed(ContinuousLogisticMixture(2)), roles=("likelihood",), carries_gradient=False),
        Listed("logistic", headed(Logistic())),
        Listed("student t", headed(StudentT())),
        Listed("beta", headed(Beta()), roles=()),
        Listed("kumaraswamy", headed(Kumaraswamy()), roles=()),
        Listed("logit-normal", headed(LogitNormal()), roles=()),
        *autoregressive_parts(),
        Listed("realnvp", _realnvp),
        Listed("maf", _maf, represents=True),
        Listed("iaf", _iaf),
        Listed("planar and radial", _planar),
        Listed("sylvester", _sylvester),
        Listed("split", _split),
        Listed("embedded context", _embedded),
        Listed("hybrid", _hybrid, frozen=("classifier.network.weight", "classifier.network.bias")),
        Listed("residual", _residual),
        Listed("residual, roulette", lambda e, c: _residual(e, c, Roulette(shared=True)), UNBIASED),
        Listed("residual, truncated", lambda e, c: _residual(e, c, Truncated(4)), ESTIMATE),
        Listed("vae", _vae, BOUND, represents=True),
        Listed("bernoulli vae", _bernoulli_vae, BOUND, ("likelihood", "component"), discrete=True, carries_gradient=False),
        Listed(
            "importance weighted",
            lambda e, c: Estimated(_vae(e, c), ImportanceWeighted(4)),
            BOUND,
            (),
        ),
        Listed("mixture", lambda e, c: Mixture([_realnvp(e, c), gaussian(e, c)]), carries_gradient=False),
        Listed("mixture with a vae", _vae_mixture, BOUND, carries_gradient=False, represents=True),
        Listed(
            "dequantised", _dequantised, BOUND, ("likelihood", "component"), discrete=True, carries_gradient=False, levels=LEVELS
        ),
        Listed(
            "dequantised by learned noise",
            _noisy,
            BOUND,
            ("likelihood", "component"),
            discrete=True,
            carries_gradient=False,
            levels=LEVELS,
        ),
        Listed("augmented flow", _augmented, BOUND),
        Listed("flow, entries split off", _sliced),
        Listed("flow of sorted values", _sorted),
        Listed("flow, signs redrawn", _folded, BOUND),
        Listed("diffusion", _diffusion, DIFFUSION, carries_gradient=False, represents=True),
        Listed("diffusion, grid", _grid_diffusion, DIFFUSION, ("likelihood", "component"), discrete=True, carries_gradient=False),
        Listed("diffusion, probability flow", _flow_diffusion, ESTIMATE, carries_gradient=False),
        Listed("continuous", _continuous, ESTIMATE),
        Listed("continuous, probes", lambda e, c: _continuous(e, c, Hutchinson(2, 2)), ESTIMATE),
        Listed("energy", _energy, NOTHING, carries_gradient=False),
        Listed("energy, chains", _buffered_energy, NOTHING, UNCONDITIONAL, conditional=False, carries_gradient=False),
        Listed("implicit", _implicit, NOTHING),
    )
