"""The replay buffer: own slots, true restarts, disjoint shards, stored state."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from genalloy.core.spec import from_spec, to_spec
from genalloy.mcmc.buffer import ReplayBuffer


def ones(shape: tuple[int, ...]) -> Tensor:
    return torch.ones(*shape, 2)


def filled(size: int = 100, restart: float = 0.0) -> ReplayBuffer:
    buffer = ReplayBuffer(size, (2,), restart)
    buffer.put(torch.arange(size), torch.arange(size).float().unsqueeze(-1).expand(size, 2))
    return buffer


def test_chains_return_to_their_own_slots() -> None:
    buffer = filled()
    slots, chains = buffer.take(30, ones)
    assert len(set(slots.tolist())) == 30
    assert torch.equal(chains[:, 0], slots.float())
    buffer.put(slots, chains + 1000)
    expected = torch.arange(100).float()
    expected[slots] += 1000
    assert torch.equal(buffer.chains[:, 0], expected)


def test_an_empty_buffer_starts_at_the_base() -> None:
    buffer = ReplayBuffer(10, (2,), 0.0)
    slots, chains = buffer.take(4, ones)
    assert torch.equal(chains, torch.ones(4, 2))
    buffer.put(slots, chains * 3)
    assert int(buffer.started.sum()) == 4
    found = buffer.sample(6, ones)
    assert sorted(found[:, 0].tolist()) == [1, 1, 3, 3, 3, 3]


def test_the_share_of_restarts() -> None:
    torch.manual_seed(0)
    buffer = filled(5000, restart=0.2)
    _, chains = buffer.take(5000, lambda shape: torch.full((*shape, 2), -1.0))
    assert float((chains[:, 0] == -1).float().mean()) == pytest.approx(0.2, abs=0.03)


def test_shards_never_share_a_slot() -> None:
    buffer = filled(11)
    found = [set(buffer.take(3, ones, shard, 3)[0].tolist()) for shard in range(3)]
    assert not (found[0] & found[1] or found[0] & found[2] or found[1] & found[2])
    with pytest.raises(ValueError, match="larger than the batch"):
        buffer.take(5, ones, 0, 3)


def test_the_buffer_is_stored_with_its_chains() -> None:
    buffer = filled(6)
    again = from_spec(*to_spec(buffer))
    assert torch.equal(again.chains, buffer.chains)
    assert bool(again.started.all())
    assert torch.equal(copy.deepcopy(buffer).chains, buffer.chains)
