r"""Laws of a distribution's own samples: they follow its density, and `draw` reports the density that it promises.

The second is an identity: with E[exp(-v) | x] = 1 / q(x) for (x, v) from draw() and any density g,
:math:`E[g(x) e^{-v}] = 1`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from genalloy.core.distribution import draw
from genalloy.core.evidence import Kind
from genalloy.laws.grids import claimed, support
from genalloy.laws.subject import NotApplicable, Subject, check

REPEATS = 16


@torch.no_grad()
def draws_follow_density(subject: Subject, samples: int = 4000) -> None:
    """Sixteen waves cos(a x + b): means over samples and over the density agree. Needs a proper density."""
    distribution = subject.distribution()
    first = claimed(distribution, subject.points(2))
    if not first.proper:
        raise NotApplicable(f"{first.kind.value} density without exact mean ({first.how})")
    grid = support(subject, distribution, 80)
    repeats = 1 if first.kind is Kind.EXACT else REPEATS
    masses = torch.stack([claimed(distribution, grid.points).value.double().exp() for _ in range(repeats)]) * grid.cell
    x = distribution.sample((samples,)).reshape(samples, -1).double()
    wave = _waves(x)
    there, here = masses @ wave(grid.points.reshape(len(grid.points), -1).double()), wave(x)
    noise = there.var(0).div(repeats) if repeats > 1 else 0.0
    gap = (here.mean(0) - there.mean(0)).abs() / ((here.var(0) / samples + noise).sqrt() + 0.003)
    check(float(gap.max()) < 5, f"{subject.name}: samples and density disagree by {float(gap.max()):.1f} standard errors")


def _waves(x: Tensor, count: int = 16) -> Any:
    spread = x.std(0).clamp(min=1e-3)
    direction = torch.randn(count, x.shape[1], dtype=x.dtype) / spread
    phase = 2 * math.pi * torch.rand(count, dtype=x.dtype)
    return lambda y: ((y - x.mean(0)) @ direction.T + phase).cos()


@torch.no_grad()
def draw_reports_density(subject: Subject, samples: int = 4000) -> None:
    """The identity of the module's text; where draw() is EXACT, its numbers are also those of density()."""
    distribution = subject.distribution()
    x, own = draw(distribution, (samples,))
    if own.kind is Kind.NONE or not own.proper:
        raise NotApplicable(f"draw() claims nothing that can be tested: {own.kind.value} ({own.how})")
    check(own.kind in (Kind.EXACT, Kind.UPPER), f"{subject.name}: the density of an own sample is {own.kind.value}, not above")
    again = claimed(distribution, x)
    if own.kind is Kind.EXACT and again.kind is Kind.EXACT:
        gap = float(((own.value - again.value).abs() / (1 + own.value.abs())).max())
        check(gap < 1e-3, f"{subject.name}: draw() and density() of the same sample differ by {gap:.2g} nats (relative)")
    log_g = _proposal(subject, distribution, x)
    ratio = (log_g - own.value).double().exp()
    slack = 0.01 + 5 * float(ratio.std()) / samples**0.5
    mean = float(ratio.mean())
    check(abs(mean - 1) <= slack, f"{subject.name}: E[g(x) exp(-v)] over draw() is {mean:.4f}, expected 1 within {slack:.3f}")


def _proposal(subject: Subject, distribution: Any, x: Tensor) -> Tensor:
    """log g: uniform over a small discrete support, otherwise a Gaussian narrower than the samples."""
    if subject.discrete:
        return torch.full((len(x),), -math.log(len(support(subject, distribution).points)))
    flat = x.reshape(len(x), -1)
    if flat.shape[1] > 4:
        raise NotApplicable(f"{flat.shape[1]} reals are too many for the identity")
    factor = torch.linalg.cholesky(torch.cov(flat.T).reshape(flat.shape[1], -1)) * 0.6
    return torch.distributions.MultivariateNormal(flat.mean(0), scale_tril=factor).log_prob(flat)
