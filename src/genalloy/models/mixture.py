r"""Mixtures of any Parts: :math:`p(x) = \sum_i w_i p_i(x)`.

Log-sum-exp keeps LOWER only where every component is proper, because noise in a log-sum-exp pushes upwards. For the
mixture's own draw the chosen component's term comes from draw() and the others' from density(): UPPER and proper.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution as TorchDistribution

from genalloy.core.contexts import Context
from genalloy.core.distribution import Distribution, Shape, density, draw, measure_of
from genalloy.core.evidence import Evidence, Kind, Measure, log_sum_exp, same_unit
from genalloy.core.part import Part, declared_measure, declared_rsample, initialise_inside
from genalloy.core.shapes import broadcast_shapes

Estimate = Callable[[TorchDistribution, Tensor], Evidence]


class Mixture(Part):
    r""":math:`p(x | c) = \sum_i w_i\, p_i(x | c)`, w the softmax of learned logits, uniform at the start.

    components: Parts over the same events. Claims are as the module's text says: LOWER only where every component is proper.
    """

    def __init__(self, components: Sequence[nn.Module]) -> None:
        super().__init__()
        self.components = nn.ModuleList(components)
        self.logits = nn.Parameter(torch.zeros(len(self.components)))
        self.event_shape, self.has_rsample = getattr(self.components[0], "event_shape", None), False
        shapes = (getattr(part, "context_shapes", ()) for part in self.components)
        self.context_shapes = next((s for s in shapes if s), ())

    @property
    def measure(self) -> Measure | None:  # type: ignore[override]
        """The first component's; all have one."""
        return declared_measure(self.components[0])

    def forward(self, context: Context = None) -> MixtureDistribution:
        """The mixture of the components' distributions, all given the same context."""
        return MixtureDistribution([part(context) for part in self.components], self.logits.log_softmax(0))

    def initialise(self, x: Tensor, context: Context = None) -> None:
        r"""Hands x (\*B, \*E) and c on to every component."""
        for part in self.components:
            initialise_inside(part, x, context)


class Conditioned(Part):
    """p(x | c) at one c, a tensor, as a part that takes no context. part: takes `value` as its whole context."""

    value: Tensor

    def __init__(self, part: nn.Module, value: Tensor) -> None:
        super().__init__()
        self.part: Any = part
        self.event_shape, self.has_rsample = getattr(part, "event_shape", None), declared_rsample(part)
        self.register_buffer("value", value)

    @property
    def measure(self) -> Measure | None:  # type: ignore[override]
        """The part's."""
        return declared_measure(self.part)

    def forward(self, context: Context = None) -> TorchDistribution:
        """The part's distribution at the kept value; the context that is given here is ignored."""
        return self.part(self.value)

    def initialise(self, x: Tensor, context: Context = None) -> None:
        r"""Hands x (B, \*E) on to the part, each row with the kept value."""
        initialise_inside(self.part, x, self.value.expand(len(x), *self.value.shape))


def over_labels(part: nn.Module, log_prior: Tensor) -> Mixture:
    """p(x) = sum_y p(y) p(x | y) of a part given labels 0..K-1 of event shape (); log_prior: log p(y), (K,)."""
    whole = Mixture([Conditioned(part, torch.tensor(float(label))) for label in range(len(log_prior))])
    whole.logits.data.copy_(log_prior)
    return whole


class MixtureDistribution(Distribution):
    """See :class:`Mixture`; samples carry gradients with respect to the components, never to the weights.

    Raises ValueError where the components' events differ in shape.
    """

    has_rsample = False

    def __init__(self, components: list[TorchDistribution], log_weights: Tensor) -> None:
        first = components[0]
        shapes = sorted({tuple(part.event_shape) for part in components})
        if len(shapes) > 1:
            raise ValueError(f"a mixture's components must share their event shape; found {shapes[0]} and {shapes[1]}")
        batch = broadcast_shapes(*(part.batch_shape for part in components))
        super().__init__(tuple(batch), tuple(first.event_shape), measure_of(first))
        self.components, self.log_weights = components, log_weights

    def _weighted(self, x: Tensor, estimate: Estimate = density) -> list[Evidence]:
        terms = [estimate(part, x) for part in self.components]
        return [e + Evidence.exact(w.expand(e.value.shape), "mixture") for e, w in zip(terms, self.log_weights, strict=True)]

    def density(self, x: Tensor) -> Evidence:
        r""":math:`\log \sum_i w_i\, p_i(x)`, (\*S, \*B), nats."""
        return log_sum_exp(self._weighted(x))

    def estimated(self, x: Tensor, estimate: Estimate) -> Evidence:
        """The density with every component's own by an estimator, (component, x) -> Evidence."""
        return log_sum_exp(self._weighted(x, estimate))

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        r"""Samples (\*S, \*B, \*E), each of a component drawn by the weights."""
        return self.draw(sample_shape)[0]

    def draw(self, sample_shape: Shape = ()) -> tuple[Tensor, Evidence]:
        """A component by the weights, a sample of it, and the log-density of the sample: EXACT or UPPER, proper where all are."""
        shape = (*sample_shape, *self.batch_shape)
        choice = torch.distributions.Categorical(logits=self.log_weights, validate_args=False).sample(shape)
        drawn = [draw(part, sample_shape if part.batch_shape else shape) for part in self.components]
        pick = choice.reshape(*shape, *(1,) * len(self.event_shape))
        x = drawn[0][0]
        for i, (sample, _) in enumerate(drawn[1:], 1):
            x = torch.where(pick == i, sample, x)
        return x, self._own(x, choice, [e for _, e in drawn])

    def _own(self, x: Tensor, choice: Tensor, drawn: list[Evidence]) -> Evidence:
        """The chosen term by draw(), the others by density()."""
        others = self._weighted(x)
        same_unit([*others, *drawn])
        kinds = {e.kind for e in (*others, *drawn)}
        terms = [
            torch.where(choice == i, d.value + w, o.value)
            for i, (d, o, w) in enumerate(zip(drawn, others, self.log_weights, strict=True))
        ]
        proper = all(e.proper for e in (*others, *drawn))
        kind = Kind.EXACT if kinds == {Kind.EXACT} else (Kind.UPPER if proper else Kind.ESTIMATE)
        kind = Kind.NONE if Kind.NONE in kinds else kind
        value = torch.stack(terms).logsumexp(0)
        return Evidence(value, kind, others[0].how, proper, None, others[0].measure)
