r"""Traces of a velocity field's Jacobian, as frozen values.

.. math:: \mathrm{tr}\,J = \sum_i e_i^\top J e_i \quad\text{(exact, D products)}, \qquad
          \mathrm{tr}\,J = E\,\epsilon^\top J \epsilon,\quad E\,\epsilon\epsilon^\top = I \quad\text{(Hutchinson, 1989)}.

Probes are drawn once and held along a trajectory, so that an adaptive solver meets a smooth right-hand side and the integral is
unbiased (Grathwohl et al., 2019, arXiv:1810.01367). The same products give :math:`|J|_F^2 = E |J \epsilon|^2` for nothing.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from genalloy.core.contexts import Context, both
from genalloy.core.distribution import sum_event
from genalloy.core.spec import Value


class Probes(Value, ABC):
    r"""Law of the probes: :math:`E\,\epsilon = 0, E\,\epsilon\epsilon^\top = I`."""

    @abstractmethod
    def __call__(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Probes of that shape, in the dtype and on the device of `like`."""


@dataclass(frozen=True)
class Rademacher(Probes):
    r"""Random signs: of all laws with independent entries the one whose :math:`\epsilon^\top J \epsilon` varies least."""

    def __call__(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """+1 or -1 with equal chances."""
        return torch.randint(0, 2, shape, device=like.device).to(like.dtype) * 2 - 1


@dataclass(frozen=True)
class GaussianProbes(Probes):
    """Unit normal."""

    def __call__(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Unit normal entries."""
        return torch.randn(shape, dtype=like.dtype, device=like.device)


class TraceEstimator(Value, ABC):
    """Which vectors a trajectory carries, and what their products say.

    exact: whether the vectors are a basis, to be summed, rather than probes, to be averaged.
    """

    exact: bool = True

    @abstractmethod
    def vectors(self, x: Tensor, event_dims: int, training: bool) -> Tensor:
        r"""(n, \*B, \*E) for x (\*B, \*E)."""

    @abstractmethod
    def words(self, count: int) -> str:
        """How it is called beside a number."""


@dataclass(frozen=True)
class ExactTrace(TraceEstimator):
    r"""All D diagonal entries, :math:`\mathrm{tr}\,J = \sum_i e_i^\top J e_i`: D products a step, no noise."""

    def vectors(self, x: Tensor, event_dims: int, training: bool) -> Tensor:
        r"""The unit vectors (D, \*B, \*E), an expanded view over the batch."""
        event = x.shape[x.dim() - event_dims :]
        size = math.prod(event)
        eye = torch.eye(size, dtype=x.dtype, device=x.device).reshape(size, *(1,) * (x.dim() - event_dims), *event)
        return eye.expand(size, *x.shape)

    def words(self, count: int) -> str:
        """ "exact trace"."""
        return "exact trace"


@dataclass(frozen=True)
class Hutchinson(TraceEstimator):
    r""":math:`\mathrm{tr}\,J = E\,\epsilon^\top J \epsilon` by random probes (FFJORD: Grathwohl et al., 2019, arXiv:1810.01367).

    Their spread gives the standard error, so `evaluation` should be at least 2. training, evaluation: probes a trajectory in the
    two modes of a module. noise: their law.
    """

    training: int = 1
    evaluation: int = 8
    noise: Probes = field(default_factory=Rademacher)

    exact = False

    def vectors(self, x: Tensor, event_dims: int, training: bool) -> Tensor:
        r"""Fresh probes (n, \*B, \*E), n by the mode."""
        return self.noise((self.training if training else self.evaluation, *x.shape), x)

    def words(self, count: int) -> str:
        """Their number and law."""
        return f"{count} {type(self.noise).__name__} probe{'s' if count > 1 else ''}"


class Rates(NamedTuple):
    r"""What a field does at x (\*B, \*E), along n vectors.

    velocity (\*B, \*E); divergence (n, \*B), one entry a probe, n = 1 where exact; frobenius (\*B), :math:`|J|_F^2` or its
    estimate.
    """

    velocity: Tensor
    divergence: Tensor
    frobenius: Tensor


def rates(network: Any, x: Tensor, t: Tensor, context: Context, vectors: Tensor, exact: bool) -> Rates:
    r"""Velocity and divergence of network((x, t, \*context)) at x (\*B, \*E), t () or (\*B), along vectors (n, \*B, \*E).

    Networks that carry tangents are asked for J v, others for v J by automatic differentiation, one batched backward pass.
    """
    along = _tangents if getattr(network, "carries_tangents", False) else _backwards
    value, product = along(network, x, t, context, vectors)
    dims = len(network.inputs[0])
    divergence, square = sum_event(product * vectors, dims), sum_event(product.square(), dims)
    if exact:
        return Rates(value, divergence.sum(0, keepdim=True), square.sum(0))
    return Rates(value, divergence, square.mean(0))


def velocity(network: Any, x: Tensor, t: Tensor, context: Context) -> Tensor:
    r"""network((x, t, \*context)) in the shape of x."""
    return network(both((x, t), context)).reshape(x.shape)


def _tangents(network: Any, x: Tensor, t: Tensor, context: Context, vectors: Tensor) -> tuple[Tensor, Tensor]:
    return network(both((x, t), context), vectors)


def _backwards(network: Any, x: Tensor, t: Tensor, context: Context, vectors: Tensor) -> tuple[Tensor, Tensor]:
    return products(lambda x: velocity(network, x, t, context), x, vectors)


def products(function: Callable[[Tensor], Tensor], x: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    r"""(f(x), v^T df/dx) for vectors v (n, \*B, \*E), one batched backward pass; x and f(x) (\*B, \*E).

    Gradients reach parameters, x and context where they were enabled outside.
    """
    graph = torch.is_grad_enabled()
    with torch.enable_grad():
        x = x if x.requires_grad else x.detach().requires_grad_()
        value = function(x)
        (product,) = torch.autograd.grad(value, x, vectors, is_grads_batched=True, create_graph=graph, allow_unused=True)
    product = torch.zeros_like(vectors) if product is None else product
    return (value, product) if graph else (value.detach(), product.detach())
