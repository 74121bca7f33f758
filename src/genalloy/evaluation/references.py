"""Generators that learn next to nothing, put on the data's grid: what a model must beat."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from genalloy.core.moments import mean_and_scale
from genalloy.core.schema import Number, absent
from genalloy.data.dataset import Dataset
from genalloy.evaluation.features import own_units
from genalloy.evaluation.frechet import covariance

MOST_DIMS = 4096
COMPONENTS = 10
MIXTURE_DIMS = 50
MIXTURE_ROWS = 10_000
RIDGE = 1e-3
"""Of the mean variance of standardised codes, on the diagonal of each component: the width that none falls below."""


def refusal(dataset: Dataset) -> Number | None:
    """Why the data have no fitted Gaussian; None where they have."""
    if dataset.lengths:
        return absent("the rows are of unequal lengths")
    if dataset.space.dims > MOST_DIMS:
        return absent(f"a covariance of {dataset.space.dims:,} entries is too large here; the limit is {MOST_DIMS:,}")
    return None


def gaussian_samples(dataset: Dataset, n: int, generator: torch.Generator) -> Tensor:
    """Draws (n, *E) from a Gaussian fitted to the training rows, rounded and clipped where the data are on a grid."""
    flat, centre, scale = _standardised(dataset)
    values, vectors = torch.linalg.eigh(covariance(flat))
    noise = torch.randn(n, flat.shape[1], generator=generator, dtype=torch.float64)
    return _as_data(dataset, centre + scale * (noise * values.clamp_min(0).sqrt() @ vectors.T))


def mixture_samples(dataset: Dataset, n: int, generator: torch.Generator) -> Tensor:
    """Draws (n, *E) from a mixture of 10 Gaussians, rounded and clipped where the data are on a grid.

    The mixture is fitted to the first principal directions: at most 50, and at most one for every 100 training rows, so that
    full covariances are estimated and not memorised. The other directions are independent normals of the training variances.
    Entries of units of their own are standardised first, so that neither directions nor ridge depend on a unit.
    """
    flat, centre, scale = _standardised(dataset)
    values, vectors = (part.flip(-1) for part in torch.linalg.eigh(covariance(flat)))
    first = min(MIXTURE_DIMS, flat.shape[1], max(2, len(flat) // 100))
    seed = int(torch.randint(2**31 - 1, (), generator=generator))
    rows = torch.randperm(len(flat), generator=generator)[:MIXTURE_ROWS]
    mixture = _fitted(flat[rows] @ vectors[:, :first], float(values[:first].mean()), seed)
    leading = torch.from_numpy(mixture.sample(n)[0])[torch.randperm(n, generator=generator)]
    noise = torch.randn(n, flat.shape[1] - first, generator=generator, dtype=torch.float64)
    rest = noise * values[first:].clamp_min(0).sqrt()
    return _as_data(dataset, centre + scale * (torch.cat([leading, rest], 1) @ vectors.T))


def _standardised(dataset: Dataset) -> tuple[Tensor, Tensor, Tensor]:
    """Flat training rows, centred and in units of their scale, and those: one scale where entries share a unit."""
    flat = dataset.train.flatten(1).double()
    centre, scale = mean_and_scale(flat)
    scale = scale if own_units(dataset.space) else scale.square().mean().sqrt()
    return (flat - centre) / scale, centre, scale


def _fitted(codes: Tensor, variance: float, seed: int) -> Any:
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    components = min(COMPONENTS, len(codes))
    with warnings.catch_warnings():
        # a fit that stopped early is still a baseline
        warnings.simplefilter("ignore", ConvergenceWarning)
        return GaussianMixture(components, reg_covar=RIDGE * (variance or 1.0), max_iter=50, random_state=seed).fit(codes.numpy())


def _as_data(dataset: Dataset, draws: Tensor) -> Tensor:
    """Flat draws as rows of the data: on the grid and within the training range where entries are discrete."""
    flat = dataset.train.flatten(1)
    grid = torch.as_tensor(dataset.space.discrete).expand(flat.shape[1])
    on_grid = draws.round().clamp(flat.amin(0), flat.amax(0))
    return torch.where(grid, on_grid, draws).float().reshape(len(draws), *dataset.space.shape)
