r"""Does a low log-density point at outliers? AUROC against a named set, beside what mere complexity achieves.

Likelihoods are known to rank some foreign data above their own (Nalisnick et al. 2019), because
:math:`-\log p(x)` follows the complexity of x (Serrà et al. 2020). So the AUROC of the compressed length alone is always
printed beside the model's, and no number stands without the name of the outlier set.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from genalloy.data.dataset import Dataset
from genalloy.evaluation.auroc import auroc
from genalloy.evaluation.metric import Missing, Panel, Result


def outlier_sets(dataset: Dataset, seed: int = 0) -> dict[str, Tensor]:
    """Named sets (N, *E) of outliers, as many rows as the test set, for when the user gives none.

    On levels: the test rows with their entries shuffled (each row on its own), and uniform levels. Over columns and
    reals: each entry uniform between the smallest and largest training value, on the grid where there is one.
    """
    generator = torch.Generator().manual_seed(seed)
    test, space = dataset.test, dataset.space
    if space.levels is not None:
        order = torch.rand(len(test), space.dims, generator=generator).argsort(1)
        shuffled = test.flatten(1).gather(1, order).reshape(test.shape)
        noise = torch.randint(space.levels, test.shape, generator=generator).float()
        return {"shuffled entries": shuffled, "uniform noise": noise}
    flat = dataset.train.flatten(1)
    low, high = flat.amin(0), flat.amax(0)
    box = low + (high - low) * torch.rand(len(test), space.dims, generator=generator)
    grid = torch.as_tensor(space.discrete).expand(space.dims)
    whole = low + torch.floor((high - low + 1) * torch.rand(len(test), space.dims, generator=generator))
    return {"uniform box": torch.where(grid, whole.minimum(high), box).reshape(test.shape)}


def complexity(x: Tensor, levels: int) -> Tensor:
    """Length in bytes (N,) of each row (N, *E) of levels, compressed by zlib: one byte an entry (two beyond 256 levels)."""
    array = x.round().numpy().astype(np.uint8 if levels <= 256 else np.uint16)
    return torch.tensor([len(zlib.compress(row.tobytes(), 9)) for row in array], dtype=torch.float64)


def outlier_panel(
    dataset: Dataset,
    log_p: Callable[[Tensor], Tensor],
    outliers: dict[str, Tensor] | None = None,
    seed: int = 0,
) -> dict[str, Panel]:
    """{set name: {"auroc": ..., "complexity": ...}} for a score that is high for typical rows: (N, *E) -> (N,).

    AUROC of -log p, test rows against each set; "complexity" is the compressed length instead of the model.
    """
    sets = outlier_sets(dataset, seed) if outliers is None else outliers
    wrong = [name for name, rows in sets.items() if tuple(rows.shape[1:]) != dataset.space.shape]
    if wrong:
        raise ValueError(
            f"the outlier set {wrong[0]!r} has rows of shape {tuple(sets[wrong[0]].shape[1:])}; expected {dataset.space.shape};"
            " encode it with dataset.admit(rows)"
        )
    own = -log_p(dataset.test)
    return {
        name: {
            "auroc": auroc(own, -log_p(rows), f"-log p, test rows against {name}"),
            "complexity": _complexity_only(dataset, name, rows),
        }
        for name, rows in sets.items()
    }


def _complexity_only(dataset: Dataset, name: str, rows: Tensor) -> Result:
    levels = dataset.space.levels
    if levels is None:
        return Missing("compressed length needs data on levels")
    return auroc(complexity(dataset.test, levels), complexity(rows, levels), f"zlib length alone, test rows against {name}")
