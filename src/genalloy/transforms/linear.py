r"""Linear transforms between coupling or autoregressive layers: permutations, ActNorm, PLU.

ActNorm (Kingma & Dhariwal, 2018): :math:`z = (x - b)\, e^{s}` with one b and s an entry, set from the first batch so that z
starts with mean 0 and variance 1. PLU (the same paper): :math:`z = P L (U + \mathrm{diag}(\sigma e^{s})) x` with a fixed
permutation P and signs :math:`\sigma`, unit-triangular L, strictly triangular U; :math:`\log|\det| = \sum s`.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from genalloy.core.contexts import Context
from genalloy.core.distribution import sum_event
from genalloy.core.moments import mean_and_scale
from genalloy.transforms.layer import Transform

Shape = tuple[int, ...]


class Permute(Transform):
    r""":math:`z_i = x_{p(i)}` on vectors (\*B, D), log-determinant 0; permutation: integer tensor (D,), kept as a buffer."""

    constant = True

    def __init__(self, permutation: Tensor) -> None:
        super().__init__()
        self.register_buffer("permutation", permutation.long())

    def encode(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        r"""(:math:`z_i = x_{p(i)}`, zeros (\*B))."""
        return x[..., self.permutation], x.new_zeros(x.shape[:-1])

    def decode(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        r"""(:math:`x_{p(i)} = z_i`, zeros (\*B))."""
        return z[..., self.permutation.argsort()], z.new_zeros(z.shape[:-1])


class Reverse(Transform):
    r"""Entries of a vector (\*B, D) in reverse order, log-determinant 0: an autoregressive stack then conditions both ways."""

    constant = True

    def encode(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        r"""(:math:`z_i = x_{D+1-i}`, zeros (\*B))."""
        return x.flip(-1), x.new_zeros(x.shape[:-1])

    def decode(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        """The same as :meth:`encode`, which is its own inverse."""
        return self.encode(z)


class ActNorm(Transform):
    r"""Activation normalisation :math:`z = (x - b)\, e^{s}` (Kingma & Dhariwal, 2018, arXiv:1807.03039).

    Its log-determinant is :math:`\sum s` over the event. b and s are learned, one of every entry, or of every channel where
    `per_channel`. event_shape: of x, channels first. `initialise(x)` standardises a batch; until then it is the identity. floor:
    the scale of an entry that is constant in that batch, as a share of its value.
    """

    constant = True

    def __init__(self, event_shape: Shape, per_channel: bool = False, floor: float = 1e-3) -> None:
        super().__init__()
        self.event_shape, self.per_channel, self.floor = tuple(event_shape), per_channel, floor
        self.event_dims = len(self.event_shape)
        shape = (self.event_shape[0], *(1,) * (self.event_dims - 1)) if per_channel else self.event_shape
        self.shift = nn.Parameter(torch.zeros(shape))
        self.log_scale = nn.Parameter(torch.zeros(shape))

    @torch.no_grad()
    def initialise(self, x: Tensor, context: Context = None) -> None:
        r"""Set b and s from a batch x (\*B, \*E) such that z has mean 0 and variance 1 an entry, or a channel."""
        rows = x.reshape(-1, *self.event_shape)
        rows = rows.movedim(1, -1).flatten(0, -2) if self.per_channel else rows
        mean, scale = mean_and_scale(rows, constant=self.floor)
        self.shift.copy_(mean.reshape(self.shift.shape))
        self.log_scale.copy_(-scale.log().reshape(self.shift.shape))

    def encode(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        r"""x (\*B, \*E) -> (:math:`(x - b)\, e^s`, the sum of s over the event (\*B))."""
        return (x - self.shift) * self.log_scale.exp(), self._ladj(x)

    def decode(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        r"""z (\*B, \*E) -> (:math:`z\, e^{-s} + b`, minus the sum of s over the event (\*B))."""
        return z * torch.exp(-self.log_scale) + self.shift, -self._ladj(z)

    def _ladj(self, x: Tensor) -> Tensor:
        whole = self.log_scale.expand(self.event_shape)
        return sum_event(whole, self.event_dims).expand(x.shape[: x.dim() - self.event_dims])


STARTS: dict[str, Callable[[int], Tensor]] = {
    "identity": lambda size: torch.eye(size, dtype=torch.float64),
    "permutation": lambda size: torch.eye(size, dtype=torch.float64)[torch.randperm(size)],
    "rotation": lambda size: torch.linalg.qr(torch.randn(size, size, dtype=torch.float64))[0],
}


class Mixing(ABC):  # noqa: B024
    """A square matrix W in PLU form, beside :class:`Transform` for those that apply it; see the module's text.

    size: rows of W. start: "identity", or at random "permutation" or "rotation". P and the signs are kept as buffers.
    Raises ValueError for another start.
    """

    constant = True

    def hold(self: Any, size: int, start: str) -> None:
        """P and the signs as buffers, L, U and log s as parameters."""
        if start not in STARTS:
            raise ValueError(f"found start={start!r}, expected one of {', '.join(STARTS)}")
        self.size, self.start = size, start
        permutation, lower, upper = torch.linalg.lu(STARTS[start](size))
        self.register_buffer("permutation", permutation.argmax(1))
        self.register_buffer("signs", upper.diagonal().sign().float())
        self.below = nn.Parameter(lower.tril(-1).float())
        self.above = nn.Parameter(upper.triu(1).float())
        self.log_scale = nn.Parameter(upper.diagonal().abs().log().float())

    def _factors(self: Any) -> tuple[Tensor, Tensor]:
        """(L, U + diag(signs e^s))."""
        eye = torch.eye(self.size, dtype=self.below.dtype, device=self.below.device)
        return self.below.tril(-1) + eye, self.above.triu(1) + torch.diag(self.signs * self.log_scale.exp())

    def _solved(self, z: Tensor) -> Tensor:
        """W^{-1} z for columns z with their rows in the order of L U x already."""
        lower, upper = self._factors()
        y = torch.linalg.solve_triangular(lower, z, upper=False, unitriangular=True)
        return torch.linalg.solve_triangular(upper, y, upper=True)


class PLU(Mixing, Transform):
    r""":math:`z = W x` on vectors (\*B, D), W in PLU form (Kingma & Dhariwal, 2018, arXiv:1807.03039).

    .. math:: W = P L (U + \mathrm{diag}(\sigma e^{s})), \qquad \log|\det W| = \textstyle\sum_i s_i

    The inverse is two triangular solves. size: D. start: of W, a random permutation unless told otherwise. See :class:`Mixing`,
    whose ValueError it raises.
    """

    size: int
    permutation: Any
    log_scale: Any

    def __init__(self, size: int, start: str = "permutation") -> None:
        super().__init__()
        self.hold(size, start)

    def encode(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        r"""x (\*B, D) -> (W x, :math:`\sum_i s_i` (\*B))."""
        lower, upper = self._factors()
        z = (x @ upper.t() @ lower.t())[..., self.permutation]
        return z, self.log_scale.sum().expand(x.shape[:-1])

    def decode(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        r"""z (\*B, D) -> (:math:`W^{-1} z`, :math:`-\sum_i s_i` (\*B)), by two triangular solves."""
        rows = z[..., self.permutation.argsort()].reshape(-1, self.size)
        return self._solved(rows.t()).t().reshape(z.shape), -self.log_scale.sum().expand(z.shape[:-1])
