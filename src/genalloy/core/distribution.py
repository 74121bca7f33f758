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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution as TorchDistribution
from torch.distributions import TransformedDistribution
from torch.distributions.utils import _sum_rightmost

from genalloy.core.evidence import Evidence, Kind, Measure, Unavailable

Shape = tuple[int, ...]


class Distribution(TorchDistribution, ABC):
    r"""p(x | c) as a value: ``event_shape`` E, ``batch_shape`` B.

    ``measure`` is the base measure as a unit (how many Lebesgue and counting coordinates); ``has_rsample`` tells whether
    gradients flow through :meth:`rsample`.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012
    has_rsample = True

    def __init__(self, batch_shape: Shape, event_shape: Shape, measure: Measure) -> None:
        super().__init__(torch.Size(batch_shape), torch.Size(event_shape), validate_args=False)
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
        return f"{type(self).__name__}(batch_shape={tuple(self.batch_shape)}, event_shape={tuple(self.event_shape)})"


@dataclass(frozen=True, eq=False)
class Masked:
    r"""Observations with missing or padded entries: x (\*B, \*E), mask (\*B, \*E) True where observed.

    One mechanism for missing values and for the padding of sequences of unequal length. Factorised heads sum over
    the observed entries, autoregressive models have the exact density of a beginning of their order; all others see whole
    observations only: what they ask of a tensor raises Unavailable here, in one sentence, instead of scoring the padding.
    """

    x: Tensor
    mask: Tensor

    @staticmethod
    def of(rows: Sequence[Tensor], steps: int | None = None) -> Masked:
        r"""Rows (n_i, \*F) of unequal lengths as one batch (B, T, \*F), zeros behind each; T: `steps`, or the longest length.

        Raises ValueError without rows, or where one is longer than `steps`.
        """
        lengths = torch.tensor([len(row) for row in rows])
        if not len(lengths) or (steps is not None and int(lengths.max()) > steps):
            raise ValueError(f"found rows of {sorted(set(lengths.tolist()))[-3:]} steps, expected one or more of at most {steps}")
        x = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
        missing = x.new_zeros(len(x), (steps or x.shape[1]) - x.shape[1], *x.shape[2:])
        return Masked.first(torch.cat([x, missing], 1), lengths)

    @staticmethod
    def first(x: Tensor, lengths: Tensor) -> Masked:
        r"""The first lengths (B,) steps of rows x (B, T, \*F); the mask costs no memory along F."""
        mask = torch.arange(x.shape[1], device=x.device) < lengths.to(x.device)[:, None]
        return Masked(x, mask.reshape(*mask.shape, *(1,) * (x.dim() - 2)).expand(x.shape))

    @property
    def shape(self) -> torch.Size:
        return self.x.shape

    @property
    def device(self) -> torch.device:
        return self.x.device

    @property
    def dtype(self) -> torch.dtype:
        return self.x.dtype

    @property
    def steps(self) -> int:
        r"""T of a batch (B, T, \*F), padding included."""
        return int(self.x.shape[1])

    @property
    def lengths(self) -> Tensor:
        r"""Observed steps (B,) of a batch (B, T, \*F)."""
        return self.mask.flatten(2).any(-1).sum(1) if self.mask.dim() > 2 else self.mask.sum(1)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: Any) -> Masked:
        """Rows by a slice, an index tensor or a number."""
        return Masked(self.x[index], self.mask[index])

    def to(self, *to: Any) -> Masked:
        """Another device or dtype; the mask stays a mask."""
        x = self.x.to(*to)
        return Masked(x, self.mask.to(x.device))

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and hasattr(Tensor, name):
            raise Unavailable(WHOLE_ONLY)
        raise AttributeError(f"Masked has no attribute {name!r}")

    @classmethod
    def __torch_function__(cls, *call: Any) -> Any:
        raise Unavailable(WHOLE_ONLY)


WHOLE_ONLY = (
    "found rows with missing or padded entries, which this model cannot take; autoregressive models and factorised heads can: "
    "choose such a recipe (made, a transformer), or cut all rows to one length"
)


def leading(x: Tensor, event_shape: Shape) -> Shape:
    r"""The (\*S, \*B) part of x. Raises ValueError where x does not end in `event_shape`."""
    cut = x.dim() - len(event_shape)
    if cut < 0 or tuple(x.shape[cut:]) != tuple(event_shape):
        raise ValueError(f"found an observation of shape {tuple(x.shape)}, expected one that ends in {tuple(event_shape)}")
    return tuple(x.shape[:cut])


def sum_event(x: Tensor, event_dims: int) -> Tensor:
    """Sum over the last `event_dims` axes."""
    return x.flatten(-event_dims).sum(-1) if event_dims else x


def measure_of(distribution: TorchDistribution) -> Measure:
    """Base measure of any distribution; plain torch ones by their support."""
    own = getattr(distribution, "measure", None)
    if own is not None:
        return own
    dims, support = distribution.event_shape.numel(), _support(distribution)
    return Measure(0, dims) if support is not None and support.is_discrete else Measure(dims, 0)


def _support(distribution: TorchDistribution) -> Any:
    """The support, None where a third party's distribution does not tell (it is then taken to be all reals)."""
    try:
        return distribution.support
    except NotImplementedError:
        return None


def density(distribution: TorchDistribution, x: Tensor) -> Evidence:
    """`distribution.density(x)`; plain torch distributions are adapted as EXACT, -inf outside their support.

    Raises ValueError where x does not end in the distribution's event shape.
    """
    if hasattr(distribution, "density"):
        return distribution.density(x)
    leading(x, distribution.event_shape)
    return Evidence.exact(_torch_log_prob(distribution, x), "closed form", measure_of(distribution))


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


def needs_gradient(distribution: TorchDistribution, role: str) -> None:
    """Raise where gradients are wanted through samples that carry none."""
    if torch.is_grad_enabled() and not distribution.has_rsample:
        raise Unavailable(
            f"the {role} ({type(distribution).__name__}) draws samples that carry no gradient; use a reparameterised part "
            "there (Gaussian, a flow), a relaxed one (Gumbel-softmax), or fit it in a phase of its own"
        )
