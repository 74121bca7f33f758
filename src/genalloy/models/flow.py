r"""Flows and fixed preprocessing: log p(x) = log p(z) + sum of the layers' contributions.

The base is any Part: a Gaussian, another flow, a mixture, a VAE. Labels are added from the base on, so the
algebra decides what may be claimed (Rezende & Mohamed, 2015; Nielsen et al., 2020).
"""

from __future__ import annotations

import copy
from abc import ABC
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution as TorchDistribution

from genalloy.core.contexts import Context, Shapes, batch_of, shapes_of
from genalloy.core.distribution import Distribution, Shape, density, draw, measure_of
from genalloy.core.evidence import Evidence, Measure
from genalloy.core.isolation import Stream
from genalloy.core.observations import leading
from genalloy.core.part import Part, declared_measure, declared_rsample, initialise_inside, tempered
from genalloy.transforms.layer import Layer, Transform


def _declared_measure(part: Any) -> Measure | None:
    """The base's, and what the layers trade in it."""
    return declared_measure(part.base, *part.layers)


def _declared_rsample(part: Any) -> bool | None:
    """The base's, unless a layer stops gradients."""
    return declared_rsample(part.base) if all(layer.differentiable for layer in part.layers) else False


class Flow(Part):
    r"""p(x | c): draw z from base(c), decode it layer by layer (Rezende & Mohamed, 2015, arXiv:1505.05770).

    .. math:: \log p(x \mid c) = \log p(z \mid c) + \sum_l \text{contribution}_l, \qquad \text{of a bijection } \log|\det dz/dx|

    base: Part with events of the last layer's shape; layers: transforms or layers, data side first.
    event_shape: shape of x; context_shapes: event shapes of the context's parts, where base or layers take one.
    """

    def __init__(
        self, base: nn.Module, layers: Sequence[Layer | Transform], event_shape: Shape, context_shapes: Shapes = ()
    ) -> None:
        super().__init__()
        _hold(self, base, layers, event_shape, context_shapes)

    measure, has_rsample = property(_declared_measure), property(_declared_rsample)  # type: ignore[assignment]

    def forward(self, context: Context = None) -> Layered:
        r"""The distribution of x given c, with events (\*E) and the base's batch; the context's where the base has none."""
        driven = len(self.layers) == 1 and hasattr(self.layers[0], "velocity")
        return DrivenDistribution(self, context) if driven else FlowDistribution(self, context)

    def initialise(self, x: Tensor, context: Context = None) -> None:
        r"""Data-dependent initialisation of the layers in turn and of the base, from a batch x (\*B, \*E)."""
        _initialise(self, x, context)


def _hold(part: Any, base: nn.Module, layers: Sequence[Layer | Transform], event_shape: Shape, context_shapes: Shapes) -> None:
    part.base, part.layers = base, nn.ModuleList(layer.as_layer() for layer in layers)
    part.event_shape, part.context_shapes = tuple(event_shape), shapes_of(context_shapes)


def _initialise(part: Any, x: Tensor, context: Context) -> None:
    for layer in part.layers:
        layer.initialise(x, context)
        x, _ = layer.encode(x, context)
    initialise_inside(part.base, x, context)


class Preprocessed(Part):
    r"""A flow whose layers are fixed (no parameters): objectives may look through it at the part inside.

    .. math:: \log p(x \mid c) = \log p(z \mid c) + \sum_l \text{contribution}_l

    base: Part with events of the last layer's shape; layers: data side first. Raises ValueError where a layer has parameters to
    learn.
    """

    def __init__(
        self, base: nn.Module, layers: Sequence[Layer | Transform], event_shape: Shape, context_shapes: Shapes = ()
    ) -> None:
        super().__init__()
        _hold(self, base, layers, event_shape, context_shapes)
        if any(True for _ in self.layers.parameters()):
            raise ValueError("Preprocessed holds fixed layers only; found learnable parameters: use Flow")

    measure, has_rsample = property(_declared_measure), property(_declared_rsample)  # type: ignore[assignment]

    def forward(self, context: Context = None) -> Layered:
        r"""The distribution of x given c, with events (\*E) and the base's batch; the context's where the base has none."""
        return PreprocessedDistribution(self, context)

    def initialise(self, x: Tensor, context: Context = None) -> None:
        r"""Data-dependent initialisation of the layers in turn and of the base, from a batch x (\*B, \*E)."""
        _initialise(self, x, context)


class Layered(Distribution, ABC):
    """A base seen through layers; see :class:`Flow` and :class:`Preprocessed`."""

    def __init__(self, flow: Flow | Preprocessed, context: Context = None) -> None:
        self.base: Any = flow.base(context)
        self.layers: list[Any] = list(flow.layers)
        self.context = context if flow.context_shapes else None
        own = tuple(self.base.batch_shape)
        batch = batch_of(context, flow.context_shapes)
        super().__init__(own or batch, flow.event_shape, _measure(self.base, self.layers))
        self.missing = () if own else batch
        self.has_rsample = self.base.has_rsample and all(layer.differentiable for layer in self.layers)

    def encoded(self, x: Tensor) -> tuple[Tensor, list[Evidence]]:
        r"""z (\*S, \*B, \*Z) of x (\*S, \*B, \*E), and each layer's contribution (\*S, \*B), data side first."""
        leading(x, self.event_shape)
        contributions = []
        for layer in self.layers:
            x, evidence = layer.encode(x, self.context)
            contributions.append(evidence)
        return x, contributions

    def density(self, x: Tensor) -> Evidence:
        r"""log p(x), (\*S, \*B), nats, with the sum of the base's and the layers' claims."""
        if not any(layer.solved for layer in self.layers):
            return self.once(x)
        coarse, fine = self._coarse(x), self.once(x)
        error = (fine.value.detach() - coarse).abs()
        worst = float(error.max()) if error.numel() else 0.0
        return fine.estimated(f"{fine.how}; solver error up to {worst:.1g} nats by step doubling", error)

    def once(self, x: Tensor) -> Evidence:
        """The density by one pass."""
        z, contributions = self.encoded(x)
        return _total(density(self.base, z), contributions)

    @torch.no_grad()
    def _coarse(self, x: Tensor) -> Tensor:
        """The log-density with coarser layers; the random stream stands still."""
        twin = copy.copy(self)
        twin.layers = [layer.coarser() for layer in self.layers]
        with Stream():
            return twin.once(x).value

    def draw(self, sample_shape: Shape = ()) -> tuple[Tensor, Evidence]:
        r"""A sample (\*S, \*B, \*E) of the base through the layers, with its claim (\*S, \*B) on log p of itself."""
        x, total = draw(self.base, (*sample_shape, *self.missing))
        for layer in reversed(self.layers):
            x, evidence = layer.decode(x, self.context)
            total = total + evidence
        return x, total

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        r"""Samples (\*S, \*B, \*E): those of the base, decoded layer by layer; with gradients where the base's have some."""
        shape = (*sample_shape, *self.missing)
        x = self.base.rsample(shape) if self.base.has_rsample else self.base.sample(shape)
        for layer in reversed(self.layers):
            x, _ = layer.decode(x, self.context)
        return x

    def tempered(self, temperature: float) -> TemperedFlow:
        """The base tempered, under the same layers."""
        return TemperedFlow(self, temperature)


class FlowDistribution(Layered):
    """See :class:`Flow`."""

    def encode(self, x: Tensor) -> Tensor:
        """The code of x: the base's own code where it has one, otherwise z."""
        return _code(self, x)


class DrivenDistribution(Layered):
    """A :class:`Flow` whose one layer is a differential equation; see :class:`genalloy.transforms.ode.Continuous`.

    journey: the last solve of density(), with the integrals that objectives on its cost ask for; None before the first.
    """

    journey: Any = None

    def encode(self, x: Tensor) -> Tensor:
        """The base's own code of the latent where it has one, otherwise the latent itself."""
        return _code(self, x)

    def velocity(self, x_t: Tensor, t: Tensor) -> Tensor:
        r"""dx_t/dt; x_t (\*S, \*B, \*E), t broadcastable to (\*S, \*B)."""
        return self.layers[0].velocity(x_t, t, self.context)

    def source(self, x: Tensor) -> Tensor:
        """One sample of the base for each row of x, without gradients."""
        lead = leading(x, tuple(self.event_shape))
        return self.base.sample(lead[: len(lead) - len(self.base.batch_shape)])

    def decode(self, z: Tensor) -> Tensor:
        """Samples of the base carried to the data, without the density's cost."""
        return self.layers[0].carry(z, self.context, backwards=True)

    def once(self, x: Tensor) -> Evidence:
        """The density by one solve, which is kept."""
        leading(x, self.event_shape)
        self.journey = self.layers[0].journey(x, self.context)
        return density(self.base, self.journey.end) + self.journey.evidence()

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        r"""Samples (\*S, \*B, \*E): those of the base, carried to the data by one solve."""
        shape = (*sample_shape, *self.missing)
        return self.decode(self.base.rsample(shape) if self.base.has_rsample else self.base.sample(shape))


class TemperedFlow(Layered):
    """A flow whose base is tempered: p^(1/T) itself where every layer's log-determinant is the same for every x."""

    def __init__(self, plain: Layered, temperature: float) -> None:
        Distribution.__init__(self, tuple(plain.batch_shape), tuple(plain.event_shape), plain.measure)
        self.base, self.layers, self.context = tempered(plain.base, temperature), plain.layers, plain.context
        self.missing, self.has_rsample = plain.missing, plain.has_rsample
        self.varying = next((layer for layer in plain.layers if not layer.constant), None)

    def density(self, x: Tensor) -> Evidence:
        r"""log p(x) of the tempered flow, (\*S, \*B), nats; NONE where a layer's log-determinant depends on x."""
        return super().density(x) if self.varying is None else self._nothing(x)

    def draw(self, sample_shape: Shape = ()) -> tuple[Tensor, Evidence]:
        r"""A sample (\*S, \*B, \*E) of the tempered base through the layers, with its claim; NONE as for :meth:`density`."""
        x, evidence = super().draw(sample_shape)
        return x, evidence if self.varying is None else self._nothing(x)

    def encode(self, x: Tensor) -> Tensor:
        """As of the flow itself."""
        return _code(self, x)

    def _nothing(self, x: Tensor) -> Evidence:
        name = type(getattr(self.varying, "transform", self.varying)).__name__
        words = f"the contribution of {name} depends on x, so p^(1/T) has no known normaliser; samples are a heuristic"
        return Evidence.none(words, leading(x, tuple(self.event_shape)))


class PreprocessedDistribution(Layered):
    """See :class:`Preprocessed`. fixed: nothing is lost, nor learned, between it and what it unwraps to."""

    fixed = True

    def unwrap(self, x: Tensor) -> tuple[Any, Tensor, Evidence | None]:
        r"""(the base's distribution, z (\*S, \*B, \*Z), the layers' summed contribution (\*S, \*B), None without layers)."""
        z, contributions = self.encoded(x)
        return self.base, z, _chain(contributions)


def _code(distribution: Layered, x: Tensor) -> Tensor:
    z, _ = distribution.encoded(x)
    return distribution.base.encode(z) if hasattr(distribution.base, "encode") else z


def _total(base: Evidence, contributions: list[Evidence]) -> Evidence:
    """Base first, so that measures cancel in order."""
    for evidence in reversed(contributions):
        base = base + evidence
    return base


def _chain(contributions: list[Evidence]) -> Evidence | None:
    """The contributions as one, measures added without a base to settle them."""
    total = None
    for evidence in reversed(contributions):
        total = evidence if total is None else total.plus(evidence, settled=True)
    return total


def _measure(base: TorchDistribution, layers: Sequence[Layer]) -> Measure:
    total = measure_of(base)
    for layer in layers:
        total = total.plus(getattr(layer, "measure", Measure()))
    return total
