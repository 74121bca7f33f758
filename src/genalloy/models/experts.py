r"""Posteriors made of one expert a modality: products of experts (Hinton, 2002; Wu & Goodman, 2018, arXiv:1802.05335).

.. math:: q(z | x_1, \dots, x_M) \propto p_0(z) \prod_{m \text{ observed}} q_m(z | x_m), \qquad p_0 = N(0, 1).

For Gaussian experts the product is Gaussian, its precision the sum of theirs,

.. math:: s^{-2} = 1 + \sum_m s_m^{-2}, \qquad \mu = s^2 \sum_m \mu_m s_m^{-2}.

A modality that a row lacks is left out of both sums, so one network infers from every subset, and nothing at all gives p_0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from genalloy.core.contexts import Context, both, shapes_of, split
from genalloy.core.evidence import Unavailable
from genalloy.core.observations import RecordShape, event, leading, presence
from genalloy.core.part import Part
from genalloy.heads.gaussian import GaussianDistribution


class ProductOfExperts(Part):
    r"""q(z | record, c), the product of N(0, 1) and a Gaussian expert for every part that a row of the record has.

    .. math:: s^{-2} = 1 + \sum_{m \text{ observed}} s_m^{-2}, \qquad \mu = s^2 \sum_{m \text{ observed}} \mu_m s_m^{-2}

    experts: Parts over z, by the names of the record's parts, each given both(x_m, c), x_m unnamed and first among its declared
    `context_shapes`, and returning a Gaussian. Wu & Goodman, 2018, arXiv:1802.05335.

    Raises ValueError where an expert declares no unnamed context or a z of another shape, Unavailable where one is not Gaussian.
    """

    has_rsample = True
    one: Tensor
    zero: Tensor

    def __init__(self, experts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.experts = nn.ModuleDict(dict(experts.items()))
        declared = {name: split(getattr(expert, "context_shapes", ())) for name, expert in self.experts.items()}
        shapes = {str(getattr(expert, "event_shape", None)) for expert in self.experts.values()}
        unnamed = [name for name, (front, _) in declared.items() if not front]
        if unnamed or len(shapes) != 1:
            found = (
                f"the expert of {unnamed[0]!r} without its modality" if unnamed else f"experts over events of {sorted(shapes)}"
            )
            raise ValueError(
                f"found {found}, expected experts over one z, each with context_shapes that begin with its modality's"
            )
        (front, named), first = next(iter(declared.values())), next(iter(self.experts.values()))
        self.shapes = RecordShape({name: event(front[0]) for name, (front, _) in declared.items()})
        self.context_shapes = shapes_of((self.shapes, *front[1:], *([named] if named else [])))
        self.event_shape, self.measure = event(first.event_shape), getattr(first, "measure", None)
        self.register_buffer("one", torch.ones(self.event_shape), persistent=False)
        self.register_buffer("zero", torch.zeros(self.event_shape), persistent=False)

    def forward(self, context: Context = None) -> GaussianDistribution:
        r"""The Gaussian over z, mean and scale (\*B, \*Z), of (record, \*c); N(0, 1) for a row that has nothing."""
        (record, *front), named = split(context)
        others = (*front, named) if named else tuple(front) or None
        lead, dims = leading(record, self.shapes), len(self.event_shape)
        precision, total = self.one, self.zero
        for name, part in record.parts.items():
            x, there = presence(part, self.shapes[name])
            if there is not None and not bool(there.any()):
                continue
            mean, weight = self._expert(name, both(x, others))
            weight = weight if there is None else weight.where(there.reshape(*there.shape, *(1,) * dims), 0.0)
            precision, total = precision + weight, total + weight * mean
        mean, scale = (total / precision), precision.rsqrt()
        return GaussianDistribution(mean.expand(*lead, *self.event_shape), scale.expand(*lead, *self.event_shape), dims)

    def _expert(self, name: str, context: Context) -> tuple[Tensor, Tensor]:
        """Mean and precision of the expert of that name."""
        expert: Any = self.experts[name](context)
        if not (hasattr(expert, "loc") and hasattr(expert, "scale")):
            raise Unavailable(
                f"found a {type(expert).__name__} as the expert of {name!r}, expected a Gaussian; use the Gaussian head"
            )
        return expert.loc, expert.scale.pow(-2)
