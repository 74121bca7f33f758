r"""Linear transforms between coupling or autoregressive layers: permutations, ActNorm, PLU.

ActNorm (Kingma & Dhariwal, 2018): :math:`z = (x - b)\, e^{s}` with one b and s an entry, set from the first batch so that z
starts with mean 0 and variance 1. PLU (the same paper): :math:`z = P L (U + \mathrm{diag}(\sigma e^{s})) x` with a fixed
permutation P and signs :math:`\sigma`, unit-triangular L, strictly triangular U; :math:`\log|\det| = \sum s`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genalloy.capabilities import Context
from genalloy.distribution import sum_event
from genalloy.transforms.layer import Transform

Shape = tuple[int, ...]


class Permute(Transform):
    """z_i = x_{p(i)} on vectors; permutation: integer tensor (D,), kept as a buffer."""

    constant = True

    def __init__(self, permutation: Tensor) -> None:
        super().__init__()
        self.register_buffer("permutation", permutation.long())

    def encode(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return x[..., self.permutation], x.new_zeros(x.shape[:-1])

    def decode(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return z[..., self.permutation.argsort()], z.new_zeros(z.shape[:-1])


class Reverse(Transform):
    """Entries of a vector in reverse order: an autoregressive stack then conditions both ways."""

    constant = True

    def encode(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return x.flip(-1), x.new_zeros(x.shape[:-1])

    def decode(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return self.encode(z)


class ActNorm(Transform):
    """Learned shift and scale of every entry, or of every channel where `per_channel`; see the module's text.

    event_shape: shape of x, channels first. `initialise(x)` standardises a batch; until then it is the identity.
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
        rows = x.reshape(-1, *self.event_shape)
        axes = [0, *(i + 1 for i, n in enumerate(self.shift.shape) if n != self.event_shape[i])]
        self.shift.copy_(rows.mean(axes).reshape(self.shift.shape))
        self.log_scale.copy_(-rows.std(axes).clamp(min=self.floor).log().reshape(self.shift.shape))

    def encode(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return (x - self.shift) * self.log_scale.exp(), self._ladj(x)

    def decode(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return z * torch.exp(-self.log_scale) + self.shift, -self._ladj(z)

    def _ladj(self, x: Tensor) -> Tensor:
        whole = self.log_scale.expand(self.event_shape)
        return sum_event(whole, self.event_dims).expand(x.shape[: x.dim() - self.event_dims])


class PLU(Transform):
    """Invertible matrix on vectors (\\*B, D) in PLU form, started at a permutation; see the module's text.

    permutation: integer tensor (D,); the inverse is two triangular solves.
    """

    constant = True

    def __init__(self, permutation: Tensor) -> None:
        super().__init__()
        self.register_buffer("permutation", permutation.long())
        dims = len(permutation)
        self.below = nn.Parameter(torch.zeros(dims, dims))
        self.above = nn.Parameter(torch.zeros(dims, dims))
        self.log_scale = nn.Parameter(torch.zeros(dims))

    def encode(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        lower, upper = self._factors()
        z = (x @ upper.t() @ lower.t())[..., self.permutation]
        return z, self.log_scale.sum().expand(x.shape[:-1])

    def decode(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        lower, upper = self._factors()
        y = z[..., self.permutation.argsort()].reshape(-1, len(self.log_scale)).t()
        y = torch.linalg.solve_triangular(lower, y, upper=False, unitriangular=True)
        x = torch.linalg.solve_triangular(upper, y, upper=True).t().reshape(z.shape)
        return x, -self.log_scale.sum().expand(z.shape[:-1])

    def _factors(self) -> tuple[Tensor, Tensor]:
        eye = torch.eye(len(self.log_scale), dtype=self.below.dtype, device=self.below.device)
        return self.below.tril(-1) + eye, self.above.triu(1) + torch.diag(self.log_scale.exp())
