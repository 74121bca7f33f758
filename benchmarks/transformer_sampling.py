"""Transformer, 784 tokens, 4 layers of width 128, batch 8: cached sampling beside one full pass per token, in one run.

Rows differ in their attention pattern. Both ways give the same samples from the same seed (checked on 49 tokens, in float64).
Each naive pass costs the same, so its total is the measured time of --passes passes times 784 / passes; --passes 784 measures
it whole. Usage: python benchmarks/transformer_sampling.py [--passes 12]
"""

from __future__ import annotations

import argparse
import time

import torch

from genalloy.heads.discrete import Bernoulli
from genalloy.models.autoregressive import Autoregressive, naive_sample
from genalloy.networks.causal import CausalNet, Shift
from genalloy.networks.patterns import Dense, Fixed, LocalPatches, Pattern, Strided
from genalloy.networks.places import Places
from genalloy.networks.transformer import Attention, blocks


def model(side: int, pattern: Pattern, width: int = 128, layers: int = 4) -> Autoregressive:
    """A transformer of bits over side x side tokens."""
    length = side * side
    stack = blocks(width, length, layers, Attention(4, pattern))
    network = CausalNet((length,), 1, Shift(width), stack, Places((length,), width))
    return Autoregressive(network, Bernoulli(), (length,)).eval()


def patterns(side: int) -> dict[str, Pattern]:
    return {
        "dense": Dense(),
        "local, 2-D": LocalPatches(side, (7, 7), (4, 4)),
        "strided": Strided(side),
        "fixed": Fixed(side, 4),
    }


def same(pattern: Pattern) -> bool:
    """Whether cached and naive samples agree under one seed, in float64."""
    distribution = model(7, pattern, 32, 2).double()()
    torch.manual_seed(1)
    cached = distribution.sample((4,))
    torch.manual_seed(1)
    return bool((cached == naive_sample(distribution, (4,))).all())


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=28)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--passes", type=int, default=12)
    options = parser.parse_args()
    torch.set_num_threads(1)
    length = options.side**2
    print(f"transformer, {length} tokens, 4 layers of width 128, batch {options.batch}, one thread, float32, CPU seconds")
    print(f"{'pattern':12}{'cached':>10}{'naive':>10}{'ratio':>8}   same samples (49 tokens)")
    small = patterns(7)
    for name, pattern in patterns(options.side).items():
        torch.manual_seed(0)
        part = model(options.side, pattern)
        part.network(torch.zeros(options.batch, length))
        start = time.process_time()
        x = part().sample((options.batch,))
        cached = time.process_time() - start
        start = time.process_time()
        for _ in range(options.passes):
            part.network(x)
        naive = (time.process_time() - start) * length / options.passes
        print(f"{name:12}{cached:10.2f}{naive:10.1f}{naive / cached:8.1f}   {same(small[name])}", flush=True)
    note = "measured" if options.passes >= length else f"from {options.passes} of {length} passes"
    print(f"naive: {note}")


if __name__ == "__main__":
    main()
