"""Observations as one flat sequence: dilated or plain convolutions, recurrences, and linear prediction along it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import nn

from genalloy.core.evidence import Kind
from genalloy.heads.discrete import Categorical, LogisticMixture
from genalloy.heads.head import Head
from genalloy.models.linear_prediction import EvenGrid, LinearPrediction, MuLawGrid
from genalloy.networks.causal.network import CausalLayer, Frames, Pixels, Shift, Singles
from genalloy.networks.causal.positions import PositionalEmbedding
from genalloy.networks.causal.recurrent import GRU, LSTM, Recurrent
from genalloy.networks.causal.wavenet import CausalConvolution, WaveNet, doubling
from genalloy.recipes.autoregressive import TASKS, causal, head_of
from genalloy.recipes.composition import Composition, Target
from genalloy.recipes.pieces import by_likelihood, label_shapes
from genalloy.recipes.registry import recipe
from genalloy.training.options import Adam, Training

COMPONENTS = 10
"""Of mixtures, where the data or the setting call for one."""
FEW = 4
"""Up to so many entries of a step are generated one after another; of more, at once."""
BATCH, ELEMENTS = 64, 16_384
"""Rows of a batch at most, and about how many elements it holds."""

CELLS: dict[str, LSTM | GRU] = {"lstm": LSTM(), "gru": GRU()}
GRIDS: dict[str, MuLawGrid | EvenGrid] = {"mu-law": MuLawGrid(), "even": EvenGrid()}
HEADS: dict[str, Callable[[int], Head]] = {
    "categorical": Categorical,
    "logistics": lambda levels: LogisticMixture(levels, COMPONENTS),
}


@recipe("raster-cnn", "autoregressive", Kind.EXACT, Kind.EXACT, TASKS, "van den Oord, Kalchbrenner & Kavukcuoglu, 2016")
def raster_cnn(
    target: Target,
    width: int = 48,
    layers: int = 6,
    kernel: int = 9,
    dropout: float = 0.1,
    conditional: bool = False,
    steps: int = 1000,
) -> Composition:
    """Causal convolutions along the flattened observation; sees 1 + layers * (kernel - 1) earlier entries.

    conditional: on the label.
    van den Oord et al., 2016, arXiv:1601.06759, on images.
    """
    stack: list[CausalLayer] = [CausalConvolution(width, kernel, 1, dropout) for _ in range(layers)]
    return _raster(target, "raster-cnn", width, stack, conditional, steps)


@recipe("raster-rnn", "autoregressive", Kind.EXACT, Kind.EXACT, TASKS, "Hochreiter & Schmidhuber, 1997; Graves, 2013")
def raster_rnn(
    target: Target,
    width: int = 64,
    layers: int = 1,
    cell: str = "lstm",
    dropout: float = 0.1,
    conditional: bool = False,
    steps: int = 1000,
) -> Composition:
    """Recurrent network along the flattened observation; sees all earlier entries.

    cell: "lstm" or "gru". conditional: on the label. Raises ValueError on another cell.
    Hochreiter & Schmidhuber, 1997; Graves, 2013, arXiv:1308.0850.
    """
    chosen = _named(CELLS, cell, "cell")
    stack: list[CausalLayer] = [Recurrent(width, chosen, dropout=dropout) for _ in range(layers)]
    return _raster(target, "raster-rnn", width, stack, conditional, steps)


@recipe("wavenet", "autoregressive", Kind.EXACT, Kind.EXACT, TASKS, "van den Oord et al., 2016 (WaveNet)")
def wavenet(
    target: Target,
    width: int = 32,
    depth: int = 9,
    repeats: int = 2,
    head: str = "categorical",
    conditional: bool = False,
    steps: int = 1000,
) -> Composition:
    """Gated dilated convolutions: dilations 1, 2, ..., 2^(depth - 1), `repeats` times; the label enters every gate.

    depth: at most so that the largest dilation fits the sequence. head: of integers, "categorical" or "logistics", a mixture of
    discretised ones. conditional: on the label. Rows (T, F) of more than 4 entries are independent given the rows before.
    Raises ValueError on another head.
    van den Oord et al., 2016, arXiv:1609.03499.
    """
    tokens = Frames() if len(target.space.shape) == 2 and target.space.shape[1] > FEW else _tokens(target)
    grid = tokens.cut(target.space.shape).grid
    dilations = doubling(min(depth, max(1, (math.prod(grid) - 1).bit_length())), repeats)
    levels, make = target.space.levels, _named(HEADS, head, "head")
    ends = head_of(target, COMPONENTS) if levels is None or levels == 2 else make(levels)
    layer = WaveNet(width, dilations, conditioned=conditional)
    places = PositionalEmbedding(grid, width, label_shapes(conditional), positions=False, spread=False)
    model = causal(target, ends, Shift(width), [layer], places, tokens)
    return _composition(target, "wavenet", model, conditional, steps)


@recipe("linear-prediction", "autoregressive", Kind.EXACT, Kind.EXACT, TASKS, "Atal & Hanauer, 1971")
def linear_prediction(
    target: Target, order: int = 24, loudness: bool = True, grid: str = "mu-law", conditional: bool = False, steps: int = 300
) -> Composition:
    """Linear autoregression of amplitudes with a logistic residual on the data's own levels: the baseline for sound.

    loudness: whether the residual's scale follows that of the window. grid: what levels stand for, "mu-law" or "even".
    conditional: coefficients for each label. Raises ValueError where the data are not sequences (T,) of integers.
    Atal & Hanauer, 1971.
    """
    space, levels = target.space, target.space.levels
    if levels is None or len(space.shape) != 1:
        raise ValueError(
            f"linear-prediction needs sequences (T,) of integers; found {space.kind} of shape {space.shape}; try wavenet"
        )
    classes = target.classes if conditional else 0
    part = LinearPrediction(space.shape, levels, order, classes, loudness, _named(GRIDS, grid, "grid"))
    return _composition(target, "linear-prediction", part, conditional, steps)


def _tokens(target: Target) -> Singles | Pixels:
    return Pixels() if len(target.space.shape) == 2 else Singles()


def _raster(target: Target, name: str, width: int, layers: list[CausalLayer], conditional: bool, steps: int) -> Composition:
    """One element after another, whatever their shape; the label's features are the same at every place."""
    tokens = Singles()
    places = PositionalEmbedding(tokens.cut(target.space.shape).grid, width, label_shapes(conditional), spread=False)
    model = causal(target, head_of(target, COMPONENTS), Shift(width), layers, places, tokens)
    return _composition(target, name, model, conditional, steps)


def _composition(target: Target, name: str, model: nn.Module, conditional: bool, steps: int) -> Composition:
    dims = target.space.dims
    options = Training(Adam(4e-3, betas=(0.9, 0.99)), ema=0.998, clip=float(max(100, dims)))
    batch = max(2, min(BATCH, ELEMENTS // dims))
    return by_likelihood(target, name, model, options, batch, steps, conditional)


def _named(known: dict[str, Any], name: str, setting: str) -> Any:
    if name not in known:
        raise ValueError(f"found {setting} {name!r}, expected one of {', '.join(known)}")
    return known[name]
