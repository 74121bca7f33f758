"""PixelCNN++, 28 x 28, one channel, 16 images: cached sampling beside one full pass per pixel, in one run, at two sizes.

Both give the same images from the same seed (checked on --check pixels a side). Each naive pass costs the same, so its total
is the measured time of --passes passes times 784 / passes. One thread, processor time.
Usage: python benchmarks/plusplus_sampling.py [--passes 5]
"""

from __future__ import annotations

import argparse
import time

import torch

from genalloy.heads.discrete import LogisticMixture
from genalloy.models.autoregressive import Autoregressive, naive_sample
from genalloy.networks.channels import SharedMixture, mixture_width
from genalloy.networks.entry import Scaled
from genalloy.networks.plusplus import PixelCNNPlusPlus, Streams

SIZES = {"small": Streams(features=24, blocks=1, resolutions=2), "middle": Streams(features=64, blocks=2, resolutions=3)}


def model(side: int, streams: Streams) -> Autoregressive:
    """Five logistics over 256 levels, side x side pixels."""
    shape, head, entry = (1, side, side), LogisticMixture(256, 5), Scaled(127.5, 127.5)
    pixels = PixelCNNPlusPlus(shape, mixture_width(1, 5), streams, entry=entry)
    return Autoregressive(SharedMixture(pixels, head, entry), head, shape).eval()


def same(side: int, streams: Streams) -> bool:
    """Whether cached and naive samples agree under one seed, in float64."""
    distribution = model(side, streams).double()()
    torch.manual_seed(1)
    cached = distribution.sample((4,))
    torch.manual_seed(1)
    return bool((cached == naive_sample(distribution, (4,))).all())


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=28)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--check", type=int, default=6)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"PixelCNN++ {options.side} x {options.side}, {options.batch} images, one thread, float32")
    for name, streams in SIZES.items():
        torch.manual_seed(0)
        part, pixels = model(options.side, streams), options.side**2
        start = time.process_time()
        x = part().sample((options.batch,))
        cached = time.process_time() - start
        part.network(x)
        start = time.process_time()
        for _ in range(options.passes):
            part.network(x)
        naive = (time.process_time() - start) * pixels / options.passes
        count = sum(p.numel() for p in part.parameters())
        print(f"{name}: {streams}, {count:,} parameters")
        note = f"from {options.passes} of {pixels} passes"
        print(f"  cached {cached:7.2f} s   naive {naive:8.1f} s ({note})   {naive / cached:6.1f} times")
        print(f"  same samples on {options.check} x {options.check}: {same(options.check, streams)}")


if __name__ == "__main__":
    main()
