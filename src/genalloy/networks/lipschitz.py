r"""Networks :math:`g` with a known Lipschitz constant below one, for residual flows.

A chain of linear maps and activations of slope at most 1 has :math:`\mathrm{Lip}(g) \le \prod_l \|W_l\|_2`. Each map is used as

.. math:: \bar W = W / \max(1, \sigma(W) / \kappa), \qquad \kappa = c^{1/L},

so that :math:`\mathrm{Lip}(g) \le c < 1` over L maps (Miyato, Kataoka, Koyama & Yoshida, 2018; Behrmann, Grathwohl, Chen,
Duvenaud & Jacobsen, 2019). :math:`\sigma` is the operator norm of the map itself; of a convolution, on images of its own size
with their borders, not of its reshaped kernel. Power iteration, from directions v that are kept as a buffer, runs until
:math:`\sigma` grows by less than a tolerance, a looser one in training. Four directions are followed at once: while weights
move, one singular value overtakes another, and a single direction stays with the former largest, at two thirds of the norm.
Directions that already satisfy the tolerance are left alone: the same weights give the same numbers twice, and averaged or
loaded weights get a norm of their own. The buffer is written in training under gradients only.

LipSwish (Chen, Behrmann, Duvenaud & Jacobsen, 2019) is :math:`x\,\mathrm{sigmoid}(\beta x) / 1.1` with a learned
:math:`\beta > 0`: its slope stays below 1, and unlike ReLU's it has a derivative to learn from. Of h and -h side by side, over
1.004 (Perugachi-Diaz, Tomczak & Bhulai, 2021), the two slopes together have a norm near 1 everywhere: bounded networks then put
their bound to use, where otherwise every activation costs them about half.

The context is added to the first map's output through a free linear map: g is a contraction in x for every context, and
arbitrary in the context.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genalloy.core.contexts import Context, Shapes, flat, join, shapes_of
from genalloy.core.spec import Module, Value

Shape = tuple[int, ...]
Tangent = Callable[[Tensor], Tensor]
r"""T (K, N, \*E) -> J T of the same shape, J the Jacobian at the N points."""
MOST_ITERATIONS = 500
FOLLOWED = 4
"""Directions of power iteration."""
LOOSER = 10.0
"""In training weights move on at once, and nothing is inverted: the tolerance is that much looser."""


class Activation(Value, ABC):
    """Elementwise, Lipschitz constant 1. start: first value of its learned number, one a layer; None where it has none.

    copies: how many numbers it makes of one; they lie behind each other on axis 1.
    """

    start: float | None = None
    copies = 1

    @abstractmethod
    def __call__(self, h: Tensor, learned: Tensor | None) -> tuple[Tensor, Tensor]:
        """(values, slopes) of h (N, C, ...), both (N, copies C, ...)."""


def _lip_swish(h: Tensor, learned: Tensor | None) -> tuple[Tensor, Tensor]:
    scaled = h if learned is None else F.softplus(learned) * h
    gate = torch.sigmoid(scaled)
    part = gate / 1.1
    return h * part, torch.addcmul(part, part * scaled, 1 - gate)


@dataclass(frozen=True)
class LipSwish(Activation):
    r""":math:`h\, \sigma(\beta h) / 1.1`, of slope at most 1 (Chen et al., 2019, arXiv:1906.02735); beta = softplus(learned).

    The published start is 0.5. A sharper one lets small networks bend from the first step on.
    """

    start: float | None = 2.0

    def __call__(self, h: Tensor, learned: Tensor | None) -> tuple[Tensor, Tensor]:
        return _lip_swish(h, learned)


@dataclass(frozen=True)
class ConcatenatedLipSwish(Activation):
    """(LipSwish(h), LipSwish(-h)) / 1.004: slopes of norm near 1 everywhere (Perugachi-Diaz et al., 2021, arXiv:2102.02694).

    One LipSwish halves the gradient on one side; see the module's text.
    """

    start: float | None = 2.0

    copies = 2

    def __call__(self, h: Tensor, learned: Tensor | None) -> tuple[Tensor, Tensor]:
        (up, rise), (down, fall) = _lip_swish(h, learned), _lip_swish(-h, learned)
        return torch.cat([up, down], 1) / 1.004, torch.cat([rise, -fall], 1) / 1.004


@dataclass(frozen=True)
class Elu(Activation):
    """h where positive, :math:`e^h - 1` below: the activation of i-ResNets (Behrmann et al., 2019, arXiv:1811.00995)."""

    start: float | None = None

    def __call__(self, h: Tensor, learned: Tensor | None) -> tuple[Tensor, Tensor]:
        below = h.clamp(max=0.0).exp()
        return torch.where(h > 0, h, below - 1), below


class Bounded(Module, ABC):
    r"""A linear map without bias whose operator norm is known, by power iteration (Miyato et al., 2018, arXiv:1802.05957).

    weight: the map. v (K, \*inputs): the orthonormal directions that it stretches most, a buffer.
    """

    def __init__(self, weight: Tensor, event: Shape) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        size = math.prod(event)
        self.register_buffer("v", _orthonormal(torch.randn(min(FOLLOWED, size), *event)))

    @abstractmethod
    def apply_weight(self, x: Tensor, weight: Tensor) -> Tensor:
        """(N, \\*inputs) -> (N, \\*outputs)."""

    @abstractmethod
    def adjoint(self, y: Tensor, weight: Tensor) -> Tensor:
        """The transposed map, (N, \\*outputs) -> (N, \\*inputs)."""

    def within(self, limit: float, tolerance: float) -> Tensor:
        """The weight, shrunk where needed to an operator norm of `limit`; differentiable."""
        u, v = self._singular(tolerance)
        sigma = (u * self.apply_weight(v, self.weight)).sum()
        return self.weight / (sigma / limit).clamp(min=1.0)

    def _singular(self, tolerance: float) -> tuple[Tensor, Tensor]:
        """The pair (u, v) of the largest singular value, (1, ...) each."""
        keep = self.training and torch.is_grad_enabled()
        with torch.no_grad():
            v, pair = self._iterate(LOOSER * tolerance if keep else tolerance)
            if keep and v is not self.v:
                self.v.copy_(v)
        return pair.u, pair.v

    def _iterate(self, tolerance: float) -> tuple[Tensor, _Stretched]:
        v, pair = self.v, self._stretched(self.v)
        for _ in range(MOST_ITERATIONS):
            next_v = _orthonormal(self.adjoint(pair.image, self.weight))
            next_pair = self._stretched(next_v)
            if float(next_pair.sigma - pair.sigma) <= tolerance * float(next_pair.sigma):
                break
            v, pair = next_v, next_pair
        return v, pair

    def _stretched(self, v: Tensor) -> _Stretched:
        """The combination of orthonormal v that is stretched most."""
        image = self.apply_weight(v, self.weight)
        rows = image.flatten(1)
        squares, mixes = torch.linalg.eigh(rows @ rows.t())
        sigma, mix = squares[-1].clamp(min=torch.finfo(v.dtype).tiny).sqrt(), mixes[:, -1]
        return _Stretched(image, sigma, _mixed(mix, image) / sigma, _mixed(mix, v))


class _Stretched(NamedTuple):
    """The image of several directions, and the largest singular value with its pair that they show."""

    image: Tensor
    sigma: Tensor
    u: Tensor
    v: Tensor


def _orthonormal(v: Tensor) -> Tensor:
    """Orthonormal directions (K, ...) with the span of v."""
    return torch.linalg.qr(v.flatten(1).t())[0].t().reshape(v.shape)


def _mixed(weights: Tensor, v: Tensor) -> Tensor:
    """The weighted sum of (K, ...), as (1, ...)."""
    return torch.tensordot(weights, v, 1).unsqueeze(0)


class BoundedLinear(Bounded):
    """A matrix on vectors, (N, inputs) -> (N, outputs)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(_orthogonal((outputs, inputs)), (inputs,))
        self.inputs, self.outputs = inputs, outputs

    def apply_weight(self, x: Tensor, weight: Tensor) -> Tensor:
        """x (N, inputs) -> x W^T (N, outputs)."""
        return F.linear(x, weight)

    def adjoint(self, y: Tensor, weight: Tensor) -> Tensor:
        """y (N, outputs) -> y W (N, inputs)."""
        return y @ weight


class BoundedConv(Bounded):
    """A convolution of odd kernel size on images (N, C, H, W) with zeros around them; the size is kept (Gouk et al., 2021,
    arXiv:1804.04368).

    Its norm is that of the map on images of this size, borders included, not of the reshaped kernel.
    """

    def __init__(self, event_shape: Shape, outputs: int, kernel: int) -> None:
        super().__init__(_orthogonal((outputs, event_shape[0], kernel, kernel)), tuple(event_shape))
        self.event_shape, self.outputs, self.kernel = tuple(event_shape), outputs, kernel

    def apply_weight(self, x: Tensor, weight: Tensor) -> Tensor:
        """x (N, C, H, W) -> (N, outputs, H, W), padded with zeros to the same size."""
        return F.conv2d(x, weight, padding=self.kernel // 2)

    def adjoint(self, y: Tensor, weight: Tensor) -> Tensor:
        """y (N, outputs, H, W) -> (N, C, H, W), by the transposed convolution."""
        return F.conv_transpose2d(y, weight, padding=self.kernel // 2)


def _orthogonal(shape: Shape) -> Tensor:
    """All singular values 1 at the start, so that the bound is put to use in every direction."""
    return nn.init.orthogonal_(torch.empty(shape))


class Contraction(Module, ABC):
    r"""g(x; c) with Lip(g) <= `lipschitz` < 1 in x: a chain of bounded maps with activations between them.

    `bind` does once what depends on weights and context alone; `linearise` then gives g and its Jacobian products as plain
    tensor functions of tensors, differentiable to any order.

    Raises ValueError where `lipschitz` lies outside (0, 1).
    """

    event_shape: Shape
    context_shapes: tuple[Shape, ...]
    maps: Any
    from_context: Any
    activation: Activation

    def __init__(self, maps: list[Bounded], widths: tuple[int, ...], activation: Activation, lipschitz: float) -> None:
        super().__init__()
        if not 0 < lipschitz < 1:
            raise ValueError(f"found a Lipschitz constant of {lipschitz}, expected one inside (0, 1): z = x + g(x) must invert")
        self.activation, self.lipschitz = activation, lipschitz
        self.maps = nn.ModuleList(maps)
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(n)) for n in widths)
        learned = () if activation.start is None else (activation.start,) * (len(maps) - 1)
        self.learned = nn.ParameterList(nn.Parameter(torch.tensor(value)) for value in learned)

    def _context(self, context_shapes: Shapes, width: int) -> None:
        self.context_shapes = shapes_of(context_shapes)
        size = sum(math.prod(s) for s in flat(self.context_shapes))
        self.from_context = nn.Linear(size, width, bias=False) if size else None

    def bind(self, context: Context, batch: Shape) -> tuple[Tensor, ...]:
        r"""What `linearise` needs, once for N = prod(batch) points: normalised weights, biases with the context, activations.

        The context's batch broadcasts to `batch`.
        """
        limit = self.lipschitz ** (1 / len(self.maps))
        weights = [m.within(limit, self.tolerance) for m in self.maps]
        biases = [self._placed(b) for b in self.biases]
        if self.from_context is not None:
            shift = self.from_context(join(context, self.context_shapes).to(biases[0].dtype))
            shift = shift.expand(*batch, shift.shape[-1]).reshape(math.prod(batch), -1)
            biases[0] = biases[0] + self._placed(shift)
        return (*weights, *biases, *self.learned)

    def linearise(self, x: Tensor, bound: tuple[Tensor, ...]) -> tuple[Tensor, Tangent]:
        r"""g(x) and T -> J T for x (N, \*E), T (K, N, \*E), at weights `bound` = bind(context, batch of N)."""
        count = len(self.maps)
        weights, biases, learned = bound[:count], bound[count : 2 * count], bound[2 * count :]
        slopes: list[Tensor] = []
        h = self._enter(x)
        for i, layer in enumerate(self.maps):
            h = layer.apply_weight(h, weights[i]) + biases[i]
            if i < count - 1:
                h, slope = self.activation(h, learned[i] if learned else None)
                slopes.append(slope)

        def tangent(t: Tensor) -> Tensor:
            k, n = t.shape[:2]
            t = self._enter(t.flatten(0, 1))
            for i, layer in enumerate(self.maps):
                t = layer.apply_weight(t, weights[i])
                if i < count - 1:
                    t = (self._copied(t).unflatten(0, (k, n)) * slopes[i]).flatten(0, 1)
            return t.reshape(k, n, *self.event_shape)

        return h.reshape(x.shape), tangent

    def _copied(self, t: Tensor) -> Tensor:
        """Tangents (N, C, ...) as often as the activation copies what they move."""
        copies = self.activation.copies
        return t if copies == 1 else torch.cat([t] * copies, 1)

    def forward(self, x: Tensor, context: Context = None) -> Tensor:
        r"""g(x; context), (\*B, \*E)."""
        batch = x.shape[: x.dim() - len(self.event_shape)]
        flat = x.reshape(-1, *self.event_shape)
        return self.linearise(flat, self.bind(context, tuple(batch)))[0].reshape(x.shape)

    @abstractmethod
    def _enter(self, x: Tensor) -> Tensor:
        """Points or tangents as the first map takes them."""

    @abstractmethod
    def _placed(self, bias: Tensor) -> Tensor:
        r"""(\*, width) in a shape that adds to the maps' outputs."""


def _links(sizes: tuple[int, ...], activation: Activation) -> list[tuple[int, int]]:
    """(inputs, outputs) of each map between layers of these sizes; all but the first take what an activation gives."""
    return [(a * activation.copies if i else a, b) for i, (a, b) in enumerate(pairwise(sizes))]


class LipschitzMLP(Contraction):
    r"""Dense contraction of events of any shape, flattened (Behrmann et al., 2019, arXiv:1811.00995): x (\*B, \*E) -> the same.

    widths: of the hidden layers. context_shapes: parts of the context. lipschitz: bound on the whole network, below 1.
    tolerance: growth of an operator norm at which power iteration stops, relative.
    """

    def __init__(
        self,
        event_shape: Shape,
        widths: tuple[int, ...] = (128, 128, 128),
        context_shapes: Shapes = (),
        activation: Activation = LipSwish(),
        lipschitz: float = 0.97,
        tolerance: float = 1e-4,
    ) -> None:
        dims = math.prod(event_shape)
        sizes = (dims, *widths, dims)
        maps: list[Bounded] = [BoundedLinear(a, b) for a, b in _links(sizes, activation)]
        super().__init__(maps, sizes[1:], activation, lipschitz)
        self.event_shape, self.widths, self.tolerance = tuple(event_shape), tuple(widths), tolerance
        self._context(context_shapes, sizes[1])

    def _enter(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def _placed(self, bias: Tensor) -> Tensor:
        return bias


class LipschitzConv(Contraction):
    r"""Convolutional contraction of images: x (\*B, C, H, W) -> the same; the context shifts the first map's channels.

    channels: of the hidden layers; kernels: odd sizes, one more than channels. Others as for :class:`LipschitzMLP`.
    Raises ValueError where kernels are even, or do not fit the channels.
    """

    def __init__(
        self,
        event_shape: Shape,
        channels: tuple[int, ...] = (32, 32),
        kernels: tuple[int, ...] = (3, 1, 3),
        context_shapes: Shapes = (),
        activation: Activation = LipSwish(),
        lipschitz: float = 0.97,
        tolerance: float = 1e-4,
    ) -> None:
        if len(kernels) != len(channels) + 1 or any(k % 2 == 0 for k in kernels):
            raise ValueError(f"found kernels {kernels} for channels {channels}, expected {len(channels) + 1} odd sizes")
        sizes = (event_shape[0], *channels, event_shape[0])
        size = tuple(event_shape[1:])
        links = _links(sizes, activation)
        maps: list[Bounded] = [BoundedConv((a, *size), b, k) for (a, b), k in zip(links, kernels, strict=True)]
        super().__init__(maps, sizes[1:], activation, lipschitz)
        self.event_shape, self.tolerance = tuple(event_shape), tolerance
        self.channels, self.kernels = tuple(channels), tuple(kernels)
        self._context(context_shapes, sizes[1])

    def _enter(self, x: Tensor) -> Tensor:
        return x

    def _placed(self, bias: Tensor) -> Tensor:
        return bias[..., None, None]
