r"""Residual flows: :math:`z = x + g(x)` with :math:`\mathrm{Lip}(g) < 1` (Behrmann et al., 2019; Chen et al., 2019).

The map is invertible whatever g looks like: x is the fixed point of :math:`x = z - g(x)`. With J the Jacobian of g,

.. math:: \log\det(I + J) = \sum_{k \ge 1} \frac{(-1)^{k+1}}{k}\, \mathrm{tr}\, J^k, \qquad
   \mathrm{tr}\, J^k = \mathbb E\; v^\top J^k v \quad (\mathbb E\, v v^\top = I),

which is exact by the whole Jacobian where there are few entries, an estimate where the series is cut after n terms (error at
most :math:`D L^{n+1} / ((n+1)(1-L))`), and unbiased where it is cut at random: term k beyond the first m is kept with
probability :math:`P_k = (1-p)^{k-m}` and divided by it ("Russian roulette"). Its variance is certainly finite where
:math:`L^2 < 1 - p`.

For learning, the gradient has a series of its own (Neumann),

.. math:: d \log\det(I + J) = \mathrm{tr}\,(I + J)^{-1} dJ = \mathbb E\; v^\top dJ\, q, \qquad
   q = \sum_{k \ge 1} (-1)^{k-1} c_k J^{k-1} v,

with the same c_k = 1, or 1 / P_k where kept. v and q are numbers here: the forward pass forms them without a graph, and the
backward pass linearises g once more and differentiates :math:`\sum_b w_b\, v_b^\top J(x_b)\, q_b`, w_b being the weight with
which the log-determinant of row b arrives. Memory does not grow with the number of terms, and weights on rows are respected.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from genalloy.core.contexts import Context, Shapes, batch_of, shapes_of
from genalloy.core.evidence import Evidence, Kind
from genalloy.core.shapes import broadcast_shapes
from genalloy.core.spec import Module, Value
from genalloy.networks.lipschitz import Tangent
from genalloy.solvers.divergence import Probes, Rademacher
from genalloy.solvers.fixed_point import FixedPoint
from genalloy.transforms.layer import Layer, Transform

Shape = tuple[int, ...]
Bound = tuple[Tensor, ...]


class Contractive(Protocol):
    """What a network g must offer; :mod:`genalloy.networks.lipschitz` has two. lipschitz: its bound, below 1."""

    lipschitz: float

    def bind(self, context: Context, batch: Shape) -> Bound:
        """What g depends on beside x, made once for N = prod(batch) points: weights within their norms, the context."""

    def linearise(self, x: Tensor, bound: Bound) -> tuple[Tensor, Tangent]:
        r"""g(x) (N, \*E) at rows x (N, \*E), and its tangent map T (K, N, \*E) -> J T."""


class Placed(NamedTuple):
    r"""Points as rows (N, \*E), the network's tensors for them, and the batch shape that they came in."""

    rows: Tensor
    bound: Bound
    batch: Shape


# ---- log-determinants -------------------------------------------------------------------------------------------------


class LogDet(Value, ABC):
    r"""How :math:`\log\det(I + J)` of z = x + g(x) is found."""

    @abstractmethod
    def at(self, network: Any, rows: Tensor, bound: Bound) -> tuple[Tensor, Evidence]:
        r"""(g(rows) (N, \*E), log det(I + J) (N,) with its claim) at rows (N, \*E), differentiable."""


@dataclass(frozen=True)
class ExactLogDet(LogDet):
    """The whole Jacobian and its determinant: EXACT, D tangents and of order :math:`D^3` a row; differentiable to any order."""

    def at(self, network: Any, rows: Tensor, bound: Bound) -> tuple[Tensor, Evidence]:
        r"""(g(rows) (N, \*E), log \|det(I + J)\| (N,), EXACT)."""
        g, tangent = network.linearise(rows, bound)
        jacobian = whole_jacobian(tangent, rows)
        eye = torch.eye(jacobian.shape[-1], dtype=rows.dtype, device=rows.device)
        return g, Evidence.exact(_log_det(jacobian + eye))


def whole_jacobian(tangent: Tangent, rows: Tensor) -> Tensor:
    r"""J at every row, (N, D, D), from D tangents: rows (N, \*E), D entries each."""
    dims = rows[0].numel()
    eye = torch.eye(dims, dtype=rows.dtype, device=rows.device)
    basis = eye.reshape(dims, 1, *rows.shape[1:]).expand(dims, *rows.shape)
    return tangent(basis).flatten(2).permute(1, 2, 0)


def _log_det(matrix: Tensor) -> Tensor:
    """log |det|; written out for two entries, where a factorisation would cost more than all the rest."""
    if matrix.shape[-1] != 2:
        return torch.linalg.slogdet(matrix)[1]
    (a, b), (c, d) = matrix.unbind(-2)[0].unbind(-1), matrix.unbind(-2)[1].unbind(-1)
    return (a * d - b * c).abs().log()


class PowerSeries(ABC):
    """What the two series share, beside :class:`LogDet`: `coefficients` says which terms are kept, and with what weight.

    probes: v a row; at least two give a standard error. noise: their law. unrolled: differentiate the series itself, which
    holds to any order and costs memory for every term, in place of the Neumann series.
    """

    probes: int
    noise: Probes
    unrolled: bool

    @abstractmethod
    def coefficients(self, rows: Tensor) -> Tensor:
        """c_k of terms k = 1..n, (n, probes, N) or (n, probes, 1); zero where a row's series has ended."""

    @abstractmethod
    def labelled(self, value: Tensor, stderr: Tensor | None) -> Evidence:
        """The mean over probes with its claim."""

    def at(self, network: Any, rows: Tensor, bound: Bound) -> tuple[Tensor, Evidence]:
        r"""(g(rows) (N, \*E), the weighted series' mean over probes (N,)), with a standard error from two probes on.

        Unless `unrolled`, its derivatives come from the Neumann series: a second derivative raises ValueError.
        """
        v, c = self.noise((self.probes, *rows.shape), rows), self.coefficients(rows)
        with torch.set_grad_enabled(self.unrolled and torch.is_grad_enabled()):
            g, tangent = network.linearise(rows, bound)
            values, q = _power_series(tangent, v, c)
        if torch.is_grad_enabled() and not self.unrolled:
            g, zero = _Neumann.apply(network, g, v, q, rows, *bound)
            values = values + zero
        stderr = values.detach().std(0) / math.sqrt(self.probes) if self.probes > 1 else None
        return g, self.labelled(values.mean(0), stderr)


def _power_series(tangent: Tangent, v: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    r"""Values (probes, N) of the weighted series, and q of the gradient's, (probes, N, \*E)."""
    axes = (1,) * (v.dim() - 2)
    power, sign = v, 1.0
    values, q = torch.zeros_like(v.flatten(2)[..., 0]), torch.zeros_like(v)
    for k, weight in enumerate(c, 1):
        q = q + sign * weight.reshape(*weight.shape, *axes) * power
        power = tangent(power)
        values = values + (sign / k) * weight * (v * power).flatten(2).sum(-1)
        sign = -sign
    return values, q


class _Neumann(torch.autograd.Function):
    """(g, 0), whose backward pass is that of g and of v^T J q: see the module's text. First derivatives only."""

    @staticmethod
    def forward(ctx: Any, network: Any, g: Tensor, v: Tensor, q: Tensor, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        ctx.network = network
        ctx.save_for_backward(v, q, *inputs)
        return g.view_as(g), torch.zeros_like(v.flatten(2)[..., 0])

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives("the log-determinant's Neumann gradient", "unrolled=True, or ExactLogDet()")
        v, q, rows, *bound = ctx.saved_tensors
        leaves = _leaves((rows, *bound), ctx.needs_input_grad[4:])
        with torch.enable_grad():
            g, tangent = ctx.network.linearise(leaves[0], tuple(leaves[1:]))
            surrogate = (v * tangent(q)).flatten(2).sum(-1)
        return (None, None, None, None, *_gradients((g, surrogate), leaves, upstream))


def _leaves(tensors: tuple[Tensor, ...], wanted: tuple[bool, ...]) -> list[Tensor]:
    return [t.detach().requires_grad_(want) for t, want in zip(tensors, wanted, strict=True)]


def _gradients(outputs: tuple[Tensor, ...], leaves: list[Tensor], upstream: tuple[Tensor, ...]) -> list[Tensor | None]:
    """Gradients of those leaves that want one, None for the others."""
    wanted = [leaf for leaf in leaves if leaf.requires_grad]
    slopes = iter(torch.autograd.grad(outputs, wanted, upstream, allow_unused=True))
    return [next(slopes) if leaf.requires_grad else None for leaf in leaves]


def refuse_second_derivatives(what: str, remedy: str) -> None:
    """Raise ValueError in a backward pass that is itself to be differentiated: the result would silently be wrong."""
    if torch.is_grad_enabled():
        found = "found create_graph=True, expected a plain backward pass"
        raise ValueError(f"{found}: {what} has first derivatives only; use {remedy}")


@dataclass(frozen=True)
class Truncated(PowerSeries, LogDet):
    r"""The first n = `terms` of the series: an ESTIMATE, wrong by the rest of it (Behrmann et al., 2019, arXiv:1811.00995).

    .. math:: \log\det(I + J) \approx \sum_{k=1}^{n} \frac{(-1)^{k+1}}{k}\, v^\top J^k v

    probes: v a row, whose mean is taken; 0: traces of the whole Jacobian's powers, without noise and differentiable to any order,
    for few entries. noise: law of the probes. unrolled: see :class:`PowerSeries`.
    """

    terms: int = 8
    probes: int = 1
    noise: Probes = Rademacher()  # noqa: RUF009
    unrolled: bool = False

    def at(self, network: Any, rows: Tensor, bound: Bound) -> tuple[Tensor, Evidence]:
        r"""(g(rows) (N, \*E), the n terms (N,), an ESTIMATE), by probes, or by powers of the whole Jacobian if 0."""
        if self.probes:
            return super().at(network, rows, bound)
        g, tangent = network.linearise(rows, bound)
        jacobian = whole_jacobian(tangent, rows)
        power, value = jacobian, jacobian.new_zeros(len(rows))
        for k in range(1, self.terms + 1):
            value = value - (-1.0) ** k / k * power.diagonal(dim1=-2, dim2=-1).sum(-1)
            power = power @ jacobian if k < self.terms else power
        return g, self.labelled(value, None)

    def coefficients(self, rows: Tensor) -> Tensor:
        """Ones: the n terms, each kept, (terms, probes, 1)."""
        return rows.new_ones(self.terms, self.probes, 1)

    def labelled(self, value: Tensor, stderr: Tensor | None) -> Evidence:
        """The value as an ESTIMATE, not proper, described by the number of terms."""
        traces = f"{self.probes} probe(s)" if self.probes else "exact traces"
        return Evidence(value, Kind.ESTIMATE, f"power series of {self.terms} terms, {traces}", False, stderr)


@dataclass(frozen=True)
class Roulette(PowerSeries, LogDet):
    r"""`exact` terms always, then as many more as a geometric variable says: UNBIASED (Chen et al., 2019, arXiv:1906.02735).

    .. math:: \log\det(I + J) = \mathbb E \sum_{k=1}^{m+n} \frac{(-1)^{k+1}}{k\, P_k}\, v^\top J^k v, \qquad
              P_k = (1 - p)^{\max(k - m, 0)}, \quad P(n \ge i) = (1 - p)^i,

    with m = `exact`. shared: one depth a probe and batch (cheap; the rows' errors are then correlated), otherwise every row draws
    its own (errors independent between rows; the batch is as deep as its deepest row). Depths come from torch's generator.
    probes, noise, unrolled: see :class:`PowerSeries`. Raises ValueError unless 0 < p < 1, exact >= 0 and probes >= 1.
    """

    p: float = 0.5
    exact: int = 2
    probes: int = 1
    shared: bool = False
    noise: Probes = Rademacher()  # noqa: RUF009
    unrolled: bool = False

    def __post_init__(self) -> None:
        if not (0 < self.p < 1 and self.exact >= 0 and self.probes >= 1):
            raise ValueError(f"found {self}, expected 0 < p < 1, exact >= 0 and at least one probe")

    def coefficients(self, rows: Tensor) -> Tensor:
        """1 / P_k of the terms that are kept and 0 behind them, (depth, probes, N), or (depth, probes, 1) where `shared`."""
        uniform = torch.rand(self.probes, 1 if self.shared else len(rows), dtype=torch.float64)
        beyond = (torch.log1p(-uniform) / math.log1p(-self.p)).floor()
        deepest = int(beyond.max())
        over = torch.arange(1 - self.exact, deepest + 1).clamp(min=0).reshape(-1, 1, 1)
        kept = (beyond >= over) * (1 - self.p) ** -over.double()
        return kept.to(rows)

    def labelled(self, value: Tensor, stderr: Tensor | None) -> Evidence:
        """The value as UNBIASED, not proper, described by the law of its depth."""
        how = f"Russian roulette, {self.exact} + Geometric({self.p:g}) terms, {self.probes} probe(s)"
        return Evidence(value, Kind.UNBIASED, how, False, stderr)


# ---- the map and its layers -------------------------------------------------------------------------------------------


class Residual(Transform):
    r""":math:`z = x + g(x; c)` with Lip(g) < 1, an i-ResNet's block (Behrmann et al., 2019, arXiv:1811.00995); x (\*B, \*E).

    Its log-determinant is that of the whole Jacobian, for few entries; :class:`StochasticResidual` takes another.
    network: a contraction of events of shape E, see :class:`Contractive`. inverse: solver of x + g(x) = z; it raises
    NotConverged. `decode` is differentiable once, by the implicit function theorem.
    """

    def __init__(
        self,
        network: Module,
        event_shape: Shape,
        context_shapes: Shapes = (),
        inverse: FixedPoint = FixedPoint(),  # noqa: B008
    ) -> None:
        super().__init__()
        self.network, self.event_shape, self.inverse = network, tuple(event_shape), inverse
        self.context_shapes = shapes_of(context_shapes)
        self.event_dims = len(self.event_shape)

    def encode(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        r"""x (\*B, \*E) -> (x + g(x), log \|det(I + J(x))\| (\*B)), by the whole Jacobian."""
        z, evidence = self.labelled(x, context, ExactLogDet())
        return z, evidence.value

    def decode(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        r"""z (\*B, \*E) -> (x, -log \|det(I + J(x))\| (\*B)), x by fixed-point iteration. Raises NotConverged."""
        x = self.preimage(z, context)
        return x, -self.encode(x, context)[1]

    def labelled(self, x: Tensor, context: Context, log_det: LogDet) -> tuple[Tensor, Evidence]:
        r"""z and log |det dz/dx| (\*B) with its claim."""
        rows, bound, batch = self._placed(x, context)
        g, g_log_det = log_det.at(self.network, rows, bound)
        stderr = None if g_log_det.stderr is None else g_log_det.stderr.reshape(batch)
        evidence = Evidence(g_log_det.value.reshape(batch), g_log_det.kind, g_log_det.how, g_log_det.proper, stderr)
        return (rows + g).reshape(*batch, *self.event_shape), evidence

    def preimage(self, z: Tensor, context: Context = None) -> Tensor:
        r"""x (\*B, \*E) with x + g(x) = z, by fixed-point iteration. Raises NotConverged."""
        rows, bound, batch = self._placed(z, context)
        x = self.inverse(lambda y: self.network.linearise(y, bound)[0], rows.detach())
        if torch.is_grad_enabled():
            x = _Implicit.apply(self.network, self.inverse, x, rows, *bound)
        return x.reshape(*batch, *self.event_shape)

    def _placed(self, x: Tensor, context: Context) -> Placed:
        context = context if self.context_shapes else None
        own = tuple(x.shape[: x.dim() - self.event_dims])
        batch = tuple(broadcast_shapes(own, batch_of(context, self.context_shapes)))
        rows = x.expand(*batch, *self.event_shape).reshape(-1, *self.event_shape)
        return Placed(rows, self.network.bind(context, batch), batch)


class _Implicit(torch.autograd.Function):
    r"""x given with x + g(x) = z: dx = (I + J)^{-1} (dz - d_theta g), the transposed system by the same solver."""

    @staticmethod
    def forward(ctx: Any, network: Any, solver: FixedPoint, x: Tensor, z: Tensor, *bound: Tensor) -> Tensor:
        ctx.network, ctx.solver = network, solver
        ctx.save_for_backward(x, *bound)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives("the inverse of a residual transform", "its encoding direction")
        x, *bound = ctx.saved_tensors
        leaves = _leaves((x, *bound), (True, *ctx.needs_input_grad[4:]))
        with torch.enable_grad():
            g = ctx.network.linearise(leaves[0], tuple(leaves[1:]))[0]
        a = ctx.solver(lambda w: torch.autograd.grad(g, leaves[0], w, retain_graph=True)[0], upstream[0])
        return (None, None, None, a, *_gradients((g,), leaves, (-a,))[1:])


class StochasticResidual(Layer):
    """A residual transform whose log-determinant is found by `log_det`, and in training by `learning` where that is given.

    Both directions carry the estimator's label: UNBIASED for :class:`Roulette` (residual flows: Chen et al., 2019,
    arXiv:1906.02735), ESTIMATE for :class:`Truncated`, EXACT for :class:`ExactLogDet`.
    """

    def __init__(self, transform: Residual, log_det: LogDet = Roulette(), learning: LogDet | None = None) -> None:
        super().__init__()
        self.transform, self.log_det, self.learning = transform, log_det, learning

    def encode(self, x: Tensor, context: Context = None) -> tuple[Tensor, Evidence]:
        r"""x (\*B, \*E) -> x + g(x), and the log-determinant (\*B) in nats with its label."""
        return self.transform.labelled(x, context, self._chosen())

    def decode(self, z: Tensor, context: Context = None) -> tuple[Tensor, Evidence]:
        r"""z (\*B, \*E) -> x by fixed-point iteration, and log \|det dz/dx\| (\*B) there with its label. Raises NotConverged."""
        x = self.transform.preimage(z, context)
        return x, self.transform.labelled(x, context, self._chosen())[1]

    def _chosen(self) -> LogDet:
        return self.learning if self.training and self.learning is not None else self.log_det
