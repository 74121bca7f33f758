r"""Affine coupling (Dinh, Sohl-Dickstein & Bengio, 2017): one half of the variables moves the other.

.. math:: z_A = x_A, \qquad z_B = x_B\, e^{a(x_A, c)} + m(x_A, c), \qquad \log|\det dz/dx| = \sum a.

Both directions cost one pass. Log-scales are softly clamped and the network's last layer starts at zero, so a stack
starts at the identity. Halves are taken by index, so no feature is computed to be thrown away.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genalloy.capabilities import Context, both
from genalloy.networks.dense import Dense
from genalloy.networks.masked import Hidden
from genalloy.spec import Module
from genalloy.transforms.autoregressive import soft_clamp
from genalloy.transforms.layer import Transform

Shape = tuple[int, ...]


class AffineCoupling(Transform):
    r"""Coupling on events of any shape, by a fixed mask: True entries pass through and move the others.

    mask: bool tensor of the event shape; see :func:`alternating`, :func:`checkerboard`, :func:`channelwise`.
    hidden: layers of the dense network (x_A, c) -> (a, m). network: another module of that shape instead, from x_A (\*B, n_A)
    and the context's parts to (\*B, 2 n_B). bound: limit of the log-scales.

    Raises ValueError where the mask has one kind of entry only.
    """

    def __init__(
        self,
        mask: Tensor,
        hidden: Hidden = Hidden(),
        context_shapes: tuple[Shape, ...] = (),
        bound: float = 3.0,
        network: Module | None = None,
    ) -> None:
        super().__init__()
        flat = mask.bool().flatten()
        moved = int((~flat).sum())
        if not 0 < moved < len(flat):
            raise ValueError(f"found a mask with {len(flat) - moved} of {len(flat)} entries fixed, expected some of both kinds")
        self.register_buffer("mask", mask.bool())
        self.hidden, self.bound, self.event_dims = hidden, bound, mask.dim()
        self.context_shapes = tuple(tuple(s) for s in context_shapes)
        inputs = ((len(flat) - moved,), *self.context_shapes)
        self.network = Dense(inputs, 2 * moved, hidden, zero=True) if network is None else network
        fixed, free = flat.nonzero().squeeze(1), (~flat).nonzero().squeeze(1)
        self.register_buffer("fixed", fixed, persistent=False)
        self.register_buffer("free", free, persistent=False)
        self.register_buffer("place", torch.cat([fixed, free]).argsort(), persistent=False)

    def encode(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        still, x_b = self._halves(x)
        a, shift = self._coefficients(still, context)
        return self._whole(still, torch.addcmul(shift, x_b, a.exp())), a.sum(-1)

    def decode(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        still, z_b = self._halves(z)
        a, shift = self._coefficients(still, context)
        return self._whole(still, (z_b - shift) * torch.exp(-a)), -a.sum(-1)

    def _coefficients(self, still: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        raw, shift = self.network(both(still, context if self.context_shapes else None)).chunk(2, -1)
        return soft_clamp(raw, self.bound), shift

    def _halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        flat = x.flatten(-self.event_dims)
        return flat[..., self.fixed], flat[..., self.free]

    def _whole(self, still: Tensor, moved: Tensor) -> Tensor:
        still = still.expand(*moved.shape[:-1], -1)
        return torch.cat([still, moved], -1)[..., self.place].unflatten(-1, tuple(self.mask.shape))


def alternating(dims: int, odd: bool = False) -> Tensor:
    """Every other entry of a vector: True at 0, 2, ..., or at 1, 3, ... where `odd`."""
    return torch.arange(dims) % 2 == int(odd)


def checkerboard(shape: Shape, odd: bool = False) -> Tensor:
    """Pixels (row + column) even, or odd: neighbours predict each other; shape (C, H, W)."""
    _, height, width = shape
    squares = (torch.arange(height)[:, None] + torch.arange(width)) % 2 == int(odd)
    return squares.expand(shape).clone()


def channelwise(shape: Shape, second: bool = False) -> Tensor:
    """The first half of the channels, or the second; shape (C, H, W) with C >= 2."""
    first = torch.arange(shape[0]) < shape[0] // 2
    return (first ^ second)[:, None, None].expand(shape).clone()
