r"""Causal convolutions over images, whole, row by row or pixel by pixel, from one description of the network.

Pixels come in raster order. A convolution that sees rows above its own and columns up to its own gives the same numbers in
three ways: over whole images; a row at a time, for streams that see rows above their own alone; and a pixel at a time, where
what the rows above add is computed for a whole row when it begins, and each pixel adds one product over the few pixels at its
left. No feature is computed twice.

A network is written once, as a function of a *walk*, ``walk.conv(layer, x)`` and the like. Over whole images (:data:`WHOLE`) x
is (N, features, H, W) and the walk calls the layer. In a :class:`RowWalk` x is a row (N, features, 1, W), in a
:class:`PixelWalk` a pixel (N, features), and the walk keeps what a layer will need again: its caches are an explicit value,
made by the first step of a pass and handed from step to step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genalloy.core.spec import Module

Size = tuple[int, int]


def groups_of(features: int, groups: int) -> Tensor:
    """Group of each feature: equal shares, in order."""
    return torch.arange(features) * groups // features


class CausalConv2d(Module):
    r"""Convolution over rows above and columns left: (N, inputs, H, W) -> (N, outputs, H, W).

    rows: rows seen, its own included. columns: columns seen left and right of the own one. up: extra rows by which the input is
    pushed down (1: strictly above). stride: of the output's places, which lie at its multiples. groups: groups of channels that
    are generated in turn at a pixel; an output of group g sees inputs of groups up to g there, or before g if `strict` (mask B,
    mask A: van den Oord, Kalchbrenner & Kavukcuoglu, 2016, arXiv:1601.06759). halves: the outputs are that many lists of groups.

    Raises ValueError where several rows are seen under groups of channels or by a strict convolution.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        rows: int = 1,
        columns: tuple[int, int] = (0, 0),
        up: int = 0,
        stride: int = 1,
        groups: int = 1,
        strict: bool = False,
        halves: int = 1,
    ) -> None:
        super().__init__()
        self.inputs, self.outputs, self.rows, self.columns, self.up = inputs, outputs, rows, columns, up
        self.stride, self.groups, self.strict, self.halves = stride, groups, strict, halves
        if rows > 1 and (groups > 1 or strict):
            raise ValueError(f"found {rows} rows under groups of channels, expected the own one alone: add two convolutions")
        left, right = columns
        convolution = nn.Conv2d(inputs, outputs, (rows, left + 1 + right))
        self.weight = convolution.weight
        self.bias: Any = convolution.bias
        self.register_buffer("taps", self._taps(), persistent=False)

    def _taps(self) -> Tensor | None:
        """Which weights count, where not all do."""
        if self.groups == 1 and not self.strict:
            return None
        given, made = groups_of(self.inputs, self.groups), groups_of(self.outputs // self.halves, self.groups).repeat(self.halves)
        seen = made[:, None] > given if self.strict else made[:, None] >= given
        taps = torch.ones_like(self.weight)
        taps[:, :, -1, self.columns[0]] = seen.float()
        return taps

    def kernel(self) -> Tensor:
        """The weights that count, (outputs, inputs, rows, columns)."""
        return self.weight if self.taps is None else self.weight * self.taps

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.columns
        padding = (left, right, self.rows - 1 + self.up, -self.up)
        return F.conv2d(F.pad(x, padding) if any(padding) else x, self.kernel(), self.bias, stride=self.stride)

    def own(self, group: int) -> Tensor:
        """Indices of the outputs of a group."""
        made = groups_of(self.outputs // self.halves, self.groups).repeat(self.halves)
        return (made == group).nonzero().squeeze(1).to(self.weight.device)

    def cache(self, n: int, width: int) -> PixelCache:
        """Of n images of that width, for a convolution that sees no column at its right in its own row, without `up`."""
        kernel, first = self.kernel(), [-(-g * self.inputs // self.groups) for g in range(self.groups + 1)]
        groups = [(self.own(g), slice(first[g], first[g + 1])) for g in range(self.groups)]
        above = kernel[:, :, :-1] if self.rows > 1 else None
        return PixelCache(above, kernel[:, :, -1:, : self.columns[0] + 1], self.bias, self.columns, n, width, groups)


class PixelCache:
    r"""What one convolution keeps from pixel to pixel of n images, `width` wide.

    above: weights of the rows above (outputs, inputs, rows, columns), None where none are seen. beside: weights of the own row
    (outputs, inputs, 1, taps), of the pixels before, and of the pixel `itself` as the last. columns: seen left and right. groups:
    for each group of channels its outputs and its inputs, one where rows above are seen. wrap: whether left of a row lies the
    last pixel of the row above, instead of zeros.

    Views are made once, so that a pixel costs one copy (:meth:`store`) and one product (:meth:`read`).
    """

    def __init__(
        self,
        above: Tensor | None,
        beside: Tensor,
        bias: Tensor,
        columns: tuple[int, int],
        n: int,
        width: int,
        groups: Sequence[tuple[Any, slice]] = ((slice(None), slice(None)),),
        itself: bool = True,
        wrap: bool = False,
    ) -> None:
        self.above = None if above is None else above.permute(2, 3, 1, 0).flatten(0, 2).contiguous()
        self.bias, self.wrap, self.left, self.width = bias, wrap, columns[0], width
        inputs, taps, rows = beside.shape[1], beside.shape[3], 0 if above is None else above.shape[2]
        self.past = bias.new_zeros(rows + 1, n, width + sum(columns), inputs)
        span = (1 + sum(columns)) * inputs
        self._windows = self.past[:-1].flatten(2).unfold(2, span, inputs).permute(2, 1, 0, 3)  # (W, N, rows, columns * inputs)
        matrix = beside.squeeze(2).permute(2, 1, 0).flatten(0, 1)
        self.weights = [matrix[:, made].contiguous() for made, _ in groups]
        self.sums = [bias[made].expand(width, n, -1).contiguous() for made, _ in groups]
        self._starts = [sums.unbind(0) for sums in self.sums]
        own, last = self.past[-1], self.left - (not itself)
        self._seen = [own[:, last + j + 1 - taps : last + j + 1].view(n, -1) if taps else own[:, 0, :0] for j in range(width)]
        self._slots = [own[:, self.left : self.left + width, given].unbind(1) for _, given in groups]

    def begin(self) -> None:
        """The next row begins: rows move up, and what they give every pixel of it is computed."""
        if self.above is not None:
            self.past[:-1] = self.past[1:].clone()
            if self.wrap:
                self.past[-1, :, self.left - 1] = self.past[-2, :, self.left + self.width - 1]
            torch.addmm(self.bias, self._windows.flatten(2).flatten(0, 1), self.above, out=self.sums[0].flatten(0, 1))

    def store(self, x: Tensor, j: int, group: int = 0) -> None:
        """Pixel j enters as x (N, inputs), or a group of its channels does."""
        self._slots[group][j].copy_(x)

    def read(self, j: int, group: int = 0) -> Tensor:
        """Outputs (N, outputs of the group) at pixel j, whose inputs have entered."""
        return torch.addmm(self._starts[group][j], self._seen[j], self.weights[group])

    def next(self, x: Tensor, j: int, group: int = 0) -> Tensor:
        """Output at pixel j, which enters as x and sees itself; at the first group of the first pixel, the row begins."""
        if j == 0 and group == 0:
            self.begin()
        self._slots[group][j].copy_(x)
        return torch.addmm(self._starts[group][j], self._seen[j], self.weights[group])


# -- walks --------------------------------------------------------------------------------------------------------------------


class Whole:
    """Whole images at once: layers are called as they are."""

    def conv(self, layer: CausalConv2d, x: Tensor) -> Tensor:
        """A causal convolution; in steps, of the next row, or of the pixel in turn and the group of channels in turn."""
        return layer(x)

    def strict(self, layer: CausalConv2d, x: Tensor) -> Tensor:
        """A causal convolution that does not see the group in turn itself; in steps, x are the elements before it."""
        return layer(x)

    def point(self, layer: nn.Module, x: Tensor) -> Tensor:
        """A 1x1 convolution."""
        return layer(x)

    def place(self, layer: nn.Module, place: Tensor) -> Tensor:
        """A 1x1 convolution of the map of places (1 or N, features, H, W), where the walk is."""
        return layer(place)

    def beside(self, key: nn.Module, row: Callable[[], Tensor], group: CausalConv2d | None = None) -> Tensor:
        """What a stream of rows gives the pixels of a row: row() once a row; of the channels of the group in turn of a layer."""
        return row()

    def shrink(self, layer: CausalConv2d, x: Tensor) -> Any:
        """A convolution of stride 2; in steps, None where the half resolution has no place of its own."""
        return layer(x)

    def half(self, key: nn.Module, small: Any, level: Callable[[Any], Any]) -> Any:
        """level(walk) at the half resolution, in steps the latest one made."""
        return level(self)

    def grow(self, layer: nn.ConvTranspose2d, x: Tensor, size: Size, right: int) -> Tensor:
        """Back to a resolution (H, W) by a transposed convolution of stride 2 that sees `right` columns at the right."""
        return layer(x)[:, :, : size[0], right : right + size[1]]


WHOLE = Whole()


class RowWalk:
    """Row i of images `width` wide; caches: by layer, of the rows so far."""

    def __init__(self, i: int, width: int, caches: dict[Any, Any]) -> None:
        self.i, self.width, self.caches = i, width, caches

    def conv(self, layer: CausalConv2d, x: Tensor) -> Tensor:
        return F.conv2d(self._seen(layer, x), layer.kernel(), layer.bias)

    def _seen(self, layer: CausalConv2d, x: Tensor) -> Tensor:
        """The rows that the layer sees, padded; x becomes the last of those seen before."""
        before = self.caches.get(layer)
        before = x.new_zeros(*x.shape[:2], layer.rows - 1, x.shape[3]) if before is None else before
        rows = torch.cat([before, x], 2)
        self.caches[layer] = rows[:, :, 1:]
        return F.pad(rows, (*layer.columns, 0, 0))

    def point(self, layer: nn.Module, x: Tensor) -> Tensor:
        return layer(x)

    def place(self, layer: nn.Module, place: Tensor) -> Tensor:
        if layer not in self.caches:
            self.caches[layer] = layer(place)
        return self.caches[layer][:, :, self.i : self.i + 1]

    def shrink(self, layer: CausalConv2d, x: Tensor) -> Tensor | None:
        rows = self._seen(layer, x)
        return F.conv2d(rows, layer.kernel(), layer.bias, stride=2) if self.i % 2 == 0 else None

    def half(self, key: nn.Module, small: Any, level: Callable[[Any], Any]) -> Any:
        if small is not None:
            self.caches[key] = level(RowWalk(self.i // 2, -(-self.width // 2), self.caches))
        return self.caches[key]

    def grow(self, layer: nn.ConvTranspose2d, x: Tensor, size: Size, right: int) -> Tensor:
        kernel = layer.weight[:, :, self.i % 2 : self.i % 2 + 1]
        return F.conv_transpose2d(x, kernel, layer.bias, stride=(1, 2))[..., right : right + size[1]]


class PixelWalk:
    """Pixel (i, j), group of channels g, of images `width` wide; caches: by layer, of the pixels so far."""

    def __init__(self, i: int, j: int, group: int, width: int, caches: dict[Any, Any]) -> None:
        self.i, self.j, self.group, self.width, self.caches = i, j, group, width, caches

    def conv(self, layer: CausalConv2d, x: Tensor) -> Tensor:
        cache = self.caches.get(layer) or self._made(layer, x)
        return cache.next(x, self.j, self.group)

    def strict(self, layer: CausalConv2d, x: Tensor) -> Tensor:
        cache = self.caches.get(layer) or self._made(layer, x)
        j, group = (self.j, self.group - 1) if self.group else (self.j - 1, layer.groups - 1)
        if j >= 0:
            cache.store(x, j, group)
        return cache.read(self.j, self.group)

    def _made(self, layer: CausalConv2d, x: Tensor) -> PixelCache:
        self.caches[layer] = layer.cache(len(x), self.width)
        return self.caches[layer]

    def point(self, layer: Any, x: Tensor) -> Tensor:
        weights = self.caches.get(layer)
        if weights is None:
            # as a matrix from the right: a product with a transposed one takes half as long again
            weights = self.caches[layer] = (layer.weight.flatten(1).t().contiguous(), layer.bias)
        return x @ weights[0] if weights[1] is None else torch.addmm(weights[1], x, weights[0])

    def place(self, layer: nn.Module, place: Tensor) -> Tensor:
        known = self.caches.get(layer)
        if known is None:
            known = self.caches[layer] = layer(place).permute(2, 3, 0, 1).flatten(0, 1).contiguous()
        return known.select(0, self.i * self.width + self.j)

    def beside(self, key: nn.Module, row: Callable[[], Tensor], group: CausalConv2d | None = None) -> Tensor:
        if self.j == 0 and self.group == 0:
            whole = row()[:, :, 0].permute(2, 0, 1)
            own = [slice(None)] if group is None else [group.own(g) for g in range(group.groups)]
            self.caches[key] = [whole[:, :, index].contiguous().unbind(0) for index in own]
        return self.caches[key][self.group][self.j]

    def shrink(self, layer: CausalConv2d, x: Tensor) -> Tensor | None:
        cache = self.caches.get(layer) or self._made(layer, x)
        if self.j == 0:
            cache.begin()
        cache.store(x, self.j)
        return cache.read(self.j) if self.i % 2 == 0 and self.j % 2 == 0 else None

    def half(self, key: nn.Module, small: Any, level: Callable[[Any], Any]) -> Any:
        kept = self.caches.setdefault(key, {})
        if small is not None:
            kept[self.j // 2] = level(PixelWalk(self.i // 2, self.j // 2, 0, -(-self.width // 2), self.caches))
        return kept[self.j // 2]

    def grow(self, layer: Any, x: Tensor, size: Size, right: int) -> Tensor:
        kernels = self.caches.get(layer)
        if kernels is None:
            kernels = self.caches[layer] = (layer.weight.permute(2, 3, 0, 1).contiguous(), layer.bias)
        return torch.addmm(kernels[1], x, kernels[0][self.i % 2, self.j % 2])


Walk = Any
"""A :class:`Whole`, a :class:`RowWalk` or a :class:`PixelWalk`."""
