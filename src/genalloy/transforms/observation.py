r"""Fixed maps between the data as the user gave it and the space a model works in; each accounted for in the density.

Dequantisation (Theis, van den Oord & Bethge, 2016): for integers x and y = x + u with u uniform on [0, 1)^D,

.. math:: \log P(x) = \log \int_{[0,1)^D} p(x + u)\,du \ge \mathbb E_u \log p(x + u),

which is proper: averaging k draws inside the logarithm tightens it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from genalloy.capabilities import Context
from genalloy.distribution import sum_event
from genalloy.evidence import Evidence, Kind, Measure
from genalloy.transforms.layer import Layer, Transform


class Dequantise(Layer):
    """Integers to reals by uniform noise on the entries where `discrete` is true; outwards, floor and clip.

    discrete: bool tensor of the event shape. low, high: smallest and largest integer, tensors of the event shape.
    """

    differentiable = False

    def __init__(self, discrete: Tensor, low: Tensor, high: Tensor) -> None:
        super().__init__()
        self.register_buffer("discrete", discrete)
        self.register_buffer("low", low.float())
        self.register_buffer("high", high.float())
        self.count = int(discrete.sum())
        self.measure = Measure(-self.count, self.count)

    def inward(self, x: Tensor, context: Context = None) -> tuple[Tensor, Evidence]:
        noise = torch.rand_like(x) * self.discrete
        return x + noise, self._label(x, Kind.LOWER)

    def outward(self, z: Tensor, context: Context = None) -> tuple[Tensor, Evidence]:
        floored = z.floor().clamp(min=self.low, max=self.high)
        x = torch.where(self.discrete, floored, z)
        return x, self._label(z, Kind.UPPER)

    def _label(self, x: Tensor, kind: Kind) -> Evidence:
        """Contribution 0, which trades Lebesgue coordinates for counted ones."""
        zero = x.new_zeros(x.shape[: x.dim() - self.discrete.dim()])
        return Evidence(zero, kind, "uniform dequantisation", True, None, self.measure)


class Affine(Transform):
    """z = (x - shift) / scale with fixed tensors of the event shape (standardisation in the user's own units)."""

    def __init__(self, shift: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("shift", shift.float())
        self.register_buffer("scale", scale.float())
        self.event_dims = shift.dim()

    def encode(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return (x - self.shift) / self.scale, self._ladj(x)

    def decode(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return z * self.scale + self.shift, -self._ladj(z)

    def _ladj(self, x: Tensor) -> Tensor:
        return -self.scale.log().sum().to(x.dtype).expand(x.shape[: x.dim() - self.event_dims])


class Logit(Transform):
    r"""z = logit(alpha + (1 - 2 alpha) x / high) for x in [0, high] (Dinh, Sohl-Dickstein & Bengio, 2017)."""

    def __init__(self, high: float, alpha: float = 0.05, event_dims: int = 1) -> None:
        super().__init__()
        self.high, self.alpha, self.event_dims = high, alpha, event_dims

    def encode(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        p = self.alpha + (1 - 2 * self.alpha) * x / self.high
        z = p.log() - torch.log1p(-p)
        return z, -sum_event(self._log_slope(z), self.event_dims)

    def decode(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        x = (torch.sigmoid(z) - self.alpha) * (self.high / (1 - 2 * self.alpha))
        return x, sum_event(self._log_slope(z), self.event_dims)

    def _log_slope(self, z: Tensor) -> Tensor:
        """log dx/dz, elementwise."""
        return F.logsigmoid(z) + F.logsigmoid(-z) + math.log(self.high / (1 - 2 * self.alpha))


class Flatten(Transform):
    """An image or sequence as a vector; volume is kept."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.event_dims = len(self.shape)

    def encode(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        z = x.flatten(-len(self.shape))
        return z, z.new_zeros(z.shape[:-1])

    def decode(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return z.unflatten(-1, self.shape), z.new_zeros(z.shape[:-1])

    def out_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (math.prod(shape),)
