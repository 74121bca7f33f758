r"""MADE: one network for all D conditionals (Germain, Gregor, Murray & Larochelle, 2015), and its exact stepwise use.

Variables are taken in an order; rank :math:`d = 0..D-1`. Each hidden unit has a degree :math:`m` and may see the
variables of rank :math:`< m`; the parameters of the variable of rank :math:`d` may see units of degree :math:`\le d`:

.. math:: M^{1}_{kd} = [m_k > d], \quad M^{l}_{kj} = [m_k \ge m_j], \quad M^{out}_{dk} = [d \ge m_k],

so that output :math:`d` depends on :math:`x_{<d}` alone. Units are sorted by degree. When variables become known one after
another, the units of degree :math:`d` are complete as soon as :math:`x_{<d}` is known and never change afterwards: at
step :math:`d` only they are computed, from contiguous prefixes of the layer below. A whole pass of D steps costs about as
much arithmetic as one forward pass, and gives the same numbers.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genalloy.core.contexts import Context, Shapes, flat, join, shapes_of
from genalloy.core.functions import plain_operations
from genalloy.core.spec import Module
from genalloy.networks.input_embedding import Entry, ScaledInput
from genalloy.networks.mlp import Hidden

Shape = tuple[int, ...]


class MaskedLinear(Module):
    r""":math:`y = (M \odot W)\, x + b` with M (outputs, inputs) of zeros and ones: (\*B, inputs) -> (\*B, outputs).

    Weights start uniform within 1 / sqrt(number of inputs that a unit may see).
    """

    def __init__(self, mask: Tensor, bias: bool = True) -> None:
        super().__init__()
        self.register_buffer("mask", mask.to(torch.get_default_dtype()), persistent=False)
        bound = self.mask.sum(1, keepdim=True).clamp(min=1.0).rsqrt()
        self.weight = nn.Parameter((2 * torch.rand_like(self.mask) - 1) * bound * self.mask)
        self.bias = nn.Parameter((2 * torch.rand(len(mask)) - 1) * bound.squeeze(1)) if bias else None
        self._bands = _bands(mask)

    def forward(self, x: Tensor) -> Tensor:
        r"""x (\*B, inputs) -> (\*B, outputs); bands of a wide layer leave out the last columns, which none of their rows sees."""
        if len(self._bands) == 1 or x.dtype != self.weight.dtype or plain_operations():
            return F.linear(x, self.mask * self.weight, self.bias)
        return _Banded.apply(x, self.weight, self.bias, self.mask, self._bands)  # type: ignore[no-any-return, no-untyped-call]

    def block(self, x: Tensor, rows: slice) -> Tensor:
        """Rows of the output, given the first rows of a transposed input (n, N) that hold all that they may see."""
        weight = self.weight[rows, : len(x)]
        if self.bias is None:
            return weight @ x
        return torch.addmm(self.bias[rows].unsqueeze(1), weight, x)


class _Banded(torch.autograd.Function):
    """y_b = x_{<seen_b} (M * W)_b^T + b, band by band: what no unit of a band sees is neither multiplied nor differentiated."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, mask: Tensor, bands: Bands) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        kept = [mask[rows, :seen] * weight[rows, :seen] for rows, seen in bands]
        y = x.new_empty(len(flat), len(weight))
        for (rows, seen), w in zip(bands, kept, strict=True):
            torch.mm(flat[:, :seen], w.t(), out=y[:, rows])
        if bias is not None:
            y += bias
        ctx.save_for_backward(x, weight, mask)
        ctx.bands, ctx.kept, ctx.biased = bands, kept, bias is not None
        return y.unflatten(0, x.shape[:-1])

    @staticmethod
    def backward(ctx: Any, bar: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight, mask = ctx.saved_tensors
        flat, g = x.reshape(-1, x.shape[-1]), bar.reshape(-1, len(weight))
        to_bias = g.sum(0) if ctx.biased else None
        if torch.is_grad_enabled():  # a second derivative is wanted
            return (g @ (mask * weight)).view_as(x), (g.t() @ flat) * mask, to_bias, None, None
        to_x = to_weight = None
        if ctx.needs_input_grad[0]:
            to_x = torch.zeros_like(flat)
            for (rows, seen), w in zip(ctx.bands, ctx.kept, strict=True):
                to_x[:, :seen].addmm_(g[:, rows], w)
        if ctx.needs_input_grad[1]:
            to_weight = torch.zeros_like(weight)
            for rows, seen in ctx.bands:
                torch.mm(g[:, rows].t(), flat[:, :seen], out=to_weight[rows, :seen])
            to_weight *= mask
        return None if to_x is None else to_x.view_as(x), to_weight, to_bias, None, None


Bands = list[tuple[slice, int]]
"""Units (rows of a layer) and the leading inputs that they see."""

BAND = 128
"""Units of a band: fewer multiply less and call more."""


def _bands(mask: Tensor) -> Bands:
    """Where units are sorted by degree, much of a wide layer is never multiplied."""
    rows, columns = mask.shape
    if min(rows, columns) < BAND:
        return [(slice(0, rows), columns)]
    starts = range(0, rows, BAND)
    seen = [int(band.any(0).nonzero().max()) + 1 if band.any() else 1 for band in mask.bool().split(BAND)]
    return [(slice(start, min(start + BAND, rows)), n) for start, n in zip(starts, seen, strict=True)]


class MADEState(NamedTuple):
    """Cache of a pass: rank of the variable in turn, features of the variables known so far, units known so far.

    Matrices are (features, N) with N = prod(shape); `context` holds its contributions to the first layer and to the output.
    """

    rank: int
    shape: Shape
    inputs: Tensor
    units: tuple[Tensor, ...]
    context: tuple[Tensor, Tensor] | None


class MADE(Module):
    r"""Masked dense network with `width` parameters a variable: x (\*B, \*E), context -> (\*B, \*E, width).

    .. math:: M^{1}_{kd} = [m_k > d], \quad M^{l}_{kj} = [m_k \ge m_j], \quad M^{out}_{dk} = [d \ge m_k]

    (Germain, Gregor, Murray & Larochelle, 2015, arXiv:1502.03509.)
    order: a permutation of 0..D-1, flat event indices in order of generation; None is the natural order. The context
    (parts of shapes `context_shapes`) is seen by every unit. linear: whether a linear path leads past the hidden layers.

    Raises ValueError where `order` is not a permutation.
    """

    differentiable_steps = True

    def __init__(
        self,
        event_shape: Shape,
        width: int,
        hidden: Hidden = Hidden(),
        order: tuple[int, ...] | None = None,
        context_shapes: Shapes = (),
        entry: Entry = ScaledInput(),
        linear: bool = True,
    ) -> None:
        super().__init__()
        self.event_shape, self.width, self.hidden, self.order = tuple(event_shape), width, hidden, order
        self.context_shapes, self.entry, self.linear = shapes_of(context_shapes), entry, linear
        self.dims = math.prod(self.event_shape)
        self.sequence = tuple(range(self.dims)) if order is None else tuple(order)
        if sorted(self.sequence) != list(range(self.dims)):
            raise ValueError(f"found order {self.sequence}, expected a permutation of 0..{self.dims - 1}")
        self._make_layers()
        sequence = torch.tensor(self.sequence)
        self.register_buffer("by_rank", sequence, persistent=False)
        self.register_buffer("by_index", sequence.argsort(), persistent=False)
        self.activation, self.dropout = hidden.activation(), nn.Dropout(hidden.dropout)

    def _make_layers(self) -> None:
        inputs = torch.arange(self.dims).repeat_interleave(self.entry.features)
        outputs = torch.arange(self.dims).repeat_interleave(self.width)
        degrees = [self._degrees(n) for n in self.hidden.widths]
        masks = [degrees[0][:, None] > inputs] if degrees else []
        masks += [b[:, None] >= a for a, b in pairwise(degrees)]
        self.layers = nn.ModuleList(MaskedLinear(mask) for mask in masks)
        self.last = MaskedLinear(outputs[:, None] >= degrees[-1] if degrees else torch.zeros(len(outputs), 0))
        self.direct = MaskedLinear(outputs[:, None] > inputs, bias=False) if self.linear or not degrees else None
        self.ends = [_ends(d, self.dims) for d in degrees]
        size = sum(math.prod(s) for s in flat(self.context_shapes))
        self.from_context = nn.Linear(size, len(masks[0]) if masks else 0, bias=False) if size else None
        self.context_direct = nn.Linear(size, len(outputs), bias=False) if size else None

    def _degrees(self, units: int) -> Tensor:
        """Degrees 1..D-1 in equal shares, sorted; degree 0 (a unit that sees the context only) where there is one."""
        low = 0 if self.context_shapes else min(1, self.dims - 1)
        return low + torch.arange(units) * (self.dims - low) // units

    def zero_output(self) -> MADE:
        """Start with all parameters zero, whatever the input."""
        layers = (self.last, self.direct, self.context_direct)
        for tensor in (p for layer in layers if layer is not None for p in layer.parameters()):
            nn.init.zeros_(tensor)
        return self

    def forward(self, x: Tensor, context: Context = None) -> Tensor:
        r"""x (\*B, \*E) -> (\*B, \*E, width), all conditionals in one pass."""
        x = x.flatten(-len(self.event_shape)) if len(self.event_shape) != 1 else x
        x = x if self.order is None else x[..., self.by_rank]
        features = self.entry(x).flatten(-2)
        first, final = self._context(context)
        h = features
        for index, layer in enumerate(self.layers):
            pre = layer(h) if index or first is None else layer(h) + first
            h = self._joined(h, self.dropout(self.activation(pre)), index)
        out = self.last(h if len(self.layers) else h[..., :0])
        out = out if self.direct is None else out + self.direct(features)
        out = (out if final is None else out + final).unflatten(-1, (self.dims, self.width))
        out = out if self.order is None else out[..., self.by_index, :]
        return out.unflatten(-2, self.event_shape)

    def _joined(self, below: Tensor, above: Tensor, index: int) -> Tensor:
        widths = self.hidden.widths
        return below + above if self.hidden.residual and index and widths[index - 1] == widths[index] else above

    def _context(self, context: Context) -> tuple[Tensor | None, Tensor | None]:
        if self.from_context is None or self.context_direct is None:
            return None, None
        c = join(context, self.context_shapes).to(self.last.weight.dtype)
        return self.from_context(c), self.context_direct(c)

    def split(self, z: Tensor) -> tuple[Tensor, ...]:
        r"""Variables (\*B) of z (\*B, \*E) in the order of generation."""
        return z.flatten(-len(self.event_shape))[..., self.by_rank].unbind(-1)

    def merge(self, variables: list[Tensor]) -> Tensor:
        """The inverse of :meth:`split`."""
        return torch.stack(variables, -1)[..., self.by_index].unflatten(-1, self.event_shape)

    def init_state(self, shape: Shape, context: Context = None) -> MADEState:
        r"""Empty cache for a pass over (\*shape, \*E); the context's batch broadcasts to `shape`."""
        n, weight = math.prod(shape), self.last.weight
        units = tuple(weight.new_empty(w, n) for w in self.hidden.widths)
        first, final = self._context(context)
        parts = None
        if first is not None and final is not None:
            parts = _columns(first, shape), _columns(final, shape)
        return MADEState(0, shape, weight.new_empty(self.dims * self.entry.features, n), units, parts)

    def step(self, state: MADEState, previous: Tensor | None) -> tuple[MADEState, Tensor]:
        r"""Parameters (\*shape, width) of the next variable in `sequence`, given the value (\*shape) of the one before.

        Uses its state up: buffers are written in place, unless gradients are enabled.
        """
        rank, k = state.rank, self.entry.features
        inputs = state.inputs
        if previous is not None:
            inputs = _put(inputs, (rank - 1) * k, self.entry(previous.reshape(-1).to(inputs.dtype)).t())
        known = below = inputs[: rank * k]
        units = []
        layers: Any = self.layers
        for index, (layer, buffer) in enumerate(zip(layers, state.units, strict=True)):
            rows = slice(self.ends[index][rank], self.ends[index][rank + 1])
            pre = layer.block(below, rows)
            if index == 0 and state.context is not None:
                pre = pre + state.context[0][rows]
            buffer = _put(buffer, rows.start, self._joined(below[rows], self.activation(pre), index))
            units.append(buffer)
            below = buffer[: rows.stop]
        rows = slice(rank * self.width, (rank + 1) * self.width)
        out = self.last.block(below if units else below[:0], rows)
        out = out if self.direct is None else out + self.direct.block(known, rows)
        out = out if state.context is None else out + state.context[1][rows]
        state = MADEState(rank + 1, state.shape, inputs, tuple(units), state.context)
        return state, out.t().reshape(*state.shape, self.width)


def _ends(degrees: Tensor, dims: int) -> list[int]:
    """ends[d] = number of units of degree below d."""
    return [int((degrees < d).sum()) for d in range(dims + 1)]


def _columns(rows: Tensor, shape: Shape) -> Tensor:
    """(*B, features), B broadcast to `shape`, as (features, N)."""
    return rows.expand(*shape, rows.shape[-1]).reshape(math.prod(shape), rows.shape[-1]).t()


def _put(buffer: Tensor, start: int, block: Tensor) -> Tensor:
    """Rows `start`.. of the buffer; in place, or, where gradients are wanted, by concatenation with the rows before."""
    if torch.is_grad_enabled():
        return torch.cat([buffer[:start], block])
    buffer[start : start + len(block)] = block
    return buffer
