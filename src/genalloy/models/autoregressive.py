r"""Autoregressive models: :math:`p(x | c) = \prod_i p(x_{o_i} | x_{o_{<i}}, c)` with one network for all factors.

The chain rule of probability, exact for any order o of the entries (Bengio & Bengio, 2000; Uria et al., 2016). The network
(MADE, PixelCNN, ...) maps x to the parameters of every factor in one pass and offers the same numbers one element after
another through an explicit cache:

* ``network(x, context)`` -> (\*B, \*E, width);
* ``network.sequence``, flat event indices in order of generation;
* ``network.step_shape`` (optional), the shape of what one step generates: () for one element, (F,) for F elements at once;
* ``network.init_state(shape, context)`` -> state, ``network.step(state, previous)`` -> (state, parameters
  (\*shape, \*step_shape, width)), given the value (\*shape, \*step_shape) of the step before;
* ``network.differentiable_steps``: whether gradients flow through the steps.

The head turns parameters into a distribution: of the whole event for the density, of one step for sampling.

A prefix of the order has the product of its own conditionals as marginal, because what comes later integrates to one. So
missing entries at the end (a shorter sequence) have an exact density, and completing a given beginning is exact too.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from genalloy.core.contexts import Context, Shapes, batch_of, shapes_of
from genalloy.core.distribution import Distribution, Shape
from genalloy.core.evidence import Evidence, Measure, Unavailable, measure_over
from genalloy.core.observations import Masked, leading
from genalloy.core.part import Part
from genalloy.core.shapes import broadcast_shapes
from genalloy.heads.head import Head


class Autoregressive(Part):
    r""":math:`p(x | c) = \prod_i p(x_{o_i} | x_{o_{<i}}, c)`, EXACT (Uria et al., 2016, arXiv:1605.02226).

    network: causal network over `event_shape` (see the module's text); head: what its parameters mean.
    Raises ValueError where network and head disagree on the number of parameters.
    """

    measure: Measure
    has_rsample: bool

    def __init__(self, network: Any, head: Head, event_shape: Shape, context_shapes: Shapes = ()) -> None:
        super().__init__()
        self.network, self.head, self.event_shape = network, head, tuple(event_shape)
        self.context_shapes = shapes_of(context_shapes)
        self.has_rsample = network.differentiable_steps and head(torch.zeros(head.width), 0).has_rsample
        self.measure = measure_over(math.prod(self.event_shape), head.discrete)
        found = (getattr(network, "width", head.width), len(getattr(network, "sequence", ())))
        expected = (head.width, torch.Size(self.event_shape).numel())
        if found != expected:
            raise ValueError(
                f"the network gives {found[0]} parameters for each of {found[1]} elements, {type(head).__name__} over "
                f"{self.event_shape} expects {expected[0]} for each of {expected[1]}; give both the same width and event shape"
            )

    def forward(self, context: Context = None) -> AutoregressiveDistribution:
        r"""The distribution of x given c, with events (\*E) and the batch of the context's parts, () without one."""
        return AutoregressiveDistribution(self, context)


class AutoregressiveDistribution(Distribution):
    """See :class:`Autoregressive`. Density EXACT; samples come from the cache, at about the cost of one pass."""

    completion_law = "a heuristic: given entries that come later in the model's order are kept but not seen by those before them"

    def __init__(self, part: Autoregressive, context: Context = None) -> None:
        self.network: Any = part.network
        self.head = part.head
        self.step_shape: Shape = tuple(getattr(part.network, "step_shape", ()))
        self.how = "product of conditionals" + getattr(part.head, "law", "")
        self.context = context if part.context_shapes else None
        super().__init__(batch_of(self.context, part.context_shapes), part.event_shape, part.measure)
        self.has_rsample = part.has_rsample

    def density(self, x: Any) -> Evidence:
        """EXACT, of a tensor. Of a Masked observation: of its observed entries, which must be the first ones of the order.

        Raises Unavailable where a missing entry comes before an observed one: that marginal is an intractable sum.
        """
        if type(x) is Masked:
            return self._prefix_density(x)
        leading(x, tuple(self.event_shape))
        factors = self.head(self.network(x, self.context), len(self.event_shape))
        return Evidence.exact(factors.density(x).value, self.how, self.measure)

    def _prefix_density(self, observed: Masked) -> Evidence:
        leading(observed.x, tuple(self.event_shape))
        if not bool(self._is_prefix(observed.mask).all()):
            raise Unavailable(
                "found a missing entry before an observed one in the order of generation; an autoregressive model has the exact "
                "density of a beginning alone: reorder the entries, or use an any-order model"
            )
        # any value may stand in for what is missing: nothing before it sees it
        x = observed.x.where(observed.mask, observed.x.new_zeros(()))
        factors = self.head(self.network(x, self.context), len(self.event_shape))
        evidence = factors.masked_density(x, observed.mask)
        return Evidence.exact(evidence.value, f"{self.how}, observed beginning", evidence.measure)

    def _is_prefix(self, mask: Tensor) -> Tensor:
        r"""Whether a mask (\*B, \*E) holds a beginning of the order, (\*B); steps of several entries may be cut anywhere."""
        steps = math.prod(self.step_shape)
        inside = mask.flatten(-len(self.event_shape))[..., list(self.network.sequence)].unflatten(-1, (-1, steps))
        any_, all_ = inside.any(-1), inside.all(-1)
        return ~(any_[..., 1:] & ~all_[..., :-1]).any(-1)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        r"""Samples (\*S, \*B, \*E) from the cache, a step at a time; with gradients where `has_rsample` is set."""
        return self._generate(sample_shape, scored=False)[0]

    def draw(self, sample_shape: Shape = ()) -> tuple[Tensor, Evidence]:
        """Sample and density in the same pass; with gradients, the density by one parallel pass over the sample."""
        if torch.is_grad_enabled():
            return super().draw(sample_shape)
        x, value = self._generate(sample_shape, scored=True)
        return x, Evidence.exact(value, self.how, self.measure)

    def complete(self, x: Tensor, known: Tensor, sample_shape: Shape = ()) -> Tensor:
        r"""Samples (\*sample_shape, \*B, \*E) that keep the entries of x (\*B, \*E) where `known` (\*B or (), \*E) is true.

        Where the known entries are the first ones of the order, a draw from :math:`p(x_{rest} | x_{known})`. Elsewhere every
        unknown entry is drawn given those before it alone, so that it does not see known ones that come later: a heuristic,
        which :meth:`completes_exactly` tells apart; an any-order model has no such limit.
        """
        event = tuple(self.event_shape)
        batch = broadcast_shapes(leading(x, event), leading(known, event), self.batch_shape)
        given = (x.expand(*batch, *self.event_shape), known.bool().expand(*batch, *self.event_shape))
        return self._generate((*sample_shape, *batch[: len(batch) - len(self.batch_shape)]), scored=False, given=given)[0]

    def completes_exactly(self, known: Tensor) -> bool:
        """Whether the known entries are a beginning of the order, so that :meth:`complete` draws from the exact conditional."""
        return bool(self._is_prefix(known.bool()).all())

    @torch.no_grad()
    def proposals(self, x: Tensor, known: Tensor, sample_shape: Shape = ()) -> tuple[Tensor, Tensor]:
        r"""Completions, as of `complete`, and log p(x) / q(x_rest) of each: the known entries' share of log p(x)."""
        rows = self.complete(x, known, sample_shape)
        factors = self.head(self.network(rows, self.context), len(self.event_shape))
        return rows, factors.masked_density(rows, known.bool().expand(rows.shape)).value

    def init_state(self, shape: Shape) -> Any:
        r"""The network's empty cache for samples of shape (\*shape, \*E)."""
        return self.network.init_state(shape, self.context)

    def step(self, state: Any, previous: Tensor | None) -> tuple[Any, Tensor]:
        r"""Cache and parameters (\*shape, \*step_shape, width) of what comes next, given what came before."""
        return self.network.step(state, previous)

    @torch.no_grad()
    def _clamped(self, given: tuple[Tensor, Tensor], shape: Shape) -> list[tuple[Tensor, Tensor]]:
        r"""(values, whether known) of each step in turn, from (x, known) of shape (\*B, \*E)."""
        order = torch.tensor(self.network.sequence, device=given[0].device)
        flat = [g.flatten(-len(self.event_shape))[..., order].expand(*shape, -1) for g in given]
        pieces = [f.reshape(*shape, -1, *self.step_shape).unbind(len(shape)) for f in flat]
        return list(zip(*pieces, strict=True))

    def _generate(self, sample_shape: Shape, scored: bool, given: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.has_rsample and given is None):
            return self._steps((*sample_shape, *self.batch_shape), scored, given)

    def _steps(self, shape: Shape, scored: bool, given: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        state, previous = self.init_state(shape), None
        clamped = None if given is None else self._clamped(given, shape)
        values: list[Tensor] = []
        total = torch.zeros(())
        for i in range(len(self.network.sequence) // math.prod(self.step_shape)):
            state, parameters = self.step(state, previous)
            factor = self.head(parameters, len(self.step_shape))
            previous = factor.rsample()
            if clamped is not None:
                previous = torch.where(clamped[i][1], clamped[i][0].to(previous.dtype), previous)
            values.append(previous)
            if scored:
                total = total + factor.density(previous).value
        flat = torch.stack(values, len(shape)).flatten(len(shape))
        return _in_place(flat, self.network.sequence, tuple(self.event_shape)), total


def _in_place(flat: Tensor, sequence: tuple[int, ...], event_shape: Shape) -> Tensor:
    """Values in order of generation, put where they belong."""
    position = torch.tensor(sequence, device=flat.device).argsort()
    return flat[..., position].unflatten(-1, event_shape)


@torch.no_grad()
def naive_sample(distribution: AutoregressiveDistribution, sample_shape: Shape = ()) -> Tensor:
    """The same samples by one full pass per step: what the cache is checked and timed against."""
    shape, step = (*sample_shape, *distribution.batch_shape), distribution.step_shape
    weight = next(iter(distribution.network.parameters()))
    x = weight.new_zeros(*shape, torch.Size(distribution.event_shape).numel())
    for indices in torch.tensor(distribution.network.sequence).reshape(-1, math.prod(step)):
        image = x.unflatten(-1, tuple(distribution.event_shape))
        parameters = distribution.network(image, distribution.context)
        flat = parameters.flatten(len(shape), -2)[..., indices, :].reshape(*shape, *step, -1)
        x[..., indices] = distribution.head(flat, len(step)).rsample().reshape(*shape, -1)
    return x.unflatten(-1, tuple(distribution.event_shape))
