"""Processes as the loop sees them: a world that adds up vectors. Lightning Fabric launches, places and sets precision.

The model is not wrapped in DDP: with several players its hooks fire on the wrong backward passes and ranks drift apart.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

CPU = torch.device("cpu")


class World:
    """One process (fabric None) or one of several under Lightning Fabric."""

    def __init__(self, fabric: Any = None) -> None:
        self.fabric = fabric
        self.size = fabric.world_size if fabric else 1
        self.rank = fabric.global_rank if fabric else 0

    def autocast(self) -> AbstractContextManager[Any]:
        """The context in which the model is evaluated: Fabric's precision, or nothing at all in one process without Fabric."""
        return self.fabric.autocast() if self.fabric else nullcontext()

    def add_up(self, gradients: list[Tensor | None], like: tuple[nn.Parameter, ...]) -> list[Tensor | None]:
        """Sum over processes as one flat vector; every process joins, with zeros where it has no gradient.

        A gradient that is absent everywhere stays absent, as it would in one process: optimisers tell it from zero.
        """
        if self.size == 1:
            return gradients
        there = torch.tensor([float(g is not None) for g in gradients], device=like[0].device, dtype=like[0].dtype)
        parts = [(torch.zeros_like(p) if g is None else g).reshape(-1) for g, p in zip(gradients, like, strict=True)]
        flat, there = self.fabric.all_reduce(torch.cat([*parts, there]), reduce_op="sum").split([sum(map(len, parts)), len(like)])
        pieces = zip(flat.split([p.numel() for p in like]), like, there.tolist(), strict=True)
        return [piece.view_as(p).to(p.dtype) if found else None for piece, p, found in pieces]

    def total(self, value: Tensor) -> Tensor:
        """Sum of a scalar over processes."""
        return self.fabric.all_reduce(value, reduce_op="sum") if self.size > 1 else value

    def same(self, value: Any) -> Any:
        """Rank 0's value everywhere: what a clock or a person decides, all processes must decide alike."""
        return self.fabric.broadcast(value, src=0) if self.size > 1 else value

    def largest(self, value: float) -> float:
        """The largest of a number over processes."""
        if self.size == 1:
            return value
        return float(self.fabric.all_reduce(torch.tensor(value, device=self.fabric.device), reduce_op="max"))

    def spread(self, model: nn.Module, objective: nn.Module) -> None:
        """Rank 0's parameters and buffers everywhere, before step 0."""
        if self.size > 1:
            for tensor in (*model.state_dict().values(), *objective.state_dict().values()):
                tensor.copy_(self.fabric.broadcast(tensor, src=0))


def resolve_device(name: str) -> torch.device:
    """The device of a name; auto is a CUDA GPU where there is one, otherwise the CPU.

    Never mps by itself: it has no float64, which densities are added up in. Raises ValueError where this machine has none.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get("cpu" if name == "auto" else name, False):
        known = ", ".join(["auto", *(device for device, found in there.items() if found)])
        raise ValueError(f"found device {name!r}, expected one that this machine has: {known}")
    return torch.device("cuda" if name == "auto" and there["cuda"] else "cpu" if name == "auto" else name)


def make_fabric(device: str = "auto", precision: str = "32-true", processes: int = 1) -> Any:
    """A launched-on-demand Fabric. device: see :func:`resolve_device`; precision: Fabric's names, bf16-mixed among them.

    Raises ValueError where there are fewer GPUs than processes.
    """
    kind = resolve_device(device).type
    if kind == "cuda" and processes > torch.cuda.device_count():
        raise ValueError(f"found processes={processes}, expected at most one a GPU: {torch.cuda.device_count()}")
    from lightning.fabric import Fabric

    return Fabric(accelerator=kind, devices=processes, precision=precision)  # type: ignore[arg-type]


def device_of(module: nn.Module) -> torch.device:
    """Where a module's tensors are; the CPU for one that has none."""
    tensors = chain(module.parameters(), module.buffers())
    return next((tensor.device for tensor in tensors), torch.device("cpu"))
