r"""A flow and a classifier on its codes: one model of p(x, y) = p(x) p(y | x).

With the flow's code z = f(x), the labels follow from the code,

.. math:: \log p(x) = \log p(z) + \log |\det df/dx|, \qquad
          p(y | x) = \mathrm{Cat}\big(y;\, \mathrm{softmax}(W z + b)\big)

for a linear classifier (Nalisnick, Matsukawa, Teh, Gorur & Lakshminarayanan, 2019; Chen, Behrmann, Duvenaud & Jacobsen,
2019). As f is invertible no information on y is lost on the way. Trained on lam log p(x) + log p(y | x): both terms share one
pass of f. Where f holds a dequantisation, y is read from the code of one draw of the noise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution as TorchDistribution

from genalloy.core.contexts import Context
from genalloy.core.distribution import Distribution, Shape, density, draw, measure_of
from genalloy.core.evidence import Evidence, Measure
from genalloy.core.observations import leading
from genalloy.core.part import Part, declared_measure, declared_rsample, initialise_inside


class Hybrid(Part):
    r"""p(x) by a flow, p(y | x) by a classifier of its code (Nalisnick et al., 2019, arXiv:1902.02767).

    .. math:: \log p(x, y) = \log p(x) + \log p(y \mid z), \qquad z = f(x)

    flow: a Flow, preprocessing included. classifier: Part whose context is the code, flattened to (code size,), with events of
    shape () (a label). The model itself is p(x); a context is handed on to the flow.
    """

    def __init__(self, flow: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.flow: Any = flow
        self.classifier = classifier
        self.event_shape, self.context_shapes = getattr(flow, "event_shape", None), getattr(flow, "context_shapes", ())

    @property
    def measure(self) -> Measure | None:  # type: ignore[override]
        """The flow's."""
        return declared_measure(self.flow)

    @property
    def has_rsample(self) -> bool | None:  # type: ignore[override]
        """The flow's."""
        return declared_rsample(self.flow)

    def forward(self, context: Context = None) -> HybridDistribution:
        """The distribution of x given c, as of the flow, with the labels' distribution beside it."""
        return HybridDistribution(self, context)

    def initialise(self, x: Tensor, context: Context = None) -> None:
        r"""Data-dependent initialisation of the flow from a batch x (\*B, \*E), where the flow has any."""
        initialise_inside(self.flow, x, context)


class HybridDistribution(Distribution):
    """See :class:`Hybrid`. Capabilities: label_given_x, and through `unwrap` all of the flow's."""

    def __init__(self, part: Hybrid, context: Context = None) -> None:
        self.flow: Any = part.flow(context)
        self.classifier: Any = part.classifier
        super().__init__(self.flow.batch_shape, self.flow.event_shape, measure_of(self.flow))
        self.has_rsample = self.flow.has_rsample
        self.layers, self.base, self.context = self.flow.layers, self.flow.base, self.flow.context
        self._latest: _Pass | None = None

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        r"""Samples (\*S, \*B, \*E) of the flow."""
        return self.flow.rsample(sample_shape)

    def draw(self, sample_shape: Shape = ()) -> tuple[Tensor, Evidence]:
        r"""Samples (\*S, \*B, \*E) of the flow with the flow's claim (\*S, \*B) on their log-density."""
        return draw(self.flow, sample_shape)

    def density(self, x: Tensor) -> Evidence:
        r"""log p(x) by the flow, (\*S, \*B), nats; the pass is kept, so that `label_given_x` of the same tensor is cheap."""
        return self._pass(x, "density").evidence

    def label_given_x(self, x: Tensor) -> TorchDistribution:
        r"""p(y | x) with batch (\*S, \*B) for x (\*S, \*B, \*E)."""
        lead = leading(x, tuple(self.event_shape))
        return self.classifier(self._pass(x, "label").code.reshape(*lead, -1))

    def unwrap(self, x: Tensor) -> tuple[Any, Tensor, Evidence]:
        r"""(the flow's distribution, x itself, a contribution of 0 (\*S, \*B))."""
        return self.flow, x, Evidence.exact(x.new_zeros(leading(x, tuple(self.event_shape))))

    def _pass(self, x: Tensor, by: str) -> _Pass:
        """The latest pass if it was of this very tensor and has not served `by` yet: a density asked twice draws fresh noise."""
        latest = self._latest
        if latest is None or latest.x is not x or by in latest.served or latest.graph != torch.is_grad_enabled():
            latest = self._latest = _Pass(x, torch.is_grad_enabled(), *coded(self.flow, x))
        latest.served.add(by)
        return latest


@dataclass
class _Pass:
    """What one pass of x through the flow found, with or without a graph, and who was served with it."""

    x: Tensor
    graph: bool
    evidence: Evidence
    code: Tensor
    served: set[str] = field(default_factory=set)


def coded(distribution: Any, x: Tensor) -> tuple[Evidence, Tensor]:
    """log p(x) and the code of x from one pass through nested flows."""
    if not hasattr(distribution, "encoded"):
        code = distribution.encode(x) if hasattr(distribution, "encode") else x
        return density(distribution, x), code
    z, contributions = distribution.encoded(x)
    evidence, code = coded(distribution.base, z)
    for contribution in reversed(contributions):
        evidence = evidence + contribution
    return evidence, code
