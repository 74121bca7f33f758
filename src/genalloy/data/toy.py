r"""Two-dimensional toys whose log-density is known, so that a gap to the truth can be printed in nats.

``8gaussians``, ``checkerboard``, ``moons``, ``pinwheel`` and ``rings`` follow the sampling code of FFJORD (Grathwohl,
Chen, Bettencourt, Sutskever & Duvenaud, 2019); their densities are derived here.

* Mixtures of isotropic Gaussians: :math:`p(x) = \frac1K \sum_k N(x; \mu_k, \sigma^2 I)`.
* A circle of radius :math:`R` blurred by :math:`N(0, \sigma^2 I)`: in polar coordinates the angle integrates to a
  Bessel function, :math:`p(x) = \frac{1}{2\pi\sigma^2} e^{-(r^2 + R^2) / 2\sigma^2} I_0(rR / \sigma^2)`.
* A half circle, blurred: the same integral over :math:`[0, \pi]`, by Gauss-Legendre quadrature (200 nodes; the
  integrand is analytic, with width :math:`\sigma / R \ge 0.1`, so the error is below double precision).
* The pinwheel rotates :math:`f \sim N((1, 0), \mathrm{diag}(s_r^2, s_t^2))` by :math:`a_k + \rho e^{f_1}`. A rotation
  keeps :math:`r = |f|`, so with :math:`f = r (\cos\phi, \sin\phi)` only the angle moves:
  :math:`\theta = g(\phi) = \phi + \rho e^{r\cos\phi} + a_k`, and
  :math:`p(y) = \frac1K \sum_k \sum_{\phi : g(\phi) = \theta} N(f(\phi)) / |g'(\phi)|`. All roots are found by
  bisection between the sign changes of :math:`\sin\frac{g(\phi) - \theta}2`.

``u1`` to ``u4`` are the energies of Rezende & Mohamed (2015) inside their box; see :mod:`genalloy.data.energies`.

``optimum`` is :math:`\mathbb E \log p`, minus the entropy: what a perfect model scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from genalloy.data.energies import U1, U2, U3, U4, Energy
from genalloy.data.errors import BadData, nearest

Sampler = Callable[[int, torch.Generator], Tensor]
LogDensity = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Toy:
    r"""A distribution over the plane with a known log-density.

    sample:       (n, generator) -> (n, 2) float32.
    log_density:  (\*B, 2) -> (\*B) nats, computed in float64, returned in x's dtype.
    optimum:      E log p in nats; `how` says how it was obtained, and its error.
    modes:        (K, 2) centres of separate modes where there are such, for coverage counts.
    """

    name: str
    sample: Sampler
    log_density: LogDensity
    optimum: float
    how: str
    modes: Tensor | None = None


def toy(name: str) -> Toy:
    """The toy called `name`. Raises BadData, with the nearest name, where there is none."""
    if name not in TOYS:
        raise BadData(f"no toy is called {name!r}; expected one of {', '.join(TOYS)}{nearest(name, TOYS)}")
    return TOYS[name]


def _in_double(log_density: LogDensity) -> LogDensity:
    """Compute in float64 whatever comes in: far tails underflow in float32."""
    return lambda x: log_density(x.double()).to(x.dtype)


def _uniform(n: int, generator: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(n, *shape, generator=generator, dtype=torch.float64)


def _normal(n: int, generator: torch.Generator) -> Tensor:
    return torch.randn(n, 2, generator=generator, dtype=torch.float64)


def _polar(radius: Tensor | float, angle: Tensor) -> Tensor:
    return torch.stack([radius * angle.cos(), radius * angle.sin()], -1)


# -- Gaussians on a circle -----------------------------------------------------------------------------------------


def _mixture_sample(centres: Tensor, sd: float, n: int, generator: torch.Generator) -> Tensor:
    which = torch.randint(len(centres), (n,), generator=generator)
    return (centres[which] + sd * _normal(n, generator)).float()


def _mixture_log_density(centres: Tensor, sd: float, x: Tensor) -> Tensor:
    square = (x.unsqueeze(-2) - centres).square().sum(-1)
    return torch.logsumexp(-square / (2 * sd**2), -1) - math.log(2 * math.pi * sd**2 * len(centres))


def _circle_of_gaussians(name: str, radius: float, sd: float, optimum: float, how: str) -> Toy:
    centres = _polar(radius, torch.arange(8, dtype=torch.float64) * (math.pi / 4))
    log_density = _in_double(partial(_mixture_log_density, centres, sd))
    return Toy(name, partial(_mixture_sample, centres, sd), log_density, optimum, how, centres.float())


# -- checkerboard --------------------------------------------------------------------------------------------------


def _checkerboard_sample(n: int, generator: torch.Generator) -> Tensor:
    x1 = 4 * _uniform(n, generator) - 2
    down = 2 * torch.randint(2, (n,), generator=generator)
    x2 = _uniform(n, generator) - down + x1.floor().remainder(2)
    return (2 * torch.stack([x1, x2], -1)).float()


def _checkerboard_log_density(x: Tensor) -> Tensor:
    column, row = (x / 2).floor().unbind(-1)
    inside = (x.abs() <= 4).all(-1) & ((column + row).remainder(2) == 0)
    return torch.where(inside, -math.log(32.0), -math.inf).to(x.dtype)


# -- rings ---------------------------------------------------------------------------------------------------------

_RING_RADII = torch.tensor([0.75, 1.5, 2.25, 3.0], dtype=torch.float64)
_RING_SD = 0.08


def _rings_sample(n: int, generator: torch.Generator) -> Tensor:
    radius = _RING_RADII[torch.randint(4, (n,), generator=generator)]
    centre = _polar(radius, 2 * math.pi * _uniform(n, generator))
    return (centre + _RING_SD * _normal(n, generator)).float()


def _rings_log_density(x: Tensor) -> Tensor:
    r = x.norm(dim=-1, keepdim=True)
    # i0e(a) = exp(-a) I0(a): with it the exponent becomes the harmless -(r - R)^2 / 2 sd^2
    bessel = torch.special.i0e(r * _RING_RADII / _RING_SD**2).log()
    terms = bessel - (r - _RING_RADII).square() / (2 * _RING_SD**2)
    return torch.logsumexp(terms, -1) - math.log(4 * 2 * math.pi * _RING_SD**2)


# -- two moons -----------------------------------------------------------------------------------------------------

_MOON_SD = 0.2  # 0.1 before the scale of 2


def _moon(angle: Tensor, lower: Tensor) -> Tensor:
    """Points of the two half circles after FFJORD's ``2 x + (-1, -0.2)``."""
    first = torch.where(lower, 1 - angle.cos(), angle.cos())
    second = torch.where(lower, 0.5 - angle.sin(), angle.sin())
    return torch.stack([2 * first - 1, 2 * second - 0.2], -1)


def _moons_sample(n: int, generator: torch.Generator) -> Tensor:
    lower = torch.randint(2, (n,), generator=generator).bool()
    return (_moon(math.pi * _uniform(n, generator), lower) + _MOON_SD * _normal(n, generator)).float()


def _moons_log_density(x: Tensor) -> Tensor:
    node, weight = map(torch.from_numpy, np.polynomial.legendre.leggauss(200))
    angle = (node + 1) * (math.pi / 2)
    curve = torch.cat([_moon(angle, torch.tensor(side)) for side in (False, True)])
    # leggauss weights sum to 2, and the two arcs share the mass: 4 in all
    log_weight = (torch.cat([weight, weight]) / 4).log()
    square = (x.unsqueeze(-2) - curve).square().sum(-1)
    return torch.logsumexp(log_weight - square / (2 * _MOON_SD**2), -1) - math.log(2 * math.pi * _MOON_SD**2)


# -- pinwheel ------------------------------------------------------------------------------------------------------

_RADIAL, _TANGENTIAL, _ARMS, _RATE = 0.3, 0.1, 5, 0.25


def _pinwheel_sample(n: int, generator: torch.Generator) -> Tensor:
    f = _normal(n, generator) * torch.tensor([_RADIAL, _TANGENTIAL]) + torch.tensor([1.0, 0.0])
    arm = torch.randint(_ARMS, (n,), generator=generator) * (2 * math.pi / _ARMS)
    angle = arm + _RATE * f[:, 0].exp() + torch.atan2(f[:, 1], f[:, 0])
    return (2 * _polar(f.norm(dim=-1), angle)).float()


def _turn(r: Tensor, phi: Tensor) -> Tensor:
    """g(phi) without the arm's own angle."""
    return phi + _RATE * (r * phi.cos()).exp()


def _bisect(r: Tensor, target: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """The root of sin((g - target) / 2) in each interval, 45 halvings: below 1e-15 of the interval."""

    def side(phi: Tensor) -> Tensor:
        return torch.sin((_turn(r, phi) - target) / 2) > 0

    start = side(left)
    for _ in range(45):
        middle = (left + right) / 2
        same = side(middle) == start
        left, right = torch.where(same, middle, left), torch.where(same, right, middle)
    return (left + right) / 2


def _pinwheel_chunk(y: Tensor) -> Tensor:
    r, theta = y.norm(dim=-1) / 2, torch.atan2(y[:, 1], y[:, 0])
    arms = torch.arange(_ARMS, dtype=torch.float64) * (2 * math.pi / _ARMS)
    grid = torch.linspace(-math.pi, math.pi, 513, dtype=torch.float64)
    target = theta[:, None] - arms
    positive = torch.sin((_turn(r[:, None, None], grid) - target[..., None]) / 2) > 0
    row, arm, cell = (positive[..., 1:] != positive[..., :-1]).nonzero(as_tuple=True)
    r = r[row]
    phi = _bisect(r, target[row, arm], grid[cell], grid[cell + 1])
    slope = 1 - _RATE * r * phi.sin() * (r * phi.cos()).exp()
    normal = ((r * phi.cos() - 1) / _RADIAL).square() + (r * phi.sin() / _TANGENTIAL).square()
    # the last factor 4 is the area of the final scaling by 2
    mass = (-normal / 2).exp() / slope.abs() / (2 * math.pi * _RADIAL * _TANGENTIAL * _ARMS * 4)
    return torch.zeros_like(theta).index_add(0, row, mass).log()


def _pinwheel_log_density(x: Tensor) -> Tensor:
    chunks = torch.split(x.reshape(-1, 2), 1000)
    return torch.cat([_pinwheel_chunk(chunk) for chunk in chunks]).reshape(x.shape[:-1])


def _in_a_box(name: str, energy: Energy, optimum: float) -> Toy:
    return Toy(name, energy.sample, energy.log_density, optimum, f"{_QUADRATURE}; inside [-4, 4]^2")


_QUADRATURE = "minus the entropy of the exact density, by quadrature on a fine grid, error below 1e-4"


TOYS: dict[str, Toy] = {
    made.name: made
    for made in (
        _circle_of_gaussians("8gaussians", 4 / 1.414, 0.5 / 1.414, -2.83188, _QUADRATURE),
        _circle_of_gaussians(
            "ring8",
            2.0,
            0.1,
            -math.log(8) - math.log(2 * math.pi * math.e * 0.01),
            "closed form: -ln 8 - ln(2 pi e sd^2); neighbouring modes are 15 sd apart",
        ),
        Toy(
            "checkerboard",
            _checkerboard_sample,
            _in_double(_checkerboard_log_density),
            -math.log(32.0),
            "closed form: -ln 32, uniform over an area of 32",
        ),
        Toy("moons", _moons_sample, _in_double(_moons_log_density), -2.39388, _QUADRATURE),
        Toy("pinwheel", _pinwheel_sample, _in_double(_pinwheel_log_density), -2.31779, _QUADRATURE),
        Toy("rings", _rings_sample, _in_double(_rings_log_density), -2.62318, _QUADRATURE),
        _in_a_box("u1", U1(wall=0.0), -2.66001),
        _in_a_box("u2", U2(wall=0.0), -2.58209),
        _in_a_box("u3", U3(wall=0.0), -2.62671),
        _in_a_box("u4", U4(wall=0.0), -2.76618),
    )
}
