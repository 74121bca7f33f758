r"""Products of likelihoods: a record's parts are independent given what they are conditional on.

.. math:: p(x_1, \dots, x_M | c) = \prod_m p_m(x_m | c), \qquad \log p(x | c) = \sum_{m \text{ observed}} \log p_m(x_m | c).

As the likelihood of a latent model, c holds the code, and the product is a multimodal decoder: whatever is missing drops out, so
that one model gives log p of any subset of its modalities (Wu & Goodman, 2018, arXiv:1802.05335).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Any

from torch import nn
from torch.distributions import Distribution as TorchDistribution

from genalloy.core.contexts import Context
from genalloy.core.distribution import Distribution, Shape, draw, measure_of, observed_density
from genalloy.core.evidence import Evidence, Measure
from genalloy.core.observations import Record, RecordShape, event, leading, observation, presence
from genalloy.core.part import Part, declared_measure, declared_rsample, initialise_inside
from genalloy.core.shapes import broadcast_shapes


class Product(Part):
    r"""p(record | c) as a product; every part of the record has a Part of its own, of any family.

    .. math:: \log p(x | c) = \sum_{m \text{ observed}} \log p_m(x_m | c)

    parts: Parts by the names of the record's parts, each given the whole of c. Densities are those of the parts that a record
    has; of a Masked part, those of the rows or entries that are observed. As a decoder: Wu & Goodman, 2018, arXiv:1802.05335.

    Raises ValueError without parts, or where their names are no attribute names (torch's rule for submodules).
    """

    def __init__(self, parts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        if not parts:
            raise ValueError("found no parts, expected one or more by name")
        self.parts = nn.ModuleDict(dict(parts.items()))
        shapes = {name: getattr(part, "event_shape", None) for name, part in self.parts.items()}
        self.event_shape = None if None in shapes.values() else event(shapes)
        declared = (getattr(part, "context_shapes", ()) for part in self.parts.values())
        self.context_shapes = next((shape for shape in declared if shape), ())

    @property
    def measure(self) -> Measure | None:  # type: ignore[override]
        """The sum of the parts'."""
        return declared_measure(*self.parts.values())

    @property
    def has_rsample(self) -> bool | None:  # type: ignore[override]
        """Whether all parts' samples carry gradients."""
        return declared_rsample(*self.parts.values())

    def forward(self, context: Context = None) -> ProductDistribution:
        """The product of the parts' distributions given c, with records as events."""
        return ProductDistribution({name: part(context) for name, part in self.parts.items()})

    def initialise(self, x: Any, context: Context = None) -> None:
        r"""Hands each part of a record x (\*B, \*E) that is there, and the context, on to the Part of that name."""
        for name, part in self.parts.items():
            if name in x:
                initialise_inside(part, presence(x[name], self.event_shape[name])[0], context)


class ProductDistribution(Distribution):
    r"""See :class:`Product`; `parts` are the distributions, by name. Raises ValueError where their batches do not broadcast."""

    def __init__(self, parts: Mapping[str, TorchDistribution]) -> None:
        self.parts = dict(parts)
        batch = broadcast_shapes(*(part.batch_shape for part in self.parts.values()))
        shapes = RecordShape({name: tuple(part.event_shape) for name, part in self.parts.items()})
        super().__init__(tuple(batch), shapes, reduce(Measure.plus, map(measure_of, self.parts.values())))
        self.has_rsample = all(part.has_rsample for part in self.parts.values())

    def density(self, x: Any) -> Evidence:
        """The sum over the parts that the record has, nats; as strong a claim as the weakest of the parts makes."""
        x = observation(x)
        lead = broadcast_shapes(leading(x, self.event_shape), self.batch_shape)
        terms = [observed_density(self.parts[name], part).expand(lead) for name, part in x.parts.items()]
        return sum(terms[1:], terms[0])

    def draw(self, sample_shape: Shape = ()) -> tuple[Record, Evidence]:
        r"""A record (\*S, \*B), a draw of each part, with the sum of their claims (\*S, \*B)."""
        drawn = {name: draw(part, self._shape(part, sample_shape)) for name, part in self.parts.items()}
        terms = [evidence for _, evidence in drawn.values()]
        return Record({name: x for name, (x, _) in drawn.items()}), sum(terms[1:], terms[0])

    def rsample(self, sample_shape: Shape = ()) -> Record:
        r"""A record (\*S, \*B) of the parts' samples with gradients; raises what a part without them raises."""
        return Record({name: part.rsample(self._shape(part, sample_shape)) for name, part in self.parts.items()})

    def sample(self, sample_shape: Shape = ()) -> Record:
        r"""Samples without gradients, one record (\*S, \*B)."""
        return Record({name: part.sample(self._shape(part, sample_shape)) for name, part in self.parts.items()})

    def _shape(self, part: TorchDistribution, sample_shape: Shape) -> Shape:
        """A part without a batch is drawn for each row of the others'."""
        return tuple(sample_shape) if part.batch_shape else (*sample_shape, *self.batch_shape)

    @property
    def mean(self) -> Record:
        """The parts' means. Raises NotImplementedError where one has none."""
        return Record({name: part.mean for name, part in self.parts.items()})
