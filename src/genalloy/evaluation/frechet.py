r"""Fréchet distance between Gaussian fits (Dowson & Landau, 1982; Heusel et al., 2017, arXiv:1706.08500, in Inception features).

.. math:: F = |\mu_a - \mu_b|^2 + \mathrm{tr}(\Sigma_a + \Sigma_b - 2 (\Sigma_a^{1/2} \Sigma_b \Sigma_a^{1/2})^{1/2})

Biased upwards at finite n, so it is read against the reference rows at the same n. Its error comes from the influence of
a row on the two moments: with M the optimal map between the fits,
:math:`M = \Sigma_a^{-1/2}(\Sigma_a^{1/2}\Sigma_b\Sigma_a^{1/2})^{1/2}\Sigma_a^{-1/2}`,
:math:`\partial F/\partial\mu_a = 2(\mu_a - \mu_b)` and :math:`\partial F/\partial\Sigma_a = I - M`, so that

.. math:: \psi_a(x) = 2 (\mu_a - \mu_b)^\top (x - \mu_a) + (x - \mu_a)^\top (I - M)(x - \mu_a) + \text{const}.

It matches two moments, and a fitted Gaussian has those: in pixels or PCA a Gaussian scores almost nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genalloy.core.schema import Number
from genalloy.evaluation.intervals import with_influences
from genalloy.evaluation.metric import FEWEST, validate

FLOOR = 1e-10
"""Eigenvalues below this share of the largest count as zero where a covariance is inverted."""


def frechet(a: Tensor, b: Tensor) -> Number:
    r"""Fréchet distance between Gaussians fitted to features (N, F) and (M, F), in their squared units; see the module.

    .. math:: |\mu_a - \mu_b|^2 + \mathrm{tr}(\Sigma_a + \Sigma_b - 2 (\Sigma_a^{1/2} \Sigma_b \Sigma_a^{1/2})^{1/2})

    Heusel et al., 2017, arXiv:1706.08500. The standard error comes from the rows' influences. Absent below F + 2 rows, where a
    covariance is singular.
    """
    bad = validate(max(FEWEST, a.shape[1] + 2), {"samples": a, "references": b})
    if bad:
        return bad
    a, b = a.double(), b.double()
    moments = a.mean(0), covariance(a), b.mean(0), covariance(b)
    how = f"{a.shape[1]} features, Gaussian fits; biased upwards at this n"
    metric = Number(gaussian_frechet(*moments), None, min(len(a), len(b)), how)
    mean_a, cov_a, mean_b, cov_b = moments
    gap = mean_a - mean_b
    influences = [influence(a - mean_a, gap, cov_a, cov_b), influence(b - mean_b, -gap, cov_b, cov_a)]
    return with_influences(metric, influences, least=0.0)


def gaussian_frechet(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> float:
    """The closed form for means (F,) and covariances (F, F), by symmetric eigendecompositions.

    So there are no complex square roots for singular covariances; rounding below 0 is cut off.
    """
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp_min(0).sqrt().sum()
    distance = (mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross
    return max(distance.item(), 0.0)


def covariance(x: Tensor) -> Tensor:
    """Unbiased covariance (F, F) of (N, F), also where F = 1."""
    return torch.cov(x.T).reshape(x.shape[1], -1)


def influence(centred: Tensor, gap: Tensor, own: Tensor, other: Tensor) -> Tensor:
    """The influence (N,) of each row of one set, up to a constant."""
    bent = centred - centred @ _map(own, other)
    return 2 * centred @ gap + (centred * bent).sum(1)


def _map(own: Tensor, other: Tensor) -> Tensor:
    """The optimal linear map between centred Gaussians of covariances own and other (pseudo-inverse where singular)."""
    values, vectors = torch.linalg.eigh(own)
    kept = values > FLOOR * values[-1]
    roots = values.clamp_min(0).sqrt()
    root, inverse = ((vectors * scale) @ vectors.T for scale in (roots, torch.where(kept, 1 / roots.clamp_min(1e-300), 0.0)))
    middle, turned = torch.linalg.eigh(root @ other @ root)
    return inverse @ (turned * middle.clamp_min(0).sqrt()) @ turned.T @ inverse
