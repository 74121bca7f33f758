r"""Causal transformers over tokens (Vaswani et al., 2017), whole or step by step with a cache of keys and values.

A block is pre-normalised attention, then a pre-normalised dense layer,

.. math:: h \leftarrow h + W_o \,\text{attention}(\text{norm}(h)), \qquad h \leftarrow h + W_2 \,\text{gelu}(W_1 \text{norm}(h)),

where place t attends to the places of a :mod:`pattern <genalloy.networks.causal.sparse_attention>`. With rotary positions
(Su et al., 2021)
queries and keys are turned by angles that grow with their place, so that they meet by their distance. Weights that write
into the sum of L blocks start smaller by :math:`(2L)^{-1/2}` (Radford et al., 2019).

The cache is an explicit value, allocated once and written by index: step t costs what is left to do at t, and gives what the
parallel pass gives. The same blocks make up the network of :class:`genalloy.networks.causal.network.CausalNet` and
:class:`CausalTransformer`, which transforms of tokens use and whose steps carry gradients.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genalloy.core.contexts import Context, Shapes, flat, join, shapes_of
from genalloy.core.shapes import broadcast_shapes
from genalloy.core.spec import Module, Value
from genalloy.networks.causal.network import CausalLayer
from genalloy.networks.causal.sparse_attention import DenseAttention, Factor, Pattern

Shape = tuple[int, ...]
DENSE = DenseAttention()


@dataclass(frozen=True)
class Attention(Value):
    r"""Options of a transformer's blocks (Vaswani et al., 2017, arXiv:1706.03762).

    .. math:: \mathrm{softmax}(q k^\top / \sqrt d)\, v \quad \text{over the places that a pattern allows}

    heads: divide the width. pattern: which places each looks at. rotary: positions by turning queries and keys (Su et al., 2021,
    arXiv:2104.09864). dropout: of what a block adds. expansion: units of the dense layer for each feature.
    """

    heads: int = 4
    pattern: Pattern = DENSE
    rotary: bool = False
    dropout: float = 0.0
    expansion: int = 4


class TransformerBlock(CausalLayer):
    r"""(N, T, width) -> (N, T, width); see the module's text.

    length: T, for which the cache has room. layer: its number, which some patterns ask for.
    Raises ValueError where the heads do not divide the width, or the pattern's factors the heads.
    """

    def __init__(self, width: int, length: int, attention: Attention = Attention(), layer: int = 0) -> None:
        super().__init__()
        self.width, self.length, self.attention, self.layer = width, length, attention, layer
        self.factors: tuple[Factor, ...] = attention.pattern.factors(layer)
        self.heads, self.share = attention.heads, attention.heads // len(self.factors)
        self.depth = width // attention.heads
        if width % attention.heads or attention.heads % len(self.factors) or (attention.rotary and self.depth % 2):
            raise ValueError(
                f"found width {width} for {attention.heads} heads, expected a multiple (an even one with rotary positions), "
                f"and heads that {len(self.factors)} factors of {attention.pattern} can divide"
            )
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend, self.gather = nn.Linear(width, 3 * width), nn.Linear(width, width)
        hidden = attention.expansion * width
        self.dense = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.drop = nn.Dropout(attention.dropout)

    def forward(self, h: Tensor, c: Tensor | None = None) -> Tensor:
        """h (N, T, width) -> the same shape; c, what is known of the places, is not used."""
        q, k, v = self._heads(h, slice(0, h.shape[1]))
        if len(self.factors) == 1:
            return self._rest(h, self.factors[0].attend(q, k, v).flatten(-2))
        shares = zip(*(part.split(self.share, 2) for part in (q, k, v)), strict=True)
        mixed = [factor.attend(*share) for factor, share in zip(self.factors, shares, strict=True)]
        return self._rest(h, torch.cat(mixed, 2).flatten(-2))

    def init_state(self, n: int, like: Tensor) -> Tensor:
        """Room for keys and values, (2, N, heads, T, width / heads)."""
        return like.new_empty(2, n, self.heads, self.length, self.depth)

    def step(self, state: Tensor, h: Tensor, t: int, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """h (N, width) of place t. The cache is written in place; where gradients are wanted, it is a new one."""
        q, k, v = self._heads(h.unsqueeze(1), slice(t, t + 1))
        cache = _written(state, torch.stack([k, v]).transpose(2, 3), t)
        queries = q.transpose(1, 2).split(self.share, 1)
        heads = [self._look(q, cache, t, i) for i, q in enumerate(queries)]
        mixed = heads[0] if len(heads) == 1 else torch.cat(heads, 1)
        return cache, self._rest(h, mixed.flatten(1))

    def _look(self, q: Tensor, cache: Tensor, t: int, i: int) -> Tensor:
        """(N, share, 1, D): what the i-th share of the heads finds in the places that its factor sees."""
        mine = cache if len(self.factors) == 1 else cache.narrow(2, i * self.share, self.share)
        place = self.factors[i].seen(t)
        keys, values = mine.index_select(3, place.to(q.device)) if torch.is_tensor(place) else mine[..., place, :]
        return F.scaled_dot_product_attention(q, keys, values)

    def _heads(self, h: Tensor, places: slice) -> tuple[Tensor, ...]:
        """Queries, keys, values of the places, each (N, T, heads, width / heads)."""
        parts = self.attend(self.first(h)).unflatten(-1, (3, self.heads, self.depth))
        if not self.attention.rotary:
            return parts.unbind(2)
        return *_turned(parts[:, :, :2], places, self.length).unbind(2), parts[:, :, 2]

    def _rest(self, h: Tensor, mixed: Tensor) -> Tensor:
        h = h + self.drop(self.gather(mixed))
        return h + self.drop(self.dense(self.second(h)))


def _written(cache: Tensor, new: Tensor, t: int) -> Tensor:
    """The cache with one more place filled; a new tensor where gradients are wanted."""
    if torch.is_grad_enabled():
        return torch.cat([cache[..., :t, :], new], -2)
    cache[..., t : t + 1, :] = new
    return cache


def _turned(x: Tensor, places: slice, length: int) -> Tensor:
    """(N, t, 2, heads, D), pairs of entries turned by place x frequency."""
    pairs = torch.view_as_complex(x.to(torch.promote_types(x.dtype, torch.float32)).unflatten(-1, (-1, 2)))
    angles = _angles(length, x.shape[-1] // 2)[places].to(pairs)[:, None, None]
    return torch.view_as_real(pairs * angles).flatten(-2).to(x.dtype)


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _angles(length: int, pairs: int) -> Tensor:
    """exp(i t w), (T, pairs), wave lengths from 2 pi to 2 pi x 10,000."""
    frequency = 10_000.0 ** (-torch.arange(pairs, dtype=torch.float64) / pairs)
    return torch.polar(torch.ones(length, pairs, dtype=torch.float64), torch.arange(length)[:, None] * frequency)


def blocks(width: int, length: int, layers: int, attention: Attention = Attention()) -> list[nn.Module]:
    """The layers of a transformer for :class:`genalloy.networks.causal.network.CausalNet`, started as GPT-2's."""
    stack = [TransformerBlock(width, length, attention, layer) for layer in range(layers)]
    with torch.no_grad():
        for block in stack:
            for writes in (block.gather, block.dense[2]):
                writes.weight.mul_((2 * layers) ** -0.5)  # type: ignore[operator, union-attr]
                writes.bias.zero_()  # type: ignore[operator, union-attr]
    return list(stack)


# -- over vectors, with steps that carry gradients -----------------------------------------------------------------------


class TransformerState(NamedTuple):
    """Cache of a pass: place of the token in turn, shape of the batch, what the context adds (N, width), keys and values."""

    place: int
    shape: Shape
    start: Tensor
    blocks: tuple[Tensor, ...]


class CausalTransformer(Module):
    r"""Tokens x (\*B, T, F), context -> (\*B, T, F, per_element), causal; see the module's text.

    Token t of the output depends on tokens < t of the input and on the context alone: the input is shifted by one place behind
    a learned first token, to which the context is added.
    event_shape: (T, F). per_element: outputs for each number of a token (raw parameters of a univariate map, ...).
    """

    differentiable_steps = True

    def __init__(
        self,
        event_shape: Shape,
        per_element: int,
        width: int = 64,
        heads: int = 4,
        blocks: int = 2,
        context_shapes: Shapes = (),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.event_shape, self.per_element = tuple(event_shape), per_element
        self.width, self.heads, self.blocks, self.dropout = width, heads, blocks, dropout
        self.context_shapes = shapes_of(context_shapes)
        tokens, size = self.event_shape
        self.enter = nn.Linear(size, width)
        self.places = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.start = nn.Parameter(0.02 * torch.randn(width))
        extra = sum(math.prod(s) for s in flat(self.context_shapes))
        self.from_context = nn.Linear(extra, width) if extra else None
        attention = Attention(heads, dropout=dropout)
        self.layers = nn.ModuleList(TransformerBlock(width, tokens, attention, i) for i in range(blocks))
        self.norm, self.leave = nn.LayerNorm(width), nn.Linear(width, size * per_element)

    def zero_output(self) -> CausalTransformer:
        """Start with all outputs zero."""
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)
        return self

    def forward(self, x: Tensor, context: Context = None) -> Tensor:
        r"""x (\*B, T, F) -> (\*B, T, F, per_element), in one pass; the batches of x and the context broadcast."""
        start = self._start(context)
        lead = broadcast_shapes(x.shape[:-2], start.shape[:-1])
        known = self.enter(x[..., :-1, :]).expand(*lead, -1, -1)
        h = torch.cat([start.expand(*lead, -1).unsqueeze(-2), known], -2) + self.places
        h = h.reshape(math.prod(lead), *h.shape[-2:])
        for block in self.layers:
            h = block(h)
        return self._leave(h).reshape(*lead, *self.event_shape, self.per_element)

    def split(self, z: Tensor) -> tuple[Tensor, ...]:
        r"""Tokens (\*B, F) of z in the order of generation."""
        return z.unbind(-2)

    def merge(self, variables: list[Tensor]) -> Tensor:
        """The inverse of :meth:`split`."""
        return torch.stack(variables, -2)

    def init_state(self, shape: Shape, context: Context = None) -> TransformerState:
        r"""Empty cache for a pass over (\*shape, T, F); the context's batch broadcasts to `shape`."""
        n = math.prod(shape)
        start = self._start(context).expand(*shape, self.width).reshape(n, self.width)
        return TransformerState(0, tuple(shape), start, tuple(b.init_state(n, start) for b in self.layers))  # type: ignore[operator]

    def step(self, state: TransformerState, previous: Tensor | None) -> tuple[TransformerState, Tensor]:
        r"""Outputs (\*shape, F, per_element) for the next token, given the value (\*shape, F) of the one before.

        Uses its state up: the cache is written in place, unless gradients are enabled.
        """
        h = state.start if previous is None else self.enter(previous.reshape(len(state.start), -1))
        h, caches = h + self.places[state.place], []
        for block, cache in zip(self.layers, state.blocks, strict=True):
            cache, h = block.step(cache, h, state.place)  # type: ignore[operator]
            caches.append(cache)
        out = self._leave(h).reshape(*state.shape, self.event_shape[1], self.per_element)
        return TransformerState(state.place + 1, state.shape, state.start, tuple(caches)), out

    def _leave(self, h: Tensor) -> Tensor:
        return self.leave(self.norm(h))

    def _start(self, context: Context) -> Tensor:
        if self.from_context is None:
            return self.start
        return self.start + self.from_context(join(context, self.context_shapes).to(self.start.dtype))
