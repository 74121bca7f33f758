r"""Coupling (Dinh, Krueger & Bengio, 2015; Dinh, Sohl-Dickstein & Bengio, 2017): one part of the variables moves the other.

.. math:: z_A = x_A, \qquad z_B = \tau(x_B;\, r(x_A, c)), \qquad \log|\det dz/dx| = \sum_B \log \tau',

with an elementwise map :math:`\tau` (:mod:`genalloy.transforms.univariate`: affine, additive, spline, ...) whose raw parameters
r a network gives. Both directions cost one pass. A parting says which variables are A and in what shape the network sees
them; parts are taken by index, so no feature is computed to be thrown away.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from genalloy.core.contexts import Context, Shapes, both, shapes_of
from genalloy.core.spec import Module
from genalloy.networks.input_embedding import compress
from genalloy.networks.mlp import Dense, Hidden
from genalloy.transforms.layer import Transform
from genalloy.transforms.univariate import Affine, Univariate

Shape = tuple[int, ...]
EDGE = 5.0
"""Deviations within which nearly all data lie: the `limit` of recipes' couplings."""


class CouplingMask(Module, ABC):
    """Which variables stay and which move.

    event_dims: axes of an event. still_shape: of what stays, as the network sees it. moved_shape: of what moves.
    """

    event_dims: int = 1
    still_shape: Shape
    moved_shape: Shape

    @abstractmethod
    def part(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""(still (\*B, \*still_shape), moved (\*B, \*moved_shape)) of x (\*B, \*E)."""

    @abstractmethod
    def whole(self, still: Tensor, moved: Tensor) -> Tensor:
        r"""The inverse of :meth:`part`, (\*B, \*E)."""

    @abstractmethod
    def raw(self, features: Tensor, width: int) -> Tensor:
        r"""The network's output as raw parameters (\*B, \*moved_shape, width)."""


class FixedMask(CouplingMask):
    """By a fixed mask on events of any shape, flattened: True entries stay.

    mask: bool tensor of the event shape; see :func:`alternating`, :func:`checkerboard`, :func:`channelwise`.
    Raises ValueError where the mask has one kind of entry only.
    """

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        flat = mask.bool().flatten()
        stay, move = int(flat.sum()), int((~flat).sum())
        if not stay or not move:
            raise ValueError(f"found a mask with {stay} of {len(flat)} entries fixed, expected some of both kinds")
        self.register_buffer("mask", mask.bool())
        self.event_dims, self.still_shape, self.moved_shape = mask.dim(), (stay,), (move,)
        fixed, free = flat.nonzero().squeeze(1), (~flat).nonzero().squeeze(1)
        self.register_buffer("fixed", fixed, persistent=False)
        self.register_buffer("free", free, persistent=False)
        self.register_buffer("place", torch.cat([fixed, free]).argsort(), persistent=False)

    def part(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The entries that stay and those that move, each in the order of the flattened event."""
        flat = x.flatten(-self.event_dims)
        return flat[..., self.fixed], flat[..., self.free]

    def whole(self, still: Tensor, moved: Tensor) -> Tensor:
        r"""Both parts put back at their places, (\*B, \*E); `still` broadcasts to the batch of `moved`."""
        still = still.expand(*moved.shape[:-1], -1)
        return torch.cat([still, moved], -1)[..., self.place].unflatten(-1, tuple(self.mask.shape))

    def raw(self, features: Tensor, width: int) -> Tensor:
        """Parameter by parameter, so that each is one block of memory."""
        return features.unflatten(-1, (width, -1)).transpose(-1, -2)


class ChannelMask(CouplingMask):
    """The first half of the channels of an image (C, H, W) stays, or the second (Dinh et al., 2017, arXiv:1605.08803).

    Network and moved part are images too. shape: (C, H, W). second: whether the second half stays. Raises ValueError where C < 2.
    """

    def __init__(self, shape: Shape, second: bool = False) -> None:
        super().__init__()
        self.shape, self.second, self.event_dims = tuple(shape), second, len(shape)
        first, rest = self.shape[0] // 2, self.shape[0] - self.shape[0] // 2
        if first < 1:
            raise ValueError(f"found {self.shape[0]} channel, expected at least 2 to part; squeeze the image first")
        self.sizes = (first, rest)
        self.still_shape, self.moved_shape = ((n, *self.shape[1:]) for n in (reversed(self.sizes) if second else self.sizes))

    def part(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The two halves of the channels, what stays first."""
        first, rest = x.split(self.sizes, -self.event_dims)
        return (rest, first) if self.second else (first, rest)

    def whole(self, still: Tensor, moved: Tensor) -> Tensor:
        r"""Both halves put back in order, (\*B, C, H, W); `still` broadcasts to the batch of `moved`."""
        still = still.expand(*moved.shape[: -self.event_dims], *still.shape[-self.event_dims :])
        return torch.cat([moved, still] if self.second else [still, moved], -self.event_dims)

    def raw(self, features: Tensor, width: int) -> Tensor:
        r"""Images of `width` blocks of channels, (\*B, width C', H, W), as (\*B, C', H, W, width)."""
        return features.unflatten(-self.event_dims, (width, -1)).movedim(-self.event_dims - 1, -1)


class CheckerboardMask(CouplingMask):
    r"""The squares of one colour stay, the others move (Dinh, Sohl-Dickstein & Bengio, 2017, arXiv:1605.08803).

    The network sees the image (\*B, C, H, W) with the squares that move at zero, and gives an image of `width` blocks of C
    channels. shape: (C, H, W). odd: whether the odd squares stay.
    """

    def __init__(self, shape: Shape, odd: bool = False) -> None:
        super().__init__()
        self.shape, self.odd, self.event_dims = tuple(shape), odd, 3
        self.register_buffer("mask", checkerboard(self.shape, odd), persistent=False)
        self.still_shape, self.moved_shape = self.shape, (int((~self.mask).sum()),)
        self.register_buffer("free", (~self.mask).flatten().nonzero().squeeze(1), persistent=False)

    def part(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The image with zeros where entries move, and a vector of those that do."""
        return x * self.mask, x.flatten(-3)[..., self.free]

    def whole(self, still: Tensor, moved: Tensor) -> Tensor:
        r"""The image with the entries that moved at their squares, (\*B, C, H, W); `still` broadcasts."""
        flat = still.expand(*moved.shape[:-1], *self.shape).flatten(-3)
        return flat.index_copy(-1, self.free, moved).unflatten(-1, self.shape)

    def raw(self, features: Tensor, width: int) -> Tensor:
        r"""(\*B, width C, H, W) at the squares that move, as (\*B, moved, width)."""
        return features.unflatten(-3, (width, -1)).flatten(-3)[..., self.free].transpose(-1, -2)


class Coupling(Transform):
    r"""A coupling layer (Dinh, Krueger & Bengio, 2015, arXiv:1410.8516; Dinh et al., 2017, arXiv:1605.08803); x and z (\*B, \*E).

    .. math:: z_A = x_A, \qquad z_B = \tau(x_B;\, r(x_A, c)), \qquad \log|\det dz/dx| = \sum_B \log \tau'

    parting: what A and B are. network: (still, \*context) -> features with `univariate.width` numbers for each moved entry. It
    starts at the identity where its last layer starts at zero. univariate: the map :math:`\tau`. limit: beyond it the network
    sees the logarithm of what stays (:func:`genalloy.networks.input_embedding.compress`), so that far from the data the map is
    what it is at their edge; None for no limit.
    """

    def __init__(
        self,
        parting: CouplingMask,
        network: nn.Module,
        univariate: Univariate = Affine(),
        context_shapes: Shapes = (),
        limit: float | None = None,
    ) -> None:
        super().__init__()
        self.parting, self.network, self.univariate, self.limit = parting, network, univariate, limit
        self.context_shapes = shapes_of(context_shapes)
        self.event_dims, self.constant = parting.event_dims, univariate.volume
        self._moved_dims = len(parting.moved_shape)

    def encode(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        r"""x (\*B, \*E) -> (z, log \|det dz/dx\| (\*B)), the sum of log-slopes over what moves."""
        still, moved = self.parting.part(x)
        z, slopes = self.univariate.encode(moved, self._raw(still, context))
        return self.parting.whole(still, z), slopes.flatten(-self._moved_dims).sum(-1)

    def decode(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        r"""z (\*B, \*E) -> (x, log \|det dx/dz\| (\*B)), in one pass of the network, too."""
        still, moved = self.parting.part(z)
        x, slopes = self.univariate.decode(moved, self._raw(still, context))
        return self.parting.whole(still, x), slopes.flatten(-self._moved_dims).sum(-1)

    def _raw(self, still: Tensor, context: Context) -> Tensor:
        seen = still if self.limit is None else compress(still, self.limit)
        features = self.network(both(seen, context if self.context_shapes else None))
        return self.parting.raw(features, self.univariate.width)


def coupling(mask: Tensor, hidden: Hidden = Hidden(), context_shapes: Shapes = (), univariate: Univariate = Affine()) -> Coupling:
    """A coupling with a dense network, by a mask; starts at the identity; its network sees values up to :data:`EDGE`."""
    parting = FixedMask(mask)
    inputs = (parting.still_shape, *shapes_of(context_shapes))
    network = Dense(inputs, univariate.width * math.prod(parting.moved_shape), hidden, zero=True)
    return Coupling(parting, network, univariate, context_shapes, EDGE)


def alternating(dims: int, odd: bool = False) -> Tensor:
    """Every other entry of a vector: True at 0, 2, ..., or at 1, 3, ... where `odd`."""
    return torch.arange(dims) % 2 == int(odd)


def checkerboard(shape: Shape, odd: bool = False) -> Tensor:
    """Pixels (row + column) even, or odd: neighbours predict each other; shape (C, H, W)."""
    _, height, width = shape
    squares = (torch.arange(height)[:, None] + torch.arange(width)) % 2 == int(odd)
    return squares.expand(shape).clone()


def channelwise(shape: Shape, second: bool = False) -> Tensor:
    """The first half of the channels, or the second; shape (C, H, W) with C >= 2."""
    first = torch.arange(shape[0]) < shape[0] // 2
    return (first ^ second)[:, None, None].expand(shape).clone()
