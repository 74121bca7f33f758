r"""Heads for integers 0..K-1, stored as floats: Bernoulli, categorical, and discretised logistic mixtures.

.. math:: P(x) = \sigma(l)^x\, (1 - \sigma(l))^{1 - x}, \qquad P(k) = \frac{e^{l_k}}{\sum_j e^{l_j}}, \qquad
          P(k) = \sum_m \pi_m \Bigl[\sigma\Bigl(\frac{k + \frac12 - \mu_m}{s_m}\Bigr) -
          \sigma\Bigl(\frac{k - \frac12 - \mu_m}{s_m}\Bigr)\Bigr].

Discretised logistic (Salimans et al., 2017, arXiv:1701.05517): the mass of level k is the logistic's mass between k - 1/2 and k +
1/2, the two outermost levels taking the tails, so the masses sum to one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from genalloy.core.distribution import Shape
from genalloy.core.functions import plain_operations
from genalloy.core.shapes import broadcast_shapes
from genalloy.heads.head import Factorised, Head, chosen, component, spread_out, uniform


class Bernoulli(Head):
    r""":math:`P(x) = \sigma(l)^x (1 - \sigma(l))^{1 - x}`, one logit l an element, for data in {0, 1}; width 1.

    Grey values never meet it: other values have density -inf.
    """

    has_rsample = False
    width = 1
    discrete = True

    def forward(self, parameters: Tensor, event_dims: int) -> BernoulliDistribution:
        r"""Logits (\*B, \*E, 1) -> distribution of bits (\*B, \*E)."""
        return BernoulliDistribution(parameters.squeeze(-1), event_dims)


class BernoulliDistribution(Factorised):
    r"""Independent bits with logits (\*B, \*E)."""

    discrete = True
    has_rsample = False

    def __init__(self, logits: Tensor, event_dims: int) -> None:
        super().__init__(tuple(logits.shape), event_dims)
        self.logits = logits

    @property
    def mean(self) -> Tensor:
        r"""sigmoid(l), (\*B, \*E)."""
        return torch.sigmoid(self.logits)

    def element_log_prob(self, x: Tensor) -> Tensor:
        r""":math:`x l - \mathrm{softplus}(l)`, nats an element; -inf where x is no bit."""
        value = x * self.logits - F.softplus(self.logits)
        outside = _not_bits(x)
        return value.masked_fill(outside, -torch.inf) if bool(outside.any()) else value

    def event_log_prob(self, x: Tensor) -> Tensor:
        r"""One fused pass over the logits: this is what training and evaluating a decoder of bits costs; as `density`."""
        axes = len(self.event_shape)
        if axes == 0 or not _all_bits(x):
            return super().event_log_prob(x)
        return bits_log_prob(self.logits.flatten(-axes), x.flatten(-axes).to(self.logits.dtype))

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        r"""Bits (\*S, \*B, \*E) as floats, without gradient."""
        p = self.mean.expand(*sample_shape, *self.logits.shape)
        return (torch.rand_like(p) < p).to(p.dtype)

    def tempered(self, temperature: float) -> BernoulliDistribution:
        """:math:`p^{1/T}`, normalised: logits divided by T."""
        return BernoulliDistribution(self.logits / temperature, len(self.event_shape)).under(self.law)

    def kept(self, keep: Callable[[Tensor], Tensor]) -> CategoricalDistribution:
        """The bits that `keep` takes, as a two-way choice with logits (0, l)."""
        logits = torch.stack([torch.zeros_like(self.logits), self.logits], -1)
        return _kept(logits, keep, len(self.event_shape)).under(self.law)


def _all_bits(x: Tensor) -> bool:
    """Whether x - x^2 is 0 everywhere: a third of the time of comparing."""
    if x.dtype == torch.bool or not x.numel():
        return True
    low, high = torch.addcmul(x, x, x, value=-1).aminmax()
    return bool(low == 0) and bool(high == 0)


def _not_bits(x: Tensor) -> Tensor:
    return (x != 0) & (x != 1)


def bits_log_prob(logits: Tensor, bits: Tensor) -> Tensor:
    r"""Sum over the last axis of x l - softplus(l), x in {0, 1}; both (\*B, D), broadcast to (\*B).

    With a = (1 - 2x) l each term is -log(1 + exp(a)), so that one logarithm does for several entries,
    :math:`-\log (1 + e^{a_1}) \cdots (1 + e^{a_g})`, in blocks that fit a core's cache.
    """
    shape = broadcast_shapes(logits.shape, bits.shape)
    if logits.device.type != "cpu" or shape[-1] < _FEW or bits.requires_grad or plain_operations():
        return -F.binary_cross_entropy_with_logits(logits.expand(shape), bits.expand(shape), reduction="none").sum(-1)
    return _Bits.apply(logits.expand(shape), bits)  # type: ignore[no-any-return, no-untyped-call]


class _Bits(torch.autograd.Function):
    """The sum over the last axis, with gradient x - sigmoid(l)."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, bits: Tensor) -> Tensor:
        ctx.save_for_backward(logits, bits)
        bits = bits.expand((1,) * (logits.dim() - bits.dim()) + bits.shape)
        value = _blockwise(logits, bits)
        odd = ~((value < _NEAR) & (value > -torch.inf))
        if bool(odd.any()):
            value[odd] = F.logsigmoid((2 * bits.expand(logits.shape)[odd] - 1) * logits[odd]).sum(-1)
        return value

    @staticmethod
    def backward(ctx: Any, bar: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        logits, bits = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative is wanted
            return (bits - logits.sigmoid()) * bar.unsqueeze(-1), None
        slope = logits.sigmoid()
        return torch.sub(bits, slope, out=slope).mul_(bar.unsqueeze(-1)), None


_FEW, _BLOCK, _GROUP = 16, 2**18, 8
"""Entries below which folding does not pay; entries of a block that fits the cache; factors of a product."""
_NEAR = -1.0
"""Nats: sums above it have lost digits, since 1 + exp(a) rounds to one; and products that overflow are seen as -inf."""


def _blockwise(logits: Tensor, bits: Tensor) -> Tensor:
    """Splits along the first axis until a block is small; axes of size one in `bits` are repeated."""
    n = logits.shape[0]
    if logits.dim() == 1 or logits.numel() <= _BLOCK:
        return _folded(torch.addcmul(logits, logits, bits, value=-2).exp_()).log_().sum(-1).neg_()
    if n == 1:
        return _blockwise(logits[0], bits[0]).unsqueeze(0)
    step = max(1, n * _BLOCK // logits.numel())
    cut = bits.split(step) if bits.shape[0] == n else (bits,) * -(-n // step)
    return torch.cat([_blockwise(piece, bit) for piece, bit in zip(logits.split(step), cut, strict=True)])


def _folded(p: Tensor) -> Tensor:
    """Products of 1 + p over groups: halves multiplied onto each other while the length is even; p is used up."""
    if p.shape[-1] % 2:
        return p.add_(1)
    p, other = p.tensor_split(2, -1)
    p.add_(1).addcmul_(p, other)
    group = 2
    while p.shape[-1] % 2 == 0 and group < _GROUP:
        p, other = p.tensor_split(2, -1)
        p.mul_(other)
        group *= 2
    return p


class Categorical(Head):
    r""":math:`P(k) = e^{l_k} / \sum_j e^{l_j}`, K = `levels` logits an element; values other than 0..K-1 have density -inf."""

    has_rsample = False
    discrete = True

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = self.width = levels

    def forward(self, parameters: Tensor, event_dims: int) -> CategoricalDistribution:
        r"""Logits (\*B, \*E, K) -> distribution of integers (\*B, \*E), stored as floats."""
        return CategoricalDistribution(parameters, event_dims)


class CategoricalDistribution(Factorised):
    r"""Independent K-way choices with logits (\*B, \*E, K)."""

    discrete = True
    has_rsample = False

    def __init__(self, logits: Tensor, event_dims: int) -> None:
        super().__init__(tuple(logits.shape[:-1]), event_dims)
        self.logits = logits

    @property
    def mean(self) -> Tensor:
        r""":math:`\sum_k k\,P(k)`, (\*B, \*E): a number between levels."""
        levels = torch.arange(self.logits.shape[-1], dtype=self.logits.dtype, device=self.logits.device)
        return (self.logits.softmax(-1) * levels).sum(-1)

    def tempered(self, temperature: float) -> CategoricalDistribution:
        """:math:`p^{1/T}`, normalised: logits divided by T."""
        return CategoricalDistribution(self.logits / temperature, len(self.event_shape)).under(self.law)

    def kept(self, keep: Callable[[Tensor], Tensor]) -> CategoricalDistribution:
        """The levels that `keep` takes, renormalised."""
        return _kept(self.logits, keep, len(self.event_shape)).under(self.law)

    def element_log_prob(self, x: Tensor) -> Tensor:
        r""":math:`\log P(x)`, nats an element; -inf where x is no level."""
        outside, index = not_levels(x, self.logits.shape[-1]), x.long()
        refused = bool(outside.any())
        index = index.masked_fill(outside, 0) if refused else index
        picked = self._picked(index)
        return picked.masked_fill(outside, -torch.inf) if refused else picked

    def _picked(self, index: Tensor) -> Tensor:
        """Log-masses at levels (\\*S, \\*B, \\*E): fused where each has logits of its own, else normalised once for all."""
        shape: Shape = tuple(self.logits.shape[:-1])
        if tuple(index.shape) == shape:
            return -F.cross_entropy(self.logits.reshape(-1, self.logits.shape[-1]), index.reshape(-1), reduction="none").view(
                shape
            )
        logits, shape = self.logits.log_softmax(-1), broadcast_shapes(index.shape, shape)
        return logits.expand(*shape, -1).gather(-1, index.expand(shape).unsqueeze(-1)).squeeze(-1)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        r"""Levels (\*S, \*B, \*E) as floats, without gradient."""
        return chosen(self.logits, (*sample_shape, *self.logits.shape)).squeeze(-1).to(self.logits.dtype)


def _kept(logits: Tensor, keep: Callable[[Tensor], Tensor], event_dims: int) -> CategoricalDistribution:
    """The values (last axis) that stay, renormalised; the others have no mass."""
    log_mass = logits.log_softmax(-1)
    return CategoricalDistribution(log_mass.masked_fill(~keep(log_mass), -torch.inf), event_dims)


def not_levels(x: Tensor, levels: int) -> Tensor:
    """Whether an entry is none of 0..levels-1."""
    return (x != x.round()) | (x < 0) | (x > levels - 1)


def logistic_log_mass(x: Tensor, levels: int, edges: tuple[Tensor, Tensor], width: Tensor) -> Tensor:
    r""":math:`\log(\sigma(u) - \sigma(l))` of level x between its edges (l, u), nats.

    The edges are standardised, as is their width u - l; all broadcast. The outermost levels take the tails.
    """
    lower, upper = edges
    # log sigmoid(u) + log sigmoid(-l) + log(1 - exp(l - u)) is stable in both tails
    middle = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(-width))
    return torch.where(x < 0.5, F.logsigmoid(upper), torch.where(x > levels - 1.5, F.logsigmoid(-lower), middle))


class LogisticMixture(Head):
    r"""Mixture of `components` discretised logistics over `levels` integers; width 3 x components.

    PixelCNN++ (Salimans et al., 2017, arXiv:1701.05517), see the module for the mass. From (weight, centre, raw scale):
    :math:`\mu = h (1 + centre)` with h = (K - 1) / 2, :math:`s = \mathrm{softplus}(raw) K / 8 + 0.01`, both in levels. spread: at
    zero features the centres lie over [-spread, spread], -1 the lowest level and 1 the highest.
    """

    has_rsample = False
    discrete = True

    def __init__(self, levels: int, components: int = 1, spread: float = 0.0) -> None:
        super().__init__()
        self.levels, self.components, self.spread = levels, components, spread
        self.width = 3 * components
        self.register_buffer("places", spread_out(components, spread), persistent=False)

    def forward(self, parameters: Tensor, event_dims: int) -> LogisticMixtureDistribution:
        r"""Parameters (\*B, \*E, 3 M), weights, centres and raw scales in blocks of M -> distribution of integers (\*B, \*E)."""
        weights, centre, raw = parameters.unflatten(-1, (3, self.components)).unbind(-2)
        half = (self.levels - 1) / 2
        centre = half + half * (centre + self.places)
        scale = F.softplus(raw) * (self.levels / 8) + 1e-2
        return LogisticMixtureDistribution(weights, centre, scale, self.levels, event_dims)


class LogisticMixtureDistribution(Factorised):
    r"""See :class:`LogisticMixture`; weights (logits), centres and scales (\*B, \*E, M), in units of levels."""

    discrete = True
    has_rsample = False

    def __init__(self, weights: Tensor, centre: Tensor, scale: Tensor, levels: int, event_dims: int) -> None:
        super().__init__(tuple(centre.shape[:-1]), event_dims)
        self.weights, self.centre, self.scale, self.levels = weights, centre, scale, levels

    @property
    def mean(self) -> Tensor:
        r"""Exact: :math:`E[x] = \sum_{k \ge 1} P(x \ge k)`."""
        weights, total = self.weights.softmax(-1), torch.zeros_like(self.centre)
        for k in range(1, self.levels):
            total = total + torch.sigmoid((self.centre - (k - 0.5)) / self.scale)
        return (weights * total).sum(-1)

    def masses(self) -> CategoricalDistribution:
        r"""The same law as a table of log-masses (\*B, \*E, levels)."""
        values = torch.arange(self.levels, dtype=self.centre.dtype, device=self.centre.device)
        table = self.element_log_prob(values.reshape(-1, *(1 for _ in self.centre.shape[:-1]))).movedim(0, -1)
        return CategoricalDistribution(table, len(self.event_shape)).under(self.law)

    def tempered(self, temperature: float) -> CategoricalDistribution:
        """:math:`p^{1/T}`, normalised over the levels; the root of a mixture is no mixture."""
        return self.masses().tempered(temperature)

    def kept(self, keep: Callable[[Tensor], Tensor]) -> CategoricalDistribution:
        """The levels that `keep` takes of the table of masses, renormalised."""
        return self.masses().kept(keep)

    def joint_log_prob(self, x: Tensor) -> Tensor:
        r""":math:`\log \pi_m + \log P_m(x)` of every component, (\*B, \*E, M), nats; x an integer of the range."""
        x = x.unsqueeze(-1)
        lower, upper = ((x + side - self.centre) / self.scale for side in (-0.5, 0.5))
        return self.weights.log_softmax(-1) + logistic_log_mass(x, self.levels, (lower, upper), 1.0 / self.scale)

    def element_log_prob(self, x: Tensor) -> Tensor:
        r""":math:`\log \sum_m \pi_m P_m(x)`, nats an element; -inf where x is no level."""
        return self.joint_log_prob(x).logsumexp(-1).masked_fill(not_levels(x, self.levels), -torch.inf)

    @torch.no_grad()
    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        r"""Levels (\*S, \*B, \*E) as floats, without gradient: a component's draw, rounded and clamped to the range."""
        centre, scale = component(self.weights, sample_shape, self.centre, self.scale)
        u = uniform(centre, tuple(centre.shape))
        value = centre + scale * (u.log() - torch.log1p(-u))
        return value.round().clamp(0, self.levels - 1)
