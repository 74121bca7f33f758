"""Laws with closed forms and data sets with known structure, shared by the tests of sample metrics."""

from __future__ import annotations

import torch
from torch import Tensor

from genalloy.data.dataset import Dataset
from genalloy.data.space import Space


def normal(n: int, dims: int, seed: int) -> Tensor:
    return torch.randn(n, dims, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def value(result: object) -> float:
    assert not result.missing, result
    return result.value


def clusters(n: int, seed: int, keep: int = 4) -> tuple[Tensor, Tensor]:
    """n rows in 6 dimensions around the first `keep` of four centres, and which."""
    generator = torch.Generator().manual_seed(seed)
    which = torch.randint(keep, (n,), generator=generator)
    return torch.randn(n, 6, generator=generator) + 6 * torch.nn.functional.one_hot(which, 6), which


def clustered(train: int = 800, test: int = 400) -> Dataset:
    """Four labelled clusters in six dimensions."""
    (x, y), (u, v) = clusters(train, 100), clusters(test, 101)
    space = Space((6,), "points")
    return Dataset("clusters", space, x, x[:0], u, {"train": y, "validation": y[:0], "test": v}, ("a", "b", "c", "d"))
