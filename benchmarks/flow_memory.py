"""What the memory modes of a stack keep and cost: 16 convolutional couplings on 12x16x16, one process, ratios in one run.

    python benchmarks/flow_memory.py [--couplings 16] [--rows 8] [--repeats 5]
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch import Tensor

from genalloy.networks.convolution import ConvNet, Filters
from genalloy.transforms.coupling import ChannelMask, Coupling
from genalloy.transforms.image import InvertibleConvolution
from genalloy.transforms.stack import Checkpoint, Invert, Memory, Stack, Store
from genalloy.transforms.univariate import Affine

SHAPE = (12, 16, 16)


def stack(couplings: int, memory: Memory) -> Stack:
    torch.manual_seed(0)
    layers = []
    for _ in range(couplings):
        parting = ChannelMask(SHAPE)
        network = ConvNet((parting.still_shape,), 2 * parting.moved_shape[0], Filters(16))
        layers += [InvertibleConvolution(SHAPE[0]), Coupling(parting, network, Affine())]
    return Stack(layers, memory)


def step(transform: Stack, x: Tensor) -> Tensor:
    z, ladj = transform.encode(x)
    (0.5 * z.square().flatten(1).sum(1) - ladj).mean().backward()
    return torch.cat([p.grad.flatten() for p in transform.parameters()])


def kept(transform: Stack, x: Tensor) -> int:
    """Bytes that the forward pass leaves for the backward pass, parameters and the input not counted."""
    sizes: dict[int, int] = {}
    own = {p.data_ptr() for p in (*transform.parameters(), *transform.buffers(), x)}

    def note(t: Tensor) -> Tensor:
        storage = t.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        alive = transform.encode(x)
    return sum(n for pointer, n in sizes.items() if pointer not in own and alive is not None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--couplings", type=int, default=16)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    x = torch.randn(options.rows, *SHAPE)
    modes = {type(m).__name__: stack(options.couplings, m) for m in (Store(), Checkpoint(), Invert())}
    truth, seconds = step(modes["Store"], x), {name: [] for name in modes}
    print(f"{options.couplings} couplings, {options.rows} rows of {SHAPE}, 1 thread")
    for _ in range(options.repeats):
        for name, transform in modes.items():
            transform.zero_grad()
            start = time.process_time()
            gradient = step(transform, x)
            seconds[name].append(time.process_time() - start)
            torch.testing.assert_close(gradient, truth, rtol=1e-3, atol=1e-3 * float(truth.abs().max()))
    base = statistics.median(seconds["Store"])
    for name, transform in modes.items():
        off = float((step_fresh(transform, x) - truth).abs().max() / truth.abs().max())
        ratio = statistics.median(seconds[name]) / base
        print(f"{name:10} keeps {kept(transform, x) / 2**20:7.2f} MiB   time x{ratio:.2f}   gradients off by {off:.1g}")


def step_fresh(transform: Stack, x: Tensor) -> Tensor:
    transform.zero_grad()
    return step(transform, x)


if __name__ == "__main__":
    main()
