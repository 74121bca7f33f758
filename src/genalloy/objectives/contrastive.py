r"""Learning energies by contrast: with samples of the model, or with samples of a known noise.

**Contrastive divergence** (Hinton, 2002; Tieleman, 2008). For p = exp(-E)/Z,

.. math:: -\nabla \mathbb E_{data} \log p(x) = \mathbb E_{data} \nabla E(x) - \mathbb E_{p} \nabla E(x),

with p's samples from a few steps of a Markov chain, started at the data (CD) or kept in a replay buffer (persistent CD).

**Noise-contrastive estimation** (Gutmann & Hyvarinen, 2010, AISTATS). With noise q and r noise points for a data point, logistic
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
    r""":math:`E_{data} E(x) - E_{chains} E(x) + \mathrm{decay}\,(E_{data}\,T(x)^2 + E_{chains}\,T(x)^2)`, T the tilt.

    kernel: moves the chains. buffer: where they live between steps; without one they start at the data (CD-k).
    decay: energy l2, which bounds the tilt (Du & Mordatch, 2019, arXiv:1903.08689); T is the energy where the model has no base.
    Not a likelihood: its value is near 0 at any fit. The gradient reaches the energy's parameters alone, not the chains.

    Raises FloatingPointError at the first energy or chain that is not finite, ValueError where chains of a buffer meet contexts.
    """

    needs = ("energy",)

    def __init__(self, kernel: Kernel, buffer: ReplayBuffer | None = None, decay: float = 0.001) -> None:
        super().__init__()
        self.kernel, self.buffer, self.decay = kernel, buffer, decay
        self.local = buffer is not None

    def forward(self, play: Play) -> Tensor:
        """The loss, a scalar; notes the energy gap, data minus chains, and moves the chains once a play."""
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
    r""":math:`E_{data}\,\mathrm{softplus}(-G(x)) + r\,E_q\,\mathrm{softplus}(G(x))`, nats: data against `noise`, see the module.

    noise: q, a Part with an exact density; it gets no gradient from here: fit it before, or beside with FitNoise. ratio: r, noise
    points for a data point. log Z is the learned parameter `log_z`. Gutmann & Hyvarinen, 2010, AISTATS.

    Raises Unavailable where the noise has no exact density.
    """

    needs = ("energy",)

    def __init__(self, noise: nn.Module, ratio: int = 1) -> None:
        super().__init__()
        self.noise, self.ratio = noise, ratio
        self.log_z = nn.Parameter(torch.zeros(()))

    def forward(self, play: Play) -> Tensor:
        r"""The logistic loss of data x (B, \*E) against ratio * B noise points, a scalar; notes the mean gap of the log-odds."""
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
    """Fits a learnable noise by maximum likelihood, in turns of its own.

    A flow as noise is that of Gao et al., 2020, arXiv:1912.00589, without the adversarial game between the two.
    turns: steps of the noise before each of the model's.
    """

    def __init__(self, noise: nn.Module, turns: int = 1) -> None:
        super().__init__()
        self.noise, self.turns = noise, turns

    def loss(self, play: Play) -> Tensor:
        """-E log q(x) of the batch, nats."""
        _, x, _ = play.reach("energy")
        return -density(self.noise(None), x).available.mean()
