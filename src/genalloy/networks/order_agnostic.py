r"""Networks that read any part of an observation: (x, known, context) -> parameters of every entry, (\*B, \*E, width).

Entries that are not known are absorbed: whatever value stands there, the network sees zeros, beside one feature an entry that
tells known from absorbed (Hoogeboom et al., 2022). The share of known entries is given too, as a diffusion's network is given
the time: how sure a conditional may be depends on it more than on anything else. Outputs are no function of an entry's own
value where it is unknown; where it is known they are meaningless.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from genalloy.core.contexts import Context, Shapes, both, flat, parts, shapes_of
from genalloy.core.spec import Module, Value
from genalloy.networks.attention import AttentionConfig, AttentionNet
from genalloy.networks.denoiser import Conditioning, ModulatedBlock
from genalloy.networks.input_embedding import Entry, ScaledInput, as_planes
from genalloy.networks.unet import UNet

Shape = tuple[int, ...]


@dataclass(frozen=True)
class TrunkConfig(Value):
    """Width and number of residual blocks of a dense network, dropout inside each."""

    width: int = 256
    blocks: int = 3
    dropout: float = 0.0


@dataclass(frozen=True)
class UNetConfig(Value):
    """Channels at full size, how often the grid is halved, blocks at each size, dropout: of a U-Net."""

    channels: int = 32
    depth: int = 1
    blocks: int = 1
    dropout: float = 0.0


def absorbed(x: Tensor, known: Tensor, entry: Entry) -> Tensor:
    r"""Features of the known entries, zeros elsewhere, and whether known: (\*B, \*E) -> (\*B, \*E, entry.features + 1)."""
    seen = known.unsqueeze(-1)
    features = entry(x.where(known, 0.0)).where(seen, 0.0)
    return torch.cat([features, seen.to(features.dtype)], -1)


def share(known: Tensor, dims: int) -> Tensor:
    r"""From -1 (nothing known) to 1: (\*B, \*E) of `dims` axes -> (\*B)."""
    return 2 * known.flatten(-dims).to(torch.get_default_dtype()).mean(-1) - 1


class OrderAgnosticMLP(Module):
    r"""Dense residual network over the whole event as one vector: tables, small grids (Hoogeboom et al., 2022, arXiv:2110.02037).

    (x (\*B, \*E), known (\*B, \*E), context) -> (\*B, \*E, width); see the module's text.
    """

    def __init__(
        self,
        event_shape: Shape,
        width: int,
        trunk: TrunkConfig = TrunkConfig(),
        context_shapes: Shapes = (),
        entry: Entry = ScaledInput(),
    ) -> None:
        super().__init__()
        self.event_shape, self.width, self.trunk, self.entry = tuple(event_shape), width, trunk, entry
        self.context_shapes = shapes_of(context_shapes)
        dims = math.prod(self.event_shape)
        self.condition = Conditioning(self.context_shapes, trunk.width // 2)
        self.enter = nn.Linear(dims * (entry.features + 1), trunk.width)
        self.blocks = nn.ModuleList(ModulatedBlock(trunk.width, trunk.width // 2, trunk.dropout) for _ in range(trunk.blocks))
        self.norm, self.leave = nn.LayerNorm(trunk.width), nn.Linear(trunk.width, dims * width)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, x: Tensor, known: Tensor, context: Context = None) -> Tensor:
        r"""x (\*B, \*E), known (\*B, \*E) of booleans, context -> (\*B, \*E, width)."""
        level, *rest = both((share(known, len(self.event_shape)).to(self.leave.weight.dtype),), context)
        c = self.condition(level, tuple(rest))
        h = self.enter(absorbed(x, known, self.entry).flatten(-1 - len(self.event_shape)))
        for block in self.blocks:
            h = block(h, c)
        return self.leave(self.norm(h)).unflatten(-1, (*self.event_shape, self.width))


class OrderAgnosticAttention(Module):
    r"""Convolutions and self-attention over all places: sequences (T,) and (F, T), images (C, H, W); see the module's text.

    (x (\*B, \*E), known (\*B, \*E), context) -> (\*B, \*E, width).
    context_shapes: parts of the image's height and width, or of the sequence's length (T,) and (F, T), stay aligned with it.
    """

    def __init__(
        self,
        event_shape: Shape,
        width: int,
        blocks: AttentionConfig = AttentionConfig(),  # noqa: B008
        context_shapes: Shapes = (),
        entry: Entry = ScaledInput(),
    ) -> None:
        super().__init__()
        self.event_shape, self.width, self.blocks, self.entry = tuple(event_shape), width, blocks, entry
        self.context_shapes = shapes_of(context_shapes)
        self.grid = as_image(self.event_shape)
        places = [as_image(s) if _aligned(s, self.event_shape) else s for s in flat(self.context_shapes)]
        self.places = tuple(places)
        planes = (self.grid[0] * (entry.features + 1), *self.grid[1:])
        self.network = AttentionNet((planes, (), *places), self.grid[0] * width, blocks)

    def forward(self, x: Tensor, known: Tensor, context: Context = None) -> Tensor:
        r"""x (\*B, \*E), known (\*B, \*E) of booleans, context -> (\*B, \*E, width)."""
        level = share(known, len(self.event_shape)).to(x.dtype)
        rest = zip(parts(context, self.context_shapes), flat(self.context_shapes), self.places, strict=True)
        aligned = (c.reshape((*c.shape[: c.dim() - len(s)], *p)) for c, s, p in rest)
        out = self.network((_planes(absorbed(x, known, self.entry), self.event_shape), level, *aligned))
        return _entries(out, self.event_shape)


class OrderAgnosticUNet(Module):
    r"""U-Net over images (C, H, W), every block modulated by the share of known entries; see the module's text.

    (x (\*B, C, H, W), known (\*B, C, H, W), context) -> (\*B, C, H, W, width).
    context_shapes: parts of the image's height and width are further planes of the input, all others modulate the blocks.
    """

    def __init__(
        self,
        event_shape: Shape,
        width: int,
        shape: UNetConfig = UNetConfig(),
        context_shapes: Shapes = (),
        entry: Entry = ScaledInput(),
    ) -> None:
        super().__init__()
        self.event_shape, self.width, self.shape, self.entry = tuple(event_shape), width, shape, entry
        self.context_shapes = shapes_of(context_shapes)
        self.aligned = tuple(len(s) == 3 and _aligned(s, self.event_shape) for s in flat(self.context_shapes))
        others = tuple(s for s, on in zip(flat(self.context_shapes), self.aligned, strict=True) if not on)
        above = sum(s[0] for s, on in zip(flat(self.context_shapes), self.aligned, strict=True) if on)
        planes = self.event_shape[0] * (entry.features + 1) + above
        # a U-Net gives a whole number of outputs for each plane that it reads: a few more than are used
        outputs = -(-self.event_shape[0] * width // planes)
        inputs = ((planes, *self.event_shape[1:]), (), *others)
        self.network = UNet(inputs, outputs, shape.channels, shape.depth, shape.blocks, shape.dropout)

    def forward(self, x: Tensor, known: Tensor, context: Context = None) -> Tensor:
        r"""x (\*B, C, H, W), known (\*B, C, H, W) of booleans, context -> (\*B, C, H, W, width)."""
        level, given = share(known, 3).to(x.dtype), parts(context, self.context_shapes)
        planes, lead = _planes(absorbed(x, known, self.entry), self.event_shape), x.shape[:-3]
        on = [c.expand(*lead, *c.shape[-3:]).to(x.dtype) for c, a in zip(given, self.aligned, strict=True) if a]
        others = [c for c, a in zip(given, self.aligned, strict=True) if not a]
        out = self.network((torch.cat([planes, *on], -3), level, *others)).movedim(-1, -3).flatten(-4, -3)
        return _entries(out[..., : self.event_shape[0] * self.width, :, :], self.event_shape)


def as_image(shape: Shape) -> Shape:
    """(T,) as (1, T, 1), (F, T) as (F, T, 1). Raises ValueError where there are more than three axes, or none."""
    if not 1 <= len(shape) <= 3:
        raise ValueError(f"found events of shape {tuple(shape)}, expected (T,), (F, T) or (C, H, W); OrderAgnosticMLP takes any")
    return {1: (1, *shape, 1), 2: (*shape, 1), 3: tuple(shape)}[len(shape)]


def _aligned(shape: Shape, event_shape: Shape) -> bool:
    """Whether a context of this shape has the event's places."""
    return 1 <= len(shape) <= 3 and as_image(shape)[1:] == as_image(event_shape)[1:]


def _planes(features: Tensor, event_shape: Shape) -> Tensor:
    r"""(\*B, \*E, F) -> (\*B, C F, H, W)."""
    lead = features.shape[: features.dim() - 1 - len(event_shape)]
    return as_planes(features.reshape(*lead, *as_image(event_shape), -1))


def _entries(planes: Tensor, event_shape: Shape) -> Tensor:
    r"""(\*B, C width, H, W) -> (\*B, \*E, width)."""
    channels = as_image(event_shape)[0]
    out = planes.unflatten(-3, (channels, -1)).movedim(-3, -1)
    return out.reshape(*planes.shape[:-3], *event_shape, -1)
