"""The diffusion recipe."""

from __future__ import annotations

from genalloy.evidence import Kind
from genalloy.recipes.composition import Composition, Phase, Target
from genalloy.recipes.diffusion import ddpm as parts
from genalloy.recipes.pieces import dequantised, grid
from genalloy.recipes.registry import recipe
from genalloy.models.flow import Preprocessed
from genalloy.training.options import Adam, Training


@recipe("ddpm", "diffusion", Kind.ESTIMATE, Kind.LOWER, ("sample", "score"), "Ho, Jain & Abbeel, 2020; Kingma et al., 2021")
def ddpm(target: Target, channels: int = 16, steps: int = 2000) -> Composition:
    """Denoising diffusion: the variational bound on integers, probability-flow likelihood on few reals."""
    shape, levels = target.space.shape, target.space.levels
    if levels is None:
        uniform = grid(target).float()
        model, objective = parts(shape, None, target.mean + 0.5 * uniform, (target.scale.square() + uniform / 12).sqrt())
        noise = dequantised(target)
        model_ = Preprocessed(model, noise, shape) if noise else model
    else:
        model_, objective = parts(shape, levels, channels=channels)
    return Composition(model_, [Phase(objective, Training(Adam(2e-3), ema=0.998, clip=1.0), batch=128, select=False)], steps)
