r"""Surjections (Nielsen, Jaini, Hoogeboom, Winther & Welling, 2020): maps that lose something one way and invent it the other.

Take y apart, one to one and without change of volume, into a core and a rest: the first entries and the others; absolute
values and signs; sorted values and their order. With a distribution of the rest given the core there are two layers.

**Reduce**, :math:`x \leftrightarrow (z, s)` with s lost by encoding; decoding draws s from p(s | z). x determines s, so

.. math:: p(x) = p(z)\, p(s \mid z), \qquad (z, s) = \text{apart}(x):

encoding is deterministic, and both directions carry the label of p(s | z): EXACT if that is. (`slice`, `abs` and `sort` of
SurVAE; the split of a multi-scale flow.) The base must live where cores live: positive numbers, ordered numbers.

**Extend**, :math:`z \leftrightarrow (x, e)` with e lost by decoding, which is deterministic; the density is an integral, and
encoding imputes e from q(e | x):

.. math:: p(x) = \int p_z(x, e)\,de, \qquad \log p(x) \ge \mathbb E_{q(e|x)}[\log p_z(x, e) - \log q(e \mid x)]:

LOWER and proper, because :math:`\mathbb E_q[p_z / q] = p(x)`; tight where q is the posterior p(e | x). For an own sample e was
there, is one draw of that posterior, and :math:`\log p_z(x, e) - \log q(e \mid x)` is UPPER and proper:
:math:`\mathbb E[q / p_z \mid x] = 1 / p(x)`. (Augmented flows: Huang, Dinh & Courville, 2020; Chen et al., 2020, VFlow.)

Reduce by an even order, then Extend by one, is the stochastic permutation. A VAE as a layer needs nothing: it is a base.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution as TorchDistribution
from torch.nn import functional as F

from genalloy.core.contexts import Context, both, flat
from genalloy.core.distribution import density, draw, needs_gradient
from genalloy.core.evidence import Evidence, Measure
from genalloy.core.part import initialise_inside
from genalloy.core.spec import Module
from genalloy.heads.gaussian import StandardNormal
from genalloy.transforms.layer import Layer, Transform

Shape = tuple[int, ...]


class SurjectionMap(Module, ABC):
    r"""y (\*B, \*whole) <-> core (\*B, \*core_shape) and rest (\*B, \*rest_shape), one to one and without change of volume.

    coordinates: of the rest that are real. Choices (signs, orders) have none: they are a part of the core's own numbers.
    choices: logarithm of the number of rests, where that is finite.
    """

    whole: Shape
    core_shape: Shape
    rest_shape: Shape
    coordinates: int = 0
    choices: float = math.inf

    @abstractmethod
    def apart(self, y: Tensor) -> tuple[Tensor, Tensor]:
        r"""(core (\*B, \*core_shape), rest (\*B, \*rest_shape)) of y (\*B, \*whole)."""

    @abstractmethod
    def together(self, core: Tensor, rest: Tensor) -> Tensor:
        """The inverse of :meth:`apart`."""

    def holds(self, core: Tensor) -> Tensor:
        r"""Whether each core (\*B, \*core_shape) is one: (\*B)."""
        return core.new_ones(core.shape[: core.dim() - len(self.core_shape)], dtype=torch.bool)

    def even(self, core: Tensor) -> Tensor:
        r"""A rest (\*B, \*rest_shape) drawn evenly among all, where they are finitely many."""
        raise NotImplementedError


class Slices(SurjectionMap):
    """The slicing surjection (Nielsen et al., 2020, arXiv:2007.02731): the first axis is cut behind `kept`.

    Core: the first `kept` entries of a vector, or channels of an image; rest: the others, which are real.
    Raises ValueError unless 0 < kept < the axis' size.
    """

    def __init__(self, whole: Shape, kept: int) -> None:
        super().__init__()
        self.whole, self.kept = tuple(whole), kept
        if not 0 < kept < self.whole[0]:
            raise ValueError(f"found {kept} of {self.whole[0]} to keep, expected some of them and not all")
        self.sizes = (kept, self.whole[0] - kept)
        self.core_shape, self.rest_shape = ((n, *self.whole[1:]) for n in self.sizes)
        self.coordinates = math.prod(self.rest_shape)

    def apart(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """The two pieces of y along the first event axis."""
        core, rest = y.split(self.sizes, -len(self.whole))
        return core, rest

    def together(self, core: Tensor, rest: Tensor) -> Tensor:
        """core and rest joined along the first event axis."""
        return torch.cat([core, rest], -len(self.whole))


class Signs(SurjectionMap):
    r"""The absolute value surjection (Nielsen et al., 2020, arXiv:2007.02731): :math:`y = (2 s - 1)\,|y|`.

    Core: :math:`|y|`; rest: s, 1.0 where y >= 0 and else 0.0, one of :math:`2^D`.
    """

    def __init__(self, whole: Shape) -> None:
        super().__init__()
        self.whole = self.core_shape = self.rest_shape = tuple(whole)
        self.choices = math.prod(self.whole) * math.log(2.0)

    def apart(self, y: Tensor) -> tuple[Tensor, Tensor]:
        r"""(\|y\|, 1.0 where y >= 0 and else 0.0), both (\*B, \*whole)."""
        return y.abs(), (y >= 0).to(y.dtype)

    def together(self, core: Tensor, rest: Tensor) -> Tensor:
        """core (2 rest - 1): the sign put back."""
        return core * (2 * rest - 1)

    def holds(self, core: Tensor) -> Tensor:
        """Whether all entries of a core are >= 0."""
        return (core >= 0).flatten(-len(self.whole)).all(-1)

    def even(self, core: Tensor) -> Tensor:
        """D independent fair signs, 0.0 or 1.0."""
        return torch.randint_like(core, 2)


class Sort(SurjectionMap):
    r"""The sorting surjection of vectors (Nielsen et al., 2020, arXiv:2007.02731); rests are one of :math:`D!` orders.

    Core: the entries in increasing order; rest: the place of each in y, a permutation of 0..D-1 as floats, both (\*B, D).
    Raises ValueError where events are not vectors.
    """

    def __init__(self, whole: Shape) -> None:
        super().__init__()
        self.whole = self.core_shape = self.rest_shape = tuple(whole)
        if len(self.whole) != 1:
            raise ValueError(f"found events of shape {self.whole}, expected vectors to sort; put Flatten before")
        self.choices = math.lgamma(self.whole[0] + 1)

    def apart(self, y: Tensor) -> tuple[Tensor, Tensor]:
        r"""The sorted entries and the place in y (\*B, D) that each came from, as floats."""
        core, places = y.sort(-1)
        return core, places.to(y.dtype)

    def together(self, core: Tensor, rest: Tensor) -> Tensor:
        """Each entry of core put back at its place: ``y[rest[i]] = core[i]``."""
        return torch.empty_like(core).scatter(-1, rest.long(), core)

    def holds(self, core: Tensor) -> Tensor:
        """Whether a core never decreases."""
        return (core.diff(dim=-1) >= 0).all(-1)

    def even(self, core: Tensor) -> Tensor:
        """A permutation drawn uniformly from all D!."""
        return torch.rand_like(core).argsort(-1).to(core.dtype)


class Surjection(ABC):
    r"""What Reduce and Extend share, beside :class:`Layer`: the rest's part, called with the core and, where it declares more,
    the context.

    part: core (\*B, \*core_shape), \*context -> distribution of the rest; None for an even choice among finitely many.
    Raises ValueError where that is asked of a rest of real numbers.
    """

    fold: Any
    part: Any

    def hold(self, fold: SurjectionMap, part: nn.Module | None) -> None:
        """The map and the part. Raises ValueError as the class says."""
        self.fold, self.part = fold, part
        if part is None and math.isinf(fold.choices):
            raise ValueError(f"{type(fold).__name__} leaves real numbers: there is no even distribution over them; give a part")

    def _rest(self, core: Tensor, context: Context) -> tuple[TorchDistribution, Shape]:
        r"""Distribution of the rest, and the sample shape that fills the core's batch."""
        distribution = self.part(self._given(core, context))
        batch = core.shape[: core.dim() - len(self.fold.core_shape)]
        return distribution, tuple(batch[: len(batch) - len(distribution.batch_shape)])

    def _given(self, core: Tensor, context: Context) -> Context:
        """What the part is conditional on: the core, and the context where it declares one."""
        shapes = getattr(self.part, "context_shapes", None)
        return core if shapes is None or len(flat(shapes)) == 1 else both(core, context)

    def _draw(self, core: Tensor, context: Context) -> tuple[Tensor, Evidence]:
        """A rest and its log-probability, without measure of its own where it has no coordinates."""
        if self.part is None:
            return self.fold.even(core), self._even(core)
        distribution, missing = self._rest(core, context)
        if getattr(self, "differentiable", True) and any(p.requires_grad for p in self.part.parameters()):
            needs_gradient(distribution, f"part of {type(self).__name__}({type(self.fold).__name__})")
        rest, evidence = draw(distribution, missing)
        return rest, self._measured(evidence)

    def _density(self, rest: Tensor, core: Tensor, context: Context) -> Evidence:
        if self.part is None:
            return self._even(core)
        return self._measured(density(self._rest(core, context)[0], rest))

    def _even(self, core: Tensor) -> Evidence:
        return Evidence.exact(core.new_full(core.shape[: core.dim() - len(self.fold.core_shape)], -self.fold.choices))

    def _measured(self, evidence: Evidence) -> Evidence:
        return replace(evidence, measure=Measure(self.fold.coordinates))


class Reduce(Surjection, Layer):
    r"""x -> core; back, the rest is drawn from p(rest | core) (Nielsen et al., 2020, arXiv:2007.02731).

    .. math:: \log p(x) = \log p(\mathrm{core}) + \log p(\mathrm{rest} \mid \mathrm{core}),

    with the label of the second term both ways; without a part it is minus the logarithm of the number of rests, EXACT.
    fold: what core and rest are. part: of the rest given the core, see :class:`Surjection`.

    Raises ValueError where an own sample's core is none (negative, not in order): the base does not live there.
    """

    def __init__(self, fold: SurjectionMap, part: nn.Module | None = None) -> None:
        super().__init__()
        self.hold(fold, part)
        self.measure = Measure(fold.coordinates)
        # a choice that depends on parameters carries no gradient to them
        self.differentiable = part is None or fold.coordinates > 0

    def encode(self, x: Tensor, context: Context = None) -> tuple[Tensor, Evidence]:
        r"""x (\*B, \*whole) -> core, and log p(rest \| core) (\*B) in nats."""
        core, rest = self.fold.apart(x)
        return core, self._density(rest, core, context)

    def decode(self, z: Tensor, context: Context = None) -> tuple[Tensor, Evidence]:
        r"""core -> x with its rest drawn from p(rest \| core), and log p(rest \| core) (\*B) in nats.

        Raises ValueError where a core is none.
        """
        if not self.fold.holds(z).all():
            raise ValueError(
                f"found a base outside of what {type(self.fold).__name__} leaves behind; follow it by Positive or Ordered, "
                "which map all reals there"
            )
        rest, evidence = self._draw(z, context)
        return self.fold.together(z, rest), evidence

    def out_shape(self, shape: Shape) -> Shape:
        """The core's shape."""
        return self.fold.core_shape

    def initialise(self, x: Tensor, context: Context = None) -> None:
        r"""Hands the rests of x (\*B, \*whole) on to the part, with their cores and the context as its context."""
        core, rest = self.fold.apart(x)
        initialise_inside(self.part, rest, self._given(core, context))


class Extend(Surjection, Layer):
    r"""x -> (x, e) with e from q(e | x), and back the core alone (augmented flows: Huang et al., 2020, arXiv:2002.07101).

    .. math:: \log p(x) \ge \mathbb E_{q(e \mid x)}[\log p_z(x, e) - \log q(e \mid x)],

    LOWER and proper for a given x, UPPER and proper for an own sample; -inf where x is no core. See the module's text.
    """

    def __init__(self, fold: SurjectionMap, part: nn.Module | None = None) -> None:
        super().__init__()
        self.hold(fold, part)
        self.measure = Measure(-fold.coordinates)

    def encode(self, x: Tensor, context: Context = None) -> tuple[Tensor, Evidence]:
        r"""x -> (x, e) put together, e drawn from q(e \| x), and -log q(e \| x) (\*B) in nats: LOWER.

        The contribution is -inf where x is no core.
        """
        rest, evidence = self._draw(x, context)
        invented = (-evidence).below(f"{type(self.fold).__name__.lower()} imputed, 1 sample")
        value = torch.where(self.fold.holds(x), invented.value, -torch.inf)
        return self.fold.together(x, rest), replace(invented, value=value)

    def decode(self, z: Tensor, context: Context = None) -> tuple[Tensor, Evidence]:
        r"""z (\*B, \*whole) -> its core, and -log q(rest \| core) (\*B) in nats: UPPER."""
        core, rest = self.fold.apart(z)
        return core, (-self._density(rest, core, context)).above(f"{type(self.fold).__name__.lower()} dropped, 1 sample")

    def out_shape(self, shape: Shape) -> Shape:
        """The shape of core and rest together."""
        return self.fold.whole


def augment(shape: Shape, extra: int, part: nn.Module | None = None) -> Extend:
    r"""x (\*B, \*shape) -> with `extra` further entries (channels of an image) from q(e | x), N(0, I) where `part` is None.

    Chen et al., 2020, arXiv:2002.09741 (VFlow).
    """
    fold = Slices((shape[0] + extra, *shape[1:]), shape[0])
    return Extend(fold, StandardNormal(fold.rest_shape) if part is None else part)


def shuffle(dims: int) -> list[Layer]:
    r"""The stochastic permutation of vectors (\*B, dims) (Nielsen et al., 2020, arXiv:2007.02731): an even order each way.

    LOWER for a given x, UPPER for an own sample, both proper.
    """
    return [Reduce(Sort((dims,))), Extend(Sort((dims,)))]


class Positive(Transform):
    r"""Positive numbers to all reals: :math:`z = \log(e^x - 1)` of slope :math:`1 / (1 - e^{-x})`; back, softplus.

    x (\*B, \*E) of `event_dims` axes. At x = 0 the code is that of the least positive number, so that it stays finite.
    """

    def __init__(self, event_dims: int = 1) -> None:
        super().__init__()
        self.event_dims = event_dims

    def encode(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        r"""(:math:`\log(e^x - 1)`, minus the sum of :math:`\log(1 - e^{-x})` over the event (\*B))."""
        z, log_slope = _from_positive(x)
        return z, log_slope.flatten(-self.event_dims).sum(-1)

    def decode(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        r"""(softplus(z), the sum of :math:`\log \sigma(z)` over the event (\*B))."""
        return F.softplus(z), F.logsigmoid(z).flatten(-self.event_dims).sum(-1)


class Ordered(Transform):
    r"""Increasing vectors (\*B, D) to all reals: :math:`z_1 = x_1`, :math:`z_i = \log(e^{x_i - x_{i-1}} - 1)`."""

    def encode(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        r"""Increasing x (\*B, D) -> (z, log-determinant (\*B), which sums :math:`-\log(1 - e^{x_{i-1} - x_i})` over the gaps)."""
        gaps, log_slope = _from_positive(x.diff(dim=-1))
        return torch.cat([x[..., :1], gaps], -1), log_slope.sum(-1)

    def decode(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        r"""z (\*B, D) -> (x, the sum of :math:`\log \sigma(z_i)` over i > 1), by cumulative sums of positive gaps."""
        first, gaps = z[..., :1], z[..., 1:]
        return torch.cat([first, F.softplus(gaps)], -1).cumsum(-1), F.logsigmoid(gaps).sum(-1)


def _from_positive(x: Tensor) -> tuple[Tensor, Tensor]:
    """(log(e^x - 1), log of its slope 1 / (1 - e^-x)), elementwise, finite at 0."""
    x = x.clamp(min=torch.finfo(x.dtype).tiny)
    log_rest = torch.log(-torch.expm1(-x))
    return x + log_rest, -log_rest
