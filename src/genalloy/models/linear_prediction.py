r"""Linear prediction of sound on a grid: what a network for waveforms must beat (Atal & Hanauer, 1971).

Levels k = 0..K-1 stand for amplitudes :math:`v_k`. The next amplitude is logistic around a linear prediction, its scale
constant or following the loudness of the same window,

.. math:: m_t = b + \sum_{i=1}^p a_i v_{x_{t-i}}, \qquad s_t = e^{\alpha} + e^{\beta} \frac1p \sum_{i=1}^p |v_{x_{t-i}}|,

with zeros before the start, and the mass of a level is the logistic's mass between the middles of neighbours on the *grid's* own
scale, so that masses on the mu-law levels are compared with masses on the same levels,

.. math:: P(x_t = k) = \sigma\Big(\frac{u_{k+1} - m_t}{s_t}\Big) - \sigma\Big(\frac{u_k - m_t}{s_t}\Big), \qquad
          u_0 = -\infty, \; u_K = \infty.

Coefficients start at the least squares of the first batch; given labels, each class has its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genalloy.core.contexts import Context, parts
from genalloy.core.distribution import Shape
from genalloy.core.observations import Masked
from genalloy.core.part import Part
from genalloy.core.spec import Module, Value
from genalloy.heads.audio import mu_law_decode, mu_law_encode
from genalloy.heads.discrete import logistic_log_mass, not_levels
from genalloy.heads.head import Factorised, Head
from genalloy.models.autoregressive import Autoregressive, AutoregressiveDistribution


@dataclass(frozen=True)
class MuLawGrid(Value):
    """Levels are mu-law codes of amplitudes in [-1, 1] (ITU-T G.711); see :mod:`genalloy.heads.audio`."""

    def decode(self, codes: Tensor, levels: int) -> Tensor:
        """Amplitudes of codes 0..levels-1 of any shape, also of places between two codes."""
        return mu_law_decode(codes, levels)

    def encode(self, amplitudes: Tensor, levels: int) -> Tensor:
        """The nearest code 0..levels-1 on the companded scale, of amplitudes of any shape, clamped to [-1, 1]."""
        return mu_law_encode(amplitudes.clamp(-1, 1), levels)


@dataclass(frozen=True)
class EvenGrid(Value):
    """Levels are evenly spaced amplitudes from -1 to 1, 2 k / (K - 1) - 1."""

    def decode(self, codes: Tensor, levels: int) -> Tensor:
        """Amplitudes :math:`2k / (K - 1) - 1` of codes k of any shape, also of places between two codes."""
        return 2 * codes / (levels - 1) - 1

    def encode(self, amplitudes: Tensor, levels: int) -> Tensor:
        """The nearest level 0..levels-1, of amplitudes of any shape, clamped to [-1, 1]."""
        return ((amplitudes.clamp(-1, 1) + 1) / 2 * (levels - 1) + 0.5).floor()


class GridLogistic(Head):
    r"""A logistic over amplitudes, discretised onto a grid's levels.

    .. math:: P(x = k) = \sigma\Big(\frac{u_{k+1} - m}{s}\Big) - \sigma\Big(\frac{u_k - m}{s}\Big)

    u_k are the middles of neighbouring levels, infinite at the ends. width 2: the centre m and log s, not below -12. grid: which
    amplitudes the levels are.
    """

    has_rsample = False
    discrete = True
    width = 2

    def __init__(self, levels: int, grid: MuLawGrid | EvenGrid = MuLawGrid()) -> None:
        super().__init__()
        self.levels, self.grid = levels, grid

    def forward(self, parameters: Tensor, event_dims: int) -> GridLogisticDistribution:
        r"""Parameters (\*B, \*E, 2), centre and log s, as a distribution over events of the last `event_dims` axes."""
        centre, raw = parameters.unbind(-1)
        return GridLogisticDistribution(centre, raw.clamp(min=-12.0).exp(), self, event_dims)


class GridLogisticDistribution(Factorised):
    r"""See :class:`GridLogistic`; centre and scale (\*B, \*E), in amplitudes. EXACT."""

    discrete = True
    has_rsample = False

    def __init__(self, centre: Tensor, scale: Tensor, head: GridLogistic, event_dims: int) -> None:
        super().__init__(tuple(centre.shape), event_dims)
        self.centre, self.scale, self.levels, self.grid = centre, scale, head.levels, head.grid

    @property
    def mean(self) -> Tensor:
        """The level at the centre: near the mean of the levels, whose sum has no closed form."""
        return self.grid.encode(self.centre, self.levels)

    def element_log_prob(self, x: Tensor) -> Tensor:
        r"""log P(x_i = k) of each element, (\*S, \*B, \*E), nats; -inf off the levels."""
        low, high = (self.grid.decode(x + side, self.levels) for side in (-0.5, 0.5))
        edges = (low - self.centre) / self.scale, (high - self.centre) / self.scale
        mass = logistic_log_mass(x, self.levels, edges, (high - low) / self.scale)
        return mass.masked_fill(not_levels(x, self.levels), -torch.inf)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        r"""Levels (\*S, \*B, \*E): the grid's nearest to m + s logit(u), u uniform and in [1e-6, 1 - 1e-6]; no gradients."""
        u = torch.rand((*sample_shape, *self.centre.shape), dtype=self.centre.dtype, device=self.centre.device)
        noise = u.clamp(1e-6, 1 - 1e-6).logit()
        return self.grid.encode(self.centre + self.scale * noise, self.levels)


class WindowState(NamedTuple):
    """Cache of linear prediction: number of elements so far, the last amplitudes (\\*shape, order) in a ring, coefficients,
    intercept."""

    element: int
    past: Tensor
    weights: Tensor
    bias: Tensor


class LinearWindow(Module):
    r"""x (\*B, T), label (\*B) or None -> centre and log-scale (\*B, T, 2); see the module's text. Steps from a ring.

    classes: number of labels, 0 where there is no context. loudness: whether the scale follows the window.
    """

    differentiable_steps = False
    width = 2

    def __init__(self, length: int, order: int, head: GridLogistic, classes: int = 0, loudness: bool = True) -> None:
        super().__init__()
        self.length, self.order, self.head, self.classes, self.loudness = length, order, head, classes, loudness
        self.sequence = tuple(range(length))
        self.weights = nn.Parameter(torch.zeros(max(classes, 1), order))
        self.bias = nn.Parameter(torch.zeros(max(classes, 1)))
        self.floor = nn.Parameter(torch.tensor(0.0))
        self.gain = nn.Parameter(torch.tensor(-2.0)) if loudness else None

    def forward(self, x: Tensor, context: Context = None) -> Tensor:
        r"""Centre and log-scale (\*B, T, 2) of each element of x (\*B, T), given those before it and the label (\*B)."""
        windows = self.windows(x)
        weights, bias = self._chosen(context)
        centre = (windows @ weights.unsqueeze(-1)).squeeze(-1) + bias.unsqueeze(-1)
        scale = self._log_scale(windows)
        return torch.stack(torch.broadcast_tensors(centre, scale), -1)

    def windows(self, x: Tensor) -> Tensor:
        r"""The `order` amplitudes before each element, the oldest first, zeros before the start: (\*B, T, order)."""
        return F.pad(self._amplitude(x), (self.order, 0))[..., :-1].unfold(-1, self.order, 1)

    def _amplitude(self, x: Tensor) -> Tensor:
        return self.head.grid.decode(x, self.head.levels).to(self.weights.dtype)

    def _log_scale(self, windows: Tensor) -> Tensor:
        if self.gain is None:
            return self.floor.expand(windows.shape[:-1])
        return torch.log(self.floor.exp() + self.gain.exp() * windows.abs().mean(-1))

    def _chosen(self, context: Context) -> tuple[Tensor, Tensor]:
        """Coefficients and intercept of each row's class."""
        if not self.classes:
            return self.weights[0], self.bias[0]
        label = parts(context, ((),))[0].long()
        return self.weights[label], self.bias[label]

    @torch.no_grad()
    def init_state(self, shape: Shape, context: Context = None) -> WindowState:
        r"""Silence before the start; the context's batch broadcasts to `shape`."""
        weights, bias = self._chosen(context)
        return WindowState(0, self.weights.new_zeros(*shape, self.order), weights, bias)

    @torch.no_grad()
    def step(self, state: WindowState, previous: Tensor | None) -> tuple[WindowState, Tensor]:
        r"""Centre and log-scale (\*shape, 2) of the next element. Uses its state up: the ring is written in place."""
        t, past = state.element, state.past
        if previous is not None:
            past[..., (t - 1) % self.order] = self._amplitude(previous)
        place = (t + torch.arange(self.order, device=past.device)) % self.order
        window = past.index_select(-1, place)
        centre = (window * state.weights).sum(-1) + state.bias
        return state._replace(element=t + 1), torch.stack([centre, self._log_scale(window)], -1)

    @torch.no_grad()
    def solve(self, x: Tensor, seen: Tensor, label: Tensor | None) -> None:
        r"""Least squares on elements (N, T) where `seen`, class by class; classes without any keep the fit to all.

        The constant part of the scale starts at that of the residuals (a tenth of it where loudness adds to it).
        """
        windows, targets = self.windows(x).flatten(0, 1), self._amplitude(x).flatten()
        design = torch.cat([windows, torch.ones_like(windows[:, :1])], 1).double()
        chosen = [seen.flatten()]
        if label is not None:
            chosen += [seen.flatten() & (label[:, None] == k).expand(x.shape).flatten() for k in range(self.classes)]
        fits = [_least_squares(design[rows], targets[rows].double()) if rows.any() else None for rows in chosen]
        whole = fits[0]
        if whole is None:
            return
        for k, fit in enumerate(fits[1:] or fits):
            solution = (whole if fit is None else fit).to(self.weights)
            self.weights[k], self.bias[k] = solution[:-1], solution[-1]
        residual = (targets[chosen[0]] - design[chosen[0]].to(targets) @ whole.to(targets)).abs().mean().clamp(min=1e-4)
        self.floor.fill_(math.log(float(residual) * (0.1 if self.loudness else 1.0)))


def _least_squares(design: Tensor, targets: Tensor) -> Tensor:
    """Coefficients with a small ridge, so that silence has a solution."""
    gram = design.T @ design
    ridge = 1e-6 * gram.diagonal().mean().clamp(min=1e-12) * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    return torch.linalg.solve(gram + ridge, design.T @ targets)


class LinearPrediction(Part):
    r""":math:`p(x | c) = \prod_t P(x_t | x_{t-p}, \dots, x_{t-1}, c)` by linear prediction (Atal & Hanauer, 1971): EXACT.

    .. math:: m_t = b + \sum_{i=1}^p a_i v_{x_{t-i}}, \qquad s_t = e^{\alpha} + e^{\beta} \frac1p \sum_{i=1}^p |v_{x_{t-i}}|

    are centre and scale of a :class:`GridLogistic`. Events (T,) of levels 0..levels-1; order: p. classes: labels 0..classes-1 as
    context, each with its own a and b; 0: no context. loudness: whether the scale follows the window, otherwise
    :math:`e^{\alpha}`. grid: what the levels stand for. Raises ValueError where the event is no sequence or the order is below 1.
    """

    def __init__(
        self,
        event_shape: Shape,
        levels: int = 256,
        order: int = 24,
        classes: int = 0,
        loudness: bool = True,
        grid: MuLawGrid | EvenGrid = MuLawGrid(),
    ) -> None:
        super().__init__()
        if len(event_shape) != 1 or order < 1:
            raise ValueError(f"found events {tuple(event_shape)} and order {order}, expected (T,) and an order of at least 1")
        self.event_shape, self.levels, self.order = tuple(event_shape), levels, order
        self.classes, self.loudness, self.grid = classes, loudness, grid
        self.context_shapes = ((),) if classes else ()
        head = GridLogistic(levels, grid)
        network = LinearWindow(self.event_shape[0], order, head, classes, loudness)
        self.inner = Autoregressive(network, head, self.event_shape, self.context_shapes)
        self.measure, self.has_rsample = self.inner.measure, self.inner.has_rsample

    def forward(self, context: Context = None) -> AutoregressiveDistribution:
        r"""The distribution of x given a label (\*B), or none, with events (T,)."""
        return self.inner(context)

    def initialise(self, x: Any, context: Context = None) -> None:
        """Coefficients by least squares on x (N, T), a tensor or Masked, class by class where there are labels (N,)."""
        whole, seen = (x.x, x.mask) if type(x) is Masked else (x, torch.ones_like(x, dtype=torch.bool))
        label = parts(context, ((),))[0] if self.classes else None
        self.inner.network.solve(whole, seen, label)
