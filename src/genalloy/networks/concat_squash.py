r"""Concat-squash networks for continuous flows (Grathwohl, Chen, Bettencourt, Sutskever & Duvenaud, 2019, FFJORD).

Every layer is modulated by features u of time and context,

.. math:: h_{l+1} = \tanh\left((W_l h_l + b_l) \odot \mathrm{sigmoid}(G_l u) + B_l u\right),

so that a whole trajectory shares one network; the last layer has no tanh. The features tanh(.) are bounded, and with them the
speed: far from the data the field cannot grow, and a solver's error stays what it is nearby.

A derivative along v travels beside the value, :math:`v_{l+1} = (1 - h_{l+1}^2) \odot \mathrm{sigmoid}(G_l u) \odot W_l v_l`: one
more matrix product a direction and layer, where automatic differentiation would run the network backwards.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genalloy.core.contexts import Context, Shapes, flat, join, shapes_of
from genalloy.core.spec import Module
from genalloy.networks.denoiser import LevelEmbedding


class ConcatSquash(Module):
    r"""A velocity field: (x (\*B, \*E), t (\*B) or (), \*context) -> (\*B, \*E), zero at the start (Grathwohl et al., 2019,
    arXiv:1810.01367).

    .. math:: h_{l+1} = \tanh\left((W_l h_l + b_l) \odot \mathrm{sigmoid}(G_l u) + B_l u\right)

    inputs: (event_shape, (), \*context_shapes); widths: of the hidden layers; features: width of u.
    Called with vectors (n, \*B, \*E) as well, it returns the pair (value, derivatives of the value along them).
    """

    carries_tangents = True

    def __init__(self, inputs: Shapes, widths: tuple[int, ...] = (64, 64, 64), features: int = 32) -> None:
        super().__init__()
        self.inputs, self.widths, self.features = shapes_of(inputs), tuple(widths), features
        dims = math.prod(self.inputs[0])
        sizes = [dims, *widths, dims]
        self.layers: Any = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.level = LevelEmbedding(16, 0.5, 8.0)
        known = self.level.width + sum(math.prod(s) for s in flat(self.inputs[2:]))
        self.condition: Any = nn.Sequential(nn.Linear(known, features), nn.Tanh(), nn.Linear(features, 2 * sum(sizes[1:])))
        self.sizes = sizes[1:]
        self._start_at_rest()

    @torch.no_grad()
    def _start_at_rest(self) -> None:
        """W, b and B u of the last layer at zero."""
        last, modulation, dims = self.layers[-1], self.condition[-1], self.sizes[-1]
        for parameter in (last.weight, last.bias, modulation.weight[-dims:], modulation.bias[-dims:]):
            parameter.zero_()

    def forward(self, context: Context, vectors: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        r"""The velocity (\*B, \*E), and with `vectors` (n, \*B, \*E) its derivatives along them, (n, \*B, \*E)."""
        x, t, *rest = context
        gates, shifts = self._modulation(t.to(x.dtype), tuple(rest))
        events = len(self.inputs[0])
        h = x.flatten(-events) if events else x.unsqueeze(-1)
        v = None if vectors is None else (vectors.flatten(-events) if events else vectors.unsqueeze(-1))
        h, v = self._layers(h, v, gates, shifts)
        value = h.reshape(*h.shape[:-1], *self.inputs[0])
        return value if v is None else (value, v.reshape(*v.shape[:-1], *self.inputs[0]))

    def _modulation(self, t: Tensor, rest: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        u = self.level(t)
        if rest:
            u = join((u, *rest), ((self.level.width,), *self.inputs[2:]))
        gates, shifts = self.condition(u).chunk(2, -1)
        return gates.sigmoid().split(self.sizes, -1), shifts.split(self.sizes, -1)

    def _layers(
        self, h: Tensor, v: Tensor | None, gates: tuple[Tensor, ...], shifts: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor | None]:
        last = len(self.sizes) - 1
        for i, (layer, gate, shift) in enumerate(zip(self.layers, gates, shifts, strict=True)):
            h, v = _modulated(layer, h, v, gate, shift)
            if i < last:
                h = h.tanh()
                v = None if v is None else torch.addcmul(v, v, h * h, value=-1)
        return h, v


def _modulated(layer: Any, h: Tensor, v: Tensor | None, gate: Tensor, shift: Tensor) -> tuple[Tensor, Tensor | None]:
    """(W h + b) gate + shift, and gate W v. One gate for all rows is multiplied into W, which is smaller than the rows."""
    if gate.dim() == 1:
        weight = layer.weight * gate.unsqueeze(-1)
        return F.linear(h, weight, layer.bias * gate + shift), None if v is None else F.linear(v, weight)
    return torch.addcmul(shift, layer(h), gate), None if v is None else F.linear(v, layer.weight) * gate
