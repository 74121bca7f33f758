r"""Transforms (tensor functions) and layers (the same with a label).

A transform is an invertible map between data x and noise z, two tensor functions:

    encode(x, c) -> (z, ladj),  ladj = log |det dz/dx|        decode(z, c) -> (x, ladj),  ladj = log |det dx/dz|

A layer is what a flow stacks. It returns its contribution to log p(x) = log p(z) + contribution as Evidence, and so
carries the label of what it does: exact for a bijection, LOWER encoding and UPPER decoding where a coordinate was
invented or dropped (Nielsen et al., 2020, SurVAE flows), ESTIMATE or UNBIASED where a log-determinant is stochastic.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from genalloy.core.contexts import Context
from genalloy.core.evidence import Evidence, Measure
from genalloy.core.spec import Module


class Layer(Module, ABC):
    """One step of a flow with its contribution to the log-density.

    differentiable: whether gradients flow through `decode` (False for rounding).
    measure: what the layer trades in the base measure (dequantisation: Lebesgue coordinates for counted ones).
    constant: whether it is a bijection whose contribution is the same for every x (p^(1/T) then passes through).
    solved: whether it is solved numerically now, with an error that a flow states by :meth:`coarser`.
    """

    differentiable: bool = True
    measure: Measure = Measure()
    constant: bool = False
    solved: bool = False

    @abstractmethod
    def encode(self, x: Tensor, context: Context = None) -> tuple[Tensor, Evidence]:
        r"""x (\*B, \*E) -> z and the contribution (\*B) to log p(x), for x given from outside."""

    @abstractmethod
    def decode(self, z: Tensor, context: Context = None) -> tuple[Tensor, Evidence]:
        r"""z -> x and the contribution (\*B) to log p(x), for one's own sample."""

    def out_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Event shape of z for an event shape of x."""
        return shape

    def as_layer(self) -> Layer:
        """The layer itself; what :class:`Transform` makes of itself is an :class:`Exact`."""
        return self

    def coarser(self) -> Layer:
        """The same layer with a larger numerical error, by which its own is judged; itself where it has none."""
        return self

    def initialise(self, x: Tensor, context: Context = None) -> None:
        """Data-dependent initialisation with a batch of this layer's own inputs; nothing by default."""


class Transform(Module, ABC):
    """An invertible tensor function; event axes are the last `event_dims`.

    constant: whether the log-determinant is the same for every x (it may depend on the context).
    """

    event_dims: int = 1
    constant: bool = False

    @abstractmethod
    def encode(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        r"""(z, log |det dz/dx|); x (\*B, \*E), log-determinant (\*B)."""

    @abstractmethod
    def decode(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        r"""(x, log |det dx/dz|), the inverse of :meth:`encode`."""

    def out_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Event shape of z for an event shape of x."""
        return shape

    def as_layer(self) -> Layer:
        """The transform as an exact layer of a flow."""
        return Exact(self)

    def initialise(self, x: Tensor, context: Context = None) -> None:
        """Data-dependent initialisation; nothing by default."""


class Exact(Layer):
    r"""A bijection with a closed-form log-determinant, EXACT both ways: :math:`\log p(x) = \log p(z) + \log|\det dz/dx|`."""

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self.transform = transform
        self.constant = transform.constant

    def encode(self, x: Tensor, context: Context = None) -> tuple[Tensor, Evidence]:
        r"""x (\*B, \*E) -> z, and log \|det dz/dx\| (\*B) in nats: EXACT."""
        z, ladj = self.transform.encode(x, context)
        return z, Evidence.exact(ladj)

    def decode(self, z: Tensor, context: Context = None) -> tuple[Tensor, Evidence]:
        r"""z (\*B, \*E) -> x, and log \|det dz/dx\| (\*B) in nats there: EXACT."""
        x, ladj = self.transform.decode(z, context)
        return x, Evidence.exact(-ladj)

    def out_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The transform's."""
        return self.transform.out_shape(shape)

    def initialise(self, x: Tensor, context: Context = None) -> None:
        """Hands x and the context on to the transform."""
        self.transform.initialise(x, context)

    def __repr__(self) -> str:
        return repr(self.transform)


class Inverse(Transform):
    """The same map run the other way; Inverse(MAF layer) is an IAF layer (Kingma et al., 2016, arXiv:1606.04934)."""

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self.transform = transform
        self.event_dims, self.constant = transform.event_dims, transform.constant

    def encode(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        """The transform's :meth:`~Transform.decode`."""
        return self.transform.decode(x, context)

    def decode(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        """The transform's :meth:`~Transform.encode`."""
        return self.transform.encode(z, context)
