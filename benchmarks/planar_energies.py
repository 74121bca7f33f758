"""Planar flows against the energies U1..U4 (Rezende & Mohamed, 2015): ln Z by quadrature, then KL(q || p) after training.

    python benchmarks/planar_energies.py --layers 2 8 32 --energies u1

Reverse KL, inverse temperature .01 -> 1 over the first half, Adam with a cosine to 0, 256 draws a step. The KL is
E_q[log q + U] + ln Z over 200,000 draws, with its standard error; U2..U4 have soft walls (width 0.1) at |x_i| = 4.
"""

from __future__ import annotations

import argparse
import time

import torch

from genalloy.core.batch import Batch
from genalloy.core.schedules import Cosine, Linear
from genalloy.data.energies import ENERGIES, Energy
from genalloy.heads.gaussian import StandardNormal
from genalloy.models.flow import Flow
from genalloy.objectives.divergences import ReverseKL
from genalloy.training.fit import fit
from genalloy.training.options import Adam, Training
from genalloy.transforms.layer import Inverse
from genalloy.transforms.linear import ActNorm
from genalloy.transforms.planar import Planar


def trained(energy: Energy, layers: int, steps: int, seed: int, path: bool, rate: float) -> Flow:
    """A planar flow that draws in closed form, on a Gaussian with learned mean and scales."""
    torch.manual_seed(seed)
    planes = [Inverse(Planar(2, size=0.01)) for _ in range(layers)]
    flow = Flow(StandardNormal((2,)), [*planes, Inverse(ActNorm((2,)))], (2,))
    objective = ReverseKL(energy, path=path, beta=Linear(0.01, 1.0, steps // 2))
    batches = (Batch(torch.zeros(256, 2)) for _ in range(steps))
    for _ in fit(flow, objective, batches, training=Training(Adam(rate), rate=Cosine(1.0, 0.0, steps), seed=seed)):
        pass
    return flow


@torch.no_grad()
def divergence(flow: Flow, energy: Energy, draws: int = 200_000) -> tuple[float, float]:
    """KL(q || p) in nats and its standard error."""
    x, log_q = flow().draw((draws,))
    gap = log_q.value + energy.energy(x)
    return float(gap.mean()) + energy.log_normaliser(), float(gap.std()) / draws**0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 8])
    parser.add_argument("--energies", nargs="+", default=["u1"], choices=list(ENERGIES))
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rate", type=float, default=5e-3, help="Adam's; two layers want .005, 32 want .01")
    parser.add_argument("--path", action="store_true", help="path gradients (every layer's root at every step)")
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    for name, energy in ENERGIES.items():
        print(f"{name}: ln Z = {energy(0.0).log_normaliser():.4f} in [-4, 4]^2, {energy().log_normaliser():.4f} with soft walls")
    for name in wanted.energies:
        for layers in wanted.layers:
            for seed in wanted.seeds:
                start = time.process_time()
                flow = trained(ENERGIES[name](), layers, wanted.steps, seed, wanted.path, wanted.rate)
                kl, stderr = divergence(flow, ENERGIES[name]())
                seconds = time.process_time() - start
                print(f"{name} K={layers} seed {seed}: KL {kl:.4f} +- {stderr:.4f} nats, {seconds:.0f} CPU-s", flush=True)


if __name__ == "__main__":
    main()
