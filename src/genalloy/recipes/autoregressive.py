"""Autoregressive recipes: exact densities, cached sampling."""

from __future__ import annotations

from genalloy.evidence import Kind
from genalloy.heads.gaussian import Gaussian
from genalloy.heads.head import Head
from genalloy.heads.mixture import GaussianMixture
from genalloy.models.autoregressive import Autoregressive
from genalloy.networks.entry import OneHot, Scaled
from genalloy.networks.masked import MADE, Hidden
from genalloy.networks.pixel import GatedPixelCNN, Stack
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.recipes.composition import Composition, Phase, Target
from genalloy.recipes.pieces import likelihood_head, observed
from genalloy.recipes.registry import recipe
from genalloy.training.options import Adam, Training

TASKS = ("sample", "score")


def head_of(target: Target, components: int) -> Head:
    """Mixtures of Gaussians for reals, the data's own head otherwise."""
    if target.space.levels is not None:
        return likelihood_head(target, components)
    return GaussianMixture(components) if components > 1 else Gaussian()


def entry_of(target: Target) -> OneHot | Scaled:
    """One-hot for few levels; many levels enter as numbers in [-1, 1], reals as they are."""
    levels = target.space.levels
    if levels is None:
        return Scaled()
    return OneHot(levels) if levels <= 32 else Scaled((levels - 1) / 2, (levels - 1) / 2)


@recipe("made", "autoregressive", Kind.EXACT, Kind.EXACT, TASKS, "Germain, Gregor, Murray & Larochelle, 2015")
def made(target: Target, width: int = 256, components: int = 10, dropout: float = 0.3, steps: int = 0) -> Composition:
    """Masked autoencoder: one masked network for all conditionals; mixtures of Gaussians on reals.

    dropout: on integers. steps 0: 500 on integers, 1500 on reals.
    """
    reals = target.space.levels is None
    head = head_of(target, components)
    network = MADE(
        target.space.shape, head.width, Hidden((width, width), dropout=0.0 if reals else dropout), entry=entry_of(target)
    )
    model = observed(target, Autoregressive(network, head, target.space.shape))
    return Composition(
        model, [Phase(MaximumLikelihood(), Training(Adam(2e-3), ema=0.99, clip=100.0))], steps or (1500 if reals else 500)
    )


@recipe("gated-pixelcnn", "autoregressive", Kind.EXACT, Kind.EXACT, TASKS, "van den Oord et al., 2016")
def gated_pixelcnn(
    target: Target, channels: int = 24, layers: int = 7, components: int = 5, dropout: float = 0.1, steps: int = 700
) -> Composition:
    """Gated GatedPixelCNN: masked convolutions in two stacks, sampled through an activation cache.

    Raises ValueError where the data are not images.
    """
    if target.space.kind != "image":
        raise ValueError(f"gated-pixelcnn needs images (C, H, W); found {target.space.kind} of shape {target.space.shape}; try made")
    head = head_of(target, components)
    network = GatedPixelCNN(target.space.shape, head.width, Stack(channels, layers, dropout=dropout), entry=entry_of(target))
    model = observed(target, Autoregressive(network, head, target.space.shape))
    return Composition(model, [Phase(MaximumLikelihood(), Training(Adam(6e-3), ema=0.998, clip=100.0), batch=32)], steps)
