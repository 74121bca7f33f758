"""GatedPixelCNN, 28 x 28, 64 channels, 8 layers, 16 images: cached sampling beside one full pass per pixel, in one run.

Both give the same images from the same seed (checked on --check pixels a side). Each naive pass costs the same, so its total
is the measured time of --passes passes times 784 / passes; --passes 784 measures it whole.
Usage: python benchmarks/pixelcnn_sampling.py [--passes 40]
"""

from __future__ import annotations

import argparse
import time

import torch

from genalloy.heads.discrete import Bernoulli
from genalloy.models.autoregressive import Autoregressive, naive_sample
from genalloy.networks.pixel import GatedPixelCNN, Stack


def model(side: int) -> Autoregressive:
    """A binary GatedPixelCNN over side x side pixels."""
    shape = (1, side, side)
    return Autoregressive(GatedPixelCNN(shape, 1, Stack(channels=64, layers=8)), Bernoulli(), shape).eval()


def same(side: int, batch: int) -> bool:
    """Whether cached and naive samples agree under one seed, in float64."""
    distribution = model(side).double()()
    torch.manual_seed(1)
    cached = distribution.sample((batch,))
    torch.manual_seed(1)
    return bool((cached == naive_sample(distribution, (batch,))).all())


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=28)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--passes", type=int, default=40)
    parser.add_argument("--check", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    part, pixels = model(options.side), options.side**2
    start = time.process_time()
    x = part().sample((options.batch,))
    cached = time.process_time() - start
    start = time.process_time()
    for _ in range(options.passes):
        part.network(x)
    naive = (time.process_time() - start) * pixels / options.passes
    note = "measured" if options.passes >= pixels else f"from {options.passes} of {pixels} passes"
    print(f"GatedPixelCNN {options.side} x {options.side}, 64 channels, 8 layers, {options.batch} images, one thread, float32")
    print(f"cached {cached:8.2f} s   naive {naive:8.1f} s ({note})   ratio {naive / cached:6.1f}")
    print(f"same samples on {options.check} x {options.check}: {same(options.check, 4)}")


if __name__ == "__main__":
    main()
