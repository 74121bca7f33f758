"""Images pixel by pixel, 28 x 28, 16 at once: cached sampling beside one full pass per pixel, in one run.

Plain PixelCNN (64 channels in 8 masked convolutions), PixelSNAIL, Row LSTM, Diagonal BiLSTM, as in the papers' smaller set-ups.
Both ways give the same images from the same seed (checked in float64 on --check pixels a side). Each naive pass costs the
same, so its total is the measured time of --passes passes times 784 / passes. Process time, one thread.
Usage: python benchmarks/pixel_sampling.py [--passes 20] [--only row]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

from genalloy.heads.discrete import Bernoulli
from genalloy.models.autoregressive import Autoregressive, naive_sample
from genalloy.networks.causal import CausalLayer, CausalNet, Pixels
from genalloy.networks.entry import OneHot
from genalloy.networks.pixel_rnn import DiagonalBiLSTM, RowLSTM
from genalloy.networks.places import Places
from genalloy.networks.plain_pixel import MaskedStart, ResidualBlock, Size
from genalloy.networks.snail import Snail, SnailBlocks

Layers = Callable[[Size], list[CausalLayer]]
CONTENDERS: dict[str, tuple[int, Layers]] = {
    "PixelCNN, 7x7 and 7 blocks of 64 channels": (128, lambda size: [ResidualBlock(128, size) for _ in range(7)]),
    "PixelCNN, 7x7 and 7 blocks of 32 channels": (64, lambda size: [ResidualBlock(64, size) for _ in range(7)]),
    "PixelSNAIL, 2 blocks, width 64": (64, lambda size: [SnailBlocks(64, size, Snail(2, 2))]),
    "Row LSTM, 1 layer, h = 32": (64, lambda size: [RowLSTM(64, size)]),
    "Row LSTM, 7 layers, h = 16": (32, lambda size: [RowLSTM(32, size) for _ in range(7)]),
    "Diagonal BiLSTM, 1 layer, h = 32": (64, lambda size: [DiagonalBiLSTM(64, size)]),
    "Diagonal BiLSTM, 7 layers, h = 16": (32, lambda size: [DiagonalBiLSTM(32, size) for _ in range(7)]),
}


def model(side: int, width: int, layers: Layers) -> Autoregressive:
    """Bits over side x side pixels."""
    size = (side, side)
    every: list[torch.nn.Module] = list(layers(size))
    net = CausalNet((1, *size), 1, MaskedStart(width, size, wrap=True), every, Places(size, width), Pixels(), OneHot(2))
    return Autoregressive(net, Bernoulli(), (1, *size)).eval()


def same(side: int, width: int, layers: Layers) -> bool:
    """Whether cached and naive samples agree under one seed, in float64."""
    distribution = model(side, width, layers).double()()
    torch.manual_seed(1)
    cached = distribution.sample((4,))
    torch.manual_seed(1)
    return bool((cached == naive_sample(distribution, (4,))).all())


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=28)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--passes", type=int, default=20)
    parser.add_argument("--check", type=int, default=7)
    parser.add_argument("--only", default="", help="contenders whose names hold these words")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    pixels = options.side**2
    passes = f"naive from {options.passes} of {pixels} passes"
    print(f"{options.side} x {options.side}, {options.batch} images, one thread, float32; {passes}")
    for name, (width, layers) in CONTENDERS.items():
        if options.only.lower() not in name.lower():
            continue
        part = model(options.side, width, layers)
        start = time.process_time()
        x = part().sample((options.batch,))
        cached = time.process_time() - start
        start = time.process_time()
        for _ in range(options.passes):
            part.network(x)
        naive = (time.process_time() - start) * pixels / options.passes
        print(f"{name:<42} cached {cached:6.2f} s   naive {naive:7.1f} s   ratio {naive / cached:6.1f}   "
              f"same samples: {same(options.check, width, layers)}")  # fmt: skip


if __name__ == "__main__":
    main()
