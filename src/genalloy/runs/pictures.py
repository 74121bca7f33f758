"""Arrays that the page draws: samples, reconstructions, nearest training rows, log-density on a grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genalloy.capabilities import reach
from genalloy.data.dataset import Dataset
from genalloy.evidence import Kind, Unavailable
from genalloy.runs.score import score

GRID = 100
SHOWN = {"points": 2000}


def write_pictures(model: nn.Module, dataset: Dataset, drawn: Tensor, folder: Path) -> None:
    """pictures.npz in the run's folder, in data units."""
    shown = drawn[: SHOWN.get(dataset.space.kind, 64)]
    arrays: dict[str, Any] = {"samples": shown.numpy(), "neighbours": neighbours(drawn[:12], dataset.train).numpy()}
    pairs = reconstructions(model, dataset.test[_spread(len(dataset.test), 16)])
    if pairs is not None:
        arrays["reconstructions"] = pairs.numpy()
    if dataset.space.dims == 2 and dataset.space.measure.counting == 0:
        arrays |= density_grid(model, dataset)
    np.savez(folder / "pictures.npz", **arrays)


def write_reference(dataset: Dataset, folder: Path) -> None:
    """reference.npz: real rows, and the exact log-density of a toy."""
    count = SHOWN.get(dataset.space.kind, 64)
    arrays: dict[str, Any] = {"data": dataset.test[_spread(len(dataset.test), count)].numpy()}
    if dataset.log_density is not None and dataset.space.dims == 2:
        points, extent = grid_points(dataset)
        arrays |= {"density_grid": dataset.log_density(points).reshape(GRID, GRID).numpy(), "density_extent": extent}
    np.savez(folder / "reference.npz", **arrays)


def _spread(rows: int, count: int) -> Tensor:
    """`count` indices spread over all rows: a prefix would show one class where rows are sorted."""
    return torch.linspace(0, rows - 1, min(count, rows)).long()


def neighbours(samples: Tensor, train: Tensor, k: int = 3) -> Tensor:
    """Each sample followed by its k nearest training rows, (n, 1 + k, *E)."""
    distance = torch.cdist(samples.flatten(1), train.flatten(1))
    nearest = train[distance.topk(min(k, len(train)), largest=False).indices]
    return torch.cat([samples[:, None], nearest], 1)


@torch.no_grad()
def reconstructions(model: nn.Module, x: Tensor) -> Tensor | None:
    """(2, n, *E) originals and their reconstructions, None where the model has none."""
    try:
        inner, seen, _ = reach(model(), x, "reconstruct")
    except Unavailable:
        return None
    rebuilt = inner.reconstruct(seen)
    return torch.stack([x, _outward(model(), rebuilt)])


def _outward(distribution: Any, z: Tensor) -> Tensor:
    """Back through fixed preprocessing, which `reach` walked inwards."""
    layers = []
    while hasattr(distribution, "layers") and not hasattr(distribution, "reconstruct"):
        layers += distribution.layers
        distribution = distribution.base
    for layer in reversed(layers):
        z, _ = layer.outward(z)
    return z


def grid_points(dataset: Dataset) -> tuple[Tensor, Any]:
    """GRID x GRID points over the data's box, and (x0, x1, y0, y1)."""
    low, high = dataset.train.amin(0), dataset.train.amax(0)
    margin = 0.1 * (high - low)
    x, y = (torch.linspace(float(a), float(b), GRID) for a, b in zip(low - margin, high + margin, strict=True))
    yy, xx = torch.meshgrid(y, x, indexing="ij")
    extent = np.array([float(x[0]), float(x[-1]), float(y[0]), float(y[-1])])
    return torch.stack([xx, yy], -1).reshape(-1, 2), extent


def density_grid(model: nn.Module, dataset: Dataset) -> dict[str, Any]:
    """The model's density() on the grid, whatever its label."""
    points, extent = grid_points(dataset)
    scores = score(model, points, chunk=2000)
    if scores.kind is Kind.NONE:
        return {}
    return {"density_grid": scores.values.reshape(GRID, GRID).numpy(), "density_extent": extent}
