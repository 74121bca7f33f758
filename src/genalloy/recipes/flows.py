"""Flow recipes: exact densities on reals, LOWER on integers through dequantisation."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from genalloy.core.evidence import Kind
from genalloy.heads.gaussian import StandardNormal
from genalloy.heads.mixture import GaussianMixture
from genalloy.models.autoregressive import Autoregressive
from genalloy.models.flow import Flow, Preprocessed
from genalloy.networks.causal.made import MADE
from genalloy.networks.convolution import Filters
from genalloy.networks.input_embedding import CompressedInput
from genalloy.networks.mlp import Hidden
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.recipes.composition import Composition, Phase, Target
from genalloy.recipes.multiscale import RealNVP, image_flow, pixels, possible
from genalloy.recipes.pieces import FEW_DROPOUT, on_data, scarce, sized, stretch, worth
from genalloy.recipes.registry import recipe
from genalloy.training.options import Adam, Training
from genalloy.transforms.autoregressive import masked
from genalloy.transforms.coupling import alternating, coupling
from genalloy.transforms.layer import Inverse, Transform
from genalloy.transforms.linear import ActNorm
from genalloy.transforms.spline import RationalQuadratic
from genalloy.transforms.tails import normalised
from genalloy.transforms.univariate import Affine, Univariate

TASKS = ("sample", "score", "encode")


def seen(target: Target, flow: Flow) -> Preprocessed:
    """The flow over flattened data; integers come through a logit, blunt enough for single levels."""
    return on_data(target, flow, stretch(0.01), flat=True)


def halves(dims: int, count: int) -> list[Tensor]:
    """Complementary pairs of masks: every pair a fresh random half, or for few entries every other one.

    `count` bool tensors (dims,).
    """
    masks: list[Tensor] = []
    for i in range(count):
        fresh = alternating(dims) if dims < 4 else alternating(dims)[torch.randperm(dims)]
        masks.append(~masks[-1] if i % 2 else fresh)
    return masks


def order(dims: int, layer: int) -> tuple[int, ...] | None:
    """Natural order and its reverse in turn: None at even layers, (dims - 1, ..., 0) at odd ones."""
    return tuple(reversed(range(dims))) if layer % 2 else None


def coupling_flow(dims: int, layers: int, hidden: Hidden, univariate: Univariate = Affine()) -> Flow:
    """ActNorm and dense couplings in turn on N(0, I)."""
    steps: list[Transform] = []
    for mask in halves(dims, layers):
        steps += [ActNorm((dims,)), coupling(mask, hidden, univariate=univariate)]
    return Flow(StandardNormal((dims,)), [*steps, *normalised((dims,))], (dims,))


# Sharp densities of few reals want kinks (ReLU) and no noise; small sets of integers want smoothness and dropout.
ON_REALS = Training(Adam(5e-3), ema=0.998, clip=10.0)
ON_GRID = Training(Adam(2e-3), ema=0.995, clip=10.0)


def bounded(target: Target, count: int) -> Affine:
    """Affine maps, of which every entry meets `count`: together they stretch it by at most e^15, or e^2 on few rows.

    Integers cannot lie far from the data, and their maps keep the usual bound.
    """
    usual = Affine()
    return usual if target.space.levels is not None else Affine(min(usual.bound, (2.0 if scarce(target) else 15.0) / count))


def conditioner(target: Target, width: int, dropout: float) -> Hidden:
    """Dense networks of affine couplings: plain on reals, with a little dropout on few; residual with dropout on integers."""
    if target.space.levels is None:
        return Hidden((width, width), nn.ReLU, dropout=FEW_DROPOUT if scarce(target) else 0.0)
    return Hidden((width, width), residual=True, dropout=dropout)


def masked_layers(target: Target, width: int | None, dropout: float) -> Hidden:
    """Masked networks of autoregressive transforms; width None for the usual one."""
    width = width or sized(target, 128, 128, 32)
    return Hidden((width, width), dropout=dropout if target.space.levels is not None else FEW_DROPOUT if scarce(target) else 0.0)


@recipe("realnvp", "flow", Kind.EXACT, Kind.LOWER, TASKS, "Dinh, Sohl-Dickstein & Bengio, 2017")
def realnvp(
    target: Target,
    layers: int | None = None,
    width: int | None = None,
    dropout: float = 0.2,
    steps: int | None = None,
    scales: int = 0,
) -> Composition:
    """RealNVP: affine couplings with ActNorm, dense on the flattened observation, or convolutional at several scales.

    layers None: 10 on integers, 20 on reals, 8 on few rows, 4 a scale. width None: 96 on integers, 64 on reals, 32 on few rows,
    32 channels. steps None: 1000 and 6000, fewer on few rows. dropout: on integers, where dense.
    scales: 0 for dense; on images with even sides, at most so many scales. Raises ValueError on single entries.
    Dinh, Sohl-Dickstein & Bengio, 2017, arXiv:1605.08803.
    """
    if target.space.dims < 2:
        raise ValueError("realnvp needs at least two entries to couple; found one; try maf")
    reals, shape = target.space.levels is None, target.space.shape
    if count := possible(shape, scales):
        pictures = pixels(target, image_flow(shape, RealNVP(layers or 4, Filters(width or 32)), count))
        return Composition(pictures, [Phase(MaximumLikelihood(), ON_GRID)], steps or 1000)
    hidden = conditioner(target, width or sized(target, 96, 64, 32), dropout)
    layers = layers or sized(target, 10, 20, 8)
    flow = coupling_flow(target.space.dims, layers, hidden, bounded(target, max(1, layers // 2)))
    phase = Phase(MaximumLikelihood(), ON_REALS if reals else ON_GRID, batch=256 if reals else 128)
    return Composition(seen(target, flow), [phase], steps or worth(target, 6000 if reals else 1000))


@recipe("maf", "flow", Kind.EXACT, Kind.LOWER, TASKS, "Papamakarios, Pavlakou & Murray, 2017")
def maf(
    target: Target,
    layers: int = 5,
    width: int | None = None,
    components: int = 10,
    dropout: float = 0.1,
    steps: int | None = None,
) -> Composition:
    """Masked autoregressive flow on a MADE of Gaussian mixtures ("MAF MoG"), orders alternating; samples through a cache.

    components 1: on N(0, I), as the plain MAF. width None: 128, 32 on few reals. dropout: on integers. steps None: 800 on
    integers, 2500 on reals, fewer on few rows.
    Papamakarios, Pavlakou & Murray, 2017, arXiv:1705.07057.
    """
    reals = target.space.levels is None
    dims, hidden = target.space.dims, masked_layers(target, width, dropout)
    steps_: list[Transform] = []
    for i in range(layers):
        steps_ += [ActNorm((dims,)), masked(dims, hidden, order(dims, i), univariate=bounded(target, layers))]
    base: nn.Module = StandardNormal((dims,))
    if components > 1:
        head = GaussianMixture(components)
        base = Autoregressive(MADE((dims,), head.width, hidden, entry=CompressedInput()), head, (dims,))
    flow = Flow(base, [*steps_, *normalised((dims,))], (dims,))
    return Composition(seen(target, flow), [Phase(MaximumLikelihood(), ON_GRID)], steps or worth(target, 2500 if reals else 800))


def autoregressive_flow(dims: int, layers: int, hidden: Hidden, univariate: Univariate, inverted: bool = False) -> Flow:
    """ActNorm and masked transforms in turn, orders alternating, on N(0, I). inverted: fast to draw, slow to score."""
    steps: list[Transform] = []
    for i in range(layers):
        layer = masked(dims, hidden, order(dims, i), univariate=univariate)
        steps += [ActNorm((dims,)), Inverse(layer) if inverted else layer]
    return Flow(StandardNormal((dims,)), [*steps, *normalised((dims,))], (dims,))


@recipe("iaf", "flow", Kind.EXACT, Kind.LOWER, TASKS, "Kingma et al., 2016")
def iaf(target: Target, layers: int = 5, width: int | None = None, dropout: float = 0.1, steps: int | None = None) -> Composition:
    """Inverse autoregressive flow: samples in one parallel pass, scores one variable at a time.

    width None: 128, 32 on few reals. dropout: on integers. steps None: 300 on integers, 1500 on reals, fewer on few rows.
    Kingma et al., 2016, arXiv:1606.04934.
    """
    reals, hidden = target.space.levels is None, masked_layers(target, width, dropout)
    flow = autoregressive_flow(target.space.dims, layers, hidden, bounded(target, layers), inverted=True)
    return Composition(seen(target, flow), [Phase(MaximumLikelihood(), ON_GRID)], steps or worth(target, 1500 if reals else 300))


@recipe("nsf", "flow", Kind.EXACT, Kind.LOWER, TASKS, "Durkan, Bekasov, Murray & Papamakarios, 2019")
def nsf(
    target: Target,
    layers: int | None = None,
    width: int | None = None,
    bins: int = 16,
    coupled: bool = False,
    dropout: float = 0.1,
    steps: int | None = None,
) -> Composition:
    """Neural spline flow: rational-quadratic splines, autoregressive, or in couplings where `coupled`.

    layers None: 3 autoregressive ones, 8 couplings. width None: 128, 32 on few reals. dropout: on integers. steps None: 800 on
    integers, 3000 on reals, fewer on few rows.
    Durkan et al., 2019, arXiv:1906.04032.
    """
    reals, dims = target.space.levels is None, target.space.dims
    hidden = replace(masked_layers(target, width, dropout), activation=nn.ReLU if reals else nn.SiLU)
    spline = RationalQuadratic(bins, 5.0)
    flow = coupling_flow(dims, layers or 8, hidden, spline) if coupled else autoregressive_flow(dims, layers or 3, hidden, spline)
    phase = Phase(MaximumLikelihood(), ON_GRID, batch=256 if reals else 128)
    return Composition(seen(target, flow), [phase], steps or worth(target, 3000 if reals else 800))
