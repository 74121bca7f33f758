r"""Planar and radial transforms (Rezende & Mohamed, 2015), invertible by construction and in both directions.

Planar, with :math:`h = \tanh`:

.. math:: z = x + \hat u\, h(w^\top x + b), \qquad \log|\det dz/dx| = \log(1 + s\, h'(w^\top x + b)), \quad s = w^\top \hat u.

It increases along :math:`w` if and only if :math:`s > -1`, so :math:`\hat u = u + (\kappa - 1 - w^\top u)\, w / |w|^2` with
:math:`\kappa = 1 + s` a softplus of :math:`w^\top u` shifted such that :math:`\kappa(0) = 1`: the correction stays bounded
where w vanishes. The slope is written :math:`h^2 + \kappa h'`, positive terms only. For the inverse project on :math:`w`:
:math:`a = w^\top x` solves :math:`a + s\, h(a + b) = w^\top z`, one increasing scalar equation a row, and
:math:`x = z - \hat u\, h(a + b)`.

Radial, about a centre :math:`x_0` with :math:`r = |x - x_0|`:

.. math:: z = x + \frac{\beta}{\alpha + r} (x - x_0), \qquad
          |\det| = \Big(\frac{r + \gamma}{r + \alpha}\Big)^{D-1} \frac{r^2 + 2 \alpha r + \alpha\gamma}{(r + \alpha)^2},

:math:`\gamma = \alpha + \beta > 0`. The radius of z is :math:`\rho = r (r + \gamma) / (r + \alpha)`, a quadratic in r with one
positive root, which is taken without cancellation.

Coefficients are free parameters, shifted by a network of the context where there is one (amortised).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genalloy.core.contexts import Context, Shapes, shapes_of
from genalloy.core.spec import Module
from genalloy.networks.mlp import Dense, Hidden
from genalloy.solvers.roots import Bracketed
from genalloy.transforms.layer import Transform

Shape = tuple[int, ...]
SLOPE = 1e-3
"""Smallest slope of a layer by default: what float32 can still invert."""


class Coefficients(Module):
    r"""Numbers that a transform needs, (\*B, n): free ones, shifted by a dense network of the context where there is one.

    start: initial values (n,). The network's output starts at zero.
    """

    def __init__(self, start: Tensor, hidden: Hidden = Hidden(), context_shapes: Shapes = ()) -> None:
        super().__init__()
        self.start, self.hidden = nn.Parameter(start), hidden
        self.context_shapes = shapes_of(context_shapes)
        self.network = Dense(self.context_shapes, len(start), hidden, zero=True) if self.context_shapes else None

    def forward(self, context: Context = None) -> Tensor:
        r"""(n,) without a context, else (\*B, n)."""
        return self.start if self.network is None else self.start + self.network(context)


def positive(raw: Tensor, floor: float) -> Tensor:
    """floor + (1 - floor) softplus(raw + ln(e - 1)): 1 at 0, above `floor` everywhere, linear far out."""
    return floor + (1 - floor) * F.softplus(raw + math.log(math.e - 1))


def squash(a: Tensor) -> tuple[Tensor, Tensor]:
    r""":math:`(\tanh a, \tanh' a)`, the latter as :math:`4 \sigma(2a) \sigma(-2a)`: to full relative precision in the tails."""
    return a.tanh(), 4 * torch.sigmoid(2 * a) * torch.sigmoid(-2 * a)


def dot(a: Tensor, b: Tensor) -> Tensor:
    r""":math:`\sum_d a_d b_d` over the last axis, (\*B, D) -> (\*B)."""
    return (a * b).sum(-1)


class Planar(Transform):
    r"""A planar flow on vectors (\*B, D) (Rezende & Mohamed, 2015, arXiv:1505.05770), near the identity at the start.

    .. math:: z = x + \hat u \tanh(w^\top x + b), \qquad \log|\det dz/dx| = \log(1 + w^\top \hat u\, \tanh'(w^\top x + b))

    Its `Inverse` draws in closed form. hidden: of the network that moves (u, w, b) with the context. floor: smallest slope,
    :math:`w^\top \hat u > \mathrm{floor} - 1`. size: of the random (u, w, b) at the start; small ones let an annealed target say
    where the planes go, on data they learn too slowly. Decoding raises NotConverged where a root is not found to the dtype's
    precision.
    """

    def __init__(
        self,
        dims: int,
        hidden: Hidden = Hidden(),
        context_shapes: Shapes = (),
        floor: float = SLOPE,
        size: float = 1.0,
    ) -> None:
        super().__init__()
        self.dims, self.hidden, self.floor, self.size = dims, hidden, floor, size
        self.context_shapes = shapes_of(context_shapes)
        start = torch.cat([0.1 * torch.randn(dims), torch.randn(dims) * math.sqrt(2 / dims), torch.randn(1)])
        self.coefficients = Coefficients(size * start, hidden, context_shapes)

    def encode(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        r"""x (\*B, D) -> (z, log \|det dz/dx\| (\*B))."""
        u, w, b, kappa = self._plane(context)
        h, slope = squash(dot(w, x) + b)
        return x + u * h.unsqueeze(-1), (h.square() + kappa * slope).log()

    def decode(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        r"""z (\*B, D) -> (x, log \|det dx/dz\| (\*B)), by one scalar root a row. Raises NotConverged."""
        u, w, b, kappa = self._plane(context)

        def along(a: Tensor) -> tuple[Tensor, Tensor]:
            h, slope = squash(a + b)
            return a + (kappa - 1) * h, h.square() + kappa * slope

        h, slope = squash(Bracketed()(along, dot(w, z)) + b)
        return z - u * h.unsqueeze(-1), -(h.square() + kappa * slope).log()

    def _plane(self, context: Context) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(u constrained, w, b, kappa = 1 + w.u)."""
        raw, w, b = self.coefficients(context).split([self.dims, self.dims, 1], -1)
        free = dot(w, raw)
        kappa = positive(free, self.floor)
        unit = w / w.square().sum(-1, keepdim=True).clamp(min=torch.finfo(w.dtype).tiny)
        return raw + (kappa - 1 - free).unsqueeze(-1) * unit, w, b.squeeze(-1), kappa


class Radial(Transform):
    r"""A radial flow on vectors (\*B, D): mass drawn to a centre, or pushed from it (Rezende & Mohamed, 2015, arXiv:1505.05770).

    .. math:: z = x + \frac{\beta}{\alpha + r} (x - x_0), \qquad r = |x - x_0|

    Closed form both ways; the determinant is in the module's text. hidden: of the network that moves (x0, alpha, beta) with the
    context. floor: smallest slope, (alpha + beta) / alpha at x0.
    """

    def __init__(self, dims: int, hidden: Hidden = Hidden(), context_shapes: Shapes = (), floor: float = SLOPE) -> None:
        super().__init__()
        self.dims, self.hidden, self.floor = dims, hidden, floor
        self.context_shapes = shapes_of(context_shapes)
        self.coefficients = Coefficients(torch.cat([torch.randn(dims), 0.01 * torch.randn(2)]), hidden, context_shapes)

    def encode(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        r"""x (\*B, D) -> (z, log \|det dz/dx\| (\*B))."""
        centre, alpha, gamma = self._ball(context)
        away = x - centre
        r = away.norm(dim=-1)
        return centre + away * ((r + gamma) / (r + alpha)).unsqueeze(-1), self._ladj(r, alpha, gamma)

    def decode(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        r"""z (\*B, D) -> (x, log \|det dx/dz\| (\*B)), by the root of a quadratic."""
        centre, alpha, gamma = self._ball(context)
        away = z - centre
        r = _radius(away.norm(dim=-1), alpha, gamma)
        return centre + away * ((r + alpha) / (r + gamma)).unsqueeze(-1), -self._ladj(r, alpha, gamma)

    def _ladj(self, r: Tensor, alpha: Tensor, gamma: Tensor) -> Tensor:
        across = (r + gamma).log() - (r + alpha).log()
        radial = (r * r + 2 * alpha * r + alpha * gamma).log() - 2 * (r + alpha).log()
        return (self.dims - 1) * across + radial

    def _ball(self, context: Context) -> tuple[Tensor, Tensor, Tensor]:
        """(x0, alpha, gamma = alpha + beta)."""
        centre, alpha, ratio = self.coefficients(context).split([self.dims, 1, 1], -1)
        alpha = positive(alpha, self.floor).squeeze(-1)
        return centre, alpha, alpha * positive(ratio, self.floor).squeeze(-1)


def _radius(rho: Tensor, alpha: Tensor, gamma: Tensor) -> Tensor:
    """The positive r with r (r + gamma) / (r + alpha) = rho: r^2 + (gamma - rho) r - rho alpha = 0."""
    q = rho - gamma
    root = (q.square() + 4 * rho * alpha).sqrt()
    # q + root cancels where q < 0; there the product of the two roots gives the other form
    return torch.where(q >= 0, (q + root) / 2, 2 * rho * alpha / (root - q).clamp(min=torch.finfo(q.dtype).tiny))
