"""Flows of images at several scales, on vectors dense: NICE and Glow. RealNVP's are in :mod:`genalloy.recipes.flows`."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from genalloy.core.evidence import Kind
from genalloy.heads.gaussian import StandardNormal
from genalloy.models.flow import Flow, Preprocessed
from genalloy.networks.convolution import Filters
from genalloy.networks.mlp import Hidden
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.recipes.composition import Composition, Phase, Target
from genalloy.recipes.flows import ON_GRID, ON_REALS, TASKS, bounded, conditioner, halves, seen
from genalloy.recipes.multiscale import FlowSteps, Glow, Nice, few, image_flow, pixels, possible
from genalloy.recipes.pieces import sized, worth
from genalloy.recipes.registry import recipe
from genalloy.transforms.coupling import coupling
from genalloy.transforms.layer import Transform
from genalloy.transforms.linear import PLU, ActNorm
from genalloy.transforms.tails import normalised
from genalloy.transforms.univariate import Additive

Block = Callable[[Tensor, Hidden], list[Transform]]
"""(which entries stay, network of couplings) -> the layers of one dense coupling."""


def fitted(target: Target, model: Preprocessed, steps: int | None) -> Composition:
    """Maximum likelihood with the options of the other flows."""
    reals = target.space.levels is None
    phase = Phase(MaximumLikelihood(), ON_REALS if reals else ON_GRID, batch=256 if reals else 128)
    return Composition(model, [phase], steps or worth(target, 4000 if reals else 1000))


def on_scales(target: Target, kind: FlowSteps, count: int, steps: int | None) -> Composition:
    """Convolutional couplings at `count` scales."""
    return fitted(target, pixels(target, image_flow(target.space.shape, kind, count)), steps)


def dense(
    target: Target, name: str, block: Block, end: list[Transform], sizes: tuple[int | None, int | None, float], steps: int | None
) -> Composition:
    """Couplings on flattened observations, then `end`. sizes: layers, a third of the width (None: the usual), dropout.

    Raises ValueError where there is nothing to couple.
    """
    dims, (layers, width, dropout) = target.space.dims, sizes
    if dims < 2:
        raise ValueError(f"{name} needs at least two entries to couple; found one; try maf")
    hidden = conditioner(target, 3 * width if width else sized(target, 96, 96, 32), dropout)
    couplings = [layer for mask in halves(dims, layers or sized(target, 10, 12, 8)) for layer in block(mask, hidden)]
    flow = Flow(StandardNormal((dims,)), [*couplings, *end], (dims,))
    return fitted(target, seen(target, flow), steps)


@recipe("nice", "flow", Kind.EXACT, Kind.LOWER, TASKS, "Dinh, Krueger & Bengio, 2015")
def nice(
    target: Target,
    scales: int = 2,
    layers: int | None = None,
    width: int | None = None,
    dropout: float = 0.2,
    steps: int | None = None,
) -> Composition:
    """NICE: additive couplings, which keep volume, and one scaling, so that p^(1/T) is exact on reals.

    scales: at most so many on images with even sides, 0 for dense couplings. layers None: 4 couplings a scale; dense, 10 on
    integers, 12 on reals, 8 on few. width: channels, three times as wide where dense; None: 32, dense 96, or 32 on few reals.
    dropout: where dense, on integers.
    Dinh, Krueger & Bengio, 2015, arXiv:1410.8516.
    """
    if count := possible(target.space.shape, scales):
        return on_scales(target, Nice(layers or 4, Filters(width or 32)), count, steps)

    def block(mask: Tensor, hidden: Hidden) -> list[Transform]:
        return [coupling(mask, hidden, univariate=Additive())]

    # no logarithmic tails: their slope depends on x, and temperature would not be exact
    return dense(target, "nice", block, [ActNorm((target.space.dims,))], (layers, width, dropout), steps)


@recipe("glow", "flow", Kind.EXACT, Kind.LOWER, TASKS, "Kingma & Dhariwal, 2018")
def glow(
    target: Target,
    scales: int = 2,
    layers: int | None = None,
    width: int | None = None,
    dropout: float = 0.2,
    steps: int | None = None,
) -> Composition:
    """Glow: ActNorm, an invertible 1x1 convolution (on vectors a matrix) and an affine coupling in turn.

    The convolutions start at RealNVP's partings: of pixels where they have few levels, otherwise of their Haar wavelets.
    scales: at most so many on images with even sides, 0 for dense couplings. layers None: 4 couplings a scale; dense, 10 on
    integers, 12 on reals, 8 on few. width: channels, three times as wide where dense; None: 32, dense 96, or 32 on few reals.
    dropout: where dense, on integers.
    Kingma & Dhariwal, 2018, arXiv:1807.03039.
    """
    if count := possible(target.space.shape, scales):
        return on_scales(target, Glow(layers or 4, Filters(width or 32), wavelets=not few(target)), count, steps)
    dims = target.space.dims

    univariate = bounded(target, max(1, (layers or sized(target, 10, 12, 8)) // 2))

    def block(mask: Tensor, hidden: Hidden) -> list[Transform]:
        return [ActNorm((dims,)), PLU(dims), coupling(mask, hidden, univariate=univariate)]

    return dense(target, "glow", block, normalised((dims,)), (layers, width, dropout), steps)
