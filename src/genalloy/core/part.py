"""Part, the only type that nests, and the small wrappers.

A Part is a module that, given a context, returns a distribution: parameters live in modules, probability lives in
values, conditioning is a function call. Whatever wants a distribution (a prior, a likelihood, a posterior, a flow's
base) takes any Part, and any torch module of the same shape, such as zuko's lazy distributions.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce
from typing import Any

from torch import Tensor, nn
from torch.distributions import Distribution as TorchDistribution

from genalloy.core.contexts import Context, Shapes, parts, shapes_of
from genalloy.core.distribution import Distribution, Shape, draw, measure_of
from genalloy.core.evidence import Evidence, Measure, Unavailable, measure_over
from genalloy.core.observations import leading
from genalloy.core.spec import Module


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """All of the modules in eval mode, each put back into its own afterwards."""
    modes = {module: module.training for root in modules for module in root.modules()}
    try:
        for root in modules:
            root.eval()
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


class Part(Module, ABC):
    """A conditional distribution p(x | c) with parameters.

    context_shapes: event shapes of the context's parts, by place or by name (:mod:`genalloy.core.contexts`); () where the part
    takes none (it then ignores any context). event_shape, measure, has_rsample: of the distributions that it returns, None where
    only they can tell. What is declared here is never learned by drawing a sample.
    """

    context_shapes: Shapes = ()
    event_shape: Any = None
    measure: Measure | None = None
    has_rsample: bool | None = None

    @abstractmethod
    def forward(self, context: Context = None) -> TorchDistribution:
        r"""context: parts of shape (\*B, \*C), or None. Returns a distribution with batch_shape B (or ())."""

    def initialise(self, x: Tensor, context: Context = None) -> None:
        """One data-dependent pass without gradients before step 0 (ActNorm, codebooks); nothing by default."""


class Conditional(Part):
    r"""p(x | c) = head(network(c)): a network's features turned into a simple distribution.

    network: context -> (\*B, D head.width), the parameters of all D entries of E in turn; head: (\*B, \*E, head.width) ->
    distribution with events of shape E. context_shapes: event shapes of the parts of c.
    """

    def __init__(self, head: nn.Module, network: nn.Module, event_shape: Shape, context_shapes: Shapes) -> None:
        super().__init__()
        self.head, self.network = head, network
        self.event_shape, self.context_shapes = tuple(event_shape), shapes_of(context_shapes)
        dims = math.prod(self.event_shape)
        self.measure = measure_over(dims, getattr(head, "discrete", False))
        self.has_rsample = getattr(head, "has_rsample", None)

    def forward(self, context: Context = None) -> TorchDistribution:
        r"""head(network(c)), with events (\*E) and the batch of the network's features."""
        features = self.network(context)
        return self.head(features.unflatten(-1, (*self.event_shape, -1)), len(self.event_shape))


def declared_measure(*parts: Any) -> Measure | None:
    """The sum of what parts declare, None where one of them does not tell."""
    units = [getattr(part, "measure", None) for part in parts]
    return None if None in units else reduce(lambda a, b: a.plus(b), units, Measure())  # type: ignore[union-attr, arg-type]


def declared_rsample(*parts: Any) -> bool | None:
    """Whether samples of all parts carry gradients, as they declare it; None where one of them does not tell."""
    carried = [getattr(part, "has_rsample", None) for part in parts]
    return None if None in carried else all(carried)


def initialise_inside(part: Any, x: Tensor, context: Context) -> None:
    """The data-dependent pass of a part that another one holds, where it has one."""
    if hasattr(part, "initialise"):
        part.initialise(x, context)


def _hand_on(wrapper: Part, part: nn.Module) -> None:
    """What the part inside declares of its distributions."""
    for name in ("event_shape", "measure", "has_rsample"):
        setattr(wrapper, name, getattr(part, name, None))


class Embedded(Part):
    r"""p(x | network(c)): any context as features that are learned with the part.

    part: Part whose context is what the network returns. network: context -> features (\*B, ...), called once in a forward.
    context_shapes: event shapes of the parts of c, by place or by name; the network gets what was given, and declares its
    inputs alike. event_shape: of x, the part's own where it tells. Raises ValueError where parts are missing or left over.
    """

    def __init__(self, part: nn.Module, network: nn.Module, context_shapes: Shapes) -> None:
        super().__init__()
        self.part, self.network, self.context_shapes = part, network, shapes_of(context_shapes)
        _hand_on(self, part)

    def forward(self, context: Context = None) -> TorchDistribution:
        """The part's distribution given network(c). Raises ValueError where parts of c are missing or left over."""
        return self.part(self._features(context))

    def initialise(self, x: Tensor, context: Context = None) -> None:
        r"""Hands x (\*B, \*E) and network(c) on to the part, where it is initialised from data."""
        initialise_inside(self.part, x, self._features(context))

    def _features(self, context: Context) -> Tensor:
        parts(context, self.context_shapes)  # refuses in words what a network might take for something else
        return self.network(context)


class Estimated(Part):
    r"""The same weights under another estimator: density(x) becomes estimator(distribution, x), with its label.

    part: Part of any kind. estimator: (distribution, x (\*S, \*B, \*E)) -> Evidence (\*S, \*B).
    """

    def __init__(self, part: nn.Module, estimator: Callable[[TorchDistribution, Tensor], Evidence]) -> None:
        super().__init__()
        self.part, self.estimator = part, estimator
        self.context_shapes = getattr(part, "context_shapes", ())
        _hand_on(self, part)

    def forward(self, context: Context = None) -> TorchDistribution:
        """The part's distribution given c, under the estimator."""
        return EstimatedDistribution(self.part(context), self.estimator)

    def initialise(self, x: Tensor, context: Context = None) -> None:
        r"""Hands x (\*B, \*E) and c on to the part."""
        initialise_inside(self.part, x, context)


class EstimatedDistribution(Distribution):
    """See :class:`Estimated`; every other capability is the inner distribution's, through ``unwrap``.

    relabelled: its density is the estimator's, so that nobody weighs the inner distribution's one-sample numbers in its place.
    """

    relabelled = True

    def __init__(self, inner: Any, estimator: Callable[[TorchDistribution, Tensor], Evidence]) -> None:
        super().__init__(inner.batch_shape, inner.event_shape, measure_of(inner))
        self.inner, self.estimator = inner, estimator
        self.has_rsample = inner.has_rsample

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        r"""Samples (\*S, \*B, \*E) of the inner distribution."""
        return self.inner.rsample(sample_shape)

    def density(self, x: Tensor) -> Evidence:
        r"""What the estimator says of x (\*S, \*B, \*E) under the inner distribution, (\*S, \*B), nats."""
        return self.estimator(self.inner, x)

    def draw(self, sample_shape: Shape = ()) -> tuple[Tensor, Evidence]:
        r"""Samples (\*S, \*B, \*E) of the inner distribution with its own claim, which the estimator does not touch."""
        return draw(self.inner, sample_shape)

    def unwrap(self, x: Tensor) -> tuple[Any, Tensor, Evidence]:
        r"""(the inner distribution, x itself, a contribution of 0 (\*S, \*B))."""
        return self.inner, x, Evidence.exact(x.new_zeros(leading(x, self.event_shape)))


class Tempered(Part):
    r""":math:`p(x)^{1/T} / Z` (Ackley, Hinton & Sejnowski, 1985; Kingma & Dhariwal, 2018, arXiv:1807.03039).

    The variance times T for a Gaussian. A flow tempers its base: EXACT where its log-determinant does not depend on x, as then
    :math:`p(x)^{1/T} \propto p_{base}(z)^{1/T}`. Elsewhere its samples are a heuristic and the density is NONE. Other
    distributions without a normalised p^(1/T) raise Unavailable. Raises ValueError where T is not above 0.
    """

    def __init__(self, part: nn.Module, temperature: float) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"found temperature {temperature}, expected one above 0; for the most probable point take the mean")
        self.part, self.temperature = part, temperature
        self.context_shapes = getattr(part, "context_shapes", ())
        _hand_on(self, part)

    def forward(self, context: Context = None) -> TorchDistribution:
        """The part's distribution given c, tempered. Raises Unavailable where it has no normalised p^(1/T)."""
        return tempered(self.part(context), self.temperature)

    def initialise(self, x: Tensor, context: Context = None) -> None:
        r"""Hands x (\*B, \*E) and the context on to the part, where it is initialised from data."""
        initialise_inside(self.part, x, context)


def tempered(distribution: Any, temperature: float) -> TorchDistribution:
    """`distribution.tempered(temperature)`, itself at 1. Raises Unavailable where there is none."""
    if temperature == 1:
        return distribution
    if not hasattr(distribution, "tempered"):
        name = type(distribution).__name__
        raise Unavailable(f"{name} has no normalised p^(1/T); temper its base or its Gaussian parts")
    return distribution.tempered(temperature)


class Unconditional(Part):
    """Drops the context on purpose: p(z) in a model whose other parts are conditional."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part
        _hand_on(self, part)

    def forward(self, context: Context = None) -> TorchDistribution:
        """The part's distribution without a context, whatever is given."""
        return self.part(None)

    def initialise(self, x: Tensor, context: Context = None) -> None:
        r"""Hands x (\*B, \*E) on to the part, without the context."""
        initialise_inside(self.part, x, None)
