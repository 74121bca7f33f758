"""One random stream for each (seed, step, player, turn, shard), and the caller's own stream left as it was."""

from __future__ import annotations

import torch

_MASK = (1 << 64) - 1


def mix(*numbers: int) -> int:
    """A 63-bit seed from small integers (SplitMix64's finaliser: Steele, Lea & Flood, 2014)."""
    state = 0x9E3779B97F4A7C15
    for n in numbers:
        state = (state ^ (n + 0x9E3779B97F4A7C15)) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1


def seed_all(*numbers: int) -> None:
    """Seed torch's generators of this process from the mixed numbers."""
    value = mix(*numbers)
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(value)


class Stream:
    """The caller's random state, taken at `enter` and given back at `leave`."""

    def __init__(self) -> None:
        self.cuda = torch.cuda.is_initialized()

    def enter(self) -> None:
        self.cpu_state = torch.default_generator.get_state()
        self.cuda_state = torch.cuda.get_rng_state_all() if self.cuda else []

    def leave(self) -> None:
        torch.default_generator.set_state(self.cpu_state)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda_state)
