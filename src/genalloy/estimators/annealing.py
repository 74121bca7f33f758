r"""Annealing: one core for log Z of energies and log p(x) of latent models.

Neal, 2001, arXiv:physics/9803008; Grosse, Ghahramani & Adams, 2015, arXiv:1511.02543.

Along :math:`\pi_\beta \propto b\, e^{\beta r}`, :math:`0 = \beta_0 < \dots < \beta_K = 1`, with kernels :math:`T_k` that leave
:math:`\pi_{\beta_k}` invariant, z_0 ~ b and z_k ~ T_k(. | z_{k-1}),

.. math:: \log w = \sum_{k=1}^K (\beta_k - \beta_{k-1})\, r(z_{k-1}), \qquad \mathbb E\, w = Z = \int b\, e^{r} .

Run backwards with reversible kernels from an exact sample of :math:`\pi_1`, the same sum has :math:`\mathbb E\, w^{-1} = 1/Z`.
So log of a mean of w lies below log Z in expectation, and minus the log of a mean of 1/w above it.

The temperatures are those of Grosse et al.: a sigmoid, dense at both ends, where the path changes fastest.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from genalloy.mcmc.langevin import Energy, Kernel

ACCEPT, NEAR, TRIES = 0.65, 0.15, 4
"""Share of proposals to accept, the miss that is near enough, and most runs at a temperature to get there."""


class AnnealingPath(NamedTuple):
    r"""log b and r, each z (\*B, \*Z) -> (\*B)."""

    log_base: Callable[[Tensor], Tensor]
    tilt: Callable[[Tensor], Tensor]

    def energy(self, beta: float) -> Energy:
        r""":math:`-\log b - \beta r`, z (\*B, \*Z) -> (\*B), nats."""
        return lambda z: -(self.log_base(z) + beta * self.tilt(z))


def temperatures(count: int, bend: float = 4.0) -> list[float]:
    r"""K + 1 floats :math:`\beta_0 .. \beta_K`: :math:`\sigma(\delta (2k/K - 1))` stretched to [0, 1]; even for zero bend."""
    even = torch.linspace(0.0, 1.0, count + 1, dtype=torch.float64)
    if bend > 0:
        curve = torch.sigmoid(bend * (2 * even - 1))
        even = (curve - curve[0]) / (curve[-1] - curve[0])
    return even.tolist()


def tuned(path: AnnealingPath, z: Tensor, betas: list[float], kernel: Kernel) -> list[Kernel]:
    """A pilot run from z ~ b: the kernel at each temperature, its step set towards 65 % of proposals accepted.

    Kernels without a Metropolis test have no acceptance to go by and stay as they are.
    """
    if not kernel.adjusted:
        return [kernel] * len(betas)
    kernels, level = [kernel], 1.0
    for beta in betas[1:]:
        for _ in range(TRIES):
            z, accepted = kernel.scaled(level).run(path.energy(beta), z)
            miss = accepted.mean().item() - ACCEPT
            level *= math.exp(2.0 * miss)
            if abs(miss) < NEAR:
                break
        kernels.append(kernel.scaled(level))
    return kernels


def forward(path: AnnealingPath, z: Tensor, betas: list[float], kernels: list[Kernel]) -> Tensor:
    r""":math:`\log w` of chains that start at z ~ b, (\*B), nats; no transition follows the last weight."""
    weights = (betas[1] - betas[0]) * path.tilt(z)
    for k in range(1, len(betas) - 1):
        z = kernels[k](path.energy(betas[k]), z)
        weights = weights + (betas[k + 1] - betas[k]) * path.tilt(z)
    return weights


def backward(path: AnnealingPath, z: Tensor, betas: list[float], kernels: list[Kernel]) -> Tensor:
    r"""log w of chains that start at z ~ :math:`\pi_1` and run towards b, (\*B); E 1/w = 1/Z."""
    weights = (betas[-1] - betas[-2]) * path.tilt(z)
    for k in range(len(betas) - 2, 0, -1):
        z = kernels[k](path.energy(betas[k]), z)
        weights = weights + (betas[k] - betas[k - 1]) * path.tilt(z)
    return weights


class LogMean(NamedTuple):
    r"""log of the mean weight of the first axis' chains, its standard error (delta method; None for one chain), and the
    effective share of the chains; each (\*B)."""

    value: Tensor
    stderr: Tensor | None
    share: Tensor


def log_mean(weights: Tensor) -> LogMean:
    r""":math:`\log \tfrac1c \sum_i w_i` of log-weights (c, \*B), its standard error and the effective share, each (\*B)."""
    chains = len(weights)
    value = weights.logsumexp(0) - math.log(chains)
    relative = (weights - value).exp()
    stderr = relative.std(0) / math.sqrt(chains) if chains > 1 else None
    return LogMean(value, stderr, 1.0 / relative.square().mean(0))
