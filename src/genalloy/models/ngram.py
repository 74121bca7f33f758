r"""n-grams: symbols given the n - 1 before them, counted, with Witten-Bell smoothing (Witten & Bell, 1991; Chen & Goodman, 1999).

With :math:`c(h, w)` the count of symbol w after history h, :math:`c(h) = \sum_w c(h, w)`, :math:`t(h)` the number of different
symbols seen after h, and h' the history without its oldest symbol,

.. math:: p(w | h) = \frac{c(h, w) + t(h)\, p(w | h')}{c(h) + t(h)}, \qquad p(w) \text{ from } \tfrac1K \text{ in the same way,}

and :math:`p(w | h) = p(w | h')` where h was never seen. At position i of a row the history is the last min(i, n - 1) symbols, so
the product over a row is a mass over rows: EXACT, and so is that of a beginning. No gradient: it is fitted by counting.
"""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from genalloy.core.contexts import Context
from genalloy.core.distribution import Distribution, Shape
from genalloy.core.evidence import Evidence, Measure, Unavailable, counting
from genalloy.core.observations import Masked, leading, observed_measure
from genalloy.core.part import Part
from genalloy.core.shapes import broadcast_shapes

LARGEST = 2**62
"""A history and its symbol are one int64."""


class NGram(Part):
    r""":math:`p(x) = \prod_t p(x_t | x_{t-n+1}, \dots, x_{t-1})` by counts, Witten-Bell smoothed (Witten & Bell, 1991): EXACT.

    .. math:: p(w | h) = \frac{c(h, w) + t(h)\, p(w | h')}{c(h) + t(h)}

    c: counts, t(h): different symbols seen after h, h': h without its oldest symbol. Rows (T,) of symbols 0..levels-1; takes no
    context. order: n. grams: codes of every counted gram, all orders one after the other, each sorted; counts: of each; sizes:
    grams of each order. Raises ValueError where levels^order does not fit into an integer.
    """

    grams: Tensor
    counts: Tensor

    def __init__(
        self, order: int, levels: int, event_shape: Shape, grams: Tensor, counts: Tensor, sizes: tuple[int, ...]
    ) -> None:
        super().__init__()
        if order < 1 or order * math.log(max(levels, 1)) >= math.log(LARGEST):
            raise ValueError(f"found order {order} over {levels} symbols, expected 1 or more with levels^order below 2^62")
        self.order, self.levels, self.event_shape, self.sizes = order, levels, tuple(event_shape), tuple(sizes)
        self.measure, self.has_rsample = counting(self.event_shape[0]), False
        self.register_buffer("grams", grams)
        self.register_buffer("counts", counts)
        for k, (keys, totals, types) in enumerate(_contexts(grams, counts, self.sizes, levels)):
            self.register_buffer(f"keys{k}", keys, persistent=False)
            self.register_buffer(f"totals{k}", totals, persistent=False)
            self.register_buffer(f"types{k}", types, persistent=False)

    @staticmethod
    def of(rows: Tensor, levels: int, order: int = 5, window: int | None = None) -> NGram:
        """Counts of rows (N, T); events have `window` symbols, T by default. A long text is one row, its events are windows.

        order: n, at most T. Raises ValueError where it is longer than a row, or levels^order does not fit into an integer.
        """
        x = rows.long()
        if order > x.shape[1]:
            raise ValueError(f"found order {order} on rows of {x.shape[1]} symbols, expected an order of at most that")
        tables = [torch.unique(_codes(x, levels, k), return_counts=True) for k in range(1, order + 1)]
        sizes = tuple(len(grams) for grams, _ in tables)
        shape = (window or x.shape[1],)
        return NGram(order, levels, shape, torch.cat([g for g, _ in tables]), torch.cat([c for _, c in tables]), sizes)

    def forward(self, context: Context = None) -> NGramDistribution:
        """The distribution of rows, with events (T,) and no batch; a context is ignored."""
        return NGramDistribution(self)

    def probability(self, past: Tensor, known: Tensor, symbol: Tensor) -> Tensor:
        r"""p(symbol | the last `known` symbols of past (..., n - 1)), all broadcast; float64."""
        p = torch.full((), 1.0 / self.levels, dtype=torch.float64, device=past.device)
        history = torch.zeros((), dtype=torch.long, device=past.device)
        starts = [0, *accumulate(self.sizes)]
        for k in range(self.order):
            if k:
                history = history + past[..., -k] * self.levels ** (k - 1)
            table = slice(starts[k], starts[k + 1])
            count = _look(self.grams[table], self.counts[table], history * self.levels + symbol)
            total, types = (_look(self._table("keys", k), self._table(name, k), history) for name in ("totals", "types"))
            finer = (count + types * p) / (total + types).clamp(min=1)
            p = torch.where((total > 0) & (known >= k), finer, p)
        return p

    def _table(self, name: str, k: int) -> Tensor:
        return self.get_buffer(f"{name}{k}")


def _codes(x: Tensor, levels: int, k: int) -> Tensor:
    """Every k symbols in a row as one integer, the oldest symbol first."""
    weights = levels ** torch.arange(k - 1, -1, -1, device=x.device)
    return (x.unfold(1, k, 1) * weights).sum(-1).flatten()


def _contexts(grams: Tensor, counts: Tensor, sizes: tuple[int, ...], levels: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Histories of every order, how often each was seen, and how many different symbols followed it."""
    contexts = []
    for g, c in zip(grams.split(list(sizes)), counts.split(list(sizes)), strict=True):
        keys, place, types = torch.unique_consecutive(g // levels, return_inverse=True, return_counts=True)
        contexts.append((keys, torch.zeros_like(keys).index_add(0, place, c), types))
    return contexts


def _look(keys: Tensor, values: Tensor, wanted: Tensor) -> Tensor:
    """values at the sorted keys, 0 where a key is absent; float64."""
    place = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    return torch.where(keys[place] == wanted, values[place], 0).double()


class NGramDistribution(Distribution):
    """See :class:`NGram`: EXACT, counting measure."""

    has_rsample = False
    completion_law = "a heuristic: given symbols that come later are kept but not seen by those before them"

    def __init__(self, part: NGram) -> None:
        super().__init__((), part.event_shape, counting(part.event_shape[0]))
        self.part = part

    def density(self, x: Any) -> Evidence:
        """EXACT, of rows or of their beginnings. Raises Unavailable where a missing symbol comes before an observed one."""
        if type(x) is Masked:
            if not _is_beginning(x.mask):
                raise Unavailable("found a missing symbol before an observed one; n-grams have the density of a beginning alone")
            each = torch.where(x.mask, self._each(x.x.where(x.mask, 0.0)), 0.0)
            return self._summed(each, x.x, observed_measure(x.mask, 1, discrete=True))
        return self._summed(self._each(x), x, self.measure)

    def _summed(self, each: Tensor, x: Tensor, measure: Measure) -> Evidence:
        how = f"{self.part.order}-gram counts, Witten-Bell"
        return Evidence.exact(each.sum(-1).to(torch.promote_types(x.dtype, torch.float32)), how, measure)

    def _each(self, x: Tensor) -> Tensor:
        """log p of every symbol (\\*B, T) given those before it; -inf for what is no symbol."""
        leading(x, tuple(self.event_shape))
        steps, levels, reach = self.event_shape[0], self.part.levels, self.part.order - 1
        inside = (x == x.round()) & (x >= 0) & (x < levels)
        symbols = torch.where(inside, x, 0.0).long()
        past = torch.nn.functional.pad(symbols, (reach, 0)).unfold(-1, reach, 1)[..., :steps, :] if reach else symbols[..., None]
        p = self.part.probability(past, torch.arange(steps, device=x.device), symbols)
        return torch.where(inside, p.log(), -torch.inf)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        r"""Rows (\*S, T) of floats, a symbol at a time; without gradients."""
        nothing = torch.zeros(self.event_shape, device=self.part.grams.device)
        return self.complete(nothing, nothing.bool(), sample_shape)

    @torch.no_grad()
    def complete(self, x: Tensor, known: Tensor, sample_shape: Shape = ()) -> Tensor:
        r"""Samples (\*S, \*B, T) that keep x (\*B, T) where `known` is true; exact draws where that is a beginning."""
        shape = (*sample_shape, *broadcast_shapes(x.shape, known.shape))
        given, keep = x.long().expand(shape), known.bool().expand(shape)
        reach, every = self.part.order - 1, torch.arange(self.part.levels, device=x.device)
        row = torch.zeros(*shape[:-1], reach + shape[-1], dtype=torch.long, device=x.device)
        for t in range(shape[-1]):
            past = row[..., None, t : t + reach] if reach else row[..., None, :1]
            p = self.part.probability(past, torch.tensor(t), every)
            drawn = torch.multinomial(p.reshape(-1, self.part.levels), 1).reshape(shape[:-1])
            row[..., reach + t] = torch.where(keep[..., t], given[..., t], drawn)
        return row[..., reach:].float()

    def proposals(self, x: Tensor, known: Tensor, sample_shape: Shape = ()) -> tuple[Tensor, Tensor]:
        r"""Completions and log p(x) / q(x_rest) of each: the known symbols' share of log p(x)."""
        rows = self.complete(x, known, sample_shape)
        return rows, torch.where(known.bool(), self._each(rows), 0.0).sum(-1)

    def completes_exactly(self, known: Tensor) -> bool:
        """Whether the known symbols are a beginning."""
        return _is_beginning(known)


def _is_beginning(known: Tensor) -> bool:
    return not bool((known[..., 1:] & ~known[..., :-1]).any())
