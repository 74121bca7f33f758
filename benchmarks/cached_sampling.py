"""Sampling autoregressive models through their caches beside one full pass per step, in one run.

Both ways give the same samples from the same seed (checked in float64 at a small size). Each naive pass costs the same, so its
total is the measured time of --passes passes times steps / passes; as many passes as steps measure it whole. Process time, one
thread, float32. Sizes: sides of images, lengths of sequences and rows.
Usage: python benchmarks/cached_sampling.py [--only transformer] [--passes 20] [--rows 16] [--size 28]
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from genalloy.core.distribution import Shape
from genalloy.heads.discrete import Bernoulli, Categorical, LogisticMixture
from genalloy.models.autoregressive import Autoregressive, AutoregressiveDistribution, naive_sample
from genalloy.networks.causal.convolution import Size
from genalloy.networks.causal.gated_pixelcnn import GatedPixelCNN, GatedStack
from genalloy.networks.causal.made import MADE
from genalloy.networks.causal.network import CausalLayer, CausalNet, Pixels, Shift
from genalloy.networks.causal.pixel_channels import SharedMixture, mixture_width
from genalloy.networks.causal.pixel_rnn import DiagonalBiLSTM, RowLSTM
from genalloy.networks.causal.pixelcnn import MaskedStart, ResidualBlock
from genalloy.networks.causal.pixelcnn_plusplus import PixelCNNPlusPlus, PixelCNNPlusPlusStack
from genalloy.networks.causal.pixelsnail import PixelSNAIL, PixelSNAILStack
from genalloy.networks.causal.positions import PositionalEmbedding
from genalloy.networks.causal.recurrent import GRU, Recurrent
from genalloy.networks.causal.sparse_attention import DenseAttention, FixedAttention, LocalPatches, Pattern, StridedAttention
from genalloy.networks.causal.transformer import Attention, blocks
from genalloy.networks.causal.wavenet import CausalConvolution, WaveNet, doubling
from genalloy.networks.input_embedding import OneHot, ScaledInput
from genalloy.networks.mlp import Hidden

LEVELS = 256


def made(*widths: int) -> Callable[[int], Autoregressive]:
    """Rows of bits."""
    return lambda dims: Autoregressive(MADE((dims,), 1, Hidden(widths)), Bernoulli(), (dims,))


def transformer(pattern: Callable[[int], Pattern]) -> Callable[[int], Autoregressive]:
    """Four layers of width 128 over side x side bits in a row."""

    def model(side: int) -> Autoregressive:
        length, width = side * side, 128
        stack = blocks(width, length, 4, Attention(4, pattern(side)))
        return Autoregressive(
            CausalNet((length,), 1, Shift(width), stack, PositionalEmbedding((length,), width)), Bernoulli(), (length,)
        )

    return model


def raster(*layers: Callable[[int], CausalLayer]) -> Callable[[int], Autoregressive]:
    """Codes in a row, 32 wide, given a vector of three, which enters every gate of a WaveNet."""

    def model(length: int, width: int = 32) -> Autoregressive:
        places = PositionalEmbedding((length,), width, ((3,),), positions=False, spread=False)
        stack = [layer(width) for layer in layers]
        net = CausalNet((length,), LEVELS, Shift(width), stack, places, entry=ScaledInput(127.5, 127.5))
        return Autoregressive(net, Categorical(LEVELS), (length,), ((3,),))

    return model


def pixels(width: int, *layers: Callable[[int, Size], CausalLayer]) -> Callable[[int], Autoregressive]:
    """Bits over side x side pixels."""

    def model(side: int) -> Autoregressive:
        size = (side, side)
        stack, start = [layer(width, size) for layer in layers], MaskedStart(width, size, wrap=True)
        net = CausalNet((1, *size), 1, start, stack, PositionalEmbedding(size, width), Pixels(), OneHot(2))
        return Autoregressive(net, Bernoulli(), (1, *size))

    return model


def gated(stack: GatedStack) -> Callable[[int], Autoregressive]:
    """Bits over side x side pixels."""
    return lambda side: Autoregressive(GatedPixelCNN((1, side, side), 1, stack), Bernoulli(), (1, side, side))


def plusplus(streams: PixelCNNPlusPlusStack) -> Callable[[int], Autoregressive]:
    """Five logistics over 256 levels, side x side pixels."""

    def model(side: int) -> Autoregressive:
        shape, head, entry = (1, side, side), LogisticMixture(LEVELS, 5), ScaledInput(127.5, 127.5)
        net = PixelCNNPlusPlus(shape, mixture_width(1, 5), streams, entry=entry)
        return Autoregressive(SharedMixture(net, head, entry), head, shape)

    return model


@dataclass(frozen=True)
class Contender:
    """A model of each size, the size and rows it is timed at, and the size at which samples are compared."""

    model: Callable[[int], Autoregressive]
    size: int = 28
    rows: int = 16
    check: int = 7


WAVENETS = {
    "10 blocks of kernel 2, dilations 1..512": lambda width: WaveNet(width, doubling(10)),
    "20 blocks of kernel 2, dilations 1..512 twice": lambda width: WaveNet(width, doubling(10, 2)),
    "10 blocks of kernel 3, dilations 1..512": lambda width: WaveNet(width, doubling(10), 3),
}
PATTERNS: dict[str, Callable[[int], Pattern]] = {
    "dense": lambda side: DenseAttention(),
    "local, 2-D": lambda side: LocalPatches(side, (7, 7), (4, 4)),
    "strided": StridedAttention,
    "fixed": lambda side: FixedAttention(side, 4),
}
CONTENDERS = {
    **{f"MADE, hidden {w}": Contender(made(*w), 784, 1000, 49) for w in ((500,), (500, 500), (1000, 1000))},
    **{f"transformer, {name}": Contender(transformer(pattern), rows=8) for name, pattern in PATTERNS.items()},
    **{f"WaveNet, {name}": Contender(raster(layer), 1024, 8, 64) for name, layer in WAVENETS.items()},
    "raster CNN, 6 layers of kernel 9": Contender(raster(*6 * [lambda width: CausalConvolution(width, 9)]), 1024, 8, 64),
    "raster LSTM, 1 layer": Contender(raster(Recurrent), 1024, 8, 64),
    "raster GRU, 1 layer": Contender(raster(lambda width: Recurrent(width, GRU())), 1024, 8, 64),
    "PixelCNN, 7x7 and 7 blocks of 64 channels": Contender(pixels(128, *7 * [ResidualBlock])),
    "PixelCNN, 7x7 and 7 blocks of 32 channels": Contender(pixels(64, *7 * [ResidualBlock])),
    "gated PixelCNN, 8 layers of 64 channels": Contender(gated(GatedStack(channels=64, layers=8)), check=8),
    "PixelSNAIL, 2 blocks, width 64": Contender(pixels(64, lambda width, size: PixelSNAIL(width, size, PixelSNAILStack(2, 2)))),
    "Row LSTM, 1 layer, h = 32": Contender(pixels(64, RowLSTM)),
    "Row LSTM, 7 layers, h = 16": Contender(pixels(32, *7 * [RowLSTM])),
    "Diagonal BiLSTM, 1 layer, h = 32": Contender(pixels(64, DiagonalBiLSTM)),
    "Diagonal BiLSTM, 7 layers, h = 16": Contender(pixels(32, *7 * [DiagonalBiLSTM])),
    "PixelCNN++, 24 features, 1 block, 2 resolutions": Contender(plusplus(PixelCNNPlusPlusStack(24, 1, 2))),
    "PixelCNN++, 64 features, 2 blocks, 3 resolutions": Contender(plusplus(PixelCNNPlusPlusStack(64, 2, 3))),
}


def law(part: Autoregressive, rows: int) -> tuple[AutoregressiveDistribution, Shape]:
    """The distribution and the sample shape that make so many rows, given random vectors where the model has a context."""
    like = next(part.parameters())
    given = [torch.randn(rows, *shape, dtype=like.dtype) for shape in part.context_shapes]
    return (part(given[0]), ()) if given else (part(), (rows,))


def same(part: Autoregressive, rows: int = 8) -> bool:
    """Whether cached and naive samples agree under one seed, in float64."""
    distribution, shape = law(part.double(), rows)
    torch.manual_seed(1)
    cached = distribution.sample(shape)
    torch.manual_seed(1)
    return bool((cached == naive_sample(distribution, shape)).all())


def timed(part: Autoregressive, rows: int, passes: int) -> tuple[float, float]:
    """Seconds of cached sampling, and of naive sampling: one full pass for each step."""
    distribution, shape = law(part, rows)
    distribution.network(torch.zeros(rows, *part.event_shape), distribution.context)
    start = time.process_time()
    x = distribution.sample(shape)
    cached = time.process_time() - start
    start = time.process_time()
    for _ in range(passes):
        distribution.network(x, distribution.context)
    return cached, (time.process_time() - start) * math.prod(part.event_shape) / passes


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="contenders whose names hold these words")
    parser.add_argument("--passes", type=int, default=20)
    parser.add_argument("--rows", type=int, default=0, help="0: each contender's own")
    parser.add_argument("--size", type=int, default=0, help="0: each contender's own")
    options = parser.parse_args()
    torch.set_num_threads(1)
    chosen = {name: one for name, one in CONTENDERS.items() if options.only.lower() in name.lower()}
    heading = f"process seconds, naive from {options.passes} passes"
    print(f"{heading:<55}{'size':>5}{'rows':>6}{'cached':>9}{'naive':>10}{'ratio':>8}")
    for name, one in chosen.items():
        torch.manual_seed(0)
        size, rows = options.size or one.size, options.rows or one.rows
        cached, naive = timed(one.model(size).eval(), rows, options.passes)
        row = f"{name:<55}{size:5}{rows:6}{cached:9.2f}{naive:10.1f}{naive / cached:8.1f}"
        print(f"{row}   same samples at {one.check}: {same(one.model(one.check).eval())}", flush=True)


if __name__ == "__main__":
    main()
