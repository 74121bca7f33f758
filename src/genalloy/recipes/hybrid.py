"""A flow that classifies: one invertible network for p(x) and, from its code, p(label | x)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from genalloy.evidence import Kind
from genalloy.heads.discrete import Categorical
from genalloy.heads.gaussian import StandardNormal
from genalloy.models.flow import Flow, Preprocessed
from genalloy.models.hybrid import Hybrid
from genalloy.networks.convolution import ConvNet, Filters
from genalloy.networks.dense import Dense
from genalloy.networks.lipschitz import LipschitzConv, LipschitzMLP
from genalloy.networks.masked import Hidden
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.objectives.ports import At
from genalloy.part import From
from genalloy.recipes.composition import Composition, Phase, Target
from genalloy.recipes.pieces import Step, dequantised, standardised
from genalloy.recipes.registry import recipe
from genalloy.training.options import Adam, Training
from genalloy.transforms.coupling import ByChannel, ByMask, Coupling, Parting, alternating
from genalloy.transforms.image import InvertibleConvolution, Squeeze
from genalloy.transforms.linear import PLU, ActNorm
from genalloy.transforms.observation import Flatten, Logit
from genalloy.transforms.residual import Residual, Roulette, StochasticResidual

TASKS = ("sample", "score", "encode", "classify")
SCALES = 2
Shape = tuple[int, ...]
Block = Callable[[Shape, int], list[Step]]
"""(shape of the events, width) -> the layers of one block."""


@recipe("hybrid-flow", "flow", Kind.UNBIASED, Kind.LOWER, TASKS, "Nalisnick et al., 2019; Chen et al., 2019")
def hybrid_flow(
    target: Target, kind: str = "residual", lam: float | None = None, blocks: int = 0, width: int = 0, steps: int = 0
) -> Composition:
    """Hybrid flow: lam log p(x) + log p(label | x), with a linear classifier of the code; needs labels.

    kind: residual, conv1x1 (couplings behind 1x1 convolutions) or coupling. lam: None is 1 / D. blocks: at each scale, 0: 4.
    width: of the networks, 0: 32 channels, or 128 units. Pictures of even sides are squeezed, twice at most, and stay pictures;
    all else is flattened. steps 0: 1000 on pictures, 2000 otherwise.
    """
    if kind not in KINDS:
        raise ValueError(f"hybrid-flow has no kind {kind!r}; expected one of {', '.join(KINDS)}")
    labels, dims = target.labels("hybrid-flow"), target.space.dims
    if dims < 2 and kind != "residual":
        raise ValueError("hybrid-flow needs at least two entries to couple; found one; try --set kind=residual")
    pictures = _evenly(target.space.shape)
    flow = _flow(target, KINDS[kind], blocks or 4, width or (32 if pictures else 128))
    classifier = From(Categorical(labels.classes), nn.Linear(dims, labels.classes), (), ((dims,),))
    objective = (1 / dims if lam is None else lam) * MaximumLikelihood() + MaximumLikelihood(of=At("label_given_x"))
    # the last averaged weights are kept: the best density is not the best of both
    phase = Phase(objective, Training(Adam(5e-3), ema=0.995, clip=10.0), batch=64 if pictures else 128, select=False)
    return Composition(Hybrid(flow, classifier), [phase], steps or (1000 if pictures else 2000), labels)


def _evenly(shape: Shape) -> bool:
    """Whether an event is a picture that can be squeezed at least once."""
    return len(shape) == 3 and shape[1] % 2 == 0 and shape[2] % 2 == 0


def _flow(target: Target, block: Block, blocks: int, width: int) -> Preprocessed:
    """Preprocessing, then blocks at each scale on N(0, I)."""
    shape, steps = target.space.shape, list[Step]()
    inner, pictures = (shape, True) if _evenly(shape) else ((target.space.dims,), False)
    start = inner
    for _ in range(SCALES if pictures else 1):
        if pictures and _evenly(inner):
            steps.append(Squeeze(inner))
            inner = Squeeze(inner).out_shape(inner)
        # the first normalises entry by entry: pixels at the border hardly vary
        steps += [] if len(steps) > 1 else [ActNorm(inner)]
        steps += [layer for _ in range(blocks) for layer in block(inner, width)]
    flow = Flow(StandardNormal(inner), [*steps, ActNorm(inner, per_channel=pictures)], start)
    if target.space.levels is None:
        return standardised(target, flow, flat=not pictures)
    flatten = [] if pictures else [Flatten(shape)]
    return Preprocessed(flow, [*dequantised(target), Logit(float(target.space.levels), 1e-5, len(shape)), *flatten], shape)


def _residual(shape: Shape, width: int) -> list[Step]:
    """ActNorm and x + g(x), Lip(g) < 1, its log-determinant by Russian roulette: one depth a batch while learning."""
    network = LipschitzConv(shape, (width, width)) if len(shape) == 3 else LipschitzMLP(shape, (width, width))
    layer = StochasticResidual(Residual(network, shape), Roulette(exact=4), Roulette(shared=True))
    return [ActNorm(shape, per_channel=len(shape) == 3), layer]


def _coupling(shape: Shape, width: int) -> list[Step]:
    """ActNorm and two affine couplings, each half moved once."""
    steps: list[Step] = []
    for odd in (False, True):
        steps += [ActNorm(shape, per_channel=len(shape) == 3), _affine(shape, width, odd)]
    return steps


def _conv1x1(shape: Shape, width: int) -> list[Step]:
    """The same with an invertible linear map of the channels (of all entries of a vector) before each coupling."""
    steps: list[Step] = []
    for odd in (False, True):
        mix = InvertibleConvolution(shape[0]) if len(shape) == 3 else PLU(torch.randperm(shape[0]))
        steps += [ActNorm(shape, per_channel=len(shape) == 3), mix, _affine(shape, width, odd)]
    return steps


def _affine(shape: Shape, width: int, odd: bool) -> Coupling:
    """An affine coupling by halves of the channels, or of a vector's entries in turn."""
    if len(shape) == 3:
        parting: Parting = ByChannel(shape, odd)
        return Coupling(parting, ConvNet((parting.still_shape,), 2 * parting.moved_shape[0], Filters(width), zero=True))
    parting = ByMask(alternating(shape[0], odd))
    return Coupling(parting, Dense((parting.still_shape,), 2 * math.prod(parting.moved_shape), Hidden((width, width)), zero=True))


KINDS: dict[str, Block] = {"residual": _residual, "conv1x1": _conv1x1, "coupling": _coupling}
