r"""A budget around construction: a file of a few bytes cannot ask for a layer of 100 GB.

Constructors run with four watches, none of which knows a class:

1. the size of every tensor operation's result is bounded beforehand, where need be by a run on the meta device, which
   allocates nothing;
2. modules and parameters are counted as they are registered, against the numbers that the spec holds;
3. the process's resident memory is read now and then;
4. the system bounds the process's data segment (RLIMIT_DATA, Linux), which stops lists and NumPy arrays, whatever makes them.

The third and fourth are the process's, not a thread's, so constructions wait for each other, and the bound leaves room for
threads that PyTorch starts meanwhile.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules import module as registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

ROOM = 160 * 2**20
"""Bytes beyond the file's own tensors. 256 MB are promised; the rest is for the reader's own copies and Python's objects."""
FEW = 1000
"""Modules and parameters that any construction may register."""
TEMPORARY = 20
"""Registrations for each module of the spec: a module enters its list, its owner and sometimes a temporary container."""
THREAD = 16 * 2**20
"""Bytes of one more thread's stack and heap, which are no one's model."""
UNSEEN = 8 * 2**20
"""Bytes that operations may allocate between two looks at the resident memory."""
LOOK = 256
"""Operations and registrations between two looks at the resident memory."""

_ALONE = threading.RLock()


class OverBudgetError(Exception):
    """What the watches raise inside a constructor."""


class Budget(TorchDispatchMode):
    """The watches of one construction. size: bytes that it may use; modules, parameters: registrations that it may make."""

    def __init__(self, size: int, modules: int, parameters: int) -> None:
        super().__init__()
        self.size, self.left = size, {"modules": modules, "parameters": parameters}
        self._start, self._thread = resident(), threading.get_ident()
        self._events, self._unseen = 0, 0.0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """PyTorch would import its compiler (800 modules, seconds) to keep it out of a mode that nobody compiles."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        bound = bytes_bound(func, args, kwargs or {})
        if not self._fits(bound):
            self._admit(exact_bytes(func, args, kwargs or {}, bound))
        return func(*args, **(kwargs or {}))

    def count(self, kind: str) -> Callable[..., None]:
        """A registration hook of torch.nn that counts in this thread alone."""

        def registered(*_: Any) -> None:
            if threading.get_ident() == self._thread:
                self.left[kind] -= 1
                if self.left[kind] < 0:
                    raise OverBudgetError(f"it makes more {kind} than the file can hold")
                self._admit(0)

        return registered

    def _admit(self, size: float) -> None:
        if not self._fits(size):
            raise OverBudgetError(f"it asks for more than the {self.size / 2**20:,.0f} MB that a file of this size may need")

    def _fits(self, size: float) -> bool:
        """Whether `size` bytes more stay within the budget; looks at the memory only where it may have changed."""
        self._events, self._unseen = self._events + 1, self._unseen + size
        if self._unseen < UNSEEN and self._events < LOOK:
            return True
        self._events, self._unseen = 0, 0.0
        return resident() - self._start + size <= self.size


@contextmanager
def budget(stored: int, modules: int, tensors: int) -> Iterator[None]:
    """Inside, constructors may use the file's own `stored` bytes and ROOM more (a second copy where the file is larger).

    Raises what the constructor raises, OverBudgetError or MemoryError.
    """
    size = stored + max(ROOM, stored)
    watch = Budget(size, FEW + TEMPORARY * modules, FEW + 4 * tensors)
    with ExitStack() as stack:
        stack.enter_context(_ALONE)
        for kind, hook in (
            ("modules", registration.register_module_module_registration_hook),
            ("parameters", registration.register_module_parameter_registration_hook),
            ("parameters", registration.register_module_buffer_registration_hook),
        ):
            handle = hook(watch.count(kind))
            stack.callback(handle.remove)
        stack.enter_context(data_segment(size))
        stack.enter_context(watch)
        yield


def bytes_bound(func: Any, args: Any, kwargs: dict[str, Any]) -> float:
    """Bytes that an operation's results cannot exceed: 0 for views, the inputs' common shape where it goes entry by entry.

    Of other operations: sixteen for each element of the outer product of all inputs, as often as all numbers multiplied say.
    """
    schema = func._schema
    if all(r.alias_info is not None for r in schema.returns) and "resize" not in schema.name:
        return 0.0
    leaves = tree_flatten((args, kwargs))[0]
    inputs = [t for t in leaves if isinstance(t, Tensor)]
    if inputs and torch.Tag.pointwise in func.tags:
        return 16.0 * math.prod(max(sizes) for sizes in zip_longest(*(reversed(t.shape) for t in inputs), fillvalue=1))
    elements = math.prod(float(max(t.numel(), t.dim(), 1)) for t in inputs)
    return 16.0 * elements * math.prod(float(abs(n)) for n in leaves if type(n) in (int, float) and abs(n) > 1)


def exact_bytes(func: Any, args: Any, kwargs: dict[str, Any], bound: float) -> float:
    """Bytes of an operation's results, from a run on the meta device; `bound` where they depend on values (nonzero, bincount).

    For some operations PyTorch imports its compiler first (seconds), so that a bound that fits is enough.
    """
    try:
        inputs, options = tree_map_only(Tensor, lambda t: t.to("meta"), (args, kwargs))
        devices = {a.name for a in func._schema.arguments} & {"device"}
        options = {**options, **dict.fromkeys(devices, torch.device("meta"))}
        options.pop("generator", None)
        results = func(*inputs, **options)
    except Exception:
        return bound
    return sum(t.numel() * t.element_size() for t in tree_flatten(results)[0] if isinstance(t, Tensor))


def resident() -> int:
    """Resident bytes of this process; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


@contextmanager
def data_segment(size: int) -> Iterator[None]:
    """Inside, the process may map `size` bytes more than it has (Linux; elsewhere nothing is bounded)."""
    used = _mapped()
    if used == 0:
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = used + size + THREAD * torch.get_num_threads()
    bounds = [n for n in (soft, limit) if n != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(bounds), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _mapped() -> int:
    """Bytes of private writable memory, what RLIMIT_DATA counts; 0 where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:")), 0)
