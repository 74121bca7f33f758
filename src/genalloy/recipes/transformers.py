"""Transformers: over pixels, dense, local or factorised, and over characters or tokens of a text."""

from __future__ import annotations

import math

from torch import nn

from genalloy.core.evidence import Kind
from genalloy.data.space import Space
from genalloy.networks.causal.network import CausalLayer, Frames, Pixels, Shift, Singles, Tokens
from genalloy.networks.causal.pixelcnn import MaskedStart
from genalloy.networks.causal.positions import PositionalEmbedding
from genalloy.networks.causal.sparse_attention import (
    DenseAttention,
    FixedAttention,
    LocalPatches,
    Pattern,
    StridedAttention,
    side,
)
from genalloy.networks.causal.transformer import Attention, blocks
from genalloy.recipes.autoregressive import TASKS, causal, head_of
from genalloy.recipes.composition import Composition, Target
from genalloy.recipes.pieces import by_likelihood, image_size, label_shapes
from genalloy.recipes.registry import recipe
from genalloy.training.options import Adam, Training

COMPONENTS = 10
HEADS = 4
IN_TURN = 8
"""Entries of a sequence's row that are still generated one after another."""


def transformer(
    target: Target, first: CausalLayer, layers: int, attention: Attention, tokens: Tokens, labels: bool = False
) -> nn.Module:
    """A causal transformer over the data as they are, as wide as its first layer; `labels`: given their class."""
    width, grid = first.width, tokens.cut(target.space.shape).grid
    places = PositionalEmbedding(grid, width, label_shapes(labels), positions=not attention.rotary, spread=False)
    stack = blocks(width, math.prod(grid), layers, attention)
    return causal(target, head_of(target, COMPONENTS), first, stack, places, tokens)


def _composition(target: Target, name: str, model: nn.Module, steps: int | None, conditional: bool) -> Composition:
    """steps None: 9000 on text, 1400 otherwise."""
    text = target.space.kind == "text"
    options, batch = (TEXT, 8) if text else (OTHERS, 16)
    return by_likelihood(target, name, model, options, batch, steps or (9000 if text else 1400), conditional)


def _tokens(space: Space) -> Tokens:
    """A pixel, or a short row of a sequence, is one place whose entries follow one another; long rows come at once."""
    if space.kind != "sequence" or len(space.shape) < 2:
        return Pixels() if space.kind == "image" else Singles()
    return Pixels() if math.prod(space.shape[1:]) <= IN_TURN else Frames()


OTHERS = Training(Adam(2e-3, betas=(0.9, 0.98)), ema=0.99, clip=100.0)
# windows of a text are long and many: small batches, so that there are many updates
TEXT = Training(Adam(3e-3, betas=(0.9, 0.98), weight_decay=0.1), ema=0.995, clip=100.0)


@recipe("image-transformer", "autoregressive", Kind.EXACT, Kind.EXACT, TASKS, "Parmar et al., 2018")
def image_transformer(
    target: Target,
    width: int = 64,
    layers: int = 4,
    block: int = 0,
    near: int = 5,
    conditional: bool = False,
    steps: int | None = None,
) -> Composition:
    """Transformer over pixels, row by row; dense, or local attention in squares of `block` pixels.

    block: side of the squares whose pixels share their keys, half as wide a margin around; 0: attention to all earlier pixels.
    near: width of the masked convolution that pixels enter through; 0: each place is given the pixel before alone, as published.
    conditional: on the label. steps None: 1400. Raises ValueError where the data are not images.
    Parmar et al., 2018, arXiv:1802.05751.
    """
    size = image_size(target, "image-transformer", "transformer-lm")
    pattern: Pattern = LocalPatches(size[1], (block, block), (block // 2, block // 2)) if block else DenseAttention()
    first = MaskedStart(width, size, near) if near else Shift(width)
    model = transformer(target, first, layers, Attention(HEADS, pattern), Pixels(), conditional)
    return _composition(target, "image-transformer", model, steps, conditional)


@recipe("sparse-transformer", "autoregressive", Kind.EXACT, Kind.EXACT, TASKS, "Child, Gray, Radford & Sutskever, 2019")
def sparse_transformer(
    target: Target,
    width: int = 64,
    layers: int = 4,
    stride: int | None = None,
    conditional: bool = False,
    steps: int | None = None,
) -> Composition:
    """Transformer of factorised attention: rows and columns of images, blocks and their summaries of all else.

    stride None: the width of images, otherwise the square root of the number of elements.
    conditional: on the label. steps None: 9000 on text, 1400 otherwise.
    Child et al., 2019, arXiv:1904.10509.
    """
    space, tokens = target.space, _tokens(target.space)
    grid = tokens.cut(space.shape).grid
    step = stride or (grid[-1] if len(grid) == 2 else side(grid[0]))
    pattern: Pattern = StridedAttention(step) if len(grid) == 2 else FixedAttention(step, max(1, step // 4))
    model = transformer(target, Shift(width), layers, Attention(HEADS, pattern), tokens, conditional)
    return _composition(target, "sparse-transformer", model, steps, conditional)


@recipe("transformer-lm", "autoregressive", Kind.EXACT, Kind.EXACT, TASKS, "Radford et al., 2019; Su et al., 2021")
def transformer_lm(
    target: Target, width: int = 128, layers: int = 4, dropout: float = 0.0, conditional: bool = False, steps: int | None = None
) -> Composition:
    """Transformer language model with rotary positions, over characters, tokens or any other elements in turn.

    conditional: on the label. steps None: 9000 on text, 1400 otherwise.
    Vaswani et al., 2017, arXiv:1706.03762; rotary positions: Su et al., 2021, arXiv:2104.09864.
    """
    attention = Attention(HEADS, rotary=True, dropout=dropout)
    model = transformer(target, Shift(width), layers, attention, _tokens(target.space), conditional)
    return _composition(target, "transformer-lm", model, steps, conditional)
