r"""Transforms of images (C, H, W) between couplings: squeezing space into channels, wavelets, invertible 1x1 convolutions.

Squeezing (Dinh, Sohl-Dickstein & Bengio, 2017) moves each 2x2 block of pixels into channels, in the order (0,0), (0,1), (1,0),
(1,1), each with all channels of its pixel; nothing is computed. Half of the new channels are then every other row, so that
couplings by channel part the pixels otherwise than checkerboards do.

A wavelet does the same and rotates each block by an orthogonal matrix whose first row is the average (Haar, 1910), so that
the first channels are the image at half size. Both keep volume.

An invertible 1x1 convolution (Kingma & Dhariwal, 2018) mixes the channels of each pixel by one matrix in PLU form,

.. math:: W = P L (U + \mathrm{diag}(\sigma e^{s})), \qquad \log|\det dz/dx| = H\,W\, \textstyle\sum_i s_i,

with a fixed permutation P and fixed signs :math:`\sigma`, unit-triangular L, strictly triangular U; its inverse is two triangular
solves.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from genalloy.core.contexts import Context
from genalloy.transforms.layer import Transform
from genalloy.transforms.linear import Mixing

Shape = tuple[int, ...]
WAVELETS = ((1.0, 1.0, 1.0, 1.0), (1.0, -1.0, 1.0, -1.0), (1.0, 1.0, -1.0, -1.0), (1.0, -1.0, -1.0, 1.0))


class Squeeze(Transform):
    r"""(\*B, C, H, W) -> (\*B, 4 C, H / 2, W / 2), each 2x2 block as channels (Dinh et al., 2017, arXiv:1605.08803).

    Nothing is computed: log-determinant 0. shape: (C, H, W). Raises ValueError where H or W is odd.
    """

    event_dims = 3
    constant = True

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.out_shape(self.shape)

    def out_shape(self, shape: Shape) -> Shape:
        """(C, H, W) -> (4 C, H / 2, W / 2). Raises ValueError where a side is odd."""
        channels, height, width = shape
        if height % 2 or width % 2:
            raise ValueError(f"found an image of {height} x {width} pixels, expected even sides; pad or crop it, or squeeze less")
        return 4 * channels, height // 2, width // 2

    def encode(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        r"""(\*B, C, H, W) -> ((\*B, 4 C, H / 2, W / 2), zeros (\*B))."""
        blocks = x.unflatten(-1, (-1, 2)).unflatten(-3, (-1, 2))
        return blocks.movedim((-3, -1), (-5, -4)).flatten(-5, -3), x.new_zeros(x.shape[:-3])

    def decode(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        r"""(\*B, 4 C, H / 2, W / 2) -> ((\*B, C, H, W), zeros (\*B))."""
        blocks = z.unflatten(-3, (2, 2, -1)).movedim((-5, -4), (-3, -1))
        return blocks.flatten(-2).flatten(-3, -2), z.new_zeros(z.shape[:-3])


class Haar(Transform):
    r"""Haar's wavelets (Haar, 1910): (\*B, C, H, W) -> (\*B, 4 C, H / 2, W / 2), log-determinant 0.

    The C first channels are the sums of each 2x2 block over 2 (twice the average, so that the map is orthogonal), the others
    differences: of columns, of rows, and of diagonals. shape: (C, H, W). Raises ValueError where H or W is odd.
    """

    event_dims = 3
    constant = True

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape, self.squeeze = tuple(shape), Squeeze(shape)
        self.register_buffer("wavelets", torch.tensor(WAVELETS) / 2, persistent=False)

    def out_shape(self, shape: Shape) -> Shape:
        """(C, H, W) -> (4 C, H / 2, W / 2)."""
        return self.squeeze.out_shape(shape)

    def encode(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        r"""(\*B, C, H, W) -> ((\*B, 4 C, H / 2, W / 2), zeros (\*B)): squeezed, then rotated."""
        z, ladj = self.squeeze.encode(x)
        return self._rotated(z), ladj

    def decode(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        r"""(\*B, 4 C, H / 2, W / 2) -> ((\*B, C, H, W), zeros (\*B)): rotated back, then put together."""
        return self.squeeze.decode(self._rotated(z))

    def _rotated(self, z: Tensor) -> Tensor:
        """Each block by the wavelets' matrix, which is symmetric and its own inverse."""
        blocks = z.unflatten(-3, (4, -1))
        return torch.einsum("ij,...jchw->...ichw", self.wavelets, blocks).flatten(-4, -3)


class Shuffle(Transform):
    r"""The channels of images (\*B, C, H, W) in another, fixed order; permutation: integer tensor (C,), kept as a buffer."""

    event_dims = 3
    constant = True

    def __init__(self, permutation: Tensor) -> None:
        super().__init__()
        self.register_buffer("permutation", permutation.long())

    def encode(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        r"""(:math:`z_i = x_{p(i)}` over channels, zeros (\*B))."""
        return x.index_select(-3, self.permutation), x.new_zeros(x.shape[:-3])

    def decode(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        r"""(:math:`x_{p(i)} = z_i` over channels, zeros (\*B))."""
        return z.index_select(-3, self.permutation.argsort()), z.new_zeros(z.shape[:-3])


class InvertibleConvolution(Mixing, Transform):
    r"""The invertible 1x1 convolution, z = W x at every pixel (Kingma & Dhariwal, 2018, arXiv:1807.03039); x (\*B, C, H, W).

    .. math:: W = P L (U + \mathrm{diag}(\sigma e^{s})), \qquad \log|\det dz/dx| = H\,W\, \textstyle\sum_i s_i

    size: C. start: of W, a random rotation unless told otherwise; see :class:`genalloy.transforms.linear.Mixing`, whose
    ValueError it raises.
    """

    event_dims = 3
    size: int
    permutation: Any
    log_scale: Any

    def __init__(self, size: int, start: str = "rotation") -> None:
        super().__init__()
        self.hold(size, start)

    def encode(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        r"""x (\*B, C, H, W) -> (W x at every pixel, :math:`H\,W \sum_i s_i` (\*B))."""
        lower, upper = self._factors()
        weight = (lower @ upper)[self.permutation]
        z = F.conv2d(x.reshape(-1, *x.shape[-3:]), weight[..., None, None])
        return z.reshape(x.shape), self._ladj(x)

    def decode(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        r"""z (\*B, C, H, W) -> (:math:`W^{-1} z` at every pixel, :math:`-H\,W \sum_i s_i` (\*B)), by two triangular solves."""
        columns = z.index_select(-3, self.permutation.argsort()).flatten(-2)
        return self._solved(columns).reshape(z.shape), -self._ladj(z)

    def _ladj(self, x: Tensor) -> Tensor:
        return (self.log_scale.sum() * x.shape[-2:].numel()).expand(x.shape[:-3])
