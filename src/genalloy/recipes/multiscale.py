r"""Multi-scale flows of images, by nesting: squeeze, a few couplings, split half of the channels off, and again.

Three kinds of step, with the same number of couplings and the same networks: additive couplings of channels in fixed random
orders (NICE: Dinh, Krueger & Bengio, 2015), affine ones by checkerboards and then by channels (RealNVP: Dinh, Sohl-Dickstein &
Bengio, 2017), and the same behind invertible 1x1 convolutions, which learn what to part (Glow: Kingma & Dhariwal, 2018). ActNorm
stands where RealNVP had batch normalisation.

Glow's 1x1 convolutions start at the identity, on the pixels of a block or on their Haar wavelets: a random rotation, the
published start, first has to find partings as good as checkerboards again, and does not within a thousand steps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from genalloy.core.contexts import Shapes
from genalloy.core.part import Conditional
from genalloy.heads.gaussian import Gaussian, StandardNormal
from genalloy.models.flow import Flow, Preprocessed
from genalloy.models.split import Split, halves
from genalloy.networks.convolution import ConvNet, Elements, Filters
from genalloy.recipes.composition import Target
from genalloy.recipes.pieces import on_data, stretch
from genalloy.transforms.coupling import EDGE, ChannelMask, Coupling
from genalloy.transforms.image import Haar, InvertibleConvolution, Shuffle, Squeeze
from genalloy.transforms.layer import Transform
from genalloy.transforms.linear import ActNorm
from genalloy.transforms.tails import normalised
from genalloy.transforms.univariate import Additive, Affine, Univariate

Shape = tuple[int, ...]
FEW = 32
COLOURS = (0, 3, 1, 2)
"""The four pixels of a block, first those of one colour."""


@dataclass(frozen=True)
class FlowSteps(ABC):
    """A scale's transforms. couplings: of a scale. filters: of their networks. context_shapes: of what they are given."""

    couplings: int
    filters: Filters
    context_shapes: Shapes = ()

    @abstractmethod
    def scale(self, shape: Shape) -> list[Transform]:
        """Squeeze and couplings for images (C, H, W), data side first."""

    @abstractmethod
    def rest(self, left: Shape, deep: Shape) -> nn.Module:
        """Part for the channels that are split off, given the others."""

    def end(self, shape: Shape) -> list[Transform]:
        """What stands before N(0, I)."""
        return normalised(shape)

    def by_channel(self, shape: Shape, univariate: Univariate, second: bool) -> Coupling:
        """A coupling with a convolutional network that starts at the identity; second: which half of the channels stays."""
        parting = ChannelMask(shape, second)
        inputs = (parting.still_shape, *self.context_shapes)
        network = ConvNet(inputs, univariate.width * parting.moved_shape[0], self.filters, zero=True)
        return Coupling(parting, network, univariate, self.context_shapes, EDGE)

    def gaussian(self, left: Shape, deep: Shape) -> nn.Module:
        """N(m, s^2) of a convolution of what goes on; starts at N(0, 1)."""
        inputs = (deep, *self.context_shapes)
        return Conditional(Gaussian(), Elements(ConvNet(inputs, 2 * left[0], self.filters, zero=True), 2), left, inputs)


@dataclass(frozen=True)
class Nice(FlowSteps):
    """Volume is kept everywhere, and what is split off is N(0, I): temperature is exact (Dinh et al., 2015, arXiv:1410.8516)."""

    def scale(self, shape: Shape) -> list[Transform]:
        """Squeeze, then additive couplings, each behind a fixed random order of the channels."""
        steps: list[Transform] = [Squeeze(shape)]
        small = steps[0].out_shape(shape)
        for _ in range(self.couplings):
            steps += [Shuffle(torch.randperm(small[0])), self.by_channel(small, Additive(), False)]
        return steps

    def end(self, shape: Shape) -> list[Transform]:
        """A scale and a shift of every entry of the last scale."""
        return [ActNorm(shape)]

    def rest(self, left: Shape, deep: Shape) -> nn.Module:
        """N(0, I) over the channels that are split off, whatever the others are."""
        return StandardNormal(left)


@dataclass(frozen=True)
class RealNVP(FlowSteps):
    """Half of the couplings by checkerboard, half by channel (Dinh et al., 2017, arXiv:1605.08803).

    A checkerboard's squares of one colour are two of the four pixels that squeezing makes channels of: its couplings run there,
    at a quarter of the cost, and their networks are as large as all others.
    """

    def scale(self, shape: Shape) -> list[Transform]:
        """Squeeze, then affine couplings by checkerboard and by channel, each behind an ActNorm."""
        return checkered(self, shape, Squeeze(shape), lambda small: [ActNorm(small, True)])

    def rest(self, left: Shape, deep: Shape) -> nn.Module:
        """A Gaussian over the channels that are split off, given the others."""
        return self.gaussian(left, deep)


def checkered(steps: FlowSteps, shape: Shape, squeeze: Transform, before: Callable[[Shape], list[Transform]]) -> list[Transform]:
    """Couplings between squares of two colours, then between halves of the channels; `before` stands before each."""
    small, boards = squeeze.out_shape(shape), steps.couplings // 2
    colours = torch.tensor(COLOURS)[:, None].mul(shape[0]).add(torch.arange(shape[0])).flatten()

    def alternating(count: int) -> list[Transform]:
        return [s for i in range(count) for s in (*before(small), steps.by_channel(small, Affine(), bool(i % 2)))]

    there, back = Shuffle(colours), Shuffle(colours.argsort())
    return [squeeze, there, *alternating(boards), back, *alternating(steps.couplings - boards)]


@dataclass(frozen=True)
class Glow(FlowSteps):
    """Couplings as in :class:`RealNVP`, a learned 1x1 convolution before each (Kingma & Dhariwal, 2018, arXiv:1807.03039).

    wavelets: what it first parts, otherwise pixels.
    """

    wavelets: bool = False

    def scale(self, shape: Shape) -> list[Transform]:
        """Squeeze or Haar wavelets, then affine couplings, each behind an ActNorm and a learned 1x1 convolution."""
        squeeze = Haar(shape) if self.wavelets else Squeeze(shape)
        return checkered(self, shape, squeeze, lambda s: [ActNorm(s, True), InvertibleConvolution(s[0], "identity")])

    def rest(self, left: Shape, deep: Shape) -> nn.Module:
        """A Gaussian over the channels that are split off, given the others."""
        return self.gaussian(left, deep)


def image_flow(shape: Shape, steps: FlowSteps, scales: int) -> Flow:
    """A flow of `scales` scales over images (C, H, W), a scale and shift of every entry of the last one, N(0, I).

    Raises ValueError where a side is odd before the last scale; see :func:`possible`.
    """
    layers = steps.scale(shape)
    small: Shape = tuple(shape)
    for layer in layers:
        small = layer.out_shape(small)
    if scales == 1:
        return Flow(StandardNormal(small), [*layers, *steps.end(small)], shape, steps.context_shapes)
    deep, left = halves(small)
    base = Split(image_flow(deep, steps, scales - 1), steps.rest(left, deep), small, steps.context_shapes)
    return Flow(base, layers, shape, steps.context_shapes)


def possible(shape: Shape, scales: int) -> int:
    """How many scales images of this shape admit, at most `scales`: sides are halved while both are even; 0 for vectors."""
    count = 0
    while len(shape) == 3 and count < scales and shape[1] % 2 == shape[2] % 2 == 0:
        shape, count = (shape[0], shape[1] // 2, shape[2] // 2), count + 1
    return count


def few(target: Target) -> bool:
    """Whether entries have so few levels that each is seen in the density of the dequantised."""
    return target.space.levels is not None and target.space.levels <= FEW


def pixels(target: Target, flow: Flow) -> Preprocessed:
    """The flow over images as they are; integers come through a logit."""
    # a single black among 256 levels would be a spike after a blunt logit; among few levels it is wide as it is
    return on_data(target, flow, stretch(0.01 if few(target) else 1e-6))
