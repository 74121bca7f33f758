"""MAF and NSF beside zuko's and nflows': a training step and sampling, D = 43, the same widths, in one run.

All compute the same architecture in float32 on one thread; the ratio counts, not the milliseconds. Both peers invert each
autoregressive layer by D full passes; here each hidden unit is computed once. Runs alternate between the libraries, and
the least processor time of each counts: the run that other jobs disturbed least.
Usage: python benchmarks/flow_speed.py [--draws 1000] [--batch 200] [--repeats 30]
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
import zuko
from core_speed import BINS, DIMS, LAYERS
from core_speed import autoregressive as ours
from nflows.distributions.normal import StandardNormal as NflowsNormal
from nflows.flows.base import Flow as NflowsFlow
from nflows.transforms.autoregressive import (
    MaskedAffineAutoregressiveTransform,
    MaskedPiecewiseRationalQuadraticAutoregressiveTransform,
)
from nflows.transforms.base import CompositeTransform
from nflows.transforms.permutations import ReversePermutation
from torch import Tensor, nn
from turns import in_turn

from genalloy.models.flow import Flow
from genalloy.transforms.layer import Inverse
from genalloy.transforms.spline import RationalQuadratic
from genalloy.transforms.univariate import Affine

Density = Callable[[Tensor], Tensor]


def of_nflows(make: Callable[..., nn.Module], widths: tuple[int, ...], **more: Any) -> NflowsFlow:
    """The same stack: nflows counts hidden layers beyond the first as blocks."""
    layers: list[nn.Module] = []
    for _ in range(LAYERS):
        layers += [
            ReversePermutation(DIMS),
            make(features=DIMS, hidden_features=widths[0], num_blocks=len(widths) - 1, use_residual_blocks=False, **more),
        ]
    return NflowsFlow(CompositeTransform(layers), NflowsNormal([DIMS]))


def models(what: str) -> dict[str, tuple[nn.Module, Density, Callable[[int], Tensor]]]:
    """Library to (module, density, sampler)."""
    if what == "MAF":
        widths = (512, 512)
        mine, theirs = ours(Affine(), widths), zuko.flows.MAF(DIMS, transforms=LAYERS, hidden_features=widths)
        old = of_nflows(MaskedAffineAutoregressiveTransform, widths)
    else:
        widths = (256, 256)
        mine = ours(RationalQuadratic(BINS), widths)
        theirs = zuko.flows.NSF(DIMS, transforms=LAYERS, hidden_features=widths, bins=BINS)
        make = MaskedPiecewiseRationalQuadraticAutoregressiveTransform
        old = of_nflows(make, widths, num_bins=BINS, tails="linear", tail_bound=5.0)
    return {
        "genalloy": (mine, lambda x: mine().log_prob(x), lambda n: mine().sample((n,))),
        "zuko": (theirs, lambda x: theirs().log_prob(x), lambda n: theirs().sample((n,))),
        "nflows": (old, old.log_prob, old.sample),
    }


def stepper(model: nn.Module, density: Density, x: Tensor) -> Callable[[], None]:
    """One step of maximum likelihood with fused Adam, for everyone."""
    optimizer = torch.optim.Adam(model.parameters(), 1e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        (-density(x).mean()).backward()
        optimizer.step()

    return step


def least(calls: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Least processor time of each call."""
    return {name: min(times) for name, times in in_turn(calls, repeats).items()}


def line(what: str, times: Mapping[str, float]) -> str:
    """Milliseconds, and the peers' time in units of ours."""
    mine = times["genalloy"]
    words = [f"{name} {1e3 * t:9.1f} ms" + ("" if name == "genalloy" else f" ({t / mine:5.2f}x)") for name, t in times.items()]
    return f"{what:32} " + "   ".join(words)


def directions(count: int) -> str:
    """Both directions of a flow and of its inverse, milliseconds for `count` points, and how far they undo each other."""
    maf = ours(Affine(), (512, 512))
    for p in maf.parameters():
        p.data.add_(0.01 * torch.randn_like(p))
    iaf = Flow(maf.base, [Inverse(layer.transform) for layer in reversed(maf.layers)], (DIMS,))
    x = torch.randn(count, DIMS)
    calls = {f"{name} {what}": call for name, flow in (("MAF", maf), ("IAF", iaf)) for what, call in _uses(flow, x).items()}
    times = least(calls, 3)
    gap = float((iaf().encoded(maf().encoded(x)[0])[0] - x).abs().max())
    return ", ".join(f"{name} {1e3 * t:.1f} ms" for name, t in times.items()) + f"; one undoes the other to {gap:.1g}"


def _uses(flow: Flow, x: Tensor) -> dict[str, Callable[[], object]]:
    return {"score": lambda: flow().log_prob(x), "sample": lambda: flow().sample((len(x),))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=30)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    x = torch.randn(options.batch, DIMS)
    print(f"D = {DIMS}, {LAYERS} layers, one thread, float32; peers in units of our time (above 1: ours is faster)")
    for what in ("MAF", "NSF"):
        torch.manual_seed(0)
        made = models(what)
        steps = {name: stepper(module, density, x) for name, (module, density, _) in made.items()}
        print(line(f"{what} training step, batch {options.batch}", least(steps, options.repeats)))
        with torch.no_grad():
            draws = {name: (lambda sample=sample: sample(options.draws)) for name, (_, _, sample) in made.items()}
            print(line(f"{what} sample {options.draws}", least(draws, 2)))
    with torch.no_grad():
        print(f"{options.draws} points: {directions(options.draws)}")


if __name__ == "__main__":
    main()
