r"""Causal networks: tokens in, the parameters of each token's distribution out, whole or step by step from a cache.

An observation is cut into T tokens of G elements, in order of generation. With features e_t of token t and a map c_t of what
is known of its place (positions, context),

.. math:: h^0_t = \text{first}(e_{<t}) + c_t, \qquad h^{l+1}_t = \text{layer}_l(h^l_{\le t}, c_{\le t}), \qquad
          \theta_t = \text{leave}(h^L_t).

The first layer is *strict*: it sees the tokens before t alone. Every later one sees t too. A raster model, a WaveNet, a
PixelCNN and a transformer differ in their layers and in nothing else. Each layer can be asked for one token at a time; its
cache is an explicit value, so that sampling costs about one pass.

The elements of a token are generated one after another, :math:`\theta_{t,g} = W_g\, \text{silu}(V_g h_t + U_g e_{t,<g})` (for
an image, p(R) p(G | R) p(B | R, G) at each pixel), or all at once, independent given the past (:class:`Frames`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genalloy.core.contexts import Context, Shapes
from genalloy.core.shapes import broadcast_shapes
from genalloy.core.spec import Module, Value
from genalloy.networks.causal.positions import PositionalEmbedding
from genalloy.networks.input_embedding import Entry, ScaledInput

Shape = tuple[int, ...]


class CausalLayer(Module, ABC):
    r"""h (N, T, width), c (N or 1, T, width) -> (N, T, width); output t depends on inputs <= t (a strict layer's: < t).

    `step` gives the same numbers one token after another. A strict layer's step takes the token before, None at t = 0.
    """

    @abstractmethod
    def forward(self, h: Tensor, c: Tensor) -> Tensor: ...

    @abstractmethod
    def init_state(self, n: int, like: Tensor) -> Any:
        """An empty cache for n sequences; `like` gives dtype and device."""

    @abstractmethod
    def step(self, state: Any, h: Tensor, t: int, c: Tensor) -> tuple[Any, Tensor]:
        """State and output (N, width) of token t from its input h (N, width) and place c (N or 1, width). Uses its state up."""


class Shift(CausalLayer):
    """h_t = e_{t-1}, and a learned start for the first token: the strict layer of sequence models."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.start = nn.Parameter(0.02 * torch.randn(width))

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        return torch.cat([self.start.expand(len(h), 1, -1), h[:, :-1]], 1)

    def init_state(self, n: int, like: Tensor) -> int:
        return n

    def step(self, state: int, h: Tensor | None, t: int, c: Tensor) -> tuple[int, Tensor]:  # type: ignore[override]
        return state, self.start.expand(state, -1) if h is None else h


# -- how an observation is cut into tokens -------------------------------------------------------------------------------


class Tokenisation(NamedTuple):
    """Flat event indices (T, G) of the tokens' elements, and the grid of the tokens."""

    order: Tensor
    grid: Shape


@dataclass(frozen=True)
class Singles(Value):
    """One element a token: a sequence (T,) as it is, a table or (T, F) row by row, an image pixel by pixel, channels in turn."""

    joint = False

    def cut(self, event_shape: Shape) -> Tokenisation:
        index = Pixels().cut(event_shape).order.reshape(-1, 1)
        return Tokenisation(index, (len(index),))


@dataclass(frozen=True)
class Pixels(Value):
    """One place a token, its channels one after another: (C, H, W) on a grid (H, W), (T, F) and (T,) on (T,).

    channels: order of the channels, the given one where empty.
    """

    channels: tuple[int, ...] = ()
    joint = False

    def cut(self, event_shape: Shape) -> Tokenisation:
        index = torch.arange(math.prod(event_shape)).reshape(event_shape)
        if len(event_shape) == 3:
            index = index.flatten(1).t()
        index = index.reshape(index.shape[0], -1)
        index = index[:, list(self.channels)] if self.channels else index
        return Tokenisation(index.contiguous(), tuple(event_shape[1:]) if len(event_shape) == 3 else (len(index),))


@dataclass(frozen=True)
class Frames(Value):
    """One row of (T, F) a token, its entries all at once: independent given the frames before."""

    joint = True

    def cut(self, event_shape: Shape) -> Tokenisation:
        return Pixels().cut(event_shape)


Tokens = Singles | Pixels | Frames


class OutputHead(Module):
    r"""(h (\*B, T, width), features of the elements (\*B, T, G, entry)) -> parameters (\*B, T, G, per_element).

    Element g sees h and the elements before it in its token; `joint`: h alone.
    """

    def __init__(self, width: int, group: int, entry: int, per_element: int, joint: bool = False) -> None:
        super().__init__()
        self.width, self.group, self.entry, self.per_element, self.joint = width, group, entry, per_element, joint
        self.parts = 1 if joint else group
        self.hidden = nn.Linear(width, self.parts * width)
        self.norm = nn.LayerNorm(width)
        within = group > 1 and not joint
        self.within = nn.Parameter(torch.randn(group, group - 1, entry, width) / math.sqrt(entry * group)) if within else None
        bound = width**-0.5
        outputs = group * per_element if joint else per_element
        self.weight = nn.Parameter(torch.empty(self.parts, width, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(self.parts, outputs))

    def forward(self, h: Tensor, elements: Tensor) -> Tensor:
        hidden = self.hidden(self.norm(h)).unflatten(-1, (self.parts, -1))
        if self.within is not None:
            before = torch.ones(self.group, self.group - 1, device=h.device, dtype=torch.bool).tril(-1)
            weight = self.within * before[..., None, None]
            hidden = hidden + torch.einsum("...ke,gkew->...gw", elements[..., :-1, :], weight)
        if self.parts == 1:
            out = F.linear(F.silu(hidden), self.weight[0].t(), self.bias[0])
        else:
            out = torch.einsum("...gw,gwp->...gp", F.silu(hidden), self.weight) + self.bias
        return out.reshape(*h.shape[:-1], self.group, self.per_element)

    def step(self, h: Tensor, elements: Tensor, g: int) -> Tensor:
        """Parameters (N, per_element) of element g, (N, G, per_element) if joint; elements (N, g, entry): those before it."""
        rows = slice(g * self.width, (g + 1) * self.width)
        hidden = F.linear(self.norm(h), self.hidden.weight[rows], self.hidden.bias[rows])
        if self.within is not None and g > 0:
            hidden = hidden + torch.einsum("nke,kew->nw", elements, self.within[g, :g])
        out = torch.addmm(self.bias[g], F.silu(hidden), self.weight[g])
        return out.unflatten(-1, (self.group, -1)) if self.joint else out


# -- the network -----------------------------------------------------------------------------------------------------------


class CausalState(NamedTuple):
    """Cache of a pass: elements generated so far, batch shape, places (N or 1, T, width), values and output of the token in
    turn, caches of the layers."""

    element: int
    shape: Shape
    places: Tensor
    values: tuple[Tensor, ...]
    h: Tensor
    layers: tuple[Any, ...]


class CausalNet(Module):
    r"""x (\*B, \*E), context -> (\*B, \*E, width); see the module's text.

    width: parameters an element (the head's). first: strict CausalLayer; layers: the others, all `features` wide.
    tokens: Singles(), Pixels() or Frames(). entry: how elements enter. places: map of positions and context, (\*B, features,
    \*grid). Raises ValueError where `places` is for another grid.
    """

    differentiable_steps = False

    def __init__(
        self,
        event_shape: Shape,
        width: int,
        first: nn.Module,
        layers: list[nn.Module],
        places: PositionalEmbedding,
        tokens: Tokens = Singles(),
        entry: Entry = ScaledInput(),
    ) -> None:
        super().__init__()
        self.event_shape, self.width, self.tokens, self.entry = tuple(event_shape), width, tokens, entry
        self.first, self.layers, self.places = first, nn.ModuleList(layers), places
        index, grid = tokens.cut(self.event_shape)
        if grid != places.grid:
            raise ValueError(f"found places for the grid {places.grid}, expected {grid}: tokens of {self.event_shape}")
        self.register_buffer("index", index, persistent=False)
        self.register_buffer("back", index.flatten().argsort(), persistent=False)
        self.sequence = tuple(index.flatten().tolist())
        self.in_order = self.sequence == tuple(range(len(self.sequence)))
        self.group = index.shape[1]
        self.step_shape: Shape = (self.group,) if tokens.joint else ()
        self.enter = nn.Linear(self.group * entry.features, places.features)
        self.leave = OutputHead(places.features, self.group, entry.features, width, tokens.joint)

    @property
    def context_shapes(self) -> Shapes:
        return self.places.context_shapes

    def forward(self, x: Tensor, context: Context = None) -> Tensor:
        places = self._places(context)
        lead = broadcast_shapes(x.shape[: x.dim() - len(self.event_shape)], places.shape[:-2])
        elements = self.entry(x.flatten(-len(self.event_shape))[..., self.index])
        elements = elements.expand(*lead, *elements.shape[-3:]).reshape(-1, *elements.shape[-3:])
        c = places.expand(*lead, *places.shape[-2:]).reshape(-1, *places.shape[-2:]) if places.dim() > 2 else places[None]
        h = self.first(self.enter(elements.flatten(-2)), c) + c
        for layer in self.layers:
            h = layer(h, c)
        flat = self.leave(h, elements).flatten(1, 2)
        flat = flat if self.in_order else flat[:, self.back]
        return flat.reshape(*lead, *self.event_shape, self.width)

    def _places(self, context: Context) -> Tensor:
        """(\\*B, T, features)."""
        return self.places(context).flatten(-len(self.places.grid)).transpose(-1, -2)

    @torch.no_grad()
    def init_state(self, shape: Shape, context: Context = None) -> CausalState:
        r"""Empty cache for (\*shape, \*E); the context's batch broadcasts to `shape`."""
        places = self._places(context)
        n = math.prod(shape)
        c = places.expand(*shape, *places.shape[-2:]).reshape(n, *places.shape[-2:]) if places.dim() > 2 else places[None]
        every: Any = (self.first, *self.layers)
        return CausalState(0, tuple(shape), c, (), c[:, 0], tuple(layer.init_state(n, c) for layer in every))

    @torch.no_grad()
    def step(self, state: CausalState, previous: Tensor | None) -> tuple[CausalState, Tensor]:
        r"""Parameters (\*shape, \*step_shape, width) of what comes next in `sequence`, given the value (\*shape, \*step_shape)
        of what came before. Uses its state up: caches are written in place."""
        size = self.group if self.tokens.joint else 1
        t, g = divmod(state.element, self.group)
        values = state.values
        if previous is not None:
            values = (*values, previous.reshape(-1, size).to(state.places.dtype))
        if g == 0:
            h, layers = self._token(state, values, t)
            state, values = state._replace(h=h, layers=layers), ()
        known = self.entry(torch.cat(values, 1)) if values else state.places[:, 0]
        out = self.leave.step(state.h, known, g).reshape(*state.shape, *self.step_shape, self.width)
        return state._replace(element=state.element + size, values=values), out

    def _token(self, state: CausalState, values: tuple[Tensor, ...], t: int) -> tuple[Tensor, tuple[Any, ...]]:
        """Output of all layers at token t, given the values of the token before; their caches."""
        before = None if t == 0 else self.enter(self.entry(torch.cat(values, 1)).flatten(-2))
        c = state.places[:, t]
        every: Any = self.layers
        cache, h = self.first.step(state.layers[0], before, t, c)  # type: ignore[operator]
        h, caches = h + c, [cache]
        for layer, cache in zip(every, state.layers[1:], strict=True):
            cache, h = layer.step(cache, h, t, c)
            caches.append(cache)
        return h, tuple(caches)
