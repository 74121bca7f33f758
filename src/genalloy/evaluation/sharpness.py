r"""Sharpness of pictures: the variance of the discrete Laplacian (Pech-Pacheco et al., 2000), relative to the data's own.

.. math:: s = \overline{\mathrm{Var}(\Delta f)} \,/\, \overline{\mathrm{Var}(\Delta r)}, \qquad
          \Delta x_{ij} = x_{i+1,j} + x_{i-1,j} + x_{i,j+1} + x_{i,j-1} - 4 x_{ij}

over samples f and real pictures r. Blur gives less than 1, noise more; neither side of 1 is better.
"""

from __future__ import annotations

from torch import Tensor

from genalloy.core.schema import Number, absent
from genalloy.evaluation.intervals import with_influences
from genalloy.evaluation.metric import FEWEST, validate


def laplacian_variance(x: Tensor) -> Tensor:
    r""":math:`\mathrm{Var}(\Delta x)` over the entries of each picture (N, C, H, W), border left out: (N,) float64."""
    x = x.double()
    around = x[..., 2:, 1:-1] + x[..., :-2, 1:-1] + x[..., 1:-1, 2:] + x[..., 1:-1, :-2]
    return (around - 4 * x[..., 1:-1, 1:-1]).flatten(1).var(1)


def sharpness(samples: Tensor, real: Tensor) -> Number:
    """Mean Laplacian variance of samples (N, C, H, W) divided by that of real pictures (M, C, H, W); 1 for equal sharpness.

    Absent for pictures below 4 x 4, and where the references' Laplacian is constant.
    """
    if real.dim() != 4 or min(real.shape[2:]) < 4:
        return absent(f"needs pictures of at least 4 x 4; rows have shape {tuple(real.shape[1:])}")
    bad = validate(FEWEST, {"samples": samples, "references": real})
    if bad:
        return bad
    ours, theirs = laplacian_variance(samples), laplacian_variance(real)
    scale = theirs.mean()
    if not scale > 0:
        return absent("the references' Laplacian is constant")
    ratio = ours.mean() / scale
    metric = Number(ratio.item(), None, len(samples), f"Laplacian variance over the test rows' own, {scale.item():.4g}")
    return with_influences(metric, [ours / scale, -ratio * theirs / scale], least=0.0)
