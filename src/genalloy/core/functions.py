"""Where gradients of our own stand back: compilers and torch.func see through torch's operations alone."""

from __future__ import annotations

from typing import Any

import torch


def plain_operations() -> bool:
    """Whether a compiler or a transform of torch.func (vmap, jvp, jacrev) is at work: an autograd.Function is then avoided."""
    active: Any = getattr(torch._C, "_are_functorch_transforms_active", bool)
    return torch.compiler.is_compiling() or active()
