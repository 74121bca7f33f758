"""A flow that classifies: one invertible network for p(x) and, from its code, p(label | x)."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import nn

from genalloy.core.evidence import Kind
from genalloy.core.part import Conditional
from genalloy.heads.discrete import Categorical
from genalloy.heads.gaussian import StandardNormal
from genalloy.models.flow import Flow, Preprocessed
from genalloy.models.hybrid import Hybrid
from genalloy.networks.convolution import ConvNet, Filters
from genalloy.networks.lipschitz import ConcatenatedLipSwish, LipschitzConv, LipschitzMLP
from genalloy.networks.mlp import Dense, Hidden
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.objectives.sources import At
from genalloy.recipes.composition import Composition, Phase, Target
from genalloy.recipes.multiscale import possible
from genalloy.recipes.pieces import Step, on_data, scarce, sized, stretch, worth
from genalloy.recipes.registry import recipe
from genalloy.training.options import Adam, Training
from genalloy.transforms.coupling import EDGE, ChannelMask, Coupling, CouplingMask, FixedMask, alternating
from genalloy.transforms.image import InvertibleConvolution, Squeeze
from genalloy.transforms.linear import PLU, ActNorm
from genalloy.transforms.observation import Flatten
from genalloy.transforms.residual import Residual, Roulette, StochasticResidual
from genalloy.transforms.tails import normalised

TASKS = ("sample", "score", "encode", "classify")
SCALES = 2
DENSE = 128
"""Units of the dense networks behind convolutions."""
BENT = ConcatenatedLipSwish(5.0)
Shape = tuple[int, ...]
Block = Callable[[Shape, int, bool], list[Step]]
"""(shape of the events, width, whether its number is odd) -> the layers of one block."""


@recipe("hybrid-flow", "flow", Kind.UNBIASED, Kind.LOWER, TASKS, "Nalisnick et al., 2019; Chen et al., 2019")
def hybrid_flow(
    target: Target,
    kind: str = "residual",
    lam: float | None = None,
    blocks: int | None = None,
    width: int | None = None,
    dense: int = 4,
    steps: int | None = None,
) -> Composition:
    """Hybrid flow: lam log p(x) + log p(label | x), with a linear classifier of the code; needs labels.

    kind: of a block: residual, coupling, or conv1x1, a coupling behind a 1x1 convolution. lam: None is 1 / D. blocks: at each
    scale, None: 4. width: of their networks, None: 32 channels, or 128 units, 32 on few reals. dense: on pictures, blocks of
    all entries behind these.
    Pictures of even sides are squeezed, twice at most; all else is flattened. steps None: 1000 on pictures, 2000 otherwise.
    Nalisnick et al., 2019, arXiv:1902.02767; residual blocks: Chen et al., 2019, arXiv:1906.02735.
    """
    if kind not in KINDS:
        raise ValueError(f"hybrid-flow has no kind {kind!r}; expected one of {', '.join(KINDS)}")
    labels, dims = target.labels("hybrid-flow"), target.space.dims
    if dims < 2 and kind != "residual":
        raise ValueError("hybrid-flow needs at least two entries to couple; found one; try --set kind=residual")
    pictures = possible(target.space.shape, SCALES) > 0
    flow = _pictures(target, kind, (blocks or 4, width or 32), dense) if pictures else _vectors(target, kind, blocks or 4, width)
    classifier = Conditional(Categorical(labels.classes), nn.Linear(dims, labels.classes), (), ((dims,),))
    objective = (1 / dims if lam is None else lam) * MaximumLikelihood() + MaximumLikelihood(of=At("label_given_x"))
    # the last averaged weights are kept: the best density is not the best of both, but of few reals the last are absurd
    options, few = Training(Adam(1e-2), ema=0.995, clip=10.0), scarce(target)
    phase = Phase(objective, options, batch=64 if pictures else 128, select=few)
    return Composition(Hybrid(flow, classifier), [phase], steps or worth(target, 1000 if pictures else 2000), labels)


def _chain(block: Block, shape: Shape, width: int, count: int) -> list[Step]:
    return [layer for index in range(count) for layer in block(shape, width, index % 2 == 1)]


def _pictures(target: Target, kind: str, sizes: tuple[int, int], dense: int) -> Preprocessed:
    """Blocks at each scale, then on all entries, on N(0, I). sizes: blocks, width."""
    inner, steps = target.space.shape, list[Step]()
    for scale in range(SCALES):
        if possible(inner, 1):
            steps.append(Squeeze(inner))
            inner = Squeeze(inner).out_shape(inner)
        # the first normalises entry by entry: pixels at the border hardly vary
        steps += [ActNorm(inner)] if scale == 0 else []
        steps += _chain(KINDS[kind], inner, sizes[1], sizes[0])
    flat = (target.space.dims,)
    steps += [Flatten(inner), *_chain(KINDS["residual" if kind == "residual" else "coupling"], flat, DENSE, dense)]
    return on_data(target, Flow(StandardNormal(flat), [*steps, *normalised(flat)], target.space.shape), stretch(1e-5))


def _vectors(target: Target, kind: str, blocks: int, width: int | None) -> Preprocessed:
    """Blocks on flattened events, on N(0, I)."""
    flat = (target.space.dims,)
    steps = [ActNorm(flat), *_chain(KINDS[kind], flat, width or sized(target, DENSE, DENSE, 32), blocks), *normalised(flat)]
    return on_data(target, Flow(StandardNormal(flat), steps, flat), stretch(1e-5), flat=True)


def _residual(shape: Shape, width: int, odd: bool) -> list[Step]:
    """ActNorm and x + g(x), Lip(g) < 1, its log-determinant by Russian roulette: one depth a batch while learning."""
    picture, widths = len(shape) == 3, (width, width)
    network = LipschitzConv(shape, widths, activation=BENT) if picture else LipschitzMLP(shape, widths, activation=BENT)
    layer = StochasticResidual(Residual(network, shape), Roulette(exact=4), Roulette(shared=True))
    return [ActNorm(shape, per_channel=picture), layer]


def _coupling(shape: Shape, width: int, odd: bool) -> list[Step]:
    """ActNorm and an affine coupling by halves of the channels, or of a vector's entries in turn."""
    norm = ActNorm(shape, per_channel=len(shape) == 3)
    if len(shape) == 3:
        parting: CouplingMask = ChannelMask(shape, odd)
        network: nn.Module = ConvNet((parting.still_shape,), 2 * parting.moved_shape[0], Filters(width), zero=True)
    else:
        parting = FixedMask(alternating(shape[0], odd))
        network = Dense((parting.still_shape,), 2 * math.prod(parting.moved_shape), Hidden((width, width)), zero=True)
    return [norm, Coupling(parting, network, limit=EDGE)]


def _conv1x1(shape: Shape, width: int, odd: bool) -> list[Step]:
    """The same, an invertible linear map of the channels (of all entries of a vector) before the coupling."""
    norm, affine = _coupling(shape, width, odd)
    mix = InvertibleConvolution(shape[0]) if len(shape) == 3 else PLU(shape[0])
    return [norm, mix, affine]


KINDS: dict[str, Block] = {"residual": _residual, "conv1x1": _conv1x1, "coupling": _coupling}
