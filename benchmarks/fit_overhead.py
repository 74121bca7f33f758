"""Training step of a two-layer VAE at batch 128: `fit` against a hand-written loop with the same estimator.

Target: at most 1.05 times the hand-written loop. Runs alternate, so both see the same machine.
"""

from __future__ import annotations

import statistics
import time

import torch
from torch.nn import functional as F

from genalloy.core.batch import Batch
from genalloy.core.part import Conditional
from genalloy.heads.discrete import Bernoulli
from genalloy.heads.gaussian import Gaussian, StandardNormal
from genalloy.models.latent import LatentVariable
from genalloy.networks.mlp import MLP
from genalloy.objectives.bounds import ELBO
from genalloy.training.fit import fit

Z, D, HIDDEN, STEPS, ROUNDS = 16, 784, (200, 200), 100, 7


def vae() -> LatentVariable:
    decoder = Conditional(Bernoulli(), MLP(((Z,),), D, HIDDEN), (D,), ((Z,),))
    encoder = Conditional(Gaussian(), MLP(((D,),), 2 * Z, HIDDEN), (Z,), ((D,),))
    return LatentVariable(StandardNormal((Z,)), decoder, encoder)


def by_hand(model: LatentVariable, x: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    for _ in range(STEPS):
        mean, raw = model.posterior.network(x).unflatten(-1, (Z, 2)).unbind(-1)
        scale = F.softplus(raw + 0.5413248546) + 1e-4
        logits = model.likelihood.network(mean + scale * torch.randn_like(mean))
        likelihood = -F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
        kl = 0.5 * (scale.square() + mean.square() - 1 - 2 * scale.log()).sum() / len(x)
        optimizer.zero_grad()
        (kl - likelihood).backward()
        optimizer.step()


def by_fit(model: LatentVariable, x: torch.Tensor) -> None:
    for _ in fit(model, ELBO(), (Batch(x) for _ in range(STEPS))):
        pass


def seconds(run, *inputs) -> float:
    began = time.perf_counter()
    run(*inputs)
    return (time.perf_counter() - began) / STEPS


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x = (torch.rand(128, D) < 0.2).float()
    ours, theirs = vae(), vae()
    fused = torch.optim.Adam(theirs.parameters(), 1e-3, fused=True)
    plain = torch.optim.Adam(theirs.parameters(), 1e-3)
    rows = [
        (seconds(by_fit, ours, x), seconds(by_hand, theirs, x, fused), seconds(by_hand, theirs, x, plain)) for _ in range(ROUNDS)
    ]
    a, b, c = (1e3 * min(column) for column in zip(*rows))
    ratio = statistics.median(r[0] / r[1] for r in rows[1:])
    print(f"fit                       {a:7.3f} ms/step")
    print(f"hand-written, fused Adam  {b:7.3f} ms/step   fit / hand-written: {ratio:.3f} (median of rounds; target 1.05)")
    print(f"hand-written, plain Adam  {c:7.3f} ms/step   fit / hand-written: {a / c:.3f}")


if __name__ == "__main__":
    main()
