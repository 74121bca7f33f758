r"""Latents in a chain: one core for hierarchies, recurrent canvases and sequences with a latent at every step.

.. math:: \log w = \sum_t [\log p(x_t \mid z_{\le t}, x_{<t}) + \log p(z_t \mid s_t) - \log r(z_t \mid s_t, e)],

in nats, with the state :math:`s_{t+1}` a function of :math:`s_t, z_t` and :math:`x_t`, and :math:`e` one encoding of all of x. A
ladder (Sønderby et al., 2016, arXiv:1602.02282) emits x at its last step; DRAW (Gregor et al., 2015, arXiv:1502.04623) too, after
writing on a canvas; a variational recurrent network (Chung et al., 2015, arXiv:1506.02216) emits :math:`x_t` at every step.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution as TorchDistribution

from genalloy.core.contexts import Context, Shapes, batch_of, shapes_of
from genalloy.core.distribution import Distribution, Shape, density, draw, kl, needs_gradient, observed_density
from genalloy.core.evidence import Evidence, Measure, counting, lebesgue
from genalloy.core.observations import Masked, each, leading, observed_measure
from genalloy.core.part import Part
from genalloy.core.spec import Module
from genalloy.core.traces import Term, Trace, surfacing
from genalloy.models.latent import posterior_mean

Choice = Callable[[int, Any, Shape], tuple[Tensor, Evidence]]
"""(step, posterior, lead) -> z of that lead and log r(z)."""


class ChainNetwork(Module, ABC):
    r"""What happens at the steps 0..steps-1 of a chain. The state is any value, of any shape, and may change it at every step.

    A step runs prior and posterior, then `advance`, `emit`, `observe`. lead: what stands before an event, (k, \*B) or (\*S, \*B).

    each_step: x (\*B, steps, \*F) is emitted a slice at a time; otherwise the last step emits it whole.
    has_rsample: whether all priors and emissions are reparameterised; where it is wrongly set, sampling with gradients raises.
    """

    steps: int
    each_step: bool = False
    has_rsample: bool = True

    def encode(self, x: Any, context: Context = None) -> Any:
        r"""One pass over all of x (\*B, \*E), shared by all steps and all samples; x itself by default."""
        return x

    @abstractmethod
    def begin(self, lead: Shape, context: Context = None) -> Any:
        """The state before step 0."""

    @abstractmethod
    def prior(self, t: int, state: Any) -> TorchDistribution:
        """p(z_t | state)."""

    @abstractmethod
    def posterior(self, t: int, state: Any, encoding: Any) -> TorchDistribution:
        """r(z_t | state, encoding)."""

    @abstractmethod
    def advance(self, t: int, state: Any, z: Tensor) -> Any:
        """The state with z_t taken in."""

    @abstractmethod
    def emit(self, t: int, state: Any) -> TorchDistribution:
        """p(x_t | state); asked at every step, or at the last."""

    def observe(self, t: int, state: Any, x: Tensor) -> Any:
        """The state with x_t taken in, after it was emitted; where `each_step` is set. Unobserved entries are what x holds."""
        return state


class Chain(Part):
    r""":math:`p(x | c) = \int \prod_t p(z_t | s_t)\, p(x_t | z_{\le t}, x_{<t})\, dz`, with the inference of the same network.

    .. math:: \log w = \sum_t [\log p(x_t \mid z_{\le t}, x_{<t}) + \log p(z_t \mid s_t) - \log r(z_t \mid s_t, e)]

    LOWER and proper for a given x where its priors, posteriors and emissions are EXACT. network: what happens at its steps.
    discrete: whether x is of integers. context_shapes: event shapes of c's parts. Raises ValueError without a step, or where
    steps that emit and the first axis of the event differ in number. Ladders: Sønderby et al., 2016, arXiv:1602.02282; DRAW:
    Gregor et al., 2015, arXiv:1502.04623; recurrent: Chung et al., 2015, arXiv:1506.02216.
    """

    def __init__(self, network: ChainNetwork, event_shape: Shape, discrete: bool = False, context_shapes: Shapes = ()) -> None:
        super().__init__()
        if network.steps < 1 or (network.each_step and event_shape[:1] != (network.steps,)):
            raise ValueError(
                f"found a chain of {network.steps} steps over an observation of shape {tuple(event_shape)}; "
                "expected at least one step, and as many as the first axis is long where every step emits"
            )
        self.network, self.event_shape, self.discrete = network, tuple(event_shape), discrete
        self.context_shapes = shapes_of(context_shapes)

    @property
    def measure(self) -> Measure:  # type: ignore[override]
        """Counting over all entries of x where they are integers, otherwise Lebesgue."""
        dims = math.prod(self.event_shape)
        return counting(dims) if self.discrete else lebesgue(dims)

    @property
    def has_rsample(self) -> bool:
        """Whether the network's priors and emissions are reparameterised, and x is not of integers."""
        return self.network.has_rsample and not self.discrete

    def forward(self, context: Context = None) -> ChainDistribution:
        r"""The distribution of x given c, with events (\*E) and the batch of the context's parts, () without one."""
        return ChainDistribution(self, context)


class Link(NamedTuple):
    """One step: the terms of its latents, and what it emitted."""

    terms: tuple[Term, ...]
    likelihood: Evidence | None
    emission: TorchDistribution | None


class ChainDistribution(Distribution):
    """See :class:`Chain`. Capabilities: infer, trace, encode, reconstruct, resample."""

    def __init__(self, part: Chain, context: Context = None) -> None:
        self.part, self.network = part, part.network
        self.context = context if part.context_shapes else None
        super().__init__(batch_of(context, part.context_shapes), part.event_shape, part.measure)
        self.has_rsample = part.has_rsample

    def infer(self, x: Any) -> Any:
        """The encoding of x, which all steps, all samples and all terms of an objective share."""
        return self.network.encode(x, self.context)

    def trace(self, x: Any, k: int = 1, encoding: Any = None) -> Trace:
        r"""k samples of all latents from one encoding of x (\*B, \*E); one term `z0`, `z1`, ... a step, each (k, \*B).

        Rows with missing entries have no terms of the steps behind their last observed one, whose latents integrate to one.
        """
        lead = (k, *leading(x, tuple(self.event_shape)))
        return self._collected(x, self._walk(x, lead, self.infer(x) if encoding is None else encoding, drawn))

    def density(self, x: Any) -> Evidence:
        r"""log p(x, z) - log r(z | x) of one draw of all latents, (\*B), nats."""
        return self.trace(x, 1).log_weights().at(0)

    def _walk(self, x: Any, lead: Shape, encoding: Any, choose: Choice) -> Iterator[Link]:
        state, needed = self.network.begin(lead, self.context), self._needed(x)
        for t in range(self.network.steps):
            prior, posterior = self.network.prior(t, state), self.network.posterior(t, state, encoding)
            needs_gradient(posterior, f"posterior of step {t}")
            z, log_posterior = choose(t, posterior, lead)
            log_prior, above = surfacing(prior, z, f"z{t}")
            state = self.network.advance(t, state, z)
            emission = self.network.emit(t, state) if self._emits(t) else None
            seen = self._slice(x, t)
            terms = (Term(f"z{t}", z, log_prior, log_posterior, partial(kl, posterior, prior)), *above)
            terms = terms if needed is None else tuple(_where(term, needed[t]) for term in terms)
            yield Link(terms, None if emission is None else _matched(emission, seen, lead, self._dims), emission)
            if self.network.each_step:
                state = self.network.observe(t, state, _expanded(seen.x if isinstance(seen, Masked) else seen, lead, self._dims))

    def _emits(self, t: int) -> bool:
        return self.network.each_step or t == self.network.steps - 1

    @property
    def _dims(self) -> int:
        """Axes of what one step emits."""
        return len(self.event_shape) - self.network.each_step

    def _slice(self, x: Any, t: int) -> Any:
        """x_t."""
        if not self.network.each_step:
            return x
        return each(lambda part: part.select(part.dim() - len(self.event_shape), t), x)

    def _needed(self, x: Any) -> Tensor | None:
        r"""Which rows have anything observed at a step or after it, (steps, \*B); None where all of every row is."""
        if not (isinstance(x, Masked) and self.network.each_step):
            return None
        seen = x.mask.unsqueeze(-1).flatten(x.mask.dim() - self._dims).any(-1).movedim(-1, 0)
        return seen.flip(0).cumsum(0).flip(0) > 0

    def _collected(self, x: Any, walk: Iterator[Link]) -> Trace:
        links = list(walk)
        emitted = [link.likelihood for link in links if link.likelihood is not None]
        total = emitted[0]
        for other in emitted[1:]:
            total = total + other
        if isinstance(x, Masked):
            total = replace(total, measure=observed_measure(x.mask, len(self.event_shape), self.part.discrete))
        decoded: Any = links[-1].emission
        return Trace(total, tuple(term for link in links for term in link.terms), decoded)

    def generate(self, sample_shape: Shape = (), held: Sequence[Tensor] = ()) -> tuple[Tensor, list[Tensor], Evidence]:
        r"""(x (\*S, \*B, \*E), its latents, log p(x, latents)). held: the first latents, (\*S, \*B, \*Z), which are kept."""
        lead = (*sample_shape, *self.batch_shape)
        slices: list[Tensor] = []
        latents: list[Tensor] = []
        terms: list[Evidence] = []
        state = self.network.begin(lead, self.context)
        for t in range(self.network.steps):
            prior = self.network.prior(t, state)
            if self.has_rsample:
                needs_gradient(prior, f"prior of step {t}")
            z, log_p = (held[t], density(prior, held[t])) if t < len(held) else drawn(t, prior, lead)
            latents, terms, state = [*latents, z], [*terms, log_p], self.network.advance(t, state, z)
            if self._emits(t):
                x, log_p = drawn(t, self.network.emit(t, state), lead)
                slices, terms = [*slices, x], [*terms, log_p]
                state = self.network.observe(t, state, x) if self.network.each_step else state
        joint = terms[0]
        for term in terms[1:]:
            joint = joint + term
        whole = torch.stack(slices, -len(self.event_shape)) if self.network.each_step else slices[0]
        return whole, latents, joint

    def draw(self, sample_shape: Shape = ()) -> tuple[Tensor, Evidence]:
        """A sample of prior and emissions with log p(x, z) - log r(z | x) of its own latents: UPPER."""
        x, latents, joint = self.generate(sample_shape)
        walk = self._walk(x, (*sample_shape, *self.batch_shape), self.infer(x), given(latents))
        for link in walk:
            joint = joint - link.terms[0].log_posterior
        return x, joint.above("latent model's own sample")

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        r"""Samples x (\*S, \*B, \*E) by priors and emissions, with gradients where all of them have some."""
        return self.generate(sample_shape)[0]

    def resample(self, x: Any, level: int) -> Tensor:
        r"""x (\*B, \*E) with the latents before `level` inferred and all below drawn anew: what these latents hold of x."""
        latents = [term.z[0] for term in self.trace(x, 1).terms if "/" not in term.name]
        lead = leading(x, tuple(self.event_shape))
        return self.generate(lead[: len(lead) - len(self.batch_shape)], latents[:level])[0]

    def encode(self, x: Any) -> Tensor:
        r"""Posterior means along the path of posterior means, all steps side by side, (\*B, units)."""
        lead = leading(x, tuple(self.event_shape))
        links = self._walk(x, lead, self.infer(x), at_the_mean)
        return torch.cat([link.terms[0].z.flatten(len(lead)) for link in links], -1)

    def reconstruct(self, x: Any) -> Tensor:
        """Means of what is emitted along the path of posterior means."""
        links = self._walk(x, leading(x, tuple(self.event_shape)), self.infer(x), at_the_mean)
        means = [link.emission.mean for link in links if link.emission is not None]
        return torch.stack(means, -len(self.event_shape)) if self.network.each_step else means[0]


def drawn(t: int, distribution: Any, lead: Shape) -> tuple[Tensor, Evidence]:
    """A draw with its log-density."""
    return draw(distribution, lead[: len(lead) - len(distribution.batch_shape)])


def given(latents: Sequence[Tensor]) -> Choice:
    """Latents that are known already."""
    return lambda t, posterior, lead: (latents[t], density(posterior, latents[t]))


def at_the_mean(t: int, posterior: Any, lead: Shape) -> tuple[Tensor, Evidence]:
    """The posterior's mean."""
    mean = posterior_mean(posterior)
    z = mean.expand(*lead, *mean.shape[len(posterior.batch_shape) :])
    return z, density(posterior, z)


def _expanded(x: Tensor, lead: Shape, dims: int) -> Tensor:
    return x.expand(*lead, *x.shape[x.dim() - dims :])


def _where(term: Term, needed: Tensor) -> Term:
    def divergence() -> Tensor | None:
        return None if term.kl is None else term.kl.where(needed.unsqueeze(-1), 0.0)

    return Term(term.name, term.z, lambda: term.log_prior.where(needed), term.log_posterior.where(needed), divergence)


def _matched(emission: Any, seen: Any, lead: Shape, dims: int) -> Evidence:
    r"""log p(x_t | state), (k, \*B); of whole slices by any likelihood, of slices with gaps by one that takes them."""
    return observed_density(emission, each(lambda part: _expanded(part, lead, dims), seen))
