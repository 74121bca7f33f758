r"""Fixed maps between the data as the user gave it and the space a model works in; each accounted for in the density.

Dequantisation (Theis, van den Oord & Bethge, 2016): for integers x and y = x + u with u uniform on [0, 1)^D,

.. math:: \log P(x) = \log \int_{[0,1)^D} p(x + u)\,du \ge \mathbb E_u \log p(x + u),

which is proper: averaging k draws inside the logarithm tightens it. Variational (Ho et al., 2019, Flow++): u from a learned
q(u | x) instead, with contribution :math:`-\log q(u \mid x)`,

.. math:: \log P(x) \ge \mathbb E_{q(u|x)}[\log p(x + u) - \log q(u \mid x)],

proper as well, and tight where q is p within the cell; uniform is q = 1. For an own sample :math:`y \sim p`, x its floor and
:math:`u = y - x`, the same difference is UPPER and proper.

Samples outside the grid are clipped to its ends; the density does not count their mass, so it stays a lower bound, of
:math:`P(x)` with or without what is clipped. For own samples that were clipped the difference counts the cell alone.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genalloy.core.contexts import Context, both, flat
from genalloy.core.distribution import density, draw, sum_event
from genalloy.core.evidence import Evidence, Kind, Measure
from genalloy.transforms.layer import Layer, Transform


class Dequantise(Layer):
    r"""Integers to reals by noise where `discrete` is true; back, floor and clip (Theis et al., 2016, arXiv:1511.01844).

    .. math:: \log P(x) \ge \mathbb E_{q(u \mid x)}[\log p(x + u) - \log q(u \mid x)]

    LOWER and proper for a given x, UPPER and proper for an own sample; variational where q is learned (Ho et al., 2019,
    arXiv:1902.00275). x and z (\*B, \*E); `differentiable` is False, since the floor has no gradient.
    discrete: bool tensor of the event shape. low, high: smallest and largest integer, tensors of the event shape.
    noise: None for uniform noise; otherwise a part of events in (0, 1) given x scaled to [-1, 1] (\*B, \*E) and, where it
    declares more, the context. Its events have the shape of x where all entries are discrete, else (number of discrete,).
    """

    differentiable = False

    def __init__(self, discrete: Tensor, low: Tensor, high: Tensor, noise: nn.Module | None = None) -> None:
        super().__init__()
        self.register_buffer("discrete", discrete)
        self.register_buffer("low", low.float())
        self.register_buffer("high", high.float())
        self.noise: Any = noise
        self.count = int(discrete.sum())
        self.whole = self.count == discrete.numel()
        self.measure = Measure(-self.count, self.count)

    def encode(self, x: Tensor, context: Context = None) -> tuple[Tensor, Evidence]:
        r"""x (\*B, \*E) -> x + u, and the contribution (\*B) in nats: -log q(u \| x), or 0 where u is uniform; LOWER."""
        if self.noise is None:
            return x + torch.rand_like(x) * self.discrete, self._uniform(x, Kind.LOWER)
        distribution = self._given(x, context)
        batch = x.shape[: x.dim() - self.discrete.dim()]
        u, evidence = draw(distribution, tuple(batch[: len(batch) - len(distribution.batch_shape)]))
        return x + self._spread(u, x), self._measured((-evidence).below("variational dequantisation, 1 sample"))

    def decode(self, z: Tensor, context: Context = None) -> tuple[Tensor, Evidence]:
        r"""z (\*B, \*E) -> its floor, clipped to [low, high] where discrete, and the contribution (\*B) in nats; UPPER.

        It is -log q(z - x \| x), with z - x kept inside (0, 1), or 0 where the noise is uniform.
        """
        floored = z.floor().clamp(min=self.low, max=self.high)
        x = torch.where(self.discrete, floored, z)
        if self.noise is None:
            return x, self._uniform(z, Kind.UPPER)
        u = (z - x).clamp(1e-6, 1 - 1e-6)
        evidence = density(self._given(x, context), u if self.whole else u[..., self.discrete])
        return x, self._measured((-evidence).above("variational dequantisation, 1 sample"))

    def _given(self, x: Tensor, context: Context) -> Any:
        scaled = 2 * (x - self.low) / (self.high - self.low).clamp(min=1) - 1
        scaled = torch.where(self.discrete, scaled, x)
        shapes = getattr(self.noise, "context_shapes", None)
        return self.noise(scaled if shapes is None or len(flat(shapes)) == 1 else both(scaled, context))

    def _spread(self, u: Tensor, x: Tensor) -> Tensor:
        """Noise of all entries, zero where they are not discrete."""
        return u if self.whole else torch.zeros_like(x).masked_scatter(self.discrete.expand(x.shape), u)

    def _uniform(self, x: Tensor, kind: Kind) -> Evidence:
        """Contribution 0, which trades Lebesgue coordinates for counted ones."""
        zero = x.new_zeros(x.shape[: x.dim() - self.discrete.dim()])
        return Evidence(zero, kind, "uniform dequantisation", True, None, self.measure)

    def _measured(self, evidence: Evidence) -> Evidence:
        return replace(evidence, measure=self.measure)


class Standardise(Transform):
    r""":math:`z = (x - m) / s` with fixed tensors m, s > 0 of the event shape; log-determinant :math:`-\sum \log s`.

    x (\*B, \*E) is in the user's own units, z has none. shift: m. scale: s.
    """

    constant = True

    def __init__(self, shift: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("shift", shift.float())
        self.register_buffer("scale", scale.float())
        self.event_dims = shift.dim()

    def encode(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        r"""x (\*B, \*E) -> (:math:`(x - m) / s`, :math:`-\sum \log s` (\*B))."""
        return (x - self.shift) / self.scale, self._ladj(x)

    def decode(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        r"""z (\*B, \*E) -> (:math:`z s + m`, :math:`\sum \log s` (\*B))."""
        return z * self.scale + self.shift, -self._ladj(z)

    def _ladj(self, x: Tensor) -> Tensor:
        return -self.scale.log().sum().to(x.dtype).expand(x.shape[: x.dim() - self.event_dims])


class Logit(Transform):
    r"""Bounded values to all reals by the logit (Dinh, Sohl-Dickstein & Bengio, 2017, arXiv:1605.08803).

    .. math:: z = \mathrm{logit}\Big(\alpha + (1 - 2 \alpha) \frac{x}{h}\Big), \qquad
              \log \frac{dx}{dz} = \log \sigma(z) + \log \sigma(-z) + \log \frac{h}{1 - 2 \alpha},

    x in [0, h], (\*B, \*E) with `event_dims` event axes. high: h.
    """

    def __init__(self, high: float, alpha: float = 0.05, event_dims: int = 1) -> None:
        super().__init__()
        self.high, self.alpha, self.event_dims = high, alpha, event_dims

    def encode(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        r"""x (\*B, \*E) in [0, h] -> (z, log \|det dz/dx\| (\*B))."""
        p = self.alpha + (1 - 2 * self.alpha) * x / self.high
        z = p.log() - torch.log1p(-p)
        return z, -sum_event(self._log_slope(z), self.event_dims)

    def decode(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        r"""z (\*B, \*E) -> (:math:`x = h\,(\sigma(z) - \alpha) / (1 - 2 \alpha)`, log \|det dx/dz\| (\*B))."""
        x = (torch.sigmoid(z) - self.alpha) * (self.high / (1 - 2 * self.alpha))
        return x, sum_event(self._log_slope(z), self.event_dims)

    def _log_slope(self, z: Tensor) -> Tensor:
        """log dx/dz, elementwise."""
        return F.logsigmoid(z) + F.logsigmoid(-z) + math.log(self.high / (1 - 2 * self.alpha))


class Flatten(Transform):
    r"""An image or sequence (\*B, \*shape) as a vector (\*B, D); volume is kept."""

    constant = True

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.event_dims = len(self.shape)

    def encode(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        r"""(\*B, \*shape) -> ((\*B, D), zeros (\*B))."""
        z = x.flatten(-len(self.shape))
        return z, z.new_zeros(z.shape[:-1])

    def decode(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        r"""(\*B, D) -> ((\*B, \*shape), zeros (\*B))."""
        return z.unflatten(-1, self.shape), z.new_zeros(z.shape[:-1])

    def out_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """(D,), the number of entries."""
        return (math.prod(shape),)
