r"""Densities that cost nothing: what any model must beat, on the same rows and under the same base measure.

Entries on a grid are dequantised, :math:`v = x + u` with :math:`u \sim U[0,1)` on the grid entries, and a density
:math:`q(v)` is fitted. By Jensen :math:`\mathbb E_u \log q(x + u) \le \log \int q(x + u) du = \log P(x)`: LOWER. Where every
entry is one of K levels the same can be done after a logit, :math:`w = \mathrm{logit}(a + (1 - 2a) v / K)`, with
:math:`\log q(v) = \log q_w(w) + \sum_d \log \frac{(1 - 2a) / K}{s_d (1 - s_d)}`, :math:`s = \mathrm{sigmoid}(w)`
(Dinh, Sohl-Dickstein & Bengio 2017, who take a = 0.05; here a = 0.01). Reals need no dequantisation: EXACT.

Independent entries: a histogram with add-one smoothing for each grid entry, a normal density for each real one; EXACT.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from genalloy.core.evidence import Kind
from genalloy.core.moments import RESOLUTION, mean_and_scale
from genalloy.core.schema import Number, absent
from genalloy.data.dataset import Dataset
from genalloy.data.space import Space
from genalloy.evaluation.independent_marginals import Score, independent_entries
from genalloy.evaluation.metric import mean_of

SQUEEZE = 0.01
TEST_DRAWS = 8
TRAIN_DRAWS = 3
FEW_ROWS = 20_000
RIDGES = (1e-5, 1e-2, 1e-1)
MIXTURE_DIMS = 128
MIXTURE_ROWS = 10_000
GAUSSIAN_DIMS = 4096

Fit = Callable[[Tensor, Tensor, int], Score]


@dataclass(frozen=True)
class Baseline:
    """Mean log p over the test rows in nats (or why there is none), with its claim."""

    name: str
    kind: Kind
    nats: Number


def baselines(dataset: Dataset, seed: int = 0) -> list[Baseline]:
    """Gaussian and 10-component mixture (also after a logit for levels) and independent entries, scored on the test rows.

    All are fitted to the training and validation rows together; only the mixture selects anything on the latter (its ridge).
    """
    fits: list[tuple[str, Fit]] = [("Gaussian", _gaussian), ("mixture of 10 Gaussians", _mixture)]
    fitted = [_density(name, fit, dataset, seed, logit=False) for name, fit in fits]
    if dataset.space.levels is not None:
        fitted += [_density(f"{name} after a logit", fit, dataset, seed, logit=True) for name, fit in fits]
    return [*fitted, independent(dataset)]


def _grid(space: Space) -> Tensor:
    return torch.as_tensor(space.discrete).expand(space.dims).double()


# -- Gaussians -----------------------------------------------------------------------------------------------------


def _density(name: str, fit: Fit, dataset: Dataset, seed: int, logit: bool) -> Baseline:
    """Fit a density to dequantised rows and average its log over draws of the noise and over the test rows."""
    grid = _grid(dataset.space)
    discrete = bool(grid.any())
    kind = Kind.LOWER if discrete else Kind.EXACT
    rows = len(dataset.train) + len(dataset.validation)
    reason = _refusal(name, rows, dataset.space.dims)
    if reason:
        return Baseline(name, kind, absent(reason))
    warp = partial(_warp, grid, dataset.space.levels if logit else None, torch.Generator().manual_seed(seed))
    copies = TRAIN_DRAWS if discrete and rows <= FEW_ROWS else 1
    train, validation = (warp(part.flatten(1).double().repeat(copies, 1))[0] for part in (dataset.train, dataset.validation))
    try:
        score = fit(train, validation, seed)
    except (ValueError, RuntimeError) as error:
        return Baseline(name, kind, absent(f"the fit failed: {str(error).partition('.')[0]}"))
    test = dataset.test.flatten(1).double()
    draws = [score(w) + ladj for w, ladj in (warp(test) for _ in range(TEST_DRAWS if discrete else 1))]
    how = f"full covariance, fitted to {rows:,} rows" + (f", dequantised, mean of {TEST_DRAWS} draws" if discrete else "")
    return Baseline(name, kind, mean_of(torch.stack(draws).mean(0), how + (f", logit with a = {SQUEEZE}" if logit else "")))


def _refusal(name: str, rows: int, dims: int) -> str:
    if rows <= dims + 1:
        return f"a full covariance of {dims:,} entries needs more than {dims + 1:,} rows; found {rows:,}"
    if dims > GAUSSIAN_DIMS:
        return f"a full covariance of {dims:,} entries is too large here; the limit is {GAUSSIAN_DIMS:,}"
    if name.startswith("mixture") and (dims > MIXTURE_DIMS or rows < 10 * (dims + 1)):
        return f"ten full covariances need at most {MIXTURE_DIMS} entries and {10 * (dims + 1):,} rows; found {dims:,}, {rows:,}"
    return ""


def _warp(grid: Tensor, levels: int | None, generator: torch.Generator, x: Tensor) -> tuple[Tensor, Tensor]:
    """Dequantised rows or, for levels, their logit; with the log-determinant (N,)."""
    v = x + torch.rand(x.shape, generator=generator, dtype=x.dtype) * grid
    if levels is None:
        return v, torch.zeros(len(v), dtype=v.dtype)
    s = SQUEEZE + (1 - 2 * SQUEEZE) * v / levels
    slope = math.log((1 - 2 * SQUEEZE) / levels) - s.log() - (1 - s).log()
    return s.logit(), slope.sum(1)


def _gaussian(train: Tensor, validation: Tensor, seed: int) -> Score:
    rows = torch.cat([train, validation])
    mean, scale = mean_and_scale(rows, constant=RESOLUTION)
    covariance = torch.cov(((rows - mean) / scale).T).reshape(rows.shape[1], -1)
    # an entry that is constant has the scale of what numbers tell apart, as in the other baselines
    covariance += torch.diag((covariance.diagonal() == 0).double())
    law = torch.distributions.MultivariateNormal(torch.zeros_like(mean), covariance, validate_args=False)
    return lambda x: law.log_prob((x - mean) / scale) - scale.log().sum()


def _mixture(train: Tensor, validation: Tensor, seed: int) -> Score:
    """In standardised coordinates; the ridge on the covariances is selected on the validation rows, then all are used."""
    shift, scale = mean_and_scale(train, constant=RESOLUTION)
    kept, check = ((_some(rows, MIXTURE_ROWS, seed) - shift) / scale for rows in (train, validation))
    ridge = max(RIDGES, key=lambda ridge: float(_fit_mixture(kept, ridge, seed).score(check.numpy())))
    mixture = _fit_mixture(torch.cat([kept, check]), ridge, seed)
    ladj = scale.log().sum()
    return lambda x: torch.from_numpy(mixture.score_samples(((x - shift) / scale).numpy())) - ladj


def _fit_mixture(rows: Tensor, ridge: float, seed: int) -> Any:
    from sklearn.mixture import GaussianMixture

    return GaussianMixture(10, reg_covar=ridge, random_state=seed).fit(rows.numpy())


def _some(rows: Tensor, most: int, seed: int) -> Tensor:
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:most]]


# -- independent entries -------------------------------------------------------------------------------------------


def independent(dataset: Dataset) -> Baseline:
    """Each entry on its own: histogram with add-one smoothing on a grid, a normal density over the reals. EXACT."""
    rows = torch.cat([dataset.train, dataset.validation])
    log_p = independent_entries(dataset.space, rows, correction=0)(dataset.test)
    words = {True: "histograms, add-one smoothing", False: "normal densities"}
    how = " and ".join(words[kind] for kind in sorted({bool(g) for g in _grid(dataset.space)}, reverse=True))
    return Baseline("independent entries", Kind.EXACT, mean_of(log_p, f"{how}, fitted to {len(rows):,} rows"))
