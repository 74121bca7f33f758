"""The diffusion recipe."""

from __future__ import annotations

from torch import nn

from genalloy.core.evidence import Kind
from genalloy.models.flow import Preprocessed
from genalloy.recipes.composition import Composition, Phase, Target
from genalloy.recipes.diffusion import ddpm as parts
from genalloy.recipes.pieces import dequantised, moments
from genalloy.recipes.registry import recipe
from genalloy.training.options import Adam, Training

ON_GRID = Training(Adam(4e-3), ema=0.995, clip=100.0)
ON_REALS = Training(Adam(2e-3), ema=0.999, clip=1.0)


@recipe("ddpm", "diffusion", Kind.ESTIMATE, Kind.LOWER, ("sample", "score"), "Ho, Jain & Abbeel, 2020; Kingma et al., 2021")
def ddpm(target: Target, channels: int = 16, steps: int | None = None) -> Composition:
    """Denoising diffusion: the variational bound on integers, probability-flow likelihood on few reals.

    steps None: 1600 on integers, 3000 on reals.
    """
    shape, levels = target.space.shape, target.space.levels
    if levels is not None:
        model, objective = parts(shape, levels, channels=channels)
        return Composition(model, [Phase(objective, ON_GRID, batch=64, select=False)], steps or 1600)
    part, objective = parts(shape, None, *moments(target), channels)
    fixed = dequantised(target)
    seen: nn.Module = Preprocessed(part, fixed, shape) if fixed else part
    batch = min(512, max(64, target.rows // 20))
    return Composition(seen, [Phase(objective, ON_REALS, batch=batch, select=False)], steps or 3000)
