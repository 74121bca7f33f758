"""Masked autoregressive flow, D = 43, 5 layers of 2 x 512: sampling and a training step, beside zuko's, in one run.

Both compute the same architecture in float32 on one thread; the ratio counts, not the milliseconds. zuko inverts each
layer by D full passes; here each hidden unit is computed once. Usage: python benchmarks/maf_sampling.py [--draws 1000]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
import zuko
from torch import nn

from genalloy.heads.gaussian import StandardNormal
from genalloy.models.flow import Flow
from genalloy.networks.masked import Hidden
from genalloy.transforms.autoregressive import masked

DIMS, LAYERS, WIDTHS = 43, 5, (512, 512)


def ours() -> Flow:
    """Five MAF layers in alternating order."""
    orders = (None, tuple(reversed(range(DIMS))))
    layers = [masked(DIMS, Hidden(WIDTHS, nn.ReLU), orders[i % 2]) for i in range(LAYERS)]
    return Flow(StandardNormal((DIMS,)), layers, (DIMS,))


def seconds(call: Callable[[], object], repeats: int) -> float:
    """Least processor time of a call, after one to warm up: the run that other jobs disturbed least."""
    call()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


def draws(model: nn.Module, count: int) -> torch.Tensor:
    """Samples without gradients."""
    return model().sample((count,))


def training_step(model: nn.Module, x: torch.Tensor) -> Callable[[], None]:
    """One step of maximum likelihood with Adam."""
    optimizer = torch.optim.Adam(model.parameters(), 1e-4)

    def step() -> None:
        loss = -model().log_prob(x).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    models = {"genalloy": ours(), "zuko": zuko.flows.MAF(DIMS, transforms=LAYERS, hidden_features=WIDTHS)}
    x = torch.randn(options.batch, DIMS)
    sampling = {k: seconds(partial(draws, m, options.draws), 5) for k, m in models.items()}
    training = {k: seconds(training_step(m, x), 40) for k, m in models.items()}
    print(f"MAF, D = {DIMS}, {LAYERS} layers of {WIDTHS}, one thread, float32")
    for what, times in (("sample " + str(options.draws), sampling), (f"training step, batch {options.batch}", training)):
        ratio = times["zuko"] / times["genalloy"]
        print(f"{what:28} genalloy {times['genalloy'] * 1e3:8.1f} ms   zuko {times['zuko'] * 1e3:8.1f} ms   ratio {ratio:5.1f}")


if __name__ == "__main__":
    main()
