"""A replay buffer of persistent chains (Tieleman, 2008; Du & Mordatch, 2019, arXiv:1903.08689).

Slots are drawn without replacement and the moved chains are written back to the slots they came from, so every chain
lives its own life. A share of them truly restarts from a base distribution. A shard owns the slots
`shard, shard + shards, ...`: slices of a batch never meet in a slot, whoever computes them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from genalloy.core.spec import Module
from genalloy.mcmc.langevin import rows


class ReplayBuffer(Module):
    """chains (size, \\*E), and which of them have been started: both buffers, so they are saved with the model.

    restart: share of the drawn chains that start afresh from the base.
    """

    chains: Tensor
    started: Tensor

    couples = False

    def __init__(self, size: int, event_shape: tuple[int, ...], restart: float = 0.05) -> None:
        super().__init__()
        self.size, self.event_shape, self.restart = size, tuple(event_shape), restart
        self.register_buffer("chains", torch.zeros(size, *self.event_shape))
        self.register_buffer("started", torch.zeros(size, dtype=torch.bool))

    @torch.no_grad()
    def take(self, n: int, fresh: Callable[[tuple[int, ...]], Tensor], shard: int = 0, shards: int = 1) -> tuple[Tensor, Tensor]:
        r"""(slots (n,), chains (n, \*E)) of a shard. fresh: shape -> samples of the base.

        Raises ValueError where the shard has fewer than n slots.
        """
        own = torch.arange(shard, self.size, shards, device=self.chains.device)
        if len(own) < n:
            raise ValueError(f"{n} chains were asked of {len(own)} slots; make the buffer larger than the batch")
        slots = own[torch.randperm(len(own), device=own.device)[:n]]
        anew = (torch.rand(n, device=own.device) < self.restart) | ~self.started[slots]
        chains = self.chains[slots]
        return slots, torch.where(rows(anew, chains), fresh((n,)).to(chains.dtype), chains)

    @torch.no_grad()
    def put(self, slots: Tensor, chains: Tensor) -> None:
        r"""Write moved chains (n, \*E) back to the slots (n,) they came from."""
        self.chains[slots] = chains.to(self.chains.dtype)
        self.started[slots] = True

    @torch.no_grad()
    def sample(self, n: int, fresh: Callable[[tuple[int, ...]], Tensor]) -> Tensor:
        r"""n starting points (n, \*E): started chains, each at most once, then samples of the base; `fresh` as in `take`."""
        started = self.started.nonzero().squeeze(-1)
        chosen = self.chains[started[torch.randperm(len(started), device=started.device)[:n]]]
        return chosen if len(chosen) == n else torch.cat([chosen, fresh((n - len(chosen),)).to(chosen.dtype)])
