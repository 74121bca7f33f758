"""Cached sampling over a sequence beside one full pass per element, in one run: WaveNet, the raster CNN, the raster LSTM.

Both give the same samples from the same seed (checked in float64 on --check elements). Each naive pass costs the same, so its
total is the measured time of --passes passes times T / passes. Process time, one thread.
Usage: python benchmarks/wavenet_sampling.py [--length 1024] [--passes 40]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

from genalloy.heads.discrete import Categorical
from genalloy.models.autoregressive import Autoregressive, naive_sample
from genalloy.networks.causal import CausalLayer, CausalNet, Shift
from genalloy.networks.dilated import CausalConvolution, WaveNet, doubling, reach
from genalloy.networks.entry import Scaled
from genalloy.networks.places import Places
from genalloy.networks.recurrent import GRU, Recurrent

LEVELS = 256
Layers = Callable[[int], list[CausalLayer]]
CONTENDERS: dict[str, Layers] = {
    "WaveNet, 10 blocks of kernel 2, dilations 1..512": lambda width: [WaveNet(width, doubling(10))],
    "WaveNet, 20 blocks of kernel 2, dilations 1..512 twice": lambda width: [WaveNet(width, doubling(10, 2))],
    "WaveNet, 10 blocks of kernel 3, dilations 1..512": lambda width: [WaveNet(width, doubling(10), 3)],
    "raster CNN, 6 layers of kernel 9": lambda width: [CausalConvolution(width, 9) for _ in range(6)],
    "raster LSTM, 1 layer": lambda width: [Recurrent(width)],
    "raster GRU, 1 layer": lambda width: [Recurrent(width, GRU())],
}


def model(length: int, width: int, layers: Layers) -> Autoregressive:
    """(length,) codes given a vector of three, which enters every gate of a WaveNet."""
    places = Places((length,), width, ((3,),), positions=False, spread=False)
    net = CausalNet((length,), LEVELS, Shift(width), layers(width), places, entry=Scaled(127.5, 127.5))
    return Autoregressive(net, Categorical(LEVELS), (length,), ((3,),)).eval()


def same(length: int, layers: Layers) -> bool:
    """Whether cached and naive samples agree under one seed, in float64."""
    distribution = model(length, 16, layers).double()(torch.randn(4, 3, dtype=torch.float64))
    torch.manual_seed(1)
    cached = distribution.sample()
    torch.manual_seed(1)
    return bool((cached == naive_sample(distribution)).all())


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--passes", type=int, default=40)
    parser.add_argument("--check", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"{options.length} elements, width {options.width}, {options.batch} rows, one thread, float32; naive from "
          f"{options.passes} of {options.length} passes")  # fmt: skip
    for name, layers in CONTENDERS.items():
        distribution = model(options.length, options.width, layers)(torch.randn(options.batch, 3))
        start = time.process_time()
        x = distribution.sample()
        cached = time.process_time() - start
        start = time.process_time()
        for _ in range(options.passes):
            distribution.network(x, distribution.context)
        naive = (time.process_time() - start) * options.length / options.passes
        print(f"{name:<56} cached {cached:6.2f} s   naive {naive:7.1f} s   ratio {naive / cached:6.1f}   "
              f"same samples: {same(options.check, layers)}")  # fmt: skip
    print(f"earlier elements seen: {reach(doubling(10), 2):,} by ten blocks of kernel 2, {reach((1,) * 6, 9)} by the raster CNN")


if __name__ == "__main__":
    main()
