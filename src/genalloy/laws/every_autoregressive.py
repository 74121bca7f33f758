"""Every autoregressive part of the library, small: one line each. A new causal layer adds its line here."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from genalloy.core.distribution import Shape
from genalloy.core.evidence import Kind
from genalloy.heads.discrete import Categorical, LogisticMixture
from genalloy.heads.filtered import Filtered, Temperature
from genalloy.heads.gaussian import Gaussian
from genalloy.heads.head import Head
from genalloy.heads.mixture import GaussianMixture
from genalloy.laws.claims import Claim, Claims
from genalloy.laws.every_transform import SMALL, Shapes
from genalloy.laws.listed import BOUND, LEVELS, Listed, Make, integers
from genalloy.models.any_order import AnyOrder, EveryOrder, FixedOrder, Parallel, RandomOrder
from genalloy.models.autoregressive import Autoregressive
from genalloy.models.linear_prediction import LinearPrediction
from genalloy.models.ngram import NGram
from genalloy.networks.attention import AttentionConfig
from genalloy.networks.causal.convolution import Size
from genalloy.networks.causal.gated_pixelcnn import GatedPixelCNN, GatedStack
from genalloy.networks.causal.made import MADE
from genalloy.networks.causal.network import CausalNet, Pixels, Shift
from genalloy.networks.causal.pixel_channels import SharedMixture, mixture_width
from genalloy.networks.causal.pixel_rnn import DiagonalBiLSTM, RowLSTM
from genalloy.networks.causal.pixelcnn import MaskedStart, ResidualBlock
from genalloy.networks.causal.pixelcnn_plusplus import PixelCNNPlusPlus, PixelCNNPlusPlusStack
from genalloy.networks.causal.pixelsnail import PixelSNAIL, PixelSNAILStack
from genalloy.networks.causal.positions import PositionalEmbedding
from genalloy.networks.causal.recurrent import GRU, LSTM, Recurrent
from genalloy.networks.causal.sparse_attention import StridedAttention
from genalloy.networks.causal.transformer import Attention, blocks
from genalloy.networks.causal.wavenet import CausalConvolution, WaveNet
from genalloy.networks.input_embedding import OneHot, ScaledInput
from genalloy.networks.order_agnostic import OrderAgnosticAttention, OrderAgnosticMLP, OrderAgnosticUNet, TrunkConfig, UNetConfig

SQUARE = (1, 2, 2)
"""The smallest image with rows and columns."""


def _made(head: Head, entry: OneHot | None = None) -> Make:
    more = () if entry is None else (entry,)
    return lambda e, c: Autoregressive(MADE(e, head.width, SMALL, None, c, *more), head, e, c)


def _gated_pixelcnn(e: Shape, c: Shapes) -> nn.Module:
    network = GatedPixelCNN(e, LEVELS, GatedStack(channels=4, layers=1, places=2), c, OneHot(LEVELS))
    return Autoregressive(network, Categorical(LEVELS), e, c)


def _any_order(e: Shape, c: Shapes) -> AnyOrder:
    return AnyOrder(OrderAgnosticMLP(e, LEVELS, TrunkConfig(16, 1), c, OneHot(LEVELS)), Categorical(LEVELS), e, c)


def _any_order_reals(e: Shape, c: Shapes) -> nn.Module:
    network = OrderAgnosticAttention(e, 6, AttentionConfig(4, 1, 2), c)
    return AnyOrder(network, GaussianMixture(2), e, c, estimate=RandomOrder())


def _any_order_image(e: Shape, c: Shapes) -> nn.Module:
    network = OrderAgnosticUNet(e, LEVELS, UNetConfig(8), c, OneHot(LEVELS))
    return AnyOrder(network, Categorical(LEVELS), e, c, Parallel((1, 3)), EveryOrder())


def _one_order(e: Shape, c: Shapes) -> nn.Module:
    return _any_order(e, c).under(FixedOrder(tuple(reversed(range(math.prod(e))))))


def _raster(layer: Callable[[], nn.Module], positions: bool = True) -> Make:
    """Entries one after another through one causal layer of width 4."""

    def make(e: Shape, c: Shapes) -> nn.Module:
        places = PositionalEmbedding((math.prod(e),), 4, c, positions, spread=positions)
        return Autoregressive(CausalNet(e, LEVELS, Shift(4), [layer()], places, entry=OneHot(LEVELS)), Categorical(LEVELS), e, c)

    return make


def _transformer(attention: Attention) -> Make:
    return lambda e, c: Autoregressive(_attending(attention, e, c), Categorical(LEVELS), e, c)


def _attending(attention: Attention, e: Shape, c: Shapes) -> CausalNet:
    size = math.prod(e)
    places = PositionalEmbedding((size,), 8, c, positions=not attention.rotary)
    return CausalNet(e, LEVELS, Shift(8), blocks(8, size, 2, attention), places, entry=OneHot(LEVELS))


def _plus_plus(e: Shape, c: Shapes) -> nn.Module:
    head, streams = LogisticMixture(LEVELS, 2), PixelCNNPlusPlusStack(features=4, blocks=1, resolutions=2, places=2)
    network = PixelCNNPlusPlus(e, mixture_width(e[0], 2), streams, c, OneHot(LEVELS))
    return Autoregressive(SharedMixture(network, head, ScaledInput(1.0, 1.0)), head, e, c)


def _pixels(layer: Callable[[Size], nn.Module]) -> Make:
    """Pixels one after another through a masked convolution and one causal layer of width 4."""

    def make(e: Shape, c: Shapes) -> nn.Module:
        size = (e[1], e[2])
        first, places = MaskedStart(4, size, 3, wrap=True), PositionalEmbedding(size, 4, c)
        net = CausalNet(e, LEVELS, first, [layer(size)], places, Pixels(), OneHot(LEVELS))
        return Autoregressive(net, Categorical(LEVELS), e, c)

    return make


def _ngram(e: Shape, c: Shapes) -> nn.Module:
    return NGram.of(torch.randint(0, LEVELS, (5, *e)).float(), LEVELS, 2)


def autoregressive_parts() -> tuple[Listed, ...]:
    """One line a part."""
    fixed = ("component",)
    return (
        Listed("made", _made(Gaussian()), represents=True),
        Listed("made, mixture", _made(GaussianMixture(2)), carries_gradient=False),
        integers("made, categorical", _made(Categorical(LEVELS), OneHot(LEVELS))),
        integers("made, filtered", _made(Filtered(Categorical(LEVELS), (Temperature(0.7),)), OneHot(LEVELS))),
        integers("gated pixelcnn", _gated_pixelcnn, event=SQUARE),
        integers("pixelcnn", _pixels(lambda size: ResidualBlock(4, size)), event=SQUARE),
        integers("pixelcnn++", _plus_plus, event=SQUARE),
        integers("pixelsnail", _pixels(lambda size: PixelSNAIL(4, size, PixelSNAILStack(1, 1, size=2))), event=SQUARE),
        integers("row lstm", _pixels(lambda size: RowLSTM(4, size)), event=SQUARE),
        integers("diagonal bilstm", _pixels(lambda size: DiagonalBiLSTM(4, size)), event=SQUARE),
        integers("raster cnn", _raster(lambda: CausalConvolution(4, 2, 2))),
        integers("raster lstm", _raster(lambda: Recurrent(4, LSTM()))),
        integers("raster gru", _raster(lambda: Recurrent(4, GRU(), 3))),
        integers("wavenet", _raster(lambda: WaveNet(4, (1, 2)), positions=False)),
        integers("transformer", _transformer(Attention(2, rotary=True))),
        integers("sparse transformer", _transformer(Attention(2, StridedAttention(2, heads=True))), event=SQUARE),
        integers("any order", _any_order, Claims(Claim.of(Kind.LOWER, False), Claim.of(Kind.UPPER, True))),
        Listed("any order, reals", _any_order_reals, BOUND, carries_gradient=False),
        integers("any order, fixed", _one_order),
        integers("any order, enumerated", _any_order_image, event=SQUARE),
        Listed("n-gram", _ngram, roles=fixed, conditional=False, discrete=True, carries_gradient=False, levels=LEVELS),
        Listed(
            "linear prediction",
            lambda e, c: LinearPrediction(e, LEVELS, 2),
            roles=fixed,
            conditional=False,
            discrete=True,
            carries_gradient=False,
            levels=LEVELS,
        ),
    )
