"""A line of the list of parts: what is built, what it claims, where it fits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from genalloy.core.distribution import Shape
from genalloy.core.evidence import Kind
from genalloy.core.part import Conditional
from genalloy.heads.gaussian import Gaussian, StandardNormal
from genalloy.heads.head import Head
from genalloy.laws.claims import Claim, Claims, exact
from genalloy.laws.every_transform import Shapes
from genalloy.laws.subject import Subject
from genalloy.networks.mlp import MLP

Make = Callable[[Shape, Shapes], nn.Module]
LEVELS = 3


@dataclass(frozen=True)
class Listed:
    """One line of :func:`genalloy.laws.every.every_part`.

    make: (event shape, context shapes) -> Part. claims: of density() and draw(). roles: slots of a nested model that it
    can play. conditional: whether it can take a context. event: its shape where it cannot be any vector.
    carries_gradient: whether its samples do. represents: whether it stands for its kind in the other slots.
    frozen: parameters that get no gradient from density(). levels: see Subject.
    """

    name: str
    make: Make
    claims: Claims = field(default_factory=exact)
    roles: tuple[str, ...] = ("prior", "likelihood", "posterior", "base", "component")
    conditional: bool = True
    discrete: bool = False
    event: Shape | None = None
    carries_gradient: bool = True
    represents: bool = False
    frozen: tuple[str, ...] = ()
    levels: int = 0

    @property
    def kind(self) -> Kind:
        """Label of density()."""
        return self.claims.density.kind

    @property
    def event_shape(self) -> Shape:
        return self.shape(2)

    @property
    def context_shapes(self) -> Shapes:
        return ((3,), ()) if self.conditional else ()

    def shape(self, size: int) -> Shape:
        """The part's own event shape, or a vector of that size."""
        return self.event or (size,)

    def build(self) -> nn.Module:
        """The part at its smallest, conditional where it can be."""
        return self.make(self.event_shape, self.context_shapes)

    def subject(self, part: nn.Module | None = None) -> Subject:
        """For the laws; `part` may be a changed copy."""
        return Subject(part or self.build(), self.event_shape, self.context_shapes, self.discrete, self.levels)

    def points(self, shape: Shape, rows: int = 8) -> Tensor:
        """Plausible observations (rows, *shape)."""
        return torch.randint(0, 2, (rows, *shape)).float() if self.discrete else torch.randn(rows, *shape)


def headed(head: Head) -> Make:
    return lambda e, c: Conditional(head, MLP(c, math.prod(e) * head.width, (8,)), e, c)


def gaussian(e: Shape, c: Shapes) -> nn.Module:
    return headed(Gaussian())(e, c) if c else StandardNormal(e)


def claims(density: Kind, draw: Kind, proper: bool) -> Claims:
    return Claims(Claim.of(density, proper), Claim.of(draw, proper))


BOUND = claims(Kind.LOWER, Kind.UPPER, True)
DIFFUSION = claims(Kind.LOWER, Kind.ESTIMATE, False)
UNBIASED = claims(Kind.UNBIASED, Kind.UNBIASED, False)
ESTIMATE = claims(Kind.ESTIMATE, Kind.ESTIMATE, False)
NOTHING = claims(Kind.NONE, Kind.NONE, False)
LIKELIHOOD = ("likelihood",)
UNCONDITIONAL = ("prior", "base", "component")
INTEGERS = ("likelihood", "component")


def integers(name: str, make: Make, density: Claims | None = None, event: Shape | None = None, levels: int = 0) -> Listed:
    """A part of integers: a likelihood or a component, whose samples carry no gradient."""
    return Listed(name, make, density or exact(), INTEGERS, discrete=True, event=event, carries_gradient=False, levels=levels)
