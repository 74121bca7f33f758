r"""Splitting half of the variables off, so that they meet fewer layers (Dinh, Sohl-Dickstein & Bengio, 2017, "multi-scale").

.. math:: x = [z_1, z_2], \qquad \log p(x \mid c) = \log p(z_1 \mid c) + \log p(z_2 \mid z_1, c),

halves of the first axis (an image's channels). The part for :math:`z_1` is usually the next flow, so a multi-scale flow is
`Flow(Split(Flow(...), rest), layers)`; both parts may be any, and labels add.

Temperature: :math:`p^{1/T}` has the factors :math:`p(z_1)^{1/T}` and :math:`p(z_2 \mid z_1)^{1/T}`, the latter normalised by
:math:`\int p(z_2 \mid z_1)^{1/T} dz_2`. Where that depends on :math:`z_1`, as a Gaussian's scale may, the product of the
normalised factors is another law.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution as TorchDistribution

from genalloy.core.contexts import Context, Shapes, batch_of, both, flat, parts, shapes_of
from genalloy.core.distribution import Distribution, Shape, density, draw, measure_of
from genalloy.core.evidence import Evidence, Measure
from genalloy.core.observations import leading
from genalloy.core.part import Part, declared_measure, declared_rsample, evaluating, initialise_inside, tempered
from genalloy.core.shapes import broadcast_shapes


class Split(Part):
    r"""p(x | c) of x = [z_1, z_2], halves of the channels: multi-scale (Dinh et al., 2017, arXiv:1605.08803).

    .. math:: \log p(x | c) = \log p(z_1 | c) + \log p(z_2 | z_1, c)

    deep: Part with events of the first C // 2 channels. rest: Part with events of the others, given both(z_1, c).
    event_shape: (C, ...) of x. context_shapes: event shapes of the parts of c. Raises ValueError where C < 2.
    """

    def __init__(self, deep: nn.Module, rest: nn.Module, event_shape: Shape, context_shapes: Shapes = ()) -> None:
        super().__init__()
        self.deep, self.rest, self.event_shape = deep, rest, tuple(event_shape)
        self.context_shapes = shapes_of(context_shapes)
        self.sizes = tuple(s[0] for s in halves(self.event_shape))

    @property
    def measure(self) -> Measure | None:  # type: ignore[override]
        """The sum of both parts'."""
        return declared_measure(self.deep, self.rest)

    @property
    def has_rsample(self) -> bool | None:  # type: ignore[override]
        """Whether both parts do."""
        return declared_rsample(self.deep, self.rest)

    def forward(self, context: Context = None) -> SplitDistribution:
        """The distribution of x given c, with events (C, ...) and the deep part's batch; the context's where it has none."""
        return SplitDistribution(self, context if self.context_shapes else None)

    def parted(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""(z_1, z_2) of x (\*B, C, ...): its first C // 2 channels, and the others."""
        z1, z2 = x.split(self.sizes, -len(self.event_shape))
        return z1, z2

    def initialise(self, x: Tensor, context: Context = None) -> None:
        r"""Data-dependent initialisation of both parts from a batch x (\*B, C, ...), the rest's given z_1 of the data."""
        z1, z2 = self.parted(x)
        own = context if self.context_shapes else None
        for part, z, c in ((self.deep, z1, own), (self.rest, z2, both(z1, own))):
            initialise_inside(part, z, c)


def halves(shape: Shape) -> tuple[Shape, Shape]:
    """Shapes of z_1 and z_2. Raises ValueError where there is one channel only."""
    if shape[0] < 2:
        raise ValueError(f"found {shape[0]} channel in {tuple(shape)}, expected at least 2 to split; squeeze the image first")
    half = shape[0] // 2
    return (half, *shape[1:]), (shape[0] - half, *shape[1:])


class SplitDistribution(Distribution):
    """See :class:`Split`; both parts tempered where the temperature is not 1."""

    def __init__(self, split: Split, context: Context, temperature: float = 1.0) -> None:
        self.split, self.context, self.temperature = split, context, temperature
        self.deep: Any = self._at_temperature(split.deep(context))
        own, batch = tuple(self.deep.batch_shape), batch_of(context, split.context_shapes)
        measure, carried = split.measure, split.has_rsample
        if measure is None or carried is None:
            measure, carried = self._asked()
        super().__init__(own or batch, split.event_shape, measure)
        self.missing, self.has_rsample = () if own else batch, carried

    def _asked(self) -> tuple[Measure, bool]:
        """Measure and has_rsample where a part does not declare them, from the rest at one row, in eval mode."""
        with torch.no_grad(), evaluating(self.split.rest):
            rest = self._rest(*self._first_row())
        return measure_of(self.deep).plus(measure_of(rest)), self.deep.has_rsample and rest.has_rsample

    def _at_temperature(self, distribution: TorchDistribution) -> TorchDistribution:
        return tempered(distribution, self.temperature)

    def _rest(self, z1: Tensor, context: Context) -> Any:
        return self._at_temperature(self.split.rest(both(z1, context)))

    def _first_row(self) -> tuple[Tensor, Context]:
        """One pair (z_1, c) to ask the rest what it is: of its distribution nothing is known before."""
        like = next(self.split.rest.parameters(), torch.empty(0))
        z1 = like.new_zeros(halves(self.split.event_shape)[0])
        shapes = self.split.context_shapes
        given = zip(parts(self.context, shapes), flat(shapes), strict=True)
        return z1, tuple(part.reshape(-1, *shape)[0] for part, shape in given) or None

    def density(self, x: Tensor) -> Evidence:
        r""":math:`\log p(z_1 | c) + \log p(z_2 | z_1, c)`, (\*S, \*B), nats; NONE where tempered factors make no whole."""
        lead = broadcast_shapes(leading(x, self.split.event_shape), self.batch_shape)
        z1, z2 = self.split.parted(x.expand(*lead, *self.split.event_shape))
        return self._claimed(density(self.deep, z1) + density(self._rest(z1, self.context), z2))

    def draw(self, sample_shape: Shape = ()) -> tuple[Tensor, Evidence]:
        r"""x (\*S, \*B, C, ...), z_1 first and z_2 given it, with the sum of both claims, (\*S, \*B)."""
        z1, deep = draw(self.deep, (*sample_shape, *self.missing))
        rest = self._rest(z1, self.context)
        z2, above = draw(rest, self._lacking(z1, rest))
        return self._whole(z1, z2), self._claimed(deep + above)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        r"""Samples (\*S, \*B, C, ...), z_1 first and z_2 given it; each passes gradients on where it has any."""
        shape = (*sample_shape, *self.missing)
        z1 = self.deep.rsample(shape) if self.deep.has_rsample else self.deep.sample(shape)
        rest = self._rest(z1, self.context)
        lacking = self._lacking(z1, rest)
        return self._whole(z1, rest.rsample(lacking) if rest.has_rsample else rest.sample(lacking))

    def encode(self, x: Tensor) -> Tensor:
        r"""The code, flattened (\*S, \*B, C ...): the deep part's own, then z_2, standardised where the rest is Gaussian."""
        lead = len(leading(x, self.split.event_shape))
        z1, z2 = self.split.parted(x)
        rest = self._rest(z1, self.context)
        code = self.deep.encode(z1) if hasattr(self.deep, "encode") else z1
        left = rest.standardise(z2) if hasattr(rest, "standardise") else z2
        return torch.cat([code.flatten(lead), left.flatten(lead)], -1)

    def tempered(self, temperature: float) -> SplitDistribution:
        """Both parts tempered: p^(1/T) itself where the rest takes no context, otherwise samples without a density."""
        return SplitDistribution(self.split, self.context, self.temperature * temperature)

    def _claimed(self, evidence: Evidence) -> Evidence:
        """Nothing, where the tempered parts do not multiply to a tempered whole."""
        if self.temperature == 1 or getattr(self.split.rest, "context_shapes", None) == ():
            return evidence
        words = "the scale of split-off channels depends on the others, so p^(1/T) has no known normaliser"
        return Evidence.none(words, tuple(evidence.value.shape))

    def _lacking(self, z1: Tensor, rest: TorchDistribution) -> Shape:
        """Sample shape that the rest needs, where its batch is smaller than z_1's."""
        lead = leading(z1, halves(self.split.event_shape)[0])
        return lead[: len(lead) - len(rest.batch_shape)]

    def _whole(self, z1: Tensor, z2: Tensor) -> Tensor:
        return torch.cat([z1, z2], -len(self.split.event_shape))
