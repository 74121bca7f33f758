r"""Affine autoregressive transforms: MAF (Papamakarios, Pavlakou & Murray, 2017) and, inverted, IAF (Kingma et al., 2016).

.. math:: z_d = x_d\, e^{a_d} + m_d, \quad (a_d, m_d) = \mathrm{MADE}(x_{<d}, c), \qquad \log|\det dz/dx| = \sum_d a_d,

with :math:`a = r / (1 + |r| / b)` for the network's raw :math:`r`, so that :math:`|a| < b`. Encoding is one parallel
pass. Decoding needs :math:`x_{<d}` before :math:`x_d`: the network's steps give it at about the cost of one pass, and
gradients flow through them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genalloy.capabilities import Context
from genalloy.networks.masked import MADE, Hidden
from genalloy.transforms.layer import Transform

Shape = tuple[int, ...]


def soft_clamp(raw: Tensor, bound: float) -> Tensor:
    """raw / (1 + |raw| / bound): slope 1 at zero, values within (-bound, bound)."""
    return raw / (1 + raw.abs() / bound)


class MaskedAffine(Transform):
    """One MAF layer on vectors (\\*B, D); starts at the identity. `Inverse(MaskedAffine(...))` is an IAF layer.

    order: permutation of 0..D-1 in which variables are conditioned, None for the natural one; bound: limit of log-scales.
    """

    def __init__(
        self,
        dims: int,
        hidden: Hidden = Hidden(),
        order: tuple[int, ...] | None = None,
        context_shapes: tuple[Shape, ...] = (),
        bound: float = 3.0,
    ) -> None:
        super().__init__()
        self.dims, self.hidden, self.order, self.bound = dims, hidden, order, bound
        self.context_shapes = tuple(tuple(s) for s in context_shapes)
        self.network = MADE((dims,), 2, hidden, order, context_shapes).zero_output()

    def encode(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        raw, shift = self.network(x, self._own(context)).unbind(-1)
        a = soft_clamp(raw, self.bound)
        return torch.addcmul(shift, x, a.exp()), a.sum(-1)

    def decode(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        state, previous = self.network.init_state(tuple(z.shape[:-1]), self._own(context)), None
        values, total = [], z.new_zeros(z.shape[:-1])
        for column in z[..., self.network.by_rank].unbind(-1):
            state, parameters = self.network.step(state, previous)
            a = soft_clamp(parameters[..., 0], self.bound)
            previous = (column - parameters[..., 1]) * torch.exp(-a)
            values.append(previous)
            total = total - a
        return torch.stack(values, -1)[..., self.network.by_index], total

    def _own(self, context: Context) -> Context:
        return context if self.context_shapes else None
