"""What torch keeps once for a whole process, lent to one piece of work at a time: the random state and the default dtype.

Two threads that seed and draw in turn from the one generator would take each other's numbers. So whoever seeds it holds a
lock until the caller's state is back; a training loop gives it up between steps, and a generator before every yield.
"""

from __future__ import annotations

import os
import threading
from itertools import chain

import torch
from torch import Tensor, nn

_LOCKS: dict[int, threading.RLock] = {}
"""By process: a fork while another thread holds the lock leaves the child a lock that nobody will give back."""


class Stream:
    """The caller's random state and default dtype, taken at `enter` and given back at `leave`, by the same thread.

    like: the floating dtype that is the default inside, or a model or tensor that has it, so that constants meet what they are
    used with; None leaves the default.
    Nested streams are fine; another thread's waits. Also a context manager.
    """

    def __init__(self, like: nn.Module | Tensor | torch.dtype | None = None) -> None:
        self.like = like

    def enter(self) -> None:
        """Wait for the lock, keep the caller's random states and default dtype, and set the dtype of `like`."""
        self.held = _LOCKS.setdefault(os.getpid(), threading.RLock())
        self.held.acquire()
        self.cpu_state = torch.default_generator.get_state()
        self.cuda = torch.cuda.is_initialized()
        self.cuda_state = torch.cuda.get_rng_state_all() if self.cuda else []
        self.dtype = torch.get_default_dtype()
        _set_dtype(self.dtype if self.like is None else floating(self.like))

    def leave(self) -> None:
        """Put the caller's default dtype and random states back, then release the lock; a GPU's where it was kept."""
        _set_dtype(self.dtype)
        torch.default_generator.set_state(self.cpu_state)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda_state)
        self.held.release()

    def __enter__(self) -> Stream:
        self.enter()
        return self

    def __exit__(self, *error: object) -> None:
        self.leave()


def _set_dtype(dtype: torch.dtype) -> None:
    """Only where it differs: other threads see the default, so it moves for nobody who has not moved it himself."""
    if dtype != torch.get_default_dtype():
        torch.set_default_dtype(dtype)


def floating(like: nn.Module | Tensor | torch.dtype) -> torch.dtype:
    """A dtype itself, a tensor's, or that of a model's parameters (its buffers where it has none); else the default."""
    if isinstance(like, torch.dtype):
        return like
    tensors = chain(like.parameters(), like.buffers()) if isinstance(like, nn.Module) else (like,)
    return next((t.dtype for t in tensors if t.dtype.is_floating_point), torch.get_default_dtype())
