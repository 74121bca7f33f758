r"""Denoising networks: (noised x, noise level, context) -> one or more outputs an element.

They take the context ``(x, c_noise, *context)`` with declared shapes ``inputs = (event_shape, (), *context_shapes)``, so any
network of that form serves, :class:`genalloy.networks.mlp.MLP` included. Outputs are zero at the start: a diffusion then
begins as its parameterisation's own baseline.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from genalloy.core.contexts import Context, Shapes, flat, join, shapes_of
from genalloy.core.spec import Module


class LevelEmbedding(Module):
    r"""c (\*B) -> :math:`[\sin \omega_j c, \cos \omega_j c]`, (\*B, width) (Vaswani et al., 2017, arXiv:1706.03762).

    slowest, fastest: the ends of the frequencies, which are spaced geometrically; radians a unit of c. Raises ValueError for an
    odd width.
    """

    frequencies: Tensor

    def __init__(self, width: int = 32, slowest: float = 0.5, fastest: float = 16.0) -> None:
        super().__init__()
        if width % 2:
            raise ValueError(f"found width {width}, expected an even one: as many sines as cosines")
        self.width, self.slowest, self.fastest = width, slowest, fastest
        frequencies = torch.logspace(math.log10(slowest), math.log10(fastest), width // 2)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, c: Tensor) -> Tensor:
        r"""Features (\*B, width) of levels c (\*B), first all sines, then all cosines."""
        angles = c.unsqueeze(-1) * self.frequencies.to(c.dtype)
        return torch.cat([angles.sin(), angles.cos()], -1)


class Conditioning(Module):
    r"""(c_noise (\*B), context) -> features (\*B, width) that modulate every block.

    shapes: event shapes of the context's parts, joined behind the level's embedding and passed through two layers with silu.
    """

    def __init__(self, shapes: Shapes, width: int) -> None:
        super().__init__()
        self.shapes, self.width = shapes_of(shapes), width
        self.level = LevelEmbedding()
        extra = sum(math.prod(s) for s in flat(self.shapes))
        self.net = nn.Sequential(nn.Linear(self.level.width + extra, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())

    def forward(self, level: Tensor, context: Context) -> Tensor:
        r"""Features (\*B, width) of the level (\*B) and of the context's parts, where there are any."""
        features = self.level(level)
        if self.shapes:
            features = join((features, *context), ((self.level.width,), *self.shapes))
        return self.net(features)


class ModulatedBlock(Module):
    r""":math:`h + W_2\, \mathrm{drop}(\mathrm{silu}(W_1 \mathrm{norm}(h) \odot (1 + s(c)) + b(c)))`, W_2 zero at the start.

    h (\*B, width), c (\*B, conditioning); s and b are linear (FiLM: Perez et al., 2018, arXiv:1709.07871).
    """

    def __init__(self, width: int, conditioning: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.width, self.conditioning, self.dropout = width, conditioning, dropout
        self.norm = nn.LayerNorm(width)
        self.first, self.last = nn.Linear(width, width), nn.Linear(width, width)
        self.modulate = nn.Linear(conditioning, 2 * width)
        self.drop = nn.Dropout(dropout)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        r"""The block's output (\*B, width) at h (\*B, width) and features c (\*B, conditioning)."""
        scale, shift = self.modulate(c).chunk(2, -1)
        inner = self.first(self.norm(h)) * (1 + scale) + shift
        return h + self.last(self.drop(nn.functional.silu(inner)))


class DenoiserMLP(Module):
    r"""Denoiser of vectors and small images (flattened): (x (\*B, \*E), level (\*B), \*context) -> (\*B, \*E, per_element).

    inputs: (event_shape, (), \*context_shapes); width, blocks: of the residual trunk; dropout inside each block. Level and
    context modulate every block (FiLM: Perez et al., 2018, arXiv:1709.07871).
    """

    def __init__(
        self,
        inputs: Shapes,
        per_element: int = 1,
        width: int = 256,
        blocks: int = 3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.inputs, self.per_element = shapes_of(inputs), per_element
        self.width, self.blocks, self.dropout = width, blocks, dropout
        dims = math.prod(self.inputs[0])
        self.condition = Conditioning(self.inputs[2:], width // 2)
        self.enter = nn.Linear(dims, width)
        self.trunk = nn.ModuleList(ModulatedBlock(width, width // 2, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, dims * per_element)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, context: Context) -> Tensor:
        r"""Outputs (\*B, \*E, per_element) of context = (x (\*B, \*E), level (\*B), \*context's parts); zero at the start."""
        x, level, *rest = context
        event = self.inputs[0]
        c = self.condition(level, tuple(rest))
        h = self.enter(x.flatten(-len(event)) if event else x.unsqueeze(-1))
        for block in self.trunk:
            h = block(h, c)
        return self.leave(self.norm(h)).unflatten(-1, (*event, self.per_element))
