"""PixelCNN++: two streams at several resolutions, and a mixture of logistics that a pixel's channels share."""

from __future__ import annotations

import math

from genalloy.core.distribution import Shape
from genalloy.core.evidence import Kind
from genalloy.heads.discrete import Bernoulli, LogisticMixture
from genalloy.heads.logistic import ContinuousLogisticMixture
from genalloy.models.autoregressive import Autoregressive
from genalloy.networks.causal.pixel_channels import LinearLogits, SharedMixture, logits_width, mixture_width
from genalloy.networks.causal.pixelcnn_plusplus import PixelCNNPlusPlus, PixelCNNPlusPlusStack
from genalloy.networks.input_embedding import ScaledInput
from genalloy.recipes.autoregressive import TASKS, entry_of
from genalloy.recipes.composition import Composition, Target
from genalloy.recipes.pieces import by_likelihood, image_size, label_shapes, labelled, observed
from genalloy.recipes.registry import recipe
from genalloy.training.options import Adam, Training

COARSEST = 4
"""Pixels on the shorter side below which images are not halved further."""
COMPONENTS = 5
OPTIONS = Training(Adam(8e-3), ema=0.998, clip=100.0)


@recipe("pixelcnn++", "autoregressive", Kind.EXACT, Kind.EXACT, TASKS, "Salimans, Karpathy, Chen & Kingma, 2017")
def pixelcnn_plus_plus(
    target: Target,
    features: int = 32,
    blocks: int = 1,
    resolutions: int | None = None,
    dropout: float = 0.1,
    conditional: bool = False,
    steps: int = 700,
) -> Composition:
    """PixelCNN++: two streams at several resolutions, mixtures of logistics; the channels of a pixel tied linearly.

    resolutions None: up to three, while the shorter side keeps four pixels. conditional: on the label. Raises ValueError where
    the data are not images.
    Salimans et al., 2017, arXiv:1701.05517.
    """
    halvings = max(0, math.floor(math.log2(min(image_size(target, "pixelcnn++")) / COARSEST)))
    streams = PixelCNNPlusPlusStack(features, blocks, resolutions or 1 + min(2, halvings), dropout)
    part = _part(target, streams, label_shapes(conditional))
    model = observed(target, labelled(target, part, conditional))
    return by_likelihood(target, "pixelcnn++", model, OPTIONS, 32, steps, conditional)


def _part(target: Target, streams: PixelCNNPlusPlusStack, contexts: tuple[Shape, ...]) -> Autoregressive:
    """Bits by logits, integers by discretised logistics, reals by logistics."""
    shape, levels, entry = target.space.shape, target.space.levels, entry_of(target)
    channels = shape[0]
    if levels == 2:
        bits = PixelCNNPlusPlus(shape, logits_width(channels), streams, contexts, entry)
        return Autoregressive(LinearLogits(bits), Bernoulli(), shape, contexts)
    half = ScaledInput() if levels is None else ScaledInput((levels - 1) / 2, (levels - 1) / 2)
    head = ContinuousLogisticMixture(COMPONENTS) if levels is None else LogisticMixture(levels, COMPONENTS, spread=1.0)
    pixels = PixelCNNPlusPlus(shape, mixture_width(channels, COMPONENTS), streams, contexts, entry)
    return Autoregressive(SharedMixture(pixels, head, half), head, shape, contexts)
