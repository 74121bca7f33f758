"""Diffusion: the recipe, and its pieces, a model over integers or reals and a prior over codes, each with its objective."""

from __future__ import annotations

import math

from torch import Tensor, nn

from genalloy.core.contexts import Shapes
from genalloy.core.distribution import Shape
from genalloy.core.evidence import Kind
from genalloy.diffusion.parameterisations import Edm, Levels, Parameterisation, Velocity
from genalloy.diffusion.times import UniformLambda, UniformTime
from genalloy.diffusion.weights import Tilted, Unit
from genalloy.estimators.probability_flow import ProbabilityFlowLikelihood
from genalloy.estimators.variational_bound import VariationalBound
from genalloy.models.diffusion import ContinuousData, Diffusion, DiscretisedData
from genalloy.models.flow import Preprocessed
from genalloy.networks.denoiser import DenoiserMLP
from genalloy.networks.unet import UNet
from genalloy.objectives.objective import Objective
from genalloy.objectives.score import DenoisingScoreMatching
from genalloy.recipes.composition import Composition, Phase, Target
from genalloy.recipes.pieces import dequantised, moments
from genalloy.recipes.registry import recipe
from genalloy.samplers.ancestral import Ancestral
from genalloy.training.options import Adam, Training

ON_GRID = Training(Adam(4e-3), ema=0.995, clip=100.0)
ON_REALS = Training(Adam(2e-3), ema=0.999, clip=1.0)


def denoiser(inputs: Shapes, per_element: int, channels: int, width: int) -> nn.Module:
    """A U-Net for images of at least 4x4, otherwise a residual network."""
    shape = inputs[0]
    if len(shape) == 3 and min(shape[1:]) >= 4:
        return UNet(inputs, per_element, channels, depth=1 if shape[1] < 16 else 2)
    return DenoiserMLP(inputs, per_element, width, blocks=3)


def denoising_diffusion(
    event_shape: Shape, levels: int | None = None, mean: Tensor | None = None, scale: Tensor | None = None, channels: int = 16
) -> tuple[Diffusion, Objective]:
    """Integers: logits of the levels (up to 32; beyond, EDM's output), the exact bound. Reals: velocity, probability flow.

    mean, scale: of the event shape, for reals; otherwise taken from the first batch.
    """
    shape = tuple(event_shape)
    if levels is not None:
        head: Parameterisation = Levels(levels) if levels <= 32 else Edm(0.5)
        network = denoiser((shape, ()), head.width, channels, 256)
        model = Diffusion(
            network, shape, DiscretisedData(levels), parameterisation=head, sampler=Ancestral(100), estimator=VariationalBound(32)
        )
        return model, DenoisingScoreMatching(Tilted(gain=8.0), UniformLambda())
    estimator = ProbabilityFlowLikelihood() if math.prod(shape) <= 64 else VariationalBound(32)
    network = denoiser((shape, ()), 1, channels, 128)
    observed = ContinuousData(standardise=mean is None or scale is None)
    model = Diffusion(network, shape, observed, parameterisation=Velocity(), estimator=estimator)
    if mean is not None and scale is not None:
        model.shift.copy_(mean)
        model.scale.copy_(scale)
    return model, DenoisingScoreMatching(Unit(), UniformTime())


def latent_diffusion_prior(
    dims: int, context_shapes: Shapes = (), width: int = 128, blocks: int = 3
) -> tuple[Diffusion, Objective]:
    """A diffusion over codes (dims,), standardised from the first batch that `initialise` sees; its density is a bound."""
    network = DenoiserMLP(((dims,), (), *context_shapes), 1, width, blocks)
    model = Diffusion(network, (dims,), ContinuousData(high=4.0), parameterisation=Velocity(), estimator=VariationalBound(16))
    return model, DenoisingScoreMatching(Unit(), UniformTime())


@recipe("ddpm", "diffusion", Kind.ESTIMATE, Kind.LOWER, ("sample", "score"), "Ho, Jain & Abbeel, 2020; Kingma et al., 2021")
def ddpm(target: Target, channels: int = 16, steps: int | None = None) -> Composition:
    """Denoising diffusion: the variational bound on integers, probability-flow likelihood on few reals.

    steps None: 1600 on integers, 3000 on reals.
    Ho, Jain & Abbeel, 2020, arXiv:2006.11239; the bound: Kingma et al., 2021, arXiv:2107.00630.
    """
    shape, levels = target.space.shape, target.space.levels
    if levels is not None:
        model, objective = denoising_diffusion(shape, levels, channels=channels)
        return Composition(model, [Phase(objective, ON_GRID, batch=64, select=False)], steps or 1600)
    part, objective = denoising_diffusion(shape, None, *moments(target), channels)
    fixed = dequantised(target)
    seen: nn.Module = Preprocessed(part, fixed, shape) if fixed else part
    batch = min(512, max(64, target.rows // 20))
    return Composition(seen, [Phase(objective, ON_REALS, batch=batch, select=False)], steps or 3000)
