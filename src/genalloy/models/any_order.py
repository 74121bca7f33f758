r"""Order-agnostic autoregressive models (Uria, Murray & Larochelle, 2014): autoregressive diffusion (Hoogeboom et al., 2022).

One network reads any part :math:`x_S` of an observation of D entries and gives the conditional :math:`p(x_k | x_S)` of each of
the others. An order :math:`\sigma`, taken in blocks of sizes :math:`n_1, \dots, n_B` that start at
:math:`s_b = n_1 + \dots + n_{b-1}`, makes a law of these, in which the entries of a block are drawn at once, each on its own:

.. math:: \log p(x | \sigma) = \sum_b \sum_{s_b \le k < s_b + n_b} \log p(x_{\sigma_k} | x_{\sigma_{<s_b}}).

Nothing makes different orders agree. Where every sample takes an order of its own, uniformly, the model is the mixture
:math:`p(x) = E_\sigma\, p(x|\sigma)`, of which may be said:

* v = log p(x|sigma), sigma drawn without regard to x: :math:`E\,e^v = p(x)`, LOWER and proper.
* the same v of an own sample under its own sigma, which given x has the law :math:`p(x|\sigma) / (D!\, p(x))`:
  :math:`E[e^{-v} | x] = \sum_\sigma 1 / (D!\, p(x)) = 1 / p(x)`, UPPER and proper.
* one pass of the network instead of B. Behind :math:`s_b` all entries of a random order are alike, so that, with t uniform
  on 0..D-1 and s(t) the start of its block,

  .. math:: E_\sigma \log p(x|\sigma)
            = E_t\, E_\sigma\; D \operatorname*{mean}_{k \ge s(t)} \log p(x_{\sigma_k} | x_{\sigma_{<s(t)}}).

  LOWER by Jensen. Not proper: its noise stands in the logarithm, and :math:`E\,e^v` may exceed p(x).

The nats an entry when t are known, :math:`L_t = -E \operatorname{mean}_{k \ge t} \log p(x_{\sigma_k} | x_{\sigma_{<t}})`, are D
numbers from which the cost of any blocks follows, :math:`\sum_b n_b L_{s_b}`. The best ones for B steps are found by
:math:`C_b(j) = \min_{i<j} C_{b-1}(i) + (j - i) L_i`, the least cost of j entries in b steps (Watson, Ho, Norouzi & Chan, 2021).
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import torch
from torch import Tensor

from genalloy.core.contexts import Context, Shapes, batch_of, shapes_of
from genalloy.core.distribution import Distribution, Shape
from genalloy.core.evidence import Evidence, Kind, Measure, measure_over
from genalloy.core.observations import leading
from genalloy.core.part import Part
from genalloy.core.shapes import broadcast_shapes
from genalloy.core.spec import Value
from genalloy.heads.head import Factorised, Head

Entries = tuple[int, ...]
"""Flat event indices, sorted."""
ORDERS = 8
"""Random orders of which the mean is p(x) where completions are weighed and all orders are too many."""
MOST_ENUMERATED = 10
"""Entries of which all orders are summed at most: 2^10 passes."""


def schedule(losses: Tensor, budget: int) -> tuple[int, ...]:
    r"""Sizes of the `budget` blocks (no more than D) that cost least, from L_t (D,) (Watson et al., 2021, arXiv:2106.03802).

    .. math:: C_b(j) = \min_{i<j} C_{b-1}(i) + (j - i) L_i

    Of order :math:`D^2` operations a block. Raises ValueError where the budget is below 1.
    """
    dims = len(losses)
    if budget < 1:
        raise ValueError(f"found a budget of {budget} steps, expected at least 1")
    known = torch.arange(dims + 1, device=losses.device)
    gap = known - known[:dims, None]
    cost = (gap * losses.double()[:, None]).masked_fill(gap <= 0, torch.inf)
    best, came = cost.new_full((dims + 1,), torch.inf), []
    best[0] = 0.0
    for _ in range(min(budget, dims)):
        best, parent = (best[:dims, None] + cost).min(0)
        came.append(parent.tolist())
    edges = [dims]
    for parents in reversed(came):
        edges.append(parents[edges[-1]])
    return tuple(a - b for a, b in pairwise(edges))[::-1]


def even(dims: int, budget: int) -> tuple[int, ...]:
    """Sizes of `budget` blocks that differ by one at most: what one takes before any loss was measured."""
    steps = min(budget, dims)
    edges = [dims * b // steps for b in range(steps + 1)]
    return tuple(b - a for a, b in pairwise(edges))


def bound(losses: Tensor, sizes: tuple[int, ...] = ()) -> float:
    """-sum_b n_b L_{s_b}, nats an observation: the lower bound of log p(x) under these blocks; without sizes, one by one."""
    return -float(losses.double()[_starts(sizes or (1,) * len(losses)).to(losses.device)].sum())


def _starts(sizes: tuple[int, ...]) -> Tensor:
    """s(t): the start of the block that t lies in, (D,)."""
    n = torch.tensor(sizes)
    return (n.cumsum(0) - n).repeat_interleave(n)


class SamplingOrder(Value, ABC):
    """How samples come about, and with that what law p(x) is: sizes of the blocks, and the order."""

    sizes: tuple[int, ...] = ()

    def steps(self, dims: int) -> tuple[int, ...]:
        """Sizes of the blocks of D entries. Raises ValueError where they do not sum to D."""
        if self.sizes and (sum(self.sizes) != dims or min(self.sizes) < 1):
            raise ValueError(f"found blocks that sum to {sum(self.sizes)}, expected sizes of at least 1 that sum to {dims}")
        return self.sizes or (1,) * dims

    def keys(self, like: Tensor) -> Tensor:
        r"""A number for each entry, the shape of `like` (\*B, D): entries of small keys come first. Random by default."""
        return torch.rand_like(like)

    def estimate(self, asked: LikelihoodEstimator) -> LikelihoodEstimator:
        """What density() is computed by, where `asked` is asked for."""
        return asked

    def begins(self, known: Tensor, sizes: tuple[int, ...]) -> bool:
        r"""Whether every order of the law has whole blocks that hold the entries `known` (\*B, D) first, and no others."""
        return bool((known.all(-1) | ~known.any(-1)).all())

    @property
    def completion(self) -> str:
        """In what order the rest is drawn, in words."""
        return "the rest in random orders that begin with what is given"


@dataclass(frozen=True)
class OneByOne(SamplingOrder):
    """One entry at a time, each sample in a random order of its own: D passes (Hoogeboom et al., 2022, arXiv:2110.02037)."""


@dataclass(frozen=True)
class Parallel(SamplingOrder):
    """Blocks of these sizes, whose entries are drawn at once; each sample in a random order of its own: one pass a block.
    Sizes of least cost come from :func:`schedule` (Watson et al., 2021, arXiv:2106.03802).
    """

    sizes: tuple[int, ...] = ()


@dataclass(frozen=True)
class FixedOrder(SamplingOrder):
    """Flat event indices in the order of generation, the same for every sample.

    Densities are then EXACT, of this order's law, by B passes, whatever estimate is asked for. Raises ValueError, from the model,
    where it is not a permutation.
    """

    order: tuple[int, ...]
    sizes: tuple[int, ...] = ()

    def steps(self, dims: int) -> tuple[int, ...]:
        """Sizes of the blocks of D entries. Raises ValueError where they do not sum to D, or the order is no permutation."""
        if sorted(self.order) != list(range(dims)):
            raise ValueError(f"found order {self.order}, expected a permutation of 0..{dims - 1}")
        return super().steps(dims)

    def keys(self, like: Tensor) -> Tensor:
        """The place of each entry in the order, the same for every row."""
        return torch.tensor(self.order, device=like.device).argsort().to(like.dtype).expand_as(like)

    def estimate(self, asked: LikelihoodEstimator) -> LikelihoodEstimator:
        """:class:`ThisOrder`, whatever is asked for: there is one order, and its density is known."""
        return ThisOrder()

    def begins(self, known: Tensor, sizes: tuple[int, ...]) -> bool:
        """Whether known entries are the first ones of the order, and fill whole blocks."""
        inside, ends = known[..., list(self.order)], torch.tensor((0, *sizes)).cumsum(0).to(known.device)
        count = inside.sum(-1, keepdim=True)
        return bool(((count == ends).any(-1) & ~(inside[..., 1:] & ~inside[..., :-1]).any(-1)).all())

    @property
    def completion(self) -> str:
        """In what order the rest is drawn, in words."""
        return "the rest in the fixed order, as if what is given had come first"


class LikelihoodEstimator(Value, ABC):
    """(distribution, x) -> Evidence of log p(x), the mixture over orders; and what may be said of an own sample."""

    def check(self, dims: int) -> None:
        """Raise ValueError where D entries are too many."""

    @abstractmethod
    def __call__(self, distribution: AnyOrderDistribution, x: Tensor) -> Evidence:
        r"""The claim on log p(x), (\*B), of rows x (\*B, \*E)."""

    def own(self, distribution: AnyOrderDistribution, x: Tensor, value: Tensor) -> Evidence:
        """From log p(x | sigma) of the order that made x."""
        return Evidence(value, Kind.UPPER, f"own random order{distribution.words}", True, None, distribution.measure)


@dataclass(frozen=True)
class RandomStep(LikelihoodEstimator):
    r"""The bound by one pass: LOWER, not proper; what training takes (Hoogeboom et al., 2022, arXiv:2110.02037).

    .. math:: \log p(x) \ge E_t\, E_\sigma\; D \operatorname*{mean}_{k \ge s(t)} \log p(x_{\sigma_k} | x_{\sigma_{<s(t)}})

    draws: values of t, stratified, averaged; with two or more there is a standard error (from neighbouring strata, a little
    too large). learning: the same where gradients are enabled. Rows of a batch share one random shift, so that every batch
    covers all t evenly.
    """

    draws: int = 1
    learning: int = 1

    def __call__(self, distribution: AnyOrderDistribution, x: Tensor) -> Evidence:
        draws = self.learning if torch.is_grad_enabled() else self.draws
        terms = torch.stack([self._term(distribution, x, stratum, draws) for stratum in range(draws)])
        words = f"{draws} random step{'s' * (draws > 1)} of a random order{distribution.words}"
        stderr = _stderr(terms.detach()) if draws > 1 else None
        return Evidence(terms.mean(0), Kind.LOWER, words, False, stderr, distribution.measure)

    def _term(self, distribution: AnyOrderDistribution, x: Tensor, stratum: int, draws: int) -> Tensor:
        lead, dims = leading(x, tuple(distribution.event_shape)), distribution.dims
        rows = math.prod(lead)
        place = (torch.randperm(rows, device=x.device).to(x) / rows + torch.rand_like(x.flatten()[0])) % 1
        t = ((stratum + place) / draws * dims).long().clamp(max=dims - 1).reshape(lead)
        start = _starts(distribution.sizes).to(x.device)[t]
        return dims * distribution.remaining(x, distribution.random_part(x, start))


def _stderr(terms: Tensor) -> Tensor:
    """Strata are independent, and their means vary slowly from one to the next."""
    gaps = terms[1:] - terms[:-1]
    return (gaps.square().mean(0) / 2 / len(terms)).sqrt()


@dataclass(frozen=True)
class RandomOrder(LikelihoodEstimator):
    r""":math:`\log \frac1k \sum_i p(x | \sigma_i)` over k = `draws` random orders (Uria et al., 2014, arXiv:1310.1757).
    B passes each. LOWER and proper, rising to log p(x).
    """

    draws: int = 1

    def __call__(self, distribution: AnyOrderDistribution, x: Tensor) -> Evidence:
        values = torch.stack([distribution.along(x, distribution.orders(x)) for _ in range(self.draws)])
        words = f"{self.draws} random order{'s' * (self.draws > 1)}{distribution.words}"
        return Evidence(values, Kind.LOWER, words, True, None, distribution.measure).log_mean_exp(0, words)


@dataclass(frozen=True)
class EveryOrder(LikelihoodEstimator):
    r"""EXACT: the mean of p(x | sigma) over all orders, for at most ten entries. 2^D passes and not D!: orders that meet in a
    set T of s + n entries are summed there,

    .. math:: A(T) = \binom{D - s}{n}^{-1} \sum_{S \subset T, |S| = s} A(S) \prod_{k \in T \setminus S} p(x_k | x_S).
    """

    def check(self, dims: int) -> None:
        """Raise ValueError where D entries are more than ten: the orders are summed by 2^D passes."""
        if dims > MOST_ENUMERATED:
            raise ValueError(f"found {dims} entries, expected at most {MOST_ENUMERATED} for EveryOrder; take RandomOrder(draws)")

    def __call__(self, distribution: AnyOrderDistribution, x: Tensor) -> Evidence:
        dims, start = distribution.dims, 0
        reached: dict[Entries, Tensor] = {(): x.new_zeros(leading(x, tuple(distribution.event_shape)))}
        for size in distribution.sizes:
            terms = {s: distribution.given(x, s) for s in reached}
            weight = math.log(math.comb(dims - start, size))
            start += size
            reached = {
                t: torch.stack([reached[s] + terms[s][..., _rest(t, s)].sum(-1) for s in combinations(t, start - size)])
                .logsumexp(0) - weight
                for t in combinations(range(dims), start)
            }  # fmt: skip
        return Evidence.exact(reached[tuple(range(dims))], f"every order{distribution.words}", distribution.measure)

    def own(self, distribution: AnyOrderDistribution, x: Tensor, value: Tensor) -> Evidence:
        """The density itself, whichever order made x."""
        return self(distribution, x)


def _rest(whole: Entries, part: Entries) -> list[int]:
    return sorted(set(whole) - set(part))


@dataclass(frozen=True)
class ThisOrder(LikelihoodEstimator):
    """EXACT: the density under the one order that there is, B passes."""

    def __call__(self, distribution: AnyOrderDistribution, x: Tensor) -> Evidence:
        return self.own(distribution, x, distribution.along(x, distribution.orders(x)))

    def own(self, distribution: AnyOrderDistribution, x: Tensor, value: Tensor) -> Evidence:
        r"""EXACT: `value` (\*B) itself, since x was made in the one order that there is."""
        return Evidence.exact(value, f"product of conditionals, fixed order{distribution.words}", distribution.measure)


class AnyOrder(Part):
    r"""p(x | c) as a mixture over orders (Uria et al., 2014, arXiv:1310.1757; Hoogeboom et al., 2022, arXiv:2110.02037).

    .. math:: p(x | c) = E_\sigma \prod_k p(x_{\sigma_k} | x_{\sigma_{<k}}, c)

    network: (x, known, context) -> (\*B, \*E, width), x and the bool tensor `known` (\*B, \*E); it must not see x elsewhere than
    where known. head: what its parameters mean. generation: OneByOne(), Parallel(sizes) or FixedOrder(order). estimate: what
    density() returns, RandomStep(draws), RandomOrder(draws) or EveryOrder(). Raises ValueError where network and head disagree on
    the width, or sizes and order do not fit the event.
    """

    measure: Measure

    def __init__(
        self,
        network: Any,
        head: Head,
        event_shape: Shape,
        context_shapes: Shapes = (),
        generation: SamplingOrder = OneByOne(),
        estimate: LikelihoodEstimator = RandomStep(),
    ) -> None:
        super().__init__()
        self.network, self.head, self.event_shape = network, head, tuple(event_shape)
        self.context_shapes = shapes_of(context_shapes)
        self.generation, self.estimate = generation, estimate
        width = getattr(network, "width", head.width)
        if width != head.width:
            raise ValueError(f"the network gives {width} parameters an element, {type(head).__name__} expects {head.width}")
        dims = math.prod(self.event_shape)
        self.measure, self.has_rsample = measure_over(dims, head.discrete), False
        generation.steps(dims)
        estimate.check(dims)

    def forward(self, context: Context = None) -> AnyOrderDistribution:
        r"""The distribution of x given c, with events (\*E) and the batch of the context's parts, () without one."""
        return AnyOrderDistribution(self, context)

    def under(self, generation: SamplingOrder | None = None, estimate: LikelihoodEstimator | None = None) -> AnyOrder:
        """The same weights under another law, or another estimate."""
        new = (generation or self.generation, estimate or self.estimate)
        return AnyOrder(self.network, self.head, self.event_shape, self.context_shapes, *new)

    def step_losses(self, x: Tensor, context: Context = None, draws: int = 1) -> Tensor:
        """See :meth:`AnyOrderDistribution.step_losses`."""
        return self(context).step_losses(x, draws)


class AnyOrderDistribution(Distribution):
    """See :class:`AnyOrder`. Samples carry no gradient."""

    has_rsample = False

    def __init__(self, part: AnyOrder, context: Context = None) -> None:
        self.network, self.head, self.generation = part.network, part.head, part.generation
        self.estimate = part.generation.estimate(part.estimate)
        self.context = context if part.context_shapes else None
        self.dims = math.prod(part.event_shape)
        self.sizes = part.generation.steps(self.dims)
        self.words = (f", in {len(self.sizes)} parallel steps" if len(self.sizes) < self.dims else "") + self.head.law
        super().__init__(batch_of(self.context, part.context_shapes), part.event_shape, part.measure)

    def density(self, x: Tensor) -> Evidence:
        r"""The part's estimate of log p(x), (\*S, \*B), nats, of x (\*S, \*B, \*E); its claim is the estimator's."""
        return self.estimate(self, self._whole(x))

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        r"""Samples (\*S, \*B, \*E), each in the order and blocks of the part's `generation`; without gradients."""
        return self._sampled(sample_shape)[0]

    def draw(self, sample_shape: Shape = ()) -> tuple[Tensor, Evidence]:
        """Sample and log p(x | its own order); where gradients are enabled, that by further passes over the sample."""
        x, order, value = self._sampled(sample_shape)
        value = self.along(x, order) if torch.is_grad_enabled() else value
        return x, self.estimate.own(self, x, value)

    def conditionals(self, x: Tensor, known: Tensor) -> Factorised:
        r"""p(x_k | x_known) of every entry, a distribution over E; x, known (\*B, \*E). Those of known entries mean nothing."""
        return self.head(self.network(x, known, self.context), len(self.event_shape))

    def remaining(self, x: Tensor, known: Tensor) -> Tensor:
        r"""Mean log p(x_k | x_known) over the entries that are not known, (\*B), nats an entry."""
        elements = self.conditionals(x, known).element_log_prob(x).where(~known, 0.0)
        return self._flat(elements).sum(-1) / self._flat(~known).sum(-1)

    def given(self, x: Tensor, entries: Entries) -> Tensor:
        r"""log p(x_k | x_entries) of each flat k, (\*B, D)."""
        known = torch.zeros(self.dims, dtype=torch.bool, device=x.device)
        known[list(entries)] = True
        known = known.unflatten(0, self.event_shape).expand_as(x)
        return self._flat(self.conditionals(x, known).element_log_prob(x))

    def along(self, x: Tensor, order: Tensor) -> Tensor:
        r"""log p(x | order), (\*B); order (\*B, D) of flat indices, taken in the law's blocks."""
        flat = self._flat(x)
        known, total = torch.zeros_like(order, dtype=torch.bool), flat.new_zeros(())
        for block in order.split(self.sizes, -1):
            factors = self._block(flat, known, block)
            total = total + factors.density(flat.gather(-1, block)).value
            known = known.scatter(-1, block, True)
        return total

    def orders(self, x: Tensor) -> Tensor:
        r"""An order for each row of x (\*B, \*E), (\*B, D)."""
        return self.generation.keys(self._flat(x)).argsort(-1)

    def random_part(self, x: Tensor, count: Tensor) -> Tensor:
        r"""Random bool (\*B, \*E) with `count` (\*B) entries true in each row."""
        places = torch.rand_like(self._flat(x)).argsort(-1)
        return (places < count.unsqueeze(-1)).unflatten(-1, self.event_shape)

    @torch.no_grad()
    def step_losses(self, x: Tensor, draws: int = 1) -> Tensor:
        r"""L_t, t = 0..D-1, nats an entry, (D,): a mean over the rows of x (\*B, \*E) and `draws` random orders of each.
        A row is asked under one order at all t, so that errors change little from one t to the next and do not lead a schedule.
        """
        x, losses = self._whole(x), []
        for _ in range(draws):
            places = torch.rand_like(self._flat(x)).argsort(-1).unflatten(-1, self.event_shape)
            losses.append(torch.stack([-self.remaining(x, places < t).mean() for t in range(self.dims)]))
        return torch.stack(losses).mean(0)

    @torch.no_grad()
    def complete(self, x: Tensor, known: Tensor, sample_shape: Shape = ()) -> Tensor:
        r"""Samples (\*S, \*B, \*E) that equal x where known; x and the bool tensor `known` (\*B, \*E), batches broadcast.
        The others are drawn from the network's own conditionals given what is known, in the law's order and blocks, known
        entries first: the law of :attr:`completion_law`. It is p(x_others | x_known) where the orders agree, otherwise another
        law; `Enumerated` and `ImportanceResampled` of :mod:`genalloy.models.completion` draw from that conditional itself.
        Raises ValueError where shapes do not end in E, TypeError where `known` is not bool.
        """
        if known.dtype != torch.bool:
            raise TypeError(f"found known of {known.dtype}, expected torch.bool, True where x is given")
        return self._completed(x, known, sample_shape)[0]

    def _completed(self, x: Tensor, known: Tensor, sample_shape: Shape) -> tuple[Tensor, Tensor]:
        """Completions, and log q of what was drawn under its own order."""
        event = tuple(self.event_shape)
        lead = broadcast_shapes(leading(x, event), leading(known, event), self.batch_shape)
        flat, fixed = (self._flat(v.expand(*sample_shape, *lead, *event)) for v in (x, known))
        order = (self.generation.keys(flat) - self.dims * fixed).argsort(-1)
        return self._generated(flat.where(fixed, 0.0), fixed, order)

    @torch.no_grad()
    def proposals(self, x: Tensor, known: Tensor, sample_shape: Shape = ()) -> tuple[Tensor, Tensor]:
        r"""Completions and log p(x) / q(x_others | order) of each, p(x) by all orders, beyond ten entries by `ORDERS`.
        The order of a completion is uniform over those of the others, whatever they are, so that it cancels in the weights.
        """
        rows, drawn = self._completed(x, known, sample_shape)
        law = self.exactly() if self.dims <= MOST_ENUMERATED else self._by(RandomOrder(ORDERS))
        return rows, law.density(rows).value - drawn

    def exactly(self) -> AnyOrderDistribution:
        """Itself with its EXACT density. Raises ValueError where the orders are too many to be summed."""
        other = self._by(EveryOrder())
        other.estimate.check(self.dims)
        return other

    def _by(self, estimate: LikelihoodEstimator) -> AnyOrderDistribution:
        other = copy.copy(self)
        other.estimate = self.generation.estimate(estimate)
        return other

    def completes_exactly(self, known: Tensor) -> bool:
        """Whether completions are draws from p(x_others | x_known): nothing or all is known, or first blocks of the one order."""
        return self.generation.begins(self._flat(known), self.sizes)

    @property
    def completion_law(self) -> str:
        """By what law the others are drawn, in words."""
        order = self.generation.completion
        return f"draws by the network's conditionals, {order}: not the model's own p(the rest | what is given)"

    @torch.no_grad()
    def _sampled(self, sample_shape: Shape) -> tuple[Tensor, Tensor, Tensor]:
        """Samples, their orders and log p(x | order)."""
        like = next(iter(self.network.parameters()))
        empty = like.new_zeros(*sample_shape, *self.batch_shape, self.dims)
        order = self.generation.keys(empty).argsort(-1)
        x, value = self._generated(empty, torch.zeros_like(order, dtype=torch.bool), order)
        return x, order, value

    def _generated(self, x: Tensor, known: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
        """Entries that are not known (all flat), a block at a time; and the sum of the log-densities of every block."""
        total = x.new_zeros(())
        for block in order.split(self.sizes, -1):
            given = known.gather(-1, block)
            if bool(given.all()):
                continue
            factors = self._block(x, known, block)
            new = x.gather(-1, block).where(given, factors.rsample().to(x.dtype))
            total = total + factors.masked_density(new, ~given).value
            x, known = x.scatter(-1, block, new), known.scatter(-1, block, True)
        return x.unflatten(-1, self.event_shape), total

    def _block(self, x: Tensor, known: Tensor, block: Tensor) -> Factorised:
        r"""p(x_k | x_known) of the entries of a block (\*B, n), a distribution over (n,)."""
        event = tuple(self.event_shape)
        parameters = self.network(x.unflatten(-1, event), known.unflatten(-1, event), self.context)
        flat = parameters.flatten(-1 - len(event), -2)
        return self.head(flat.gather(-2, block.unsqueeze(-1).expand(*block.shape, flat.shape[-1])), 1)

    def _flat(self, x: Tensor) -> Tensor:
        return x.flatten(-len(self.event_shape))

    def _whole(self, x: Tensor) -> Tensor:
        """x with the batch of the context."""
        lead = broadcast_shapes(leading(x, tuple(self.event_shape)), self.batch_shape)
        return x.expand(*lead, *self.event_shape)
