"""Flow recipes: exact densities on reals, LOWER on integers through dequantisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genalloy.evidence import Kind
from genalloy.heads.gaussian import StandardNormal
from genalloy.heads.mixture import GaussianMixture
from genalloy.models.autoregressive import Autoregressive
from genalloy.models.flow import Flow, Preprocessed
from genalloy.networks.masked import MADE, Hidden
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.recipes.composition import Composition, Phase, Target
from genalloy.recipes.pieces import dequantised, standardised
from genalloy.recipes.registry import recipe
from genalloy.training.options import Adam, Training
from genalloy.transforms.autoregressive import MaskedAffine
from genalloy.transforms.coupling import AffineCoupling, alternating
from genalloy.transforms.layer import Transform
from genalloy.transforms.linear import ActNorm
from genalloy.transforms.observation import Flatten, Logit

TASKS = ("sample", "score", "encode")


def seen(target: Target, flow: Flow) -> Preprocessed:
    """Integers: dequantise, logit, flatten. Everything else: standardise, flatten."""
    levels, shape = target.space.levels, target.space.shape
    if levels is None:
        return standardised(target, flow, flat=True)
    return Preprocessed(flow, [*dequantised(target), Logit(float(levels), 0.01, len(shape)), Flatten(shape)], shape)


def halves(dims: int, count: int) -> list[Tensor]:
    """Complementary pairs of masks: every pair a fresh random half, or for few entries every other one."""
    masks: list[Tensor] = []
    for i in range(count):
        fresh = alternating(dims) if dims < 4 else alternating(dims)[torch.randperm(dims)]
        masks.append(~masks[-1] if i % 2 else fresh)
    return masks


def order(dims: int, layer: int) -> tuple[int, ...] | None:
    """Natural order and its reverse in turn."""
    return tuple(reversed(range(dims))) if layer % 2 else None


def coupling_flow(dims: int, layers: int, hidden: Hidden) -> Flow:
    """ActNorm and dense affine couplings in turn on N(0, I)."""
    steps: list[Transform] = []
    for mask in halves(dims, layers):
        steps += [ActNorm((dims,)), AffineCoupling(mask, hidden)]
    return Flow(StandardNormal((dims,)), [*steps, ActNorm((dims,))], (dims,))


@recipe("realnvp", "flow", Kind.EXACT, Kind.LOWER, TASKS, "Dinh, Sohl-Dickstein & Bengio, 2017")
def realnvp(target: Target, layers: int = 10, width: int = 96, dropout: float = 0.2, steps: int = 2500) -> Composition:
    """RealNVP: affine couplings with ActNorm, dense on the flattened observation."""
    if target.space.dims < 2:
        raise ValueError("realnvp needs at least two entries to couple; found one; try maf")
    flow = coupling_flow(target.space.dims, layers, Hidden((width, width), residual=True, dropout=dropout))
    return Composition(seen(target, flow), [Phase(MaximumLikelihood(), Training(Adam(2e-3), ema=0.995, clip=10.0))], steps)


@recipe("maf", "flow", Kind.EXACT, Kind.LOWER, TASKS, "Papamakarios, Pavlakou & Murray, 2017")
def maf(
    target: Target, layers: int = 5, width: int = 128, components: int = 10, dropout: float = 0.0, steps: int = 2500
) -> Composition:
    """Masked autoregressive flow on a MADE of Gaussian mixtures ("MAF MoG"), orders alternating; samples through a cache.

    components 1: on N(0, I), as the plain MAF.
    """
    dims, hidden = target.space.dims, Hidden((width, width), dropout=dropout)
    steps_: list[Transform] = []
    for i in range(layers):
        steps_ += [ActNorm((dims,)), MaskedAffine(dims, hidden, order(dims, i))]
    base: nn.Module = StandardNormal((dims,))
    if components > 1:
        head = GaussianMixture(components)
        base = Autoregressive(MADE((dims,), head.width, hidden), head, (dims,))
    flow = Flow(base, [*steps_, ActNorm((dims,))], (dims,))
    return Composition(seen(target, flow), [Phase(MaximumLikelihood(), Training(Adam(2e-3), ema=0.995, clip=10.0))], steps)
