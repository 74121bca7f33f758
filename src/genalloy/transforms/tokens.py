"""Images as sequences of patches, and sequences read backwards: what a transformer flow stacks (Zhai et al., 2024)."""

from __future__ import annotations

from torch import Tensor

from genalloy.core.contexts import Context
from genalloy.transforms.layer import Transform

Shape = tuple[int, ...]


class Patches(Transform):
    r"""Images (\*B, C, H, W) as H/p W/p tokens of C p p numbers, row by row (TarFlow: Zhai et al., 2024, arXiv:2412.06329).

    Volume is kept. shape: (C, H, W). size: p. Raises ValueError where p does not divide the sides.
    """

    constant = True
    event_dims = 3

    def __init__(self, shape: Shape, size: int) -> None:
        super().__init__()
        self.shape, self.size = tuple(shape), size
        channels, height, width = self.shape
        if height % size or width % size:
            raise ValueError(f"found an image of {height}x{width} for patches of {size}x{size}; choose a divisor of both sides")
        self.tokens = (height // size * (width // size), channels * size * size)

    def encode(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        r"""(\*B, C, H, W) -> (tokens (\*B, T, C p p), zeros (\*B)), T = H/p W/p."""
        p, rows, columns = self.size, self.shape[1] // self.size, self.shape[2] // self.size
        cut = x.unflatten(-1, (columns, p)).unflatten(-3, (rows, p))  # (*B, C, rows, p, columns, p)
        z = cut.movedim((-4, -2), (-5, -4)).flatten(-3).flatten(-3, -2)
        return z, x.new_zeros(x.shape[:-3])

    def decode(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        r"""Tokens (\*B, T, C p p) -> (images (\*B, C, H, W), zeros (\*B))."""
        channels, height, width = self.shape
        p = self.size
        cut = z.unflatten(-2, (height // p, width // p)).unflatten(-1, (channels, p, p))  # (*B, rows, columns, C, p, p)
        x = cut.movedim((-5, -4), (-4, -2)).flatten(-2).flatten(-3, -2)
        return x, z.new_zeros(z.shape[:-2])

    def out_shape(self, shape: Shape) -> Shape:
        """(tokens, numbers in each)."""
        return self.tokens


class ReverseTokens(Transform):
    r"""Tokens (\*B, T, F) in reverse order, volume kept, so that an autoregressive stack conditions both ways."""

    constant = True
    event_dims = 2

    def encode(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        r"""(:math:`z_t = x_{T+1-t}`, zeros (\*B))."""
        return x.flip(-2), x.new_zeros(x.shape[:-2])

    def decode(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        """The same as :meth:`encode`, which is its own inverse."""
        return self.encode(z)
