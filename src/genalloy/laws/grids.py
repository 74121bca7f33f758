"""Sums over a part's whole support: enumeration of integers, the trapezoidal rule for one or two reals."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from genalloy.core.distribution import density
from genalloy.core.evidence import Evidence, Kind, Unavailable
from genalloy.laws.subject import NotApplicable, Subject

MOST = 4096
"""Points that are enumerated at most."""
MOST_LEVELS = 64


class Grid(NamedTuple):
    r"""points (N, \*E); cell: volume that each of them stands for."""

    points: Tensor
    cell: float


def support(subject: Subject, distribution: Any, side: int = 160) -> Grid:
    """Every value of a small discrete event, or a square grid around the samples of one or two reals.

    Raises NotApplicable where the event is too large for either.
    """
    return _enumerated(subject, distribution) if subject.discrete else _quadrature(subject, distribution, side)


def levels(subject: Subject, distribution: Any) -> int:
    """K of events in 0..K-1: the first constant event that has no mass, or is refused. Raises NotApplicable without an end."""
    zero = torch.zeros(subject.event_shape)
    for k in range(1, MOST_LEVELS):
        try:
            value = density(distribution, zero + k).value
        except ValueError:
            return k
        if bool(torch.isneginf(value)):
            return k
    raise NotApplicable(f"{subject.name}'s values have no end below {MOST_LEVELS}; give Subject its levels")


def _enumerated(subject: Subject, distribution: Any) -> Grid:
    dims, count = math.prod(subject.event_shape), subject.levels or levels(subject, distribution)
    if dims * math.log(count) > math.log(MOST):
        raise NotApplicable(f"{count}^{dims} values are too many to enumerate")
    columns = torch.cartesian_prod(*[torch.arange(count, dtype=torch.get_default_dtype())] * dims)
    return Grid(columns.reshape(-1, *subject.event_shape), 1.0)


def _quadrature(subject: Subject, distribution: Any, side: int) -> Grid:
    dims = math.prod(subject.event_shape)
    if dims > 2:
        raise NotApplicable(f"{dims} reals are too many for quadrature")
    x = distribution.sample((2000,)).reshape(2000, dims)
    centre = x.mean(0)
    reach = 2.0 * (x - centre).abs().amax(0)
    side = side if dims == 2 else side * 25
    axes = [torch.linspace(float(c - r), float(c + r), side) for c, r in zip(centre, reach, strict=True)]
    points = torch.cartesian_prod(*axes).reshape(-1, *subject.event_shape)
    return Grid(points, math.prod(float(2 * r / (side - 1)) for r in reach))


def claimed(distribution: Any, x: Tensor) -> Evidence:
    """density(x) without gradients. Raises NotApplicable where there is none."""
    with torch.no_grad():
        try:
            evidence = density(distribution, x)
        except Unavailable as error:
            raise NotApplicable(str(error)) from None
    if evidence.kind is Kind.NONE:
        raise NotApplicable(f"no density: {evidence.how}")
    return evidence
