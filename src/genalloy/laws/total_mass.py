r"""Law: a density has total mass one.

EXACT: the sum (or integral) of exp(density) is 1. Proper bounds: so is the sum of the mean of exp(density) over its
noise, since E exp(v) = p(x). LOWER without propriety: the sum of exp(E v) is at most 1; UPPER: at least 1.
"""

from __future__ import annotations

import torch

from genalloy.core.evidence import Kind
from genalloy.laws.grids import claimed, support
from genalloy.laws.subject import NotApplicable, Subject, check

REPEATS = 24


def total_mass(subject: Subject, tolerance: float = 0.01) -> None:
    """Sums the density over its support. Raises NotApplicable where that cannot be done, or nothing is claimed."""
    distribution = subject.distribution()
    first = claimed(distribution, subject.points(2))
    if first.kind in (Kind.ESTIMATE, Kind.UNBIASED):
        raise NotApplicable(f"{first.kind.value} claims no side")
    grid = support(subject, distribution, 160 if first.kind is Kind.EXACT else 60)
    repeats = 1 if first.kind is Kind.EXACT else REPEATS
    values = torch.stack([claimed(distribution, grid.points).value for _ in range(repeats)]).double()
    if first.proper:
        masses = values.exp().sum(1) * grid.cell
        slack = tolerance + (5 * float(masses.std()) / repeats**0.5 if repeats > 1 else 0.0)
        mass = float(masses.mean())
        check(abs(mass - 1) <= slack, f"{subject.name}: total mass {mass:.4f}, expected 1 within {slack:.3f}")
        return
    mass = float(values.mean(0).exp().sum()) * grid.cell
    slack = max(tolerance, 0.05)
    right = mass <= 1 + slack if first.kind is Kind.LOWER else mass >= 1 - slack
    check(right, f"{subject.name}: a {first.kind.value} density has total mass {mass:.4f}, on the wrong side of 1")
