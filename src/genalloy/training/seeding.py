"""One random stream for each (seed, step, player, turn, shard), and seeds from what users give."""

from __future__ import annotations

import numbers
import secrets
from typing import Any

import torch

from genalloy.core.bounds import shown
from genalloy.core.isolation import Stream

__all__ = ["Stream", "mix", "seed_all", "seed_of"]

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


def seed_of(random_state: Any) -> int:
    """A seed from what scikit-learn calls a random state; NumPy's RandomState and Generator move on by one draw.

    random_state: None (fresh entropy), an integer from 0 to 2**32 - 1, a numpy.random.RandomState or numpy.random.Generator.
    Raises ValueError for anything else.
    """
    if random_state is None:
        return secrets.randbits(31)
    if hasattr(random_state, "bit_generator"):
        return int(random_state.integers(2**31))
    if hasattr(random_state, "randint") and hasattr(random_state, "get_state"):
        return int(random_state.randint(2**31 - 1))
    whole = isinstance(random_state, numbers.Integral) and not isinstance(random_state, bool)
    if not (whole and 0 <= random_state < 2**32):
        raise ValueError(
            f"random_state is {shown(random_state)}; expected None, an integer from 0 to 2**32 - 1, "
            "a numpy.random.RandomState or a numpy.random.Generator"
        )
    return int(random_state)
