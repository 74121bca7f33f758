"""Images pixel by pixel: plain PixelCNN, PixelSNAIL, and PixelRNN's two recurrences."""

from __future__ import annotations

from torch import nn

from genalloy.core.evidence import Kind
from genalloy.networks.causal.network import CausalLayer, Pixels
from genalloy.networks.causal.pixel_rnn import DiagonalBiLSTM, RowLSTM
from genalloy.networks.causal.pixelcnn import MaskedStart, ResidualBlock
from genalloy.networks.causal.pixelsnail import PixelSNAIL, PixelSNAILStack
from genalloy.networks.causal.positions import PositionalEmbedding
from genalloy.recipes.autoregressive import TASKS, causal, head_of
from genalloy.recipes.composition import Composition, Target
from genalloy.recipes.pieces import by_likelihood, image_size, label_shapes
from genalloy.recipes.registry import recipe
from genalloy.training.options import Adam, Training

COMPONENTS = 5
"""Of mixtures, where the data call for one."""
PLENTY = 10_000
"""Rows from which on these small networks do not overfit in the default number of steps."""


def _dropout(target: Target, dropout: float | None) -> float:
    """The given one; where None, a tenth on few rows."""
    if dropout is None:
        return 0.1 if target.rows < PLENTY else 0.0
    return dropout


def _model(target: Target, start: MaskedStart, layers: list[CausalLayer], labels: bool) -> nn.Module:
    """The pixels in raster order, their channels in turn; `labels`: given their class."""
    places = PositionalEmbedding(start.size, start.width, label_shapes(labels))
    return causal(target, head_of(target, COMPONENTS), start, layers, places, Pixels())


def _composition(target: Target, name: str, model: nn.Module, lr: float, steps: int, conditional: bool) -> Composition:
    options = Training(Adam(lr, betas=(0.9, 0.99)), ema=0.998, clip=10.0)
    return by_likelihood(target, name, model, options, 32, steps, conditional)


@recipe("pixelcnn", "autoregressive", Kind.EXACT, Kind.EXACT, TASKS, "van den Oord, Kalchbrenner & Kavukcuoglu, 2016")
def pixelcnn(
    target: Target,
    channels: int = 32,
    layers: int = 7,
    kernel: int = 3,
    dropout: float | None = None,
    conditional: bool = False,
    steps: int = 1200,
) -> Composition:
    """PixelCNN: one stack of masked convolutions, which has a blind spot at the right.

    channels: of the masked convolutions, on twice as many features. dropout None: 0.1 on fewer than 10,000 rows, otherwise none.
    conditional: on the label. Raises ValueError where the data are not images.
    van den Oord et al., 2016, arXiv:1601.06759.
    """
    size, width = image_size(target, "pixelcnn"), 2 * channels
    blocks: list[CausalLayer] = [ResidualBlock(width, size, kernel, _dropout(target, dropout)) for _ in range(layers)]
    model = _model(target, MaskedStart(width, size), blocks, conditional)
    return _composition(target, "pixelcnn", model, 3e-3, steps, conditional)


@recipe("pixelsnail", "autoregressive", Kind.EXACT, Kind.EXACT, TASKS, "Chen, Mishra, Rohaninejad & Abbeel, 2018")
def pixelsnail(
    target: Target,
    width: int = 32,
    blocks: int = 2,
    repeats: int = 2,
    dropout: float | None = None,
    conditional: bool = False,
    steps: int = 800,
) -> Composition:
    """PixelSNAIL: gated causal convolutions and attention over all earlier pixels.

    blocks of `repeats` convolutions and one attention each. dropout None: 0.1 on fewer than 10,000 rows, otherwise none.
    conditional: on the label. Raises ValueError where the data are not images.
    Chen et al., 2018, arXiv:1712.09763.
    """
    size = image_size(target, "pixelsnail")
    snail = PixelSNAILStack(blocks, repeats, dropout=_dropout(target, dropout))
    model = _model(target, MaskedStart(width, size, wrap=True), [PixelSNAIL(width, size, snail)], conditional)
    return _composition(target, "pixelsnail", model, 3e-3, steps, conditional)


@recipe("row-lstm", "autoregressive", Kind.EXACT, Kind.EXACT, TASKS, "van den Oord, Kalchbrenner & Kavukcuoglu, 2016")
def row_lstm(
    target: Target, hidden: int = 32, layers: int = 2, kernel: int = 3, conditional: bool = False, steps: int = 1200
) -> Composition:
    """Row LSTM: an LSTM down the image, all pixels of a row at once; a triangle above each pixel is seen.

    hidden: units, on twice as many features. conditional: on the label. Raises ValueError where the data are not images.
    van den Oord et al., 2016, arXiv:1601.06759.
    """
    size, width = image_size(target, "row-lstm"), 2 * hidden
    rows: list[CausalLayer] = [RowLSTM(width, size, kernel) for _ in range(layers)]
    model = _model(target, MaskedStart(width, size), rows, conditional)
    return _composition(target, "row-lstm", model, 5e-3, steps, conditional)


@recipe("diagonal-bilstm", "autoregressive", Kind.EXACT, Kind.EXACT, TASKS, "van den Oord, Kalchbrenner & Kavukcuoglu, 2016")
def diagonal_bilstm(
    target: Target, hidden: int = 16, layers: int = 3, conditional: bool = False, steps: int = 1000
) -> Composition:
    """Diagonal BiLSTM: two LSTMs along the image's diagonals; every earlier pixel is seen.

    hidden: units of each, on twice as many features; published are 1 layer of 32 and 7 of 16. conditional: on the label.
    Raises ValueError where the data are not images.
    van den Oord et al., 2016, arXiv:1601.06759.
    """
    size, width = image_size(target, "diagonal-bilstm"), 2 * hidden
    diagonals: list[CausalLayer] = [DiagonalBiLSTM(width, size) for _ in range(layers)]
    model = _model(target, MaskedStart(width, size, wrap=True), diagonals, conditional)
    return _composition(target, "diagonal-bilstm", model, 5e-3, steps, conditional)
