"""Adversarial recipes: a generator, a critic, and what the combinations borrow from them.

The defaults of the regularised relativistic game (Huang et al., 2024): no normalisation, Adam without momentum, a decaying
learning rate, averaged weights, standardised data, and a gamma that follows the dimension.
"""

from __future__ import annotations

import math

from genalloy.core.evidence import Kind
from genalloy.heads.gaussian import StandardNormal
from genalloy.models.implicit import Implicit
from genalloy.networks.mlp import ResidualMLP
from genalloy.objectives.adversarial import R1, R2, Adversarial, Critic
from genalloy.recipes.composition import Composition, Phase, Target
from genalloy.recipes.pieces import on_data
from genalloy.recipes.registry import recipe
from genalloy.training.options import Adam, Training

Shape = tuple[int, ...]
OPTIONS = Training(Adam(1e-3, (0.0, 0.99)), ema=0.999)


def generator(event_shape: Shape, latent: int | None = None, width: int = 256, blocks: int = 2) -> Implicit:
    """z ~ N(0, I) through a residual network; latent None: a quarter of the dimension, between 2 and 64."""
    dims = math.prod(event_shape)
    size = latent or max(2, min(64, dims // 4))
    return Implicit(StandardNormal((size,)), ResidualMLP(((size,),), dims, width, blocks), event_shape)


def flow_critic(event_shape: Shape, width: int = 256, blocks: int = 2, gamma: float | None = None) -> Critic:
    """Critic of points of a shape, penalised on both sides; beside maximum likelihood and on its own."""
    return Critic(ResidualMLP((event_shape,), 1, width, blocks), (R1(gamma), R2(gamma)))


def aae_critic(z_dims: int, width: int = 128, blocks: int = 2, gamma: float | None = None) -> Critic:
    """Critic of codes (z_dims,)."""
    return flow_critic((z_dims,), width, blocks, gamma)


@recipe("r3gan", "adversarial", Kind.NONE, Kind.NONE, ("sample",), "Huang, Gokaslan, Kuleshov & Tompkin, 2024")
def r3gan(
    target: Target,
    latent: int | None = None,
    width: int | None = None,
    blocks: int = 2,
    gamma: float | None = None,
    steps: int = 1200,
) -> Composition:
    """Generative adversarial network: relativistic, penalised on both sides; the first run works.

    latent None: a quarter of the dimension. width None: 128 on up to eight dimensions, otherwise 256. gamma: of both penalties,
    None for one that follows the dimension, 0 for none.
    Huang et al., 2024, arXiv:2501.05441.
    """
    size = width or (128 if target.space.dims <= 8 else 256)
    model = on_data(target, generator(target.space.shape, latent, size, blocks))
    objective = Adversarial(flow_critic(target.space.shape, size, blocks, gamma))
    return Composition(model, [Phase(objective, OPTIONS, batch=128, decay=0.05, select=False)], steps)
