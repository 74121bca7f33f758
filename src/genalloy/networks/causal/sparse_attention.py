r"""Which earlier places an attention layer looks at, as frozen values.

Place t attends to a set :math:`S_t \subseteq \{0, \dots, t\}` that holds t itself:

* ``DenseAttention``: all of them;
* ``LocalAttention(w)``: the last w, :math:`S_t = \{t - w + 1, \dots, t\}`; after L layers t has seen (w - 1) L places before
  itself;
* ``LocalBlocks(q, m)`` (Parmar et al., 2018, arXiv:1802.05751, 1-D): t lies in the block of q places from
  :math:`b = q \lfloor t/q \rfloor` on and sees :math:`\{b - m, \dots, t\}`; all places of a block share their keys;
* ``LocalPatches`` (the same, 2-D): blocks are rectangles of an image, their memory the rows above and the columns beside;
* ``StridedAttention(l)`` (Child, Gray, Radford & Sutskever, 2019, arXiv:1904.10509): ``LocalAttention(l)`` and
  ``ColumnAttention(l)``, :math:`\{j : j \equiv t \bmod l\}`;
* ``FixedAttention(l, c)`` (the same): the own block of l places, and ``SummaryAttention(l, c)``, the last c places of every
  block, and t.

The two factors of the last two take turns, layer by layer, or each takes half of the heads. Either way two layers reach
every earlier place: for j <= t there is a k in the second factor's :math:`S_t` whose :math:`S_k` of the first factor holds j.
Own blocks come before summaries, which have nothing to tell until they have read their blocks.

A pattern costs what it looks at: blocks of places are multiplied with the keys that the block sees, columns become short
sequences of their own, and a cached step reads the keys of :math:`S_t`. Index tables are kept between calls, made outside of
inference mode so that a later training pass can use them too.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from genalloy.core.spec import Value

Shape = tuple[int, ...]
Place = slice | Tensor


class Pattern(Protocol):
    """What each layer of a transformer looks at."""

    def factors(self, layer: int) -> tuple[Factor, ...]:
        """What a layer looks at: one answer for all heads, or one for each equal share of them."""


class Factor(Value, ABC):
    """One set of places for each place: a pattern by itself."""

    def factors(self, layer: int) -> tuple[Factor, ...]:
        return (self,)

    @abstractmethod
    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Queries, keys, values (N, T, heads, D) -> (N, T, heads, D), all places at once."""

    @abstractmethod
    def seen(self, t: int) -> Place:
        """The places that t attends to, in order."""


@dataclass(frozen=True)
class DenseAttention(Factor):
    r"""Every place up to its own, :math:`S_t = \{0, \dots, t\}` (Vaswani et al., 2017, arXiv:1706.03762): T^2 / 2 products."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)

    def seen(self, t: int) -> Place:
        return slice(0, t + 1)


# -- blocks of places with shared keys -----------------------------------------------------------------------------------


class Plan(NamedTuple):
    """Places of each block (blocks * Q), keys that a block reads (blocks * K), additive mask (blocks, 1, Q, K), and where each
    place went (T,), None where the blocks are the places in order."""

    queries: Tensor
    keys: Tensor
    mask: Tensor
    back: Tensor | None


class Blocked(Hashable, Protocol):
    """Places in blocks."""

    def blocks(self, length: int) -> list[list[int]]:
        """All places, block by block."""

    def seen(self, t: int) -> Place: ...


def _blockwise(pattern: Blocked, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """A block's queries meet the keys that any of them sees, and no others."""
    plan = _plan(pattern, q.shape[1])
    many = len(plan.mask)
    queries, keys, values = (
        part.index_select(1, index.to(q.device)).unflatten(1, (many, -1)).transpose(2, 3)
        for part, index in ((q * q.shape[-1] ** -0.5, plan.queries), (k, plan.keys), (v, plan.keys))
    )  # (N, blocks, heads, Q or K, D)
    weights = (queries @ keys.transpose(-1, -2) + plan.mask.to(q)).softmax(-1)
    mixed = (weights @ values).transpose(2, 3).flatten(1, 2)
    return mixed[:, : q.shape[1]] if plan.back is None else mixed.index_select(1, plan.back.to(q.device))


@lru_cache(maxsize=32)
@torch.inference_mode(False)
def _plan(pattern: Blocked, length: int) -> Plan:
    """Blocks and their keys filled up to equal sizes; what fills is masked, and its queries are dropped."""
    seen = [_listed(pattern.seen(t)) for t in range(length)]
    blocks = pattern.blocks(length)
    reads = [sorted({j for t in block for j in seen[t]}) for block in blocks]
    wide, deep = max(map(len, blocks)), max(map(len, reads))
    mask = torch.full((len(blocks), 1, wide, deep), -torch.inf)
    for b, (block, read) in enumerate(zip(blocks, reads, strict=True)):
        mask[b, 0, len(block) :] = 0.0
        for row, t in enumerate(block):
            mask[b, 0, row, torch.isin(torch.tensor(read), torch.tensor(seen[t])).nonzero()] = 0.0
    queries, keys = (torch.tensor([_filled(r, n) for r in rows]) for rows, n in ((blocks, wide), (reads, deep)))
    place = {t: b * wide + row for b, block in enumerate(blocks) for row, t in enumerate(block)}
    back = torch.tensor([place[t] for t in range(length)])
    return Plan(queries.flatten(), keys.flatten(), mask, None if torch.equal(back, torch.arange(length)) else back)


def _listed(place: Place) -> list[int]:
    return place.tolist() if torch.is_tensor(place) else list(range(place.start, place.stop))


def _filled(row: list[int], length: int) -> list[int]:
    return row + [0] * (length - len(row))


def _cut(length: int, size: int) -> list[list[int]]:
    return [list(range(start, min(start + size, length))) for start in range(0, length, size)]


@dataclass(frozen=True)
class LocalAttention(Factor):
    r"""The last w = `window` places, :math:`S_t = \{t - w + 1, \dots, t\}`: about T w products. Raises ValueError where w < 1."""

    window: int

    def __post_init__(self) -> None:
        _positive(self, self.window)

    def blocks(self, length: int) -> list[list[int]]:
        return _cut(length, self.window)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return _blockwise(self, q, k, v)

    def seen(self, t: int) -> Place:
        return slice(max(0, t - self.window + 1), t + 1)


@dataclass(frozen=True)
class LocalBlocks(Factor):
    r"""Blocks of q = `query` places; each sees its block so far and m = `memory` places before the block,
    :math:`S_t = \{q \lfloor t / q \rfloor - m, \dots, t\}` (Parmar et al., 2018, arXiv:1802.05751, 1-D).

    Raises ValueError where `query` is below 1 or `memory` below 0.
    """

    query: int
    memory: int = 0

    def __post_init__(self) -> None:
        _positive(self, self.query, self.memory + 1)

    def blocks(self, length: int) -> list[list[int]]:
        return _cut(length, self.query)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return _blockwise(self, q, k, v)

    def seen(self, t: int) -> Place:
        return slice(max(0, t - t % self.query - self.memory), t + 1)


@dataclass(frozen=True)
class LocalPatches(Factor):
    """Rectangles of `query` (h, w) places of an image of `columns` columns, row by row.

    Parmar et al., 2018, arXiv:1802.05751, 2-D.

    A place sees what comes before it in its rectangle enlarged by `memory` (rows above, columns on either side). Places keep
    the order of the rows; in the paper they are generated rectangle by rectangle. Raises ValueError as LocalBlocks does.
    """

    columns: int
    query: tuple[int, int]
    memory: tuple[int, int]

    def __post_init__(self) -> None:
        _positive(self, self.columns, *self.query, *(m + 1 for m in self.memory))

    def blocks(self, length: int) -> list[list[int]]:
        across = -(-self.columns // self.query[1])
        rows: dict[int, list[int]] = {}
        for t in range(length):
            i, j = divmod(t, self.columns)
            rows.setdefault(i // self.query[0] * across + j // self.query[1], []).append(t)
        return [rows[b] for b in sorted(rows)]

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return _blockwise(self, q, k, v)

    def seen(self, t: int) -> Place:
        return _patch(self, t)


@lru_cache(maxsize=4096)
@torch.inference_mode(False)
def _patch(pattern: LocalPatches, t: int) -> Tensor:
    i, j = divmod(t, pattern.columns)
    (h, w), (above, beside) = pattern.query, pattern.memory
    top, left = max(0, i - i % h - above), max(0, j - j % w - beside)
    right = min(pattern.columns, j - j % w + w + beside)
    places = torch.arange(top, i + 1)[:, None] * pattern.columns + torch.arange(left, right)
    return places[places <= t]


# -- the sparse transformer's second factors -----------------------------------------------------------------------------


@dataclass(frozen=True)
class ColumnAttention(Factor):
    r"""Every l-th place, l = `stride`, back from t, :math:`S_t = \{j \le t : j \equiv t \bmod l\}`: in an image l wide, the
    column. Each remainder is a dense sequence of its own (Child et al., 2019, arXiv:1904.10509).

    Raises ValueError where the stride is below 1.
    """

    stride: int

    def __post_init__(self) -> None:
        _positive(self, self.stride)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        length, rest = q.shape[1], -q.shape[1] % self.stride
        apart = (F.pad(part, (0, 0, 0, 0, 0, rest)) if rest else part for part in (q, k, v))
        # (N, T / l, l, heads, D) -> (N l, heads, T / l, D)
        q, k, v = (part.unflatten(1, (-1, self.stride)).permute(0, 2, 3, 1, 4).flatten(0, 1) for part in apart)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return mixed.unflatten(0, (-1, self.stride)).permute(0, 3, 1, 2, 4).flatten(1, 2)[:, :length]

    def seen(self, t: int) -> Place:
        return slice(t % self.stride, t + 1, self.stride)


@dataclass(frozen=True)
class SummaryAttention(Factor):
    r"""The last c = `summary` places of every block of l = `stride` places, and t itself, which the paper leaves to the other
    factor: :math:`S_t = \{j < t : j \bmod l \ge l - c\} \cup \{t\}` (Child et al., 2019, arXiv:1904.10509).

    Raises ValueError unless 1 <= summary <= stride.
    """

    stride: int
    summary: int = 1

    def __post_init__(self) -> None:
        _positive(self, self.stride, self.summary, self.stride - self.summary + 1)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        length = q.shape[1]
        places = _summaries(self, length).to(q.device)
        q = (q * q.shape[-1] ** -0.5).transpose(1, 2)
        own, far = (q * k.transpose(1, 2)).sum(-1, keepdim=True), k.index_select(1, places).permute(0, 2, 3, 1)
        later = places >= torch.arange(length, device=q.device)[:, None]
        weights = torch.cat([(q @ far).masked_fill(later, -torch.inf), own], -1).softmax(-1)
        mixed = weights[..., :-1] @ v.index_select(1, places).transpose(1, 2) + weights[..., -1:] * v.transpose(1, 2)
        return mixed.transpose(1, 2)

    def seen(self, t: int) -> Place:
        before = _summaries(self, t)
        return torch.cat([before, torch.tensor([t])])


@lru_cache(maxsize=4096)
@torch.inference_mode(False)
def _summaries(pattern: SummaryAttention, length: int) -> Tensor:
    """The summary places below `length`."""
    places = torch.arange(length)
    return places[places % pattern.stride >= pattern.stride - pattern.summary]


def _positive(pattern: Factor, *numbers: int) -> None:
    if min(numbers) < 1:
        raise ValueError(f"found {pattern}; sizes are at least 1, a memory at least 0, a summary at most the stride")


# -- two factors ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StridedAttention(Value):
    """The last `stride` places, and every stride-th one: for data whose rows have that length.

    Child et al., 2019, arXiv:1904.10509. heads: each factor takes half of them, in every layer; otherwise the two take turns.
    """

    stride: int
    heads: bool = False

    def factors(self, layer: int) -> tuple[Factor, ...]:
        return _in_turn((LocalAttention(self.stride), ColumnAttention(self.stride)), layer, self.heads)


@dataclass(frozen=True)
class FixedAttention(Value):
    """The own block of `stride` places, and the last `summary` places of every block: for text.

    Child et al., 2019, arXiv:1904.10509. heads: each factor takes half of them, in every layer; otherwise the two take turns.
    """

    stride: int
    summary: int = 1
    heads: bool = False

    def factors(self, layer: int) -> tuple[Factor, ...]:
        return _in_turn((LocalBlocks(self.stride), SummaryAttention(self.stride, self.summary)), layer, self.heads)


def _in_turn(factors: tuple[Factor, ...], layer: int, heads: bool) -> tuple[Factor, ...]:
    return factors if heads else (factors[layer % len(factors)],)


def side(length: int) -> int:
    """A stride near the square root of the length, where the two factors cost the same."""
    return max(1, round(math.sqrt(length)))
