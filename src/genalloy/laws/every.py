"""Every part of the library, small, with what it should claim: one line each. A new part adds its line here."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from genalloy.distribution import Shape
from genalloy.estimators.importance_weighted import ImportanceWeighted
from genalloy.estimators.probability_flow import ProbabilityFlowLikelihood
from genalloy.estimators.variational_bound import VariationalBound
from genalloy.evidence import Kind
from genalloy.heads.discrete import Bernoulli, Categorical, LogisticMixture
from genalloy.heads.gaussian import Gaussian, StandardNormal
from genalloy.heads.head import Head
from genalloy.heads.mixture import GaussianMixture
from genalloy.laws.claims import Claim, Claims, exact
from genalloy.laws.subject import Subject
from genalloy.mcmc.buffer import ReplayBuffer
from genalloy.mcmc.langevin import Langevin
from genalloy.models.autoregressive import Autoregressive
from genalloy.models.diffusion import Diffusion, Grid, Real
from genalloy.models.energy import EnergyModel
from genalloy.models.fitted import FittedGaussian, Memory, UniformLevels
from genalloy.models.flow import Flow, Preprocessed
from genalloy.models.implicit import Implicit
from genalloy.models.latent import LatentVariable
from genalloy.models.mixture import Mixture
from genalloy.networks.critic import ResidualMLP as Critic
from genalloy.networks.denoiser import ResidualMLP
from genalloy.networks.entry import OneHot
from genalloy.networks.masked import MADE, Hidden
from genalloy.networks.mlp import MLP
from genalloy.networks.pixel import PixelCNN, Stack
from genalloy.objectives.adversarial import Adversarial
from genalloy.objectives.adversarial import Critic as Critical
from genalloy.objectives.bounds import ELBO, ImportanceWeightedBound
from genalloy.objectives.contrastive import ContrastiveDivergence, NoiseContrastive
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.objectives.objective import Objective, Turn, WithTurn
from genalloy.objectives.ports import Encode, Prior
from genalloy.objectives.reconstruction import Reconstruction
from genalloy.objectives.score import DenoisingScoreMatching
from genalloy.part import Estimated, From, Tempered
from genalloy.samplers.diffusion import AdamsBashforth
from genalloy.schedules import Linear
from genalloy.transforms.autoregressive import masked
from genalloy.transforms.coupling import ByMask, Coupling, alternating, channelwise, checkerboard, coupling
from genalloy.transforms.layer import Inverse, Layer, Transform
from genalloy.transforms.linear import PLU, ActNorm, Permute, Reverse
from genalloy.transforms.observation import Affine, Dequantise, Flatten, Logit
from genalloy.transforms.spline import RationalQuadratic
from genalloy.transforms.univariate import Additive

Shapes = tuple[Shape, ...]
Make = Callable[[Shape, Shapes], nn.Module]
LEVELS = 3
SMALL = Hidden((8,))


@dataclass(frozen=True)
class Listed:
    """One line of :func:`every_part`.

    make: (event shape, context shapes) -> Part. claims: of density() and draw(). roles: slots of a nested model that it
    can play. conditional: whether it can take a context. event: its shape where it cannot be any vector.
    carries_gradient: whether its samples do. represents: whether it stands for its kind in the other slots.
    frozen: parameters that get no gradient from density(). levels: see Subject.
    """

    name: str
    make: Make
    claims: Claims = field(default_factory=exact)
    roles: tuple[str, ...] = ("prior", "likelihood", "posterior", "base", "component")
    conditional: bool = True
    discrete: bool = False
    event: Shape | None = None
    carries_gradient: bool = True
    represents: bool = False
    frozen: tuple[str, ...] = ()
    levels: int = 0

    @property
    def kind(self) -> Kind:
        """Label of density()."""
        return self.claims.density.kind

    @property
    def event_shape(self) -> Shape:
        return self.shape(2)

    @property
    def context_shapes(self) -> Shapes:
        return ((3,), ()) if self.conditional else ()

    def shape(self, size: int) -> Shape:
        """The part's own event shape, or a vector of that size."""
        return self.event or (size,)

    def build(self) -> nn.Module:
        """The part at its smallest, conditional where it can be."""
        return self.make(self.event_shape, self.context_shapes)

    def subject(self, part: nn.Module | None = None) -> Subject:
        """For the laws; `part` may be a changed copy."""
        return Subject(part or self.build(), self.event_shape, self.context_shapes, self.discrete, self.levels)

    def points(self, shape: Shape, rows: int = 8) -> Tensor:
        """Plausible observations (rows, *shape)."""
        return torch.randint(0, 2, (rows, *shape)).float() if self.discrete else torch.randn(rows, *shape)


def _from(head: Head) -> Make:
    return lambda e, c: From(head, MLP(c, math.prod(e) * head.width, (8,)), e, c)


def _gaussian(e: Shape, c: Shapes) -> nn.Module:
    return _from(Gaussian())(e, c) if c else StandardNormal(e)


def _made(head: Head, entry: OneHot | None = None) -> Make:
    more = () if entry is None else (entry,)
    return lambda e, c: Autoregressive(MADE(e, head.width, SMALL, None, c, *more), head, e, c)


def _pixelcnn(e: Shape, c: Shapes) -> nn.Module:
    network = PixelCNN(e, LEVELS, Stack(channels=4, layers=1, places=2), c, OneHot(LEVELS))
    return Autoregressive(network, Categorical(LEVELS), e, c)


def _coupling(e: Shape, c: Shapes, odd: bool = False) -> Coupling:
    mask = alternating(e[0], odd)
    moved = int((~mask).sum())
    network = MLP(((e[0] - moved,), *c), 2 * moved, (8,), zero=True)
    return Coupling(ByMask(mask), network, context_shapes=c)


def _realnvp(e: Shape, c: Shapes) -> nn.Module:
    return Flow(StandardNormal(e), [ActNorm(e), _coupling(e, c), _coupling(e, c, True)], e, c)


def _maf(e: Shape, c: Shapes) -> nn.Module:
    return Flow(StandardNormal(e), [masked(e[0], SMALL, None, c), Reverse(), masked(e[0], SMALL, None, c)], e, c)


def _iaf(e: Shape, c: Shapes) -> nn.Module:
    """The usual posterior: an amortised Gaussian pushed through an inverse autoregressive flow."""
    return Flow(_gaussian(e, c), [Inverse(masked(e[0], SMALL, None, c))], e, c)


def _vae(e: Shape, c: Shapes) -> nn.Module:
    prior, head = StandardNormal((2,)), _from(Gaussian())
    return LatentVariable(prior, head(e, ((2,), *c)), head((2,), (e, *c)), e, c)


def _bernoulli_vae(e: Shape, c: Shapes) -> nn.Module:
    return LatentVariable(StandardNormal((2,)), _from(Bernoulli())(e, ((2,), *c)), _from(Gaussian())((2,), (e, *c)), e, c)


def _vae_mixture(e: Shape, c: Shapes) -> nn.Module:
    return Mixture([_vae(e, c), _gaussian(e, c)])


def _diffusion(e: Shape, c: Shapes) -> nn.Module:
    return Diffusion(_denoiser(e, c), e, Real(), sampler=AdamsBashforth(steps=2), estimator=VariationalBound(times=4))


def _grid_diffusion(e: Shape, c: Shapes) -> nn.Module:
    return Diffusion(_denoiser(e, c), e, Grid(LEVELS), sampler=AdamsBashforth(steps=2), estimator=VariationalBound(times=4))


def _flow_diffusion(e: Shape, c: Shapes) -> nn.Module:
    estimator = ProbabilityFlowLikelihood(steps=1, exact=0, probes=1)
    return Diffusion(_denoiser(e, c), e, Real(), sampler=AdamsBashforth(steps=2), estimator=estimator)


def _denoiser(e: Shape, c: Shapes) -> nn.Module:
    return ResidualMLP((e, (), *c), width=16, blocks=1)


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
    layers: list[Layer | Transform] = [dequantise, Affine(torch.full(e, 1.5), torch.full(e, 0.2))]
    return Preprocessed(_realnvp(e, c), layers, e, c)


def _memory(e: Shape, c: Shapes) -> nn.Module:
    return Memory(torch.randint(0, LEVELS, (5, *e)).float(), LEVELS, 0.3)


def _claims(density: Kind, draw: Kind, proper: bool) -> Claims:
    return Claims(Claim.of(density, proper), Claim.of(draw, proper))


BOUND = _claims(Kind.LOWER, Kind.UPPER, True)
DIFFUSION = _claims(Kind.LOWER, Kind.ESTIMATE, False)
ESTIMATE = _claims(Kind.ESTIMATE, Kind.ESTIMATE, False)
NOTHING = _claims(Kind.NONE, Kind.NONE, False)
LIKELIHOOD = ("likelihood",)
UNCONDITIONAL = ("prior", "base", "component")


def every_part() -> tuple[Listed, ...]:
    """One line a part."""
    return (
        Listed("gaussian", _gaussian, represents=True),
        Listed("fitted gaussian", lambda e, c: FittedGaussian.of(torch.randn(20, *e)), roles=UNCONDITIONAL, conditional=False),
        Listed(
            "uniform levels", lambda e, c: UniformLevels(LEVELS, e), roles=("component",), conditional=False, discrete=True,
            carries_gradient=False, levels=LEVELS,
        ),
        Listed("memory", _memory, roles=("component",), conditional=False, discrete=True, carries_gradient=False, levels=LEVELS),
        Listed("tempered", lambda e, c: Tempered(_gaussian(e, c), 0.7)),
        Listed("bernoulli", _from(Bernoulli()), roles=LIKELIHOOD, discrete=True, carries_gradient=False, represents=True),
        Listed("categorical", _from(Categorical(LEVELS)), roles=LIKELIHOOD, discrete=True, carries_gradient=False),
        Listed("logistic mixture", _from(LogisticMixture(LEVELS, 2)), roles=LIKELIHOOD, discrete=True, carries_gradient=False),
        Listed("gaussian mixture", _from(GaussianMixture(2)), roles=("likelihood", "posterior"), carries_gradient=False),
        Listed("made", _made(Gaussian()), represents=True),
        Listed("made, mixture", _made(GaussianMixture(2)), carries_gradient=False),
        Listed(
            "made, categorical", _made(Categorical(LEVELS), OneHot(LEVELS)), roles=("likelihood", "component"), discrete=True,
            carries_gradient=False,
        ),
        Listed(
            "pixelcnn", _pixelcnn, roles=("likelihood", "component"), discrete=True, event=(1, 2, 2), carries_gradient=False
        ),
        Listed("realnvp", _realnvp),
        Listed("maf", _maf, represents=True),
        Listed("iaf", _iaf),
        Listed("vae", _vae, BOUND, represents=True),
        Listed("bernoulli vae", _bernoulli_vae, BOUND, ("likelihood", "component"), discrete=True, carries_gradient=False),
        Listed(
            "importance weighted", lambda e, c: Estimated(_vae(e, c), ImportanceWeighted(4)), BOUND, (),
        ),
        Listed("mixture", lambda e, c: Mixture([_realnvp(e, c), _gaussian(e, c)]), carries_gradient=False),
        Listed("mixture with a vae", _vae_mixture, BOUND, carries_gradient=False, represents=True),
        Listed(
            "dequantised", _dequantised, BOUND, ("likelihood", "component"), discrete=True, carries_gradient=False, levels=LEVELS
        ),
        Listed("diffusion", _diffusion, DIFFUSION, carries_gradient=False, represents=True),
        Listed("diffusion, grid", _grid_diffusion, DIFFUSION, ("likelihood", "component"), discrete=True, carries_gradient=False),
        Listed("diffusion, probability flow", _flow_diffusion, ESTIMATE, carries_gradient=False),
        Listed("energy", _energy, NOTHING, carries_gradient=False),
        Listed("energy, chains", _buffered_energy, NOTHING, UNCONDITIONAL, conditional=False, carries_gradient=False),
        Listed("implicit", _implicit, NOTHING),
    )


@dataclass(frozen=True)
class ListedTransform:
    """One line of :func:`every_transform`. inside: maps any real input into the transform's domain."""

    name: str
    make: Callable[[Shape, Shapes], Transform]
    event: Shape = (4,)
    conditional: bool = False
    inside: Callable[[Tensor], Tensor] = lambda x: x

    @property
    def context_shapes(self) -> Shapes:
        return ((3,),) if self.conditional else ()

    def build(self) -> Transform:
        return self.make(self.event, self.context_shapes)


def every_transform() -> tuple[ListedTransform, ...]:
    """One line a transform."""
    image = (2, 4, 4)
    return (
        ListedTransform("coupling", _coupling),
        ListedTransform("coupling, conditional", _coupling, conditional=True),
        ListedTransform("coupling, checkerboard", lambda e, c: coupling(checkerboard(e)), image),
        ListedTransform("coupling, channels", lambda e, c: coupling(channelwise(e)), image),
        ListedTransform("coupling, additive", lambda e, c: coupling(alternating(e[0]), SMALL, c, Additive()), conditional=True),
        ListedTransform(
            "coupling, spline", lambda e, c: coupling(alternating(e[0]), SMALL, c, RationalQuadratic(4)), conditional=True
        ),
        ListedTransform(
            "autoregressive, spline", lambda e, c: masked(e[0], SMALL, None, c, RationalQuadratic(4)), conditional=True
        ),
        ListedTransform("maf", lambda e, c: masked(e[0], SMALL, (2, 0, 3, 1), c)),
        ListedTransform("maf, conditional", lambda e, c: masked(e[0], SMALL, None, c), conditional=True),
        ListedTransform("iaf", lambda e, c: Inverse(masked(e[0], SMALL, None, c)), conditional=True),
        ListedTransform("permute", lambda e, c: Permute(torch.tensor([2, 0, 3, 1]))),
        ListedTransform("reverse", lambda e, c: Reverse()),
        ListedTransform("actnorm", lambda e, c: ActNorm(e)),
        ListedTransform("actnorm, channels", lambda e, c: ActNorm(e, per_channel=True), image),
        ListedTransform("plu", lambda e, c: PLU(torch.tensor([2, 0, 3, 1]))),
        ListedTransform("affine", lambda e, c: Affine(torch.tensor([1.0, 2.0, -3.0, 0.0]), torch.tensor([0.5, 2.0, 9.0, 1.0]))),
        ListedTransform("logit", lambda e, c: Logit(16.0), inside=lambda x: 16.0 * torch.sigmoid(x)),
        ListedTransform("flatten", lambda e, c: Flatten(e), image),
    )


@dataclass(frozen=True)
class ListedObjective:
    """One line of :func:`every_objective`. part: the line of every_part() it is tried on; events are pairs of reals."""

    name: str
    part: str
    make: Callable[[], Objective]

    def model(self) -> nn.Module:
        """A model over vectors of two reals that offers what the objective needs."""
        found = next(p for p in every_part() if p.name == self.part)
        return found.make((2,), ())


def _critic() -> Critical:
    return Critical(Critic(((2,),), width=8, blocks=1))


def every_objective() -> tuple[ListedObjective, ...]:
    """One line an objective, sums and scaled ones included."""
    return (
        ListedObjective("likelihood", "maf", MaximumLikelihood),
        ListedObjective("elbo", "vae", ELBO),
        ListedObjective("elbo, annealed, free bits", "vae", lambda: ELBO(Linear(0.1, 1.0, 5), 2, 0.1)),
        ListedObjective("importance weighted", "vae", lambda: ImportanceWeightedBound(3)),
        ListedObjective("score matching", "diffusion", DenoisingScoreMatching),
        ListedObjective("contrastive divergence", "energy", lambda: ContrastiveDivergence(Langevin(2))),
        ListedObjective("persistent chains", "energy", lambda: ContrastiveDivergence(Langevin(2), ReplayBuffer(64, (2,)))),
        ListedObjective("noise contrast", "energy", lambda: NoiseContrastive(StandardNormal((2,)))),
        ListedObjective("adversarial", "implicit", lambda: Adversarial(_critic())),
        ListedObjective("flow-gan", "realnvp", lambda: MaximumLikelihood() + 0.1 * Adversarial(_critic())),
        ListedObjective(
            "adversarial autoencoder", "vae", lambda: Reconstruction() + Adversarial(_critic(), real=Prior(), fake=Encode())
        ),
        ListedObjective("lagging inference", "vae", lambda: WithTurn(ELBO(), Turn(ELBO(), "posterior"))),
    )
