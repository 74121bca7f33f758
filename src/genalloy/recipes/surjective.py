"""Flow++, augmented and neural autoregressive flows: mixtures inside couplings, learned noise, invented variables."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from genalloy.core.evidence import Kind
from genalloy.core.part import Embedded
from genalloy.heads.gaussian import StandardNormal
from genalloy.models.flow import Flow
from genalloy.networks.attention import AttentionConfig, AttentionNet, Blocks
from genalloy.networks.mlp import Hidden
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.recipes.composition import Composition, Phase, Target
from genalloy.recipes.flows import TASKS, conditioner, halves, masked_layers, order, seen
from genalloy.recipes.multiscale import possible
from genalloy.recipes.pieces import FEW_DROPOUT, dequantised, grid, scarce, sized, worth
from genalloy.recipes.registry import recipe
from genalloy.training.options import Adam, Training
from genalloy.transforms.autoregressive import masked
from genalloy.transforms.coupling import EDGE, ChannelMask, Coupling, coupling
from genalloy.transforms.image import InvertibleConvolution, Squeeze
from genalloy.transforms.layer import Layer, Transform
from genalloy.transforms.linear import PLU, ActNorm
from genalloy.transforms.observation import Dequantise, Flatten, Logit, Standardise
from genalloy.transforms.sigmoidal import DeepSigmoid
from genalloy.transforms.surjection import augment
from genalloy.transforms.tails import normalised
from genalloy.transforms.univariate import Affine as Scale
from genalloy.transforms.univariate import Then, Univariate

Shape = tuple[int, ...]
LOGISTIC = 1.702
"""The deviation of the Gaussian nearest to the standard logistic: its sigmoid is almost uniform."""


def normed(steps: Sequence[Transform], shape: Shape, per_channel: bool = False, every: int = 1) -> list[Transform]:
    """ActNorm before each, or before every second, third, ..."""
    return [layer for i in range(0, len(steps), every) for layer in (ActNorm(shape, per_channel), *steps[i : i + every])]


def squeezes(shape: Shape) -> list[Squeeze]:
    """At least one, and more while the sides are even and long: attention is between all places."""
    layers = [Squeeze(shape)]
    while max(small := layers[-1].out_shape(layers[-1].shape)[1:]) > 8 and not any(n % 2 for n in small):
        layers.append(Squeeze(layers[-1].out_shape(layers[-1].shape)))
    return layers


def attentive(
    shape: Shape, layers: int, univariate: Univariate, blocks: AttentionConfig, seen: tuple[Shape, ...] = ()
) -> list[Transform]:
    """Couplings by halves of the channels with attention networks, between ActNorm and invertible 1x1 convolutions."""
    found: list[Transform] = []
    for _ in range(layers):
        parting = ChannelMask(shape)
        network = AttentionNet((parting.still_shape, *seen), univariate.width * parting.moved_shape[0], blocks, zero=True)
        found += [InvertibleConvolution(shape[0]), Coupling(parting, network, univariate, seen, EDGE)]
    return found


def image_flow(shape: Shape, layers: int, univariate: Univariate, blocks: AttentionConfig) -> Flow:
    """Squeezes, then ActNorm, 1x1 convolution and coupling in turn, on N(0, I)."""
    before = squeezes(shape)
    small = before[-1].out_shape(before[-1].shape)
    steps = normed(attentive(small, layers, univariate, blocks), small, True, 2)
    return Flow(StandardNormal(small), [*before, *steps, *normalised(small)], shape)


def image_noise(shape: Shape, layers: int, blocks: AttentionConfig) -> Embedded:
    """q(u | x) on (0, 1) by affine couplings that see x; starts next to uniform."""
    before = squeezes(shape)
    small = before[-1].out_shape(before[-1].shape)
    steps = attentive(small, layers, Scale(), blocks, (small,))
    flow = Flow(StandardNormal(small), [*_unit(shape), *before, *steps], shape, (small,))
    return Embedded(flow, Blocks(shape[1] // small[1]), (shape,))


def dense_flow(dims: int, layers: int, hidden: Hidden, univariate: Univariate) -> Flow:
    """Couplings of fresh halves with ActNorm on N(0, I)."""
    steps = normed([coupling(mask, hidden, (), univariate) for mask in halves(dims, layers)], (dims,))
    return Flow(StandardNormal((dims,)), [*steps, *normalised((dims,))], (dims,))


def vector_noise(shape: Shape, count: int, layers: int, hidden: Hidden) -> Flow:
    """q(u | x) on (0, 1) for `count` entries, dense, given x of `shape`; starts next to uniform."""
    masks = halves(count, layers) if count > 1 else []
    steps = [coupling(mask, hidden, (shape,)) for mask in masks]
    return Flow(StandardNormal((count,)), [*_unit((count,)), *steps], (count,), (shape,))


def _unit(shape: Shape) -> list[Transform]:
    return [Logit(1.0, 0.0, len(shape)), Standardise(torch.zeros(shape), torch.full(shape, LOGISTIC))]


def learned_noise(target: Target, noise: nn.Module | None) -> list[Layer | Transform]:
    """[Dequantise] with that noise; nothing where no entry lies on a grid."""
    plain = dequantised(target)
    return [Dequantise(d.discrete, d.low, d.high, noise) for d in plain]  # type: ignore[union-attr, arg-type]


ON_REALS = Training(Adam(3e-3), ema=0.998, clip=10.0)
ON_GRID = Training(Adam(2e-3), ema=0.995, clip=10.0)


@recipe("flow++", "flow", Kind.EXACT, Kind.LOWER, TASKS, "Ho, Chen, Srinivas, Duan & Abbeel, 2019")
def flow_plus_plus(
    target: Target,
    layers: int = 8,
    units: int = 8,
    channels: int = 32,
    width: int | None = None,
    variational: bool = True,
    steps: int | None = None,
) -> Composition:
    """Flow++: mixture-of-logistics couplings; attention and learned dequantisation noise on images, dense on vectors.

    channels: of the attention networks, for images of even sides. width: of dense ones, None: 96, 32 on few reals. variational:
    False for uniform noise. steps None: 600 on integers, 2500 on reals, fewer on few rows.
    Ho et al., 2019, arXiv:1902.00275.
    """
    space, univariate = target.space, Then(DeepSigmoid(units), Scale())
    reals, dims, shape = space.levels is None, space.dims, space.shape
    if dims < 2:
        raise ValueError("flow++ needs at least two entries to couple; found one; try naf")
    if not reals and possible(shape, 1):
        blocks = AttentionConfig(channels, 1)
        flow = image_flow(shape, layers, univariate, blocks)
        noise = image_noise(shape, 4, blocks) if variational else None
        model = Flow(flow, [*learned_noise(target, noise), Logit(float(space.levels or 0), 0.01, len(shape))], shape)
        return Composition(model, [Phase(MaximumLikelihood(), ON_GRID)], steps or 600)
    width = width or sized(target, 96, 96, 32)
    hidden = Hidden((width, width), residual=not reals, dropout=FEW_DROPOUT if scarce(target) else 0.0)
    flow = dense_flow(dims, layers, hidden, univariate)
    noisy = _noisy(target, flow, width) if variational and bool(grid(target).any()) else seen(target, flow)
    phase = Phase(MaximumLikelihood(), ON_REALS if reals else ON_GRID, batch=256)
    return Composition(noisy, [phase], steps or worth(target, 2500 if reals else 600))


def _noisy(target: Target, flow: Flow, width: int) -> Flow:
    """The flow over flattened data, with learned noise on what lies on a grid."""
    discrete, shape = grid(target), target.space.shape
    whole, count = bool(discrete.all()), int(discrete.sum())
    flat = vector_noise(shape, count, 2, Hidden((width, width)))
    noise = Flow(flat, [Flatten(shape)], shape, (shape,)) if whole and len(shape) > 1 else flat
    plain = list(seen(target, flow).layers)[1:]
    return Flow(flow, [*learned_noise(target, noise), *plain], shape)


@recipe("augmented-flow", "flow", Kind.LOWER, Kind.LOWER, TASKS, "Huang, Dinh & Courville, 2020; Chen et al., 2020")
def augmented(
    target: Target,
    extra: int | None = None,
    layers: int = 12,
    width: int | None = None,
    dropout: float = 0.2,
    steps: int | None = None,
) -> Composition:
    """Augmented flow (VFlow): affine couplings, behind learned matrices, of the data and invented entries, N(0, I) given them.

    extra: invented entries, None for as many as the data have and at least 2. width None: 96, 32 on few reals. dropout: on
    integers. steps None: 1000 on integers, 4000 on reals, fewer on few rows.
    Chen et al., 2020, arXiv:2002.09741; Huang, Dinh & Courville, 2020, arXiv:2002.07101.
    """
    dims, reals = target.space.dims, target.space.levels is None
    extra = extra or max(dims, 2)
    whole = dims + extra
    hidden = conditioner(target, width or sized(target, 96, 96, 32), dropout)
    # data and noise start independent: where couplings part the one from the other, no gradient says that noise is of use
    mixed = [layer for mask in halves(whole, layers) for layer in (PLU(whole, "rotation"), coupling(mask, hidden))]
    inner = Flow(StandardNormal((whole,)), [*normed(mixed, (whole,), every=2), *normalised((whole,))], (whole,))
    flow = Flow(inner, [ActNorm((dims,)), augment((dims,), extra)], (dims,))
    phase = Phase(MaximumLikelihood(), Training(Adam(5e-3 if reals else 2e-3), ema=0.998, clip=10.0), batch=256 if reals else 128)
    return Composition(seen(target, flow), [phase], steps or worth(target, 4000 if reals else 1000))


@recipe("naf", "flow", Kind.EXACT, Kind.LOWER, TASKS, "Huang, Krueger, Lacoste & Courville, 2018")
def naf(
    target: Target,
    layers: int = 3,
    units: int = 16,
    width: int | None = None,
    dropout: float = 0.1,
    steps: int | None = None,
) -> Composition:
    """Neural autoregressive flow: deep sigmoidal maps whose parameters a masked network gives, orders alternating.

    width None: 96, 32 on few reals. dropout: on integers. steps None: 600 on integers, 2500 on reals, fewer on few rows.
    Huang et al., 2018, arXiv:1804.00779.
    """
    reals, dims = target.space.levels is None, target.space.dims
    hidden = masked_layers(target, width or sized(target, 96, 96, 32), dropout)
    steps_ = normed([masked(dims, hidden, order(dims, i), (), DeepSigmoid(units)) for i in range(layers)], (dims,))
    flow = Flow(StandardNormal((dims,)), [*steps_, *normalised((dims,))], (dims,))
    phase = Phase(MaximumLikelihood(), ON_REALS if reals else ON_GRID)
    return Composition(seen(target, flow), [phase], steps or worth(target, 2500 if reals else 600))
