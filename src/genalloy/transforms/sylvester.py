r"""Sylvester transforms: planar transforms with M hidden units at once (van den Berg, Hasenclever, Tomczak & Welling, 2018).

.. math:: z = x + Q R\, h(\tilde R\, Q^\top x + b), \qquad
          \log|\det dz/dx| = \sum_{i=1}^{M} \log\big(1 + r_{ii} \tilde r_{ii}\, h'_i\big),

with Q of M <= D orthonormal columns and R, R~ upper triangular: Sylvester's identity makes the D x D determinant one of an
M x M triangular matrix. It is invertible where :math:`r_{ii} \tilde r_{ii} > -1`, since :math:`0 < h' \le 1` for tanh; diagonals
are tanh, scaled to keep every slope above a floor.

The inverse needs only :math:`v = Q^\top x`: multiplied by :math:`Q^\top` the equation is triangular,

.. math:: (Q^\top z)_i = v_i + r_{ii}\, h\big(\tilde r_{ii} v_i + \textstyle\sum_{j>i} \tilde r_{ij} v_j + b_i\big)
                         + \textstyle\sum_{j>i} r_{ij} h_j,

one increasing scalar equation at a time from the last row up. Then :math:`x = z - Q R h`.

Q is one of three kinds of :class:`Basis`. All coefficients may depend on the context (amortised).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from genalloy.core.contexts import Context, Shapes, shapes_of
from genalloy.core.spec import Value
from genalloy.networks.mlp import Hidden
from genalloy.solvers.roots import Bracketed, NotConverged
from genalloy.transforms.layer import Transform
from genalloy.transforms.planar import SLOPE, Coefficients, squash

Shape = tuple[int, ...]


class Basis(Value, ABC):
    """How Q (D, M) with orthonormal columns comes from raw coefficients (n,)."""

    def columns(self, dims: int) -> int:
        """M, the number of columns for events of D = `dims` entries."""
        return dims

    @abstractmethod
    def start(self, dims: int) -> Tensor:
        """Initial raw coefficients (n,)."""

    @abstractmethod
    def matrix(self, raw: Tensor, dims: int) -> Tensor:
        r"""Q (\*B, D, M) from raw coefficients (\*B, n)."""


@dataclass(frozen=True)
class Orthogonal(Basis):
    r"""`width` <= D columns made orthonormal by :math:`Q \leftarrow Q (I + \tfrac12 (I - Q^\top Q))` (Bjorck & Bowie, 1971).

    The O-SNF of van den Berg et al., 2018, arXiv:1803.05649. Raises NotConverged where columns are not orthonormal to the dtype's
    precision after `steps` (they were nearly dependent).
    """

    width: int = 8
    steps: int = 80

    def columns(self, dims: int) -> int:
        """M = min(width, D)."""
        return min(self.width, dims)

    def start(self, dims: int) -> Tensor:
        """A random orthonormal matrix, flattened: (D M,)."""
        return torch.linalg.qr(torch.randn(dims, self.columns(dims)))[0].flatten()

    def matrix(self, raw: Tensor, dims: int) -> Tensor:
        r"""Q (\*B, D, M) by the iteration, from raw (\*B, D M). Raises NotConverged as the class says."""
        q = raw.unflatten(-1, (dims, self.columns(dims)))
        # at most the spectral norm's own bound, so the iteration starts where it converges
        q = q / (q.abs().sum(-1).amax(-1) * q.abs().sum(-2).amax(-1)).sqrt()[..., None, None]
        eye = torch.eye(q.shape[-1], dtype=q.dtype, device=q.device)
        for _ in range(self.steps):
            gap = eye - q.mT @ q
            worst = gap.detach().abs().amax((-1, -2))
            if (worst <= 32 * torch.finfo(q.dtype).eps).all():
                return q
            q = q + q @ gap / 2
        missing = ~(worst <= 32 * torch.finfo(q.dtype).eps)
        raise NotConverged(
            f"{int(missing.sum())} of {missing.numel()} matrices are not orthogonal after {self.steps} steps: off by up to "
            f"{float(worst.max()):.2g}; use fewer columns, a smaller learning rate, or Householder()"
        )


@dataclass(frozen=True)
class Householder(Basis):
    r"""M = D: a product of `reflections` of :math:`I - 2 v v^\top / |v|^2` (Householder, 1958), each from D raw coefficients.

    The H-SNF of van den Berg et al., 2018, arXiv:1803.05649.
    """

    reflections: int = 8

    def start(self, dims: int) -> Tensor:
        """Random normal directions, flattened: (reflections D,)."""
        return torch.randn(self.reflections * dims)

    def matrix(self, raw: Tensor, dims: int) -> Tensor:
        r"""Q (\*B, D, D), the product of the reflections whose directions are raw (\*B, reflections D)."""
        v = raw.unflatten(-1, (self.reflections, dims))
        v = v / v.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(v.dtype).tiny)
        q = torch.eye(dims, dtype=v.dtype, device=v.device)
        for one in v.unbind(-2):
            q = q - 2 * (q @ one.unsqueeze(-1)) @ one.unsqueeze(-2)
        return q


@dataclass(frozen=True)
class Triangular(Basis):
    """M = D: Q is the identity, or the reversal where `reverse`; stacks take them in turn. No coefficients.

    The T-SNF of van den Berg et al., 2018, arXiv:1803.05649.
    """

    reverse: bool = False

    def start(self, dims: int) -> Tensor:
        """Nothing: (0,)."""
        return torch.zeros(0)

    def matrix(self, raw: Tensor, dims: int) -> Tensor:
        """The identity (D, D), or with its rows reversed; raw gives dtype and device alone."""
        q = torch.eye(dims, dtype=raw.dtype, device=raw.device)
        return q.flip(0) if self.reverse else q


class Sylvester(Transform):
    r"""A Sylvester flow on vectors (\*B, D) (van den Berg et al., 2018, arXiv:1803.05649), near the identity at the start.

    .. math:: z = x + Q R \tanh(\tilde R\, Q^\top x + b), \qquad
              \log|\det dz/dx| = \sum_i \log(1 + r_{ii} \tilde r_{ii}\, \tanh'_i)

    dims: D. basis: kind of Q. hidden: of the network that moves (Q, R, R~, b) with the context. floor: smallest slope,
    :math:`r_{ii} \tilde r_{ii} \ge \mathrm{floor} - 1`. Decoding solves M scalar equations in turn; it raises NotConverged where
    one fails.
    """

    def __init__(
        self,
        dims: int,
        basis: Basis = Orthogonal(),
        hidden: Hidden = Hidden(),
        context_shapes: Shapes = (),
        floor: float = SLOPE,
    ) -> None:
        super().__init__()
        self.dims, self.basis, self.hidden, self.floor = dims, basis, hidden, floor
        self.context_shapes = shapes_of(context_shapes)
        m = self.columns = basis.columns(dims)
        triangles = torch.cat([0.01 * torch.randn(m * m), torch.randn(m), torch.zeros(m)])
        start = torch.cat([basis.start(dims), triangles])
        self.sizes = [len(start) - len(triangles), m * m, m, m]
        self.coefficients = Coefficients(start, hidden, context_shapes)

    def encode(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        r"""x (\*B, D) -> (z, log \|det dz/dx\| (\*B))."""
        q, upper, tilde, b = self._factors(context)
        h, slope = squash(_times(tilde, _times(q.mT, x)) + b)
        return x + _times(q, _times(upper, h)), (1 + _diagonal(upper) * _diagonal(tilde) * slope).log().sum(-1)

    def decode(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        r"""z (\*B, D) -> (x, log \|det dx/dz\| (\*B)). Raises NotConverged where a scalar equation is not solved."""
        q, upper, tilde, b = self._factors(context)
        v = _substitute(upper, tilde, b, _times(q.mT, z))
        h, slope = squash(_times(tilde, v) + b)
        return z - _times(q, _times(upper, h)), -(1 + _diagonal(upper) * _diagonal(tilde) * slope).log().sum(-1)

    def _factors(self, context: Context) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(Q, R, R~, b); one square of coefficients holds R above and R~ below its diagonal."""
        raw, square, diagonal, b = self.coefficients(context).split(self.sizes, -1)
        square = square.unflatten(-1, (self.columns, self.columns))
        most = math.sqrt(1 - self.floor)
        upper = square.triu(1) + torch.diag_embed(most * _diagonal(square).tanh())
        tilde = square.mT.triu(1) + torch.diag_embed(most * diagonal.tanh())
        return self.basis.matrix(raw, self.dims), upper, tilde, b


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector.unsqueeze(-1)).squeeze(-1)


def _diagonal(square: Tensor) -> Tensor:
    return square.diagonal(dim1=-2, dim2=-1)


def _substitute(upper: Tensor, tilde: Tensor, b: Tensor, target: Tensor) -> Tensor:
    """v with v + R tanh(R~ v + b) = target, from the last row up."""
    target, b = torch.broadcast_tensors(target, b)
    v, h = target[..., :0], target[..., :0]
    for i in reversed(range(target.shape[-1])):
        known = (tilde[..., i, i + 1 :] * v).sum(-1) + b[..., i]
        rest = target[..., i] - (upper[..., i, i + 1 :] * h).sum(-1)
        r, r_tilde = upper[..., i, i], tilde[..., i, i]

        def row(a: Tensor, known: Tensor = known, r: Tensor = r, r_tilde: Tensor = r_tilde) -> tuple[Tensor, Tensor]:
            value, slope = squash(r_tilde * a + known)
            return a + r * value, 1 + r * r_tilde * slope

        own = Bracketed()(row, rest).unsqueeze(-1)
        v = torch.cat([own, v], -1)
        h = torch.cat([(r_tilde.unsqueeze(-1) * own + known.unsqueeze(-1)).tanh(), h], -1)
    return v
