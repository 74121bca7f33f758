"""Flows of images at several scales, on vectors dense: NICE and Glow. RealNVP's are in :mod:`genalloy.recipes.flows`."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from genalloy.evidence import Kind
from genalloy.heads.gaussian import StandardNormal
from genalloy.models.flow import Flow, Preprocessed
from genalloy.networks.convolution import Filters
from genalloy.networks.masked import Hidden
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.recipes.composition import Composition, Phase, Target
from genalloy.recipes.flows import ON_GRID, ON_REALS, TASKS, conditioner, halves, seen
from genalloy.recipes.multiscale import Glow, Nice, Steps, few, image_flow, pixels, possible
from genalloy.recipes.registry import recipe
from genalloy.transforms.coupling import coupling
from genalloy.transforms.layer import Transform
from genalloy.transforms.linear import PLU, ActNorm
from genalloy.transforms.univariate import Additive

Block = Callable[[Tensor, Hidden], list[Transform]]
"""(which entries stay, network of couplings) -> the layers of one dense coupling."""


def fitted(target: Target, model: Preprocessed, steps: int | None) -> Composition:
    """Maximum likelihood with the options of the other flows."""
    reals = target.space.levels is None
    phase = Phase(MaximumLikelihood(), ON_REALS if reals else ON_GRID, batch=256 if reals else 128)
    return Composition(model, [phase], steps or (4000 if reals else 1000))


def on_scales(target: Target, kind: Steps, count: int, steps: int | None) -> Composition:
    """Convolutional couplings at `count` scales."""
    return fitted(target, pixels(target, image_flow(target.space.shape, kind, count)), steps)


def dense(target: Target, name: str, block: Block, sizes: tuple[int | None, int, float], steps: int | None) -> Composition:
    """Couplings on flattened observations. sizes: layers (None: 10 on integers, 12 on reals), width, dropout on integers.

    Raises ValueError where there is nothing to couple.
    """
    dims, (layers, width, dropout) = target.space.dims, sizes
    if dims < 2:
        raise ValueError(f"{name} needs at least two entries to couple; found one; try maf")
    reals = target.space.levels is None
    hidden = conditioner(target, width, dropout)
    couplings = [layer for mask in halves(dims, layers or (12 if reals else 10)) for layer in block(mask, hidden)]
    flow = Flow(StandardNormal((dims,)), [*couplings, ActNorm((dims,))], (dims,))
    return fitted(target, seen(target, flow), steps)


@recipe("nice", "flow", Kind.EXACT, Kind.LOWER, TASKS, "Dinh, Krueger & Bengio, 2015")
def nice(
    target: Target, scales: int = 2, layers: int | None = None, width: int = 32, dropout: float = 0.2, steps: int | None = None
) -> Composition:
    """NICE: additive couplings, which keep volume, and one scaling, so that p^(1/T) is exact on reals.

    scales: at most so many on images with even sides, 0 for dense couplings. layers None: 4 couplings a scale; dense, 10 on
    integers and 12 on reals. width: channels, three times as wide where dense. dropout: where dense, on integers.
    """
    if count := possible(target.space.shape, scales):
        return on_scales(target, Nice(layers or 4, Filters(width)), count, steps)

    def block(mask: Tensor, hidden: Hidden) -> list[Transform]:
        return [coupling(mask, hidden, univariate=Additive())]

    return dense(target, "nice", block, (layers, 3 * width, dropout), steps)


@recipe("glow", "flow", Kind.EXACT, Kind.LOWER, TASKS, "Kingma & Dhariwal, 2018")
def glow(
    target: Target, scales: int = 2, layers: int | None = None, width: int = 32, dropout: float = 0.2, steps: int | None = None
) -> Composition:
    """Glow: ActNorm, an invertible 1x1 convolution (on vectors a matrix) and an affine coupling in turn.

    The convolutions start at RealNVP's partings: of pixels where they have few levels, otherwise of their Haar wavelets.
    scales: at most so many on images with even sides, 0 for dense couplings. layers None: 4 couplings a scale; dense, 10 on
    integers and 12 on reals. width: channels, three times as wide where dense. dropout: where dense, on integers.
    """
    if count := possible(target.space.shape, scales):
        return on_scales(target, Glow(layers or 4, Filters(width), wavelets=not few(target)), count, steps)
    dims = target.space.dims

    def block(mask: Tensor, hidden: Hidden) -> list[Transform]:
        return [ActNorm((dims,)), PLU(dims), coupling(mask, hidden)]

    return dense(target, "glow", block, (layers, 3 * width, dropout), steps)
