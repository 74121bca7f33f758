r"""Distributions as values: ``density`` for points given from outside, ``draw`` for one's own samples.

For a latent-variable model :math:`p(x) = \int p(x|z)\,p(z)\,dz` with posterior :math:`r(z|x)`,

.. math:: \texttt{density}(x) = \log p(x|z) + \log p(z) - \log r(z|x), \quad z \sim r(\cdot|x),

in which :math:`\log p(z)` and :math:`\log p(x|z)` are evaluated at points from outside (``density``) while
:math:`\log r` is evaluated at its own sample (``draw``). If :math:`r` has hidden variables of its own, ``density`` would
give a *lower* bound of :math:`\log r`, which under the minus sign is an upper bound of the whole; ``draw`` gives an
*upper* bound, and the signs work out for any nesting (Cusumano-Towner & Mansinghka, 2017, "assess" and "propose").

Plain ``torch.distributions`` are accepted everywhere by the functions :func:`density` and :func:`draw`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution as TorchDistribution
from torch.distributions import Independent, TransformedDistribution, kl_divergence
from torch.distributions.utils import _sum_rightmost

from genalloy.core.evidence import Evidence, Kind, Measure, Unavailable, measure_over
from genalloy.core.observations import RecordShape, Shape, event, leading, observation, presence, present_measure
from genalloy.core.shapes import broadcast_shapes


class Distribution(TorchDistribution, ABC):
    r"""p(x | c) as a value: ``event_shape`` E, ``batch_shape`` B.

    Records have a dict of event shapes, one for each part. ``measure`` is the base measure as a unit (how many Lebesgue and
    counting coordinates); ``has_rsample`` tells whether gradients flow through :meth:`rsample`.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012
    has_rsample = True

    def __init__(self, batch_shape: Shape, event_shape: Any, measure: Measure) -> None:
        shape = event(event_shape)
        shape = shape if isinstance(shape, RecordShape) else torch.Size(shape)
        super().__init__(torch.Size(batch_shape), shape, validate_args=False)  # type: ignore[arg-type]
        self.measure = measure

    @abstractmethod
    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        r"""Samples, (\*S, \*B, \*E)."""

    @abstractmethod
    def density(self, x: Tensor) -> Evidence:
        r"""Log-density of x from outside, (\*S, \*B, \*E) -> (\*S, \*B); hidden variables are imputed, so LOWER at best."""

    def draw(self, sample_shape: Shape = ()) -> tuple[Tensor, Evidence]:
        """Own sample with what its own hidden choices allow: EXACT or UPPER. By default the density of the sample."""
        x = self.rsample(sample_shape)
        return x, self.density(x)

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Samples without gradients."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """density(value).value where it is EXACT.

        Raises:
            Unavailable: where the density is a bound, an estimate or absent; names density() and what would help.
        """
        evidence = self.density(value)
        if evidence.kind is Kind.EXACT:
            return evidence.value
        raise Unavailable(
            f"{type(self).__name__} has no exact log_prob: its density is {evidence.kind.value} ({evidence.how}). "
            "Use density(x), which returns the number with its label"
            + ("" if evidence.kind is Kind.NONE else ", or an estimator such as ImportanceWeighted(k)(distribution, x)")
        )

    def unwrap(self, x: Tensor) -> tuple[Any, Tensor, Evidence | None] | None:
        """(inner distribution, inner x, contribution) of fixed preprocessing; None where there is nothing to unwrap."""
        return None

    def __repr__(self) -> str:
        return f"{type(self).__name__}(batch_shape={tuple(self.batch_shape)}, event_shape={_words(self.event_shape)})"


def _words(event_shape: Any) -> Any:
    return {n: _words(s) for n, s in event_shape.items()} if isinstance(event_shape, dict) else tuple(event_shape)


def sum_event(x: Tensor, event_dims: int) -> Tensor:
    """Sum over the last `event_dims` axes."""
    return x.flatten(-event_dims).sum(-1) if event_dims else x


def measure_of(distribution: TorchDistribution) -> Measure:
    """Base measure of any distribution; plain torch ones by their support."""
    own = getattr(distribution, "measure", None)
    if own is not None:
        return own
    dims, support = distribution.event_shape.numel(), _support(distribution)
    return measure_over(dims, support is not None and support.is_discrete)


def _support(distribution: TorchDistribution) -> Any:
    """The support, None where a third party's distribution does not tell (it is then taken to be all reals)."""
    try:
        return distribution.support
    except NotImplementedError:
        return None


def density(distribution: TorchDistribution, x: Any) -> Evidence:
    """`distribution.density(x)`; plain torch distributions are adapted as EXACT, -inf outside their support.

    x: a tensor, a Masked or a record; a dict is taken for one. Raises ValueError where x does not end in the distribution's event
    shape.
    """
    x = observation(x)
    if hasattr(distribution, "density"):
        return distribution.density(x)
    leading(x, distribution.event_shape)
    return Evidence.exact(_torch_log_prob(distribution, x), "closed form", measure_of(distribution))


def observed_density(distribution: TorchDistribution, x: Any) -> Evidence:
    r"""density(distribution, x), and 0 for the rows of a Masked x of which nothing is observed.

    Where every row is whole or absent, any distribution will do; rows with holes need one that takes Masked.
    """
    filled, there = presence(x, distribution.event_shape)
    if there is not None and not bool(there.any()):
        lead = broadcast_shapes(there.shape, distribution.batch_shape)
        return Evidence.exact(torch.zeros(lead, device=x.device), "nothing observed")
    evidence = density(distribution, filled)
    if there is None or filled is x:
        return evidence
    return replace(evidence.where(there), measure=present_measure(evidence.measure, there))


def _torch_log_prob(distribution: TorchDistribution, x: Tensor) -> Tensor:
    """log_prob with an explicit support check; torch alone raises, or without validation returns nonsense."""
    support = _support(distribution)
    inside = x.new_ones(()) if support is None else support.check(x)
    if inside.all():
        return distribution.log_prob(x)
    events = inside.dim() - (x.dim() - len(distribution.event_shape))
    whole = inside.flatten(-events).all(-1) if events > 0 else inside
    safe = distribution.sample(x.shape[: whole.dim() - len(distribution.batch_shape)])
    filled = torch.where(whole.reshape(whole.shape + (1,) * len(distribution.event_shape)), x, safe)
    return torch.where(whole, distribution.log_prob(filled), -torch.inf)


def draw(distribution: TorchDistribution, sample_shape: Shape = ()) -> tuple[Tensor, Evidence]:
    """`distribution.draw(sample_shape)`; plain torch distributions give sample and EXACT density in one pass."""
    if hasattr(distribution, "draw"):
        return distribution.draw(sample_shape)
    if isinstance(distribution, TransformedDistribution):
        x, value = _transformed_draw(distribution, sample_shape)
    else:
        x = distribution.rsample(sample_shape) if distribution.has_rsample else distribution.sample(sample_shape)
        value = distribution.log_prob(x)
    return x, Evidence.exact(value, "closed form", measure_of(distribution))


def _transformed_draw(distribution: TransformedDistribution, sample_shape: Shape) -> tuple[Tensor, Tensor]:
    """Density along the way: inverting a saturated Tanh afterwards gives non-finite numbers."""
    base = distribution.base_dist
    x = base.rsample(sample_shape) if base.has_rsample else base.sample(sample_shape)
    value, events = base.log_prob(x), len(base.event_shape)
    for transform in distribution.transforms:
        y = transform(x)
        ladj = transform.log_abs_det_jacobian(x, y)
        extra = transform.domain.event_dim - events
        value = _sum_rightmost(value, max(extra, 0))
        events = max(events, transform.domain.event_dim)
        value = value - _sum_rightmost(ladj, events - transform.domain.event_dim)
        events += transform.codomain.event_dim - transform.domain.event_dim
        x = y
    return x, _sum_rightmost(value, len(distribution.event_shape) - events)


def kl(q: Any, p: Any) -> Tensor | None:
    r"""KL(q || p) in closed form, (\*B, units), nats; None where it is not known.

    `q.kl(p)` where q offers it, otherwise torch's for plain torch distributions. One unit for each element of the event where
    both sides factorise over elements, otherwise a single one; their sum is the divergence.
    """
    known = q.kl(p) if hasattr(q, "kl") else None
    if known is not None or isinstance(q, Distribution) or isinstance(p, Distribution):
        return known
    apart = type(q) is type(p) is Independent and q.reinterpreted_batch_ndims == p.reinterpreted_batch_ndims
    try:
        elements = kl_divergence(q.base_dist, p.base_dist) if apart else kl_divergence(q, p)
    except NotImplementedError:
        return None
    return elements.flatten(-q.reinterpreted_batch_ndims) if apart else elements.unsqueeze(-1)


def needs_gradient(distribution: TorchDistribution, role: str) -> None:
    """Raise where gradients are wanted through samples that carry none."""
    if torch.is_grad_enabled() and not distribution.has_rsample:
        raise Unavailable(
            f"the {role} ({type(distribution).__name__}) draws samples that carry no gradient; use a reparameterised part "
            "there (Gaussian, a flow), a relaxed one (Gumbel-softmax), or fit it in a phase of its own"
        )
