r"""Autoregressive transforms: MAF (Papamakarios, Pavlakou & Murray, 2017), inverted IAF (Kingma et al., 2016), NAF, NSF.

.. math:: z_d = \tau(x_d;\, r_d(x_{<d}, c)), \qquad \log|\det dz/dx| = \sum_d \log \tau'(x_d; r_d),

with an elementwise map :math:`\tau` (affine: MAF; deep sigmoidal: NAF, Huang et al., 2018; spline: NSF). Encoding is one
parallel pass of the network. Decoding needs :math:`x_{<d}` before :math:`x_d`: the network's steps give it at about the
cost of one pass, and gradients flow through them. A variable is whatever the network steps over: an entry of a vector
(MADE), a whole patch (a transformer; Zhai et al., 2024).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from genalloy.core.contexts import Context, Shapes, shapes_of
from genalloy.networks.causal.made import MADE
from genalloy.networks.input_embedding import CompressedInput
from genalloy.networks.mlp import Hidden
from genalloy.transforms.layer import Transform
from genalloy.transforms.univariate import Affine, Univariate

Shape = tuple[int, ...]


class AutoregressiveTransform(Transform):
    r"""An autoregressive transform of x (\*B, \*E); with an affine map MAF (Papamakarios et al., 2017, arXiv:1705.07057).

    .. math:: z_d = \tau(x_d;\, r_d(x_{<d}, c)), \qquad \log|\det dz/dx| = \sum_d \log \tau'(x_d; r_d)

    `Inverse(...)` of it draws in one pass and is what a posterior wants (IAF: Kingma et al., 2016, arXiv:1606.04934); with deep
    sigmoids it is NAF (Huang et al., 2018, arXiv:1804.00779), with splines NSF (Durkan et al., 2019, arXiv:1906.04032).
    network: x (\*B, \*E), context -> raw parameters (\*B, \*E, univariate.width), with `init_state`, `step`, `split(z)` (the
    variables in the order of generation) and `merge(variables)`; see :class:`genalloy.networks.causal.made.MADE`.
    """

    def __init__(self, network: nn.Module, univariate: Univariate = Affine(), context_shapes: Shapes = ()) -> None:
        super().__init__()
        self.network: Any = network
        self.univariate, self.context_shapes = univariate, shapes_of(context_shapes)
        self.event_dims, self.constant = len(network.event_shape), univariate.volume  # type: ignore[arg-type]

    def encode(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        r"""x (\*B, \*E) -> (z, log \|det dz/dx\| (\*B)), in one parallel pass of the network."""
        z, slopes = self.univariate.encode(x, self.network(x, self._own(context)))
        return z, slopes.flatten(-self.event_dims).sum(-1)

    def decode(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        r"""z (\*B, \*E) -> (x, log \|det dx/dz\| (\*B)), one variable after another in the order of generation."""
        batch = tuple(z.shape[: z.dim() - self.event_dims])
        state, previous = self.network.init_state(batch, self._own(context)), None
        values, total = [], z.new_zeros(batch)
        for variable in self.network.split(z):
            state, raw = self.network.step(state, previous)
            previous, slopes = self.univariate.decode(variable, raw)
            values.append(previous)
            total = total + slopes.reshape(*batch, -1).sum(-1)
        return self.network.merge(values), total

    def _own(self, context: Context) -> Context:
        return context if self.context_shapes else None


def masked(
    dims: int,
    hidden: Hidden = Hidden(),
    order: tuple[int, ...] | None = None,
    context_shapes: Shapes = (),
    univariate: Univariate = Affine(),
) -> AutoregressiveTransform:
    r"""An autoregressive transform of vectors (\*B, D) by a masked dense network; starts at the identity.

    order: permutation of 0..D-1 in which variables are conditioned, None for the natural one. The network sees the logarithm of
    values beyond five: samples of hundreds of variables would otherwise run away, each value feeding the next.
    """
    network = MADE((dims,), univariate.width, hidden, order, context_shapes, CompressedInput()).zero_output()
    return AutoregressiveTransform(network, univariate, context_shapes)
