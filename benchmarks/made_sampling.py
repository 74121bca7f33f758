"""Sampling a MADE of 784 bits through its cache against one full pass per bit, in one run.

    python benchmarks/made_sampling.py [--draws 1000] [--passes 40]

The naive time is extrapolated from `passes` of its 784 full passes; samples are compared on a small one.
"""

from __future__ import annotations

import argparse
import time

import torch

from genalloy.heads.discrete import Bernoulli
from genalloy.models.autoregressive import Autoregressive, naive_sample
from genalloy.networks.masked import MADE, Hidden


def model(dims: int, widths: tuple[int, ...]) -> Autoregressive:
    torch.manual_seed(0)
    return Autoregressive(MADE((dims,), 1, Hidden(widths)), Bernoulli(), (dims,)).eval()


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--passes", type=int, default=40)
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    small = model(49, (64, 64)).double()()
    torch.manual_seed(1)
    cached = small.sample((8,))
    torch.manual_seed(1)
    print(f"49 bits, float64: samples equal to the naive ones: {bool(torch.equal(cached, naive_sample(small, (8,))))}")
    for widths in ((500,), (500, 500), (1000, 1000)):
        part = model(784, widths)
        distribution = part()
        distribution.sample((8,))
        start = time.process_time()
        distribution.sample((wanted.draws,))
        fast = time.process_time() - start
        x = torch.zeros(wanted.draws, 784)
        part.network(x)
        start = time.process_time()
        for _ in range(wanted.passes):
            part.network(x)
        slow = (time.process_time() - start) * 784 / wanted.passes
        print(f"784 bits, {widths}, {wanted.draws} draws: cached {fast:.2f} CPU-s, naive {slow:.1f}, {slow / fast:.0f} times")


if __name__ == "__main__":
    main()
