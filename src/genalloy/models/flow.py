r"""Flows and fixed preprocessing: log p(x) = log p(z) + sum of the layers' contributions.

The base is any Part: a Gaussian, another flow, a mixture, a VAE. Labels are added from the base outwards, so the
algebra decides what may be claimed (Rezende & Mohamed, 2015; Nielsen et al., 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.distributions import Distribution as TorchDistribution

from genalloy.capabilities import Context, batch_of
from genalloy.distribution import Distribution, Shape, density, draw, leading, measure_of
from genalloy.evidence import Evidence, Measure
from genalloy.part import Part
from genalloy.transforms.layer import Layer, Transform


class Flow(Part):
    """p(x | c): draw z from base(c), run the layers outwards.

    base: Part with events of the last layer's shape; layers: transforms or layers, data side first.
    event_shape: shape of x; context_shapes: event shapes of the context's parts, where base or layers take one.
    """

    def __init__(
        self, base: nn.Module, layers: Sequence[Layer | Transform], event_shape: Shape, context_shapes: tuple[Shape, ...] = ()
    ) -> None:
        super().__init__()
        self.base: Any = base
        self.layers: Any = nn.ModuleList(layer.as_layer() for layer in layers)
        self.event_shape = tuple(event_shape)
        self.context_shapes = tuple(tuple(s) for s in context_shapes)

    def forward(self, context: Context = None) -> Layered:
        return FlowDistribution(self, context)

    def initialise(self, x: Tensor, context: Context = None) -> None:
        for layer in self.layers:
            layer.initialise(x, context)
            x, _ = layer.inward(x, context)
        if hasattr(self.base, "initialise"):
            self.base.initialise(x, context)


class Preprocessed(Flow):
    """A flow whose layers are fixed (no parameters): objectives may look through it at the part inside.

    Raises ValueError where a layer has parameters to learn.
    """

    def __init__(
        self, base: nn.Module, layers: Sequence[Layer | Transform], event_shape: Shape, context_shapes: tuple[Shape, ...] = ()
    ) -> None:
        super().__init__(base, layers, event_shape, context_shapes)
        if any(True for _ in self.layers.parameters()):
            raise ValueError("Preprocessed holds fixed layers only; found learnable parameters: use Flow")

    def forward(self, context: Context = None) -> Layered:
        return PreprocessedDistribution(self, context)


class Layered(Distribution):
    """A base seen through layers; see :class:`Flow` and :class:`Preprocessed`."""

    def __init__(self, flow: Flow, context: Context = None) -> None:
        self.base: Any = flow.base(context)
        self.layers: list[Any] = list(flow.layers)
        self.context = context if flow.context_shapes else None
        own = tuple(self.base.batch_shape)
        batch = batch_of(context, flow.context_shapes)
        super().__init__(own or batch, flow.event_shape, _measure(self.base, self.layers))
        self.missing = () if own else batch
        self.has_rsample = self.base.has_rsample and all(layer.differentiable for layer in self.layers)

    def inward(self, x: Tensor) -> tuple[Tensor, list[Evidence]]:
        """z and each layer's contribution, data side first."""
        leading(x, self.event_shape)
        contributions = []
        for layer in self.layers:
            x, evidence = layer.inward(x, self.context)
            contributions.append(evidence)
        return x, contributions

    def density(self, x: Tensor) -> Evidence:
        z, contributions = self.inward(x)
        return _total(density(self.base, z), contributions)

    def draw(self, sample_shape: Shape = ()) -> tuple[Tensor, Evidence]:
        x, total = draw(self.base, (*sample_shape, *self.missing))
        for layer in reversed(self.layers):
            x, evidence = layer.outward(x, self.context)
            total = total + evidence
        return x, total

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        shape = (*sample_shape, *self.missing)
        x = self.base.rsample(shape) if self.base.has_rsample else self.base.sample(shape)
        for layer in reversed(self.layers):
            x, _ = layer.outward(x, self.context)
        return x


class FlowDistribution(Layered):
    """See :class:`Flow`."""

    def encode(self, x: Tensor) -> Tensor:
        """The code of x: the base's own code where it has one, otherwise z."""
        z, _ = self.inward(x)
        return self.base.encode(z) if hasattr(self.base, "encode") else z


class PreprocessedDistribution(Layered):
    """See :class:`Preprocessed`."""

    def unwrap(self, x: Tensor) -> tuple[Any, Tensor, Evidence | None]:
        z, contributions = self.inward(x)
        return self.base, z, _chain(contributions)


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
