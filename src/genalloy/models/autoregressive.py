r"""Autoregressive models: :math:`p(x | c) = \prod_i p(x_{o_i} | x_{o_{<i}}, c)` with one network for all factors.

The network (MADE, PixelCNN, ...) maps x to the parameters of every factor in one pass and offers the same numbers one
element after another through an explicit cache:

* ``network(x, context)`` -> (\*B, \*E, width);
* ``network.sequence``, flat event indices in order of generation;
* ``network.init_state(shape, context)`` -> state, ``network.step(state, previous)`` -> (state, parameters (\*shape, width));
* ``network.differentiable_steps``: whether gradients flow through the steps.

The head turns parameters into a distribution: of the whole event for the density, of one element for sampling.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from genalloy.capabilities import Context, batch_of
from genalloy.distribution import Distribution, Shape, leading
from genalloy.evidence import Evidence, Measure
from genalloy.heads.head import Head
from genalloy.part import Part


class Autoregressive(Part):
    """p(x | c) as a product of one-dimensional conditionals.

    network: causal network over `event_shape` (see the module's text); head: what its parameters mean.
    Raises ValueError where network and head disagree on the number of parameters.
    """

    def __init__(self, network: Any, head: Head, event_shape: Shape, context_shapes: tuple[Shape, ...] = ()) -> None:
        super().__init__()
        self.network, self.head, self.event_shape = network, head, tuple(event_shape)
        self.context_shapes = tuple(tuple(s) for s in context_shapes)
        self.reparameterised = network.differentiable_steps and head(torch.zeros(head.width), 0).has_rsample
        found = (getattr(network, "width", head.width), len(getattr(network, "sequence", ())))
        expected = (head.width, torch.Size(self.event_shape).numel())
        if found != expected:
            raise ValueError(
                f"the network gives {found[0]} parameters for each of {found[1]} elements, {type(head).__name__} over "
                f"{self.event_shape} expects {expected[0]} for each of {expected[1]}; give both the same width and event shape"
            )

    def forward(self, context: Context = None) -> AutoregressiveDistribution:
        return AutoregressiveDistribution(self, context)


class AutoregressiveDistribution(Distribution):
    """See :class:`Autoregressive`. Density EXACT; samples come from the cache, at about the cost of one pass."""

    def __init__(self, part: Autoregressive, context: Context = None) -> None:
        self.network: Any = part.network
        self.head = part.head
        self.context = context if part.context_shapes else None
        dims = torch.Size(part.event_shape).numel()
        measure = Measure(0, dims) if self.head.discrete else Measure(dims, 0)
        super().__init__(batch_of(self.context, part.context_shapes), part.event_shape, measure)
        self.has_rsample = part.reparameterised

    def density(self, x: Tensor) -> Evidence:
        leading(x, tuple(self.event_shape))
        factors = self.head(self.network(x, self.context), len(self.event_shape))
        return Evidence.exact(factors.density(x).value, "product of conditionals", self.measure)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.has_rsample):
            x, _ = self._generate(sample_shape, scored=False)
        return x

    def draw(self, sample_shape: Shape = ()) -> tuple[Tensor, Evidence]:
        """Sample and density in the same pass; with gradients, the density by one parallel pass over the sample."""
        if torch.is_grad_enabled():
            return super().draw(sample_shape)
        x, value = self._generate(sample_shape, scored=True)
        return x, Evidence.exact(value, "product of conditionals", self.measure)

    def init_state(self, shape: Shape) -> Any:
        """The network's empty cache for samples of shape (\\*shape, \\*E)."""
        return self.network.init_state(shape, self.context)

    def step(self, state: Any, previous: Tensor | None) -> tuple[Any, Tensor]:
        r"""Cache and parameters (\*shape, width) of the next element, given the value (\*shape) of the one before."""
        return self.network.step(state, previous)

    def _generate(self, sample_shape: Shape, scored: bool) -> tuple[Tensor, Tensor]:
        shape = (*sample_shape, *self.batch_shape)
        state, previous = self.init_state(shape), None
        values: list[Tensor] = []
        total = torch.zeros(())
        for _ in self.network.sequence:
            state, parameters = self.step(state, previous)
            factor = self.head(parameters, 0)
            previous = factor.rsample()
            values.append(previous)
            if scored:
                total = total + factor.element_log_prob(previous)
        return _in_place(values, self.network.sequence, tuple(self.event_shape)), total


def _in_place(values: list[Tensor], sequence: tuple[int, ...], event_shape: Shape) -> Tensor:
    """Values in order of generation, put where they belong."""
    position = torch.tensor(sequence, device=values[0].device).argsort()
    return torch.stack(values, -1)[..., position].unflatten(-1, event_shape)


@torch.no_grad()
def naive_sample(distribution: AutoregressiveDistribution, sample_shape: Shape = ()) -> Tensor:
    """The same samples by one full pass per element: what the cache is checked and timed against."""
    shape = (*sample_shape, *distribution.batch_shape)
    weight = next(iter(distribution.network.parameters()))
    x = weight.new_zeros(*shape, torch.Size(distribution.event_shape).numel())
    for index in distribution.network.sequence:
        image = x.unflatten(-1, tuple(distribution.event_shape))
        parameters = distribution.network(image, distribution.context)
        flat = parameters.flatten(len(shape), -2)[..., index, :]
        x[..., index] = distribution.head(flat, 0).rsample()
    return x.unflatten(-1, tuple(distribution.event_shape))
