r"""Learning energies by contrast: with samples of the model, or with samples of a known noise.

**Contrastive divergence** (Hinton, 2002; Tieleman, 2008). For p = exp(-E)/Z,

.. math:: -\nabla \mathbb E_{data} \log p(x) = \mathbb E_{data} \nabla E(x) - \mathbb E_{p} \nabla E(x),

with p's samples from a few steps of a Markov chain, started at the data (CD) or kept in a replay buffer (persistent CD).

**Noise-contrastive estimation** (Gutmann & Hyvarinen, 2010). With noise q and r noise points for a data point, logistic
regression with log-odds :math:`G(x) = -E(x) - \log Z - \log q(x) - \log r` has its optimum at E + log Z = -log p_data: no chains,
and log Z is learned beside E.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genalloy.core.distribution import density, draw
from genalloy.core.evidence import Kind, Unavailable
from genalloy.mcmc.buffer import ReplayBuffer
from genalloy.mcmc.langevin import Kernel
from genalloy.objectives.objective import Objective, Play, Player


class ContrastiveDivergence(Objective):
    """Mean energy of the data minus mean energy of the chains, plus `decay` times their mean squared tilt.

    kernel: moves the chains. buffer: where they live between steps; without one they start at the data (CD-k).
    decay: energy l2, which bounds the tilt (Du & Mordatch, 2019). Not a likelihood: its value is near 0 at any fit.
    Raises FloatingPointError at the first energy or chain that is not finite.
    """

    needs = ("energy",)

    def __init__(self, kernel: Kernel, buffer: ReplayBuffer | None = None, decay: float = 0.001) -> None:
        super().__init__()
        self.kernel, self.buffer, self.decay = kernel, buffer, decay
        self.local = buffer is not None

    def forward(self, play: Play) -> Tensor:
        model, x, _ = play.reach("energy")
        chains = play.once(("chains", self.kernel, id(self.buffer)), lambda: self._chains(play, model, x))
        data_energy, chain_energy = model.energy(x), model.energy(chains)
        play.terms["energy gap"] = (data_energy.mean() - chain_energy.mean()).detach()
        loss = data_energy.mean() - chain_energy.mean() + self._size(model, x, chains)
        if not bool(torch.isfinite(loss)):
            raise FloatingPointError(
                f"{self!r}: energy of the data {data_energy.mean().item():.4g}, of the chains {chain_energy.mean().item():.4g}; "
                "lower the learning rate or the kernel's step, clip gradients, or raise decay"
            )
        return loss

    def _size(self, model: Any, x: Tensor, chains: Tensor) -> Tensor:
        """decay * mean square of the network's own part of the energy; a base is left alone."""
        if not self.decay:
            return x.new_zeros(())
        part = model.tilt if hasattr(model, "tilt") else model.energy
        return self.decay * (part(x).square().mean() + part(chains).square().mean())

    def _chains(self, play: Play, model: Any, x: Tensor) -> Tensor:
        """Model samples, one for a row; persistent ones go back to the slots they came from."""
        if self.buffer is None:
            return self.kernel(model.energy, x)
        if play.batch.context is not None and model.batch_shape:
            raise ValueError("chains in a replay buffer have lost their context; use ContrastiveDivergence(kernel) without one")
        slots, start = self.buffer.take(len(x), model.fresh, play.shard, play.shards)
        moved = self.kernel(model.energy, start)
        if self.training:
            self.buffer.put(slots, moved)
        return moved


class NoiseContrastive(Objective):
    """Logistic regression of data against `noise` (a Part with an exact density), with log Z learned in `log_z`.

    ratio: noise points for a data point. The noise gets no gradient from here; fit it before, or beside with FitNoise.
    """

    needs = ("energy",)

    def __init__(self, noise: nn.Module, ratio: int = 1) -> None:
        super().__init__()
        self.noise, self.ratio = noise, ratio
        self.log_z = nn.Parameter(torch.zeros(()))

    def forward(self, play: Play) -> Tensor:
        model, x, _ = play.reach("energy")
        with torch.no_grad():
            noise: Any = self.noise(None)
            points, drawn = draw(noise, (self.ratio * len(x),))
            given = density(noise, x)
        if given.kind is not Kind.EXACT:
            raise Unavailable(f"NoiseContrastive needs noise with an exact density; found {given.kind.value} ({given.how})")
        offset = self.log_z + math.log(self.ratio)
        real = -model.energy(x) - offset - given.value
        fake = -model.energy(points) - offset - drawn.value
        play.terms["odds gap"] = (real.mean() - fake.mean()).detach()
        return F.softplus(-real).mean() + self.ratio * F.softplus(fake).mean()


class FitNoise(Player):
    """Fits a learnable noise by maximum likelihood, in turns of its own (a flow as noise, Gao et al., 2020, without the game)."""

    def __init__(self, noise: nn.Module, turns: int = 1) -> None:
        super().__init__()
        self.noise, self.turns = noise, turns

    def loss(self, play: Play) -> Tensor:
        _, x, _ = play.reach("energy")
        return -density(self.noise(None), x).available.mean()
