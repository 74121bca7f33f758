r"""Causal transformer over tokens (Vaswani et al., 2017), whole or step by step with a cache of keys and values.

Token t of the output depends on tokens < t of the input (and on the context) alone: the input is shifted by one place behind a
learned first token, to which the context is added. Blocks are pre-normalised (attention, then a dense layer of four times the
width). The cache is an explicit value, allocated once and written by index: step t costs what is left to do at t, and gives
what the parallel pass gives.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genalloy.capabilities import Context, join
from genalloy.spec import Module

Shape = tuple[int, ...]


class Block(Module):
    """h + attention(norm(h)), then h + dense(norm(h)); (N, T, width)."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"found width {width} for {heads} heads, expected a multiple")
        self.width, self.heads, self.dropout = width, heads, dropout
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend, self.gather = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.dense = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.drop = nn.Dropout(dropout)

    def forward(self, h: Tensor) -> Tensor:
        q, k, v = self._heads(h)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self._rest(h, mixed)

    def step(self, h: Tensor, cache: Tensor, place: int) -> tuple[Tensor, Tensor]:
        """One token h (N, 1, width) at `place`; cache (2, N, heads, T, width / heads) of keys and values."""
        q, k, v = self._heads(h)
        cache = _written(cache, torch.stack([k, v]), place)
        keys, values = cache[..., : place + 1, :].unbind(0)
        return self._rest(h, F.scaled_dot_product_attention(q, keys, values)), cache

    def _heads(self, h: Tensor) -> list[Tensor]:
        """Queries, keys, values, each (N, heads, T, width / heads)."""
        parts = self.attend(self.first(h)).unflatten(-1, (3, self.heads, -1))
        return [p.transpose(1, 2) for p in parts.unbind(-3)]

    def _rest(self, h: Tensor, mixed: Tensor) -> Tensor:
        h = h + self.drop(self.gather(mixed.transpose(1, 2).flatten(-2)))
        return h + self.drop(self.dense(self.second(h)))


def _written(cache: Tensor, new: Tensor, place: int) -> Tensor:
    """The cache with one more place filled; a new tensor where gradients are wanted."""
    if torch.is_grad_enabled():
        return torch.cat([cache[..., :place, :], new], -2)
    cache[..., place : place + 1, :] = new
    return cache


class TransformerState(NamedTuple):
    """Cache of a pass: place of the token in turn, shape of the batch, what the context adds (N, width), keys and values."""

    place: int
    shape: Shape
    start: Tensor
    blocks: tuple[Tensor, ...]


class CausalTransformer(Module):
    r"""Tokens x (\*B, T, F), context -> (\*B, T, F, per_element), causal; see the module's text.

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
        context_shapes: tuple[Shape, ...] = (),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.event_shape, self.per_element = tuple(event_shape), per_element
        self.width, self.heads, self.dropout = width, heads, dropout
        self.context_shapes = tuple(tuple(s) for s in context_shapes)
        tokens, size = self.event_shape
        self.enter = nn.Linear(size, width)
        self.places = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.start = nn.Parameter(0.02 * torch.randn(width))
        extra = sum(math.prod(s) for s in self.context_shapes)
        self.from_context = nn.Linear(extra, width) if extra else None
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(blocks))
        self.norm, self.leave = nn.LayerNorm(width), nn.Linear(width, size * per_element)

    def zero_output(self) -> CausalTransformer:
        """Start with all outputs zero."""
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)
        return self

    def forward(self, x: Tensor, context: Context = None) -> Tensor:
        start = self._start(context)
        lead = torch.broadcast_shapes(x.shape[:-2], start.shape[:-1])
        known = self.enter(x[..., :-1, :]).expand(*lead, -1, -1)
        h = torch.cat([start.expand(*lead, -1).unsqueeze(-2), known], -2) + self.places
        h = h.reshape(math.prod(lead), *h.shape[-2:])
        for block in self.blocks:
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
        n, tokens = math.prod(shape), self.event_shape[0]
        start = self._start(context).expand(*shape, self.width).reshape(n, self.width)
        empty = (2, n, self.heads, tokens, self.width // self.heads)
        return TransformerState(0, tuple(shape), start, tuple(start.new_empty(empty) for _ in self.blocks))

    def step(self, state: TransformerState, previous: Tensor | None) -> tuple[TransformerState, Tensor]:
        r"""Outputs (\*shape, F, per_element) for the next token, given the value (\*shape, F) of the one before.

        Uses its state up: the cache is written in place, unless gradients are enabled.
        """
        h = state.start if previous is None else self.enter(previous.reshape(len(state.start), -1))
        h = (h + self.places[state.place]).unsqueeze(1)
        caches = []
        for block, cache in zip(self.blocks, state.blocks, strict=True):
            h, cache = block.step(h, cache, state.place)  # type: ignore[operator]
            caches.append(cache)
        out = self._leave(h).reshape(*state.shape, self.event_shape[1], self.per_element)
        return TransformerState(state.place + 1, state.shape, state.start, tuple(caches)), out

    def _leave(self, h: Tensor) -> Tensor:
        return self.leave(self.norm(h))

    def _start(self, context: Context) -> Tensor:
        if self.from_context is None:
            return self.start
        return self.start + self.from_context(join(context, self.context_shapes).to(self.start.dtype))
