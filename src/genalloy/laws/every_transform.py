"""Every transform of the library, small: one line each. A new transform adds its line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from genalloy.core.distribution import Shape
from genalloy.laws.invertible import LayerTransform
from genalloy.networks.causal.transformer import CausalTransformer
from genalloy.networks.concat_squash import ConcatSquash
from genalloy.networks.convolution import ConvNet, Filters
from genalloy.networks.lipschitz import LipschitzConv, LipschitzMLP
from genalloy.networks.mlp import MLP, Hidden
from genalloy.solvers.ode import Steps
from genalloy.transforms.autoregressive import AutoregressiveTransform, masked
from genalloy.transforms.coupling import (
    ChannelMask,
    CheckerboardMask,
    Coupling,
    FixedMask,
    alternating,
    channelwise,
    checkerboard,
    coupling,
)
from genalloy.transforms.image import Haar, InvertibleConvolution, Shuffle, Squeeze
from genalloy.transforms.layer import Inverse, Transform
from genalloy.transforms.linear import PLU, ActNorm, Permute, Reverse
from genalloy.transforms.observation import Flatten, Logit, Standardise
from genalloy.transforms.ode import Continuous
from genalloy.transforms.planar import Planar, Radial
from genalloy.transforms.residual import Residual
from genalloy.transforms.sigmoidal import DeepSigmoid
from genalloy.transforms.spline import RationalQuadratic
from genalloy.transforms.surjection import Ordered, Positive
from genalloy.transforms.sylvester import Householder, Orthogonal, Sylvester, Triangular
from genalloy.transforms.tokens import Patches, ReverseTokens
from genalloy.transforms.univariate import Additive, Then
from genalloy.transforms.univariate import Affine as Scale

Shapes = tuple[Shape, ...]
Make = Callable[[Shape, Shapes], nn.Module]
LEVELS = 3
SMALL = Hidden((8,))


def halves_coupled(e: Shape, c: Shapes, odd: bool = False) -> Coupling:
    mask = alternating(e[0], odd)
    moved = int((~mask).sum())
    network = MLP(((e[0] - moved,), *c), 2 * moved, (8,), zero=True)
    return Coupling(FixedMask(mask), network, context_shapes=c)


def _conv_coupling(e: Shape, c: Shapes) -> Coupling:
    parting = ChannelMask(e)
    return Coupling(parting, ConvNet((parting.still_shape, *c), 2 * parting.moved_shape[0], Filters(4)), Scale(), c)


def _board_coupling(e: Shape, c: Shapes) -> Coupling:
    return Coupling(CheckerboardMask(e), ConvNet((e, *c), 2 * e[0], Filters(4)), Scale(), c)


def _attending(tokens: Shape, c: Shapes) -> Transform:
    return AutoregressiveTransform(CausalTransformer(tokens, 2, 8, 2, 1, c), context_shapes=c)


def _ode(e: Shape, c: Shapes) -> Any:
    """Not exact, and fine enough for the law's tolerance."""
    return LayerTransform(Continuous(ConcatSquash((e, (), *c), (16,), features=8), e, steps=Steps(20, 20)))


@dataclass(frozen=True)
class ListedTransform:
    """One line of :func:`every_transform`. inside: maps any real input into the transform's domain."""

    name: str
    make: Callable[[Shape, Shapes], Transform]
    event: Shape = (4,)
    conditional: bool = False
    inside: Callable[[Tensor], Tensor] = lambda x: x

    @property
    def context_shapes(self) -> Shapes:
        return ((3,),) if self.conditional else ()

    def build(self) -> Transform:
        return self.make(self.event, self.context_shapes)


def every_transform() -> tuple[ListedTransform, ...]:
    """One line a transform."""
    image = (2, 4, 4)
    return (
        ListedTransform("coupling", halves_coupled),
        ListedTransform("coupling, conditional", halves_coupled, conditional=True),
        ListedTransform("coupling, checkerboard", lambda e, c: coupling(checkerboard(e)), image),
        ListedTransform("coupling, channels", lambda e, c: coupling(channelwise(e)), image),
        ListedTransform("coupling, additive", lambda e, c: coupling(alternating(e[0]), SMALL, c, Additive()), conditional=True),
        ListedTransform(
            "coupling, spline", lambda e, c: coupling(alternating(e[0]), SMALL, c, RationalQuadratic(4)), conditional=True
        ),
        ListedTransform(
            "autoregressive, spline", lambda e, c: masked(e[0], SMALL, None, c, RationalQuadratic(4)), conditional=True
        ),
        ListedTransform("naf", lambda e, c: masked(e[0], SMALL, None, c, DeepSigmoid(4)), conditional=True),
        ListedTransform(
            "coupling, logistic mixtures",
            lambda e, c: coupling(alternating(e[0]), SMALL, c, Then(DeepSigmoid(4), Scale())),
            conditional=True,
        ),
        ListedTransform("maf", lambda e, c: masked(e[0], SMALL, (2, 0, 3, 1), c)),
        ListedTransform("maf, conditional", lambda e, c: masked(e[0], SMALL, None, c), conditional=True),
        ListedTransform("iaf", lambda e, c: Inverse(masked(e[0], SMALL, None, c)), conditional=True),
        ListedTransform("planar", lambda e, c: Planar(e[0], SMALL, c), conditional=True),
        ListedTransform("radial", lambda e, c: Radial(e[0], SMALL, c), conditional=True),
        ListedTransform("sylvester", lambda e, c: Sylvester(e[0], Orthogonal(2), SMALL, c), conditional=True),
        ListedTransform("sylvester, householder", lambda e, c: Sylvester(e[0], Householder(2))),
        ListedTransform("sylvester, triangular", lambda e, c: Sylvester(e[0], Triangular(reverse=True))),
        ListedTransform("residual", lambda e, c: Residual(LipschitzMLP(e, (8,), c), e, c)),
        ListedTransform("residual, conditional", lambda e, c: Residual(LipschitzMLP(e, (8,), c), e, c), conditional=True),
        ListedTransform("residual, convolution", lambda e, c: Residual(LipschitzConv(e, (4,), (3, 3), c), e, c), image),
        ListedTransform("positive", lambda e, c: Positive(), inside=lambda x: x.abs()),
        ListedTransform("ordered", lambda e, c: Ordered(), inside=lambda x: x.sort(-1).values),
        ListedTransform("permute", lambda e, c: Permute(torch.tensor([2, 0, 3, 1]))),
        ListedTransform("reverse", lambda e, c: Reverse()),
        ListedTransform("actnorm", lambda e, c: ActNorm(e)),
        ListedTransform("actnorm, channels", lambda e, c: ActNorm(e, per_channel=True), image),
        ListedTransform("squeeze", lambda e, c: Squeeze(e), image),
        ListedTransform("shuffle", lambda e, c: Shuffle(torch.tensor([1, 0])), image),
        ListedTransform("wavelets", lambda e, c: Haar(e), image),
        ListedTransform("invertible convolution", lambda e, c: InvertibleConvolution(e[0]), image),
        ListedTransform("coupling, convolutional", _conv_coupling, image, True),
        ListedTransform("coupling, convolutional checkerboard", _board_coupling, image, True),
        ListedTransform("plu", lambda e, c: PLU(e[0])),
        ListedTransform(
            "affine", lambda e, c: Standardise(torch.tensor([1.0, 2.0, -3.0, 0.0]), torch.tensor([0.5, 2.0, 9.0, 1.0]))
        ),
        ListedTransform("logit", lambda e, c: Logit(16.0), inside=lambda x: 16.0 * torch.sigmoid(x)),
        ListedTransform("flatten", lambda e, c: Flatten(e), image),
        ListedTransform("patches", lambda e, c: Patches(e, 2), image),
        ListedTransform("reverse tokens", lambda e, c: ReverseTokens(), (3, 2)),
        ListedTransform("transformer", _attending, (3, 2), conditional=True),
        ListedTransform("continuous", _ode),
        ListedTransform("continuous, conditional", _ode, conditional=True),
    )
