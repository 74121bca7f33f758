"""Flows and autoregressive models over a data space given plainly: event shape, levels (None for reals), mean and scale.

Every function returns a Part over the data as the user gave it: integers are modelled as masses (autoregressive) or
dequantised (flows), reals are standardised by `mean` and `scale`, tensors of the event shape.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from genalloy.heads.discrete import Bernoulli, Categorical, LogisticMixture
from genalloy.heads.gaussian import Gaussian, StandardNormal
from genalloy.heads.head import Head
from genalloy.heads.mixture import GaussianMixture
from genalloy.models.autoregressive import Autoregressive
from genalloy.models.flow import Flow, Preprocessed
from genalloy.networks.entry import OneHot, Scaled
from genalloy.networks.masked import MADE, Hidden
from genalloy.networks.mlp import MLP
from genalloy.networks.pixel import PixelCNN, Stack
from genalloy.part import From, Part
from genalloy.transforms.autoregressive import MaskedAffine
from genalloy.transforms.coupling import AffineCoupling, alternating
from genalloy.transforms.layer import Inverse, Layer, Transform
from genalloy.transforms.linear import ActNorm
from genalloy.transforms.observation import Affine, Dequantise, Flatten, Logit

Shape = tuple[int, ...]


def made(
    event_shape: Shape,
    levels: int | None,
    mean: Tensor,
    scale: Tensor,
    hidden: Hidden = Hidden((512, 512), dropout=0.3),
    components: int = 10,
) -> Part:
    """MADE (Germain et al., 2015); on reals, MADE-MoG (Papamakarios et al., 2017)."""
    head = _head(levels, components)
    network = MADE(event_shape, head.width, hidden, entry=_entry(levels))
    return _standardised(Autoregressive(network, head, event_shape), levels, mean, scale)


def pixelcnn(
    event_shape: Shape,
    levels: int | None,
    mean: Tensor,
    scale: Tensor,
    stack: Stack = Stack(channels=32, layers=4, dropout=0.2),
    components: int = 5,
) -> Part:
    """Two-stack gated PixelCNN (van den Oord et al., 2016) over images (C, H, W)."""
    head = _head(levels, components)
    network = PixelCNN(event_shape, head.width, stack, entry=_entry(levels))
    return _standardised(Autoregressive(network, head, event_shape), levels, mean, scale)


def realnvp(
    event_shape: Shape,
    levels: int | None,
    mean: Tensor,
    scale: Tensor,
    layers: int = 10,
    hidden: Hidden = Hidden((96, 96), residual=True, dropout=0.2),
) -> Part:
    """RealNVP with ActNorm (Dinh et al., 2017; Kingma & Dhariwal, 2018), dense couplings on the flattened event."""
    dims = math.prod(event_shape)
    steps: list[Transform] = []
    for mask in _masks(event_shape, layers):
        steps += [ActNorm((dims,)), AffineCoupling(mask, hidden)]
    steps.append(ActNorm((dims,)))
    flow = Flow(StandardNormal((dims,)), steps, (dims,))
    return Preprocessed(flow, _observation(event_shape, levels, mean, scale), event_shape)


def maf(
    event_shape: Shape,
    levels: int | None,
    mean: Tensor,
    scale: Tensor,
    layers: int = 5,
    hidden: Hidden = Hidden((128, 128)),
) -> Part:
    """Masked autoregressive flow with ActNorm (Papamakarios et al., 2017), orders alternating."""
    dims = math.prod(event_shape)
    steps: list[Transform] = []
    for i in range(layers):
        steps += [ActNorm((dims,)), MaskedAffine(dims, hidden, _order(dims, i))]
    flow = Flow(StandardNormal((dims,)), steps, (dims,))
    return Preprocessed(flow, _observation(event_shape, levels, mean, scale), event_shape)


def latent_flow(dims: int, layers: int = 4, width: int = 64, context_shapes: tuple[Shape, ...] = ()) -> Flow:
    """A small coupling flow over vectors, a learned prior p(z) or p(z | c): sampled and scored in one pass each."""
    masks = [alternating(dims, i % 2 == 1) for i in range(layers)]
    steps = [AffineCoupling(m, Hidden((width, width)), context_shapes) for m in masks]
    return Flow(StandardNormal((dims,)), steps, (dims,), context_shapes)


def iaf_posterior(x_shape: Shape, z_dims: int, layers: int = 2, width: int = 128, shift: float = 0.0, scale: float = 1.0) -> Flow:
    """IAF posterior r(z | x) (Kingma et al., 2016): an amortised Gaussian, then `layers` inverted MAF layers.

    Drawing with its density is one parallel pass. x enters the encoder as (x - shift) / scale.
    """
    encoder = MLP((x_shape,), 2 * z_dims, (width, width), shift=shift, scale=scale)
    base = From(Gaussian(), encoder, (z_dims,), (x_shape,))
    steps = [Inverse(MaskedAffine(z_dims, Hidden((width,)), _order(z_dims, i), bound=2.0)) for i in range(layers)]
    return Flow(base, steps, (z_dims,), (x_shape,))


def _head(levels: int | None, components: int) -> Head:
    if levels is None:
        return GaussianMixture(components)
    if levels == 2:
        return Bernoulli()
    return Categorical(levels) if levels <= 32 else LogisticMixture(levels, components)


def _entry(levels: int | None) -> OneHot | Scaled:
    """One-hot for few levels; many levels enter as numbers in [-1, 1]."""
    if levels is None:
        return Scaled()
    return OneHot(levels) if levels <= 32 else Scaled((levels - 1) / 2, (levels - 1) / 2)


def _standardised(part: Part, levels: int | None, mean: Tensor, scale: Tensor) -> Part:
    return Preprocessed(part, [Affine(mean, scale)], tuple(mean.shape)) if levels is None else part


def _observation(event_shape: Shape, levels: int | None, mean: Tensor, scale: Tensor) -> list[Layer | Transform]:
    """Reals: standardise. Integers: dequantise and logit. Then flatten."""
    steps: list[Layer | Transform] = [Affine(mean, scale)]
    if levels is not None:
        zero = torch.zeros(event_shape)
        steps = [Dequantise(zero == 0, zero, zero + levels - 1), Logit(float(levels), 0.01, len(event_shape))]
    return [*steps, Flatten(event_shape)] if len(event_shape) > 1 else steps


def _masks(event_shape: Shape, layers: int) -> list[Tensor]:
    """Complementary pairs: every pair a fresh random half, or for few entries every other one."""
    dims = math.prod(event_shape)
    masks: list[Tensor] = []
    for i in range(layers):
        fresh = alternating(dims) if dims < 4 else alternating(dims)[torch.randperm(dims)]
        masks.append(~masks[-1] if i % 2 else fresh)
    return masks


def _order(dims: int, layer: int) -> tuple[int, ...] | None:
    return tuple(reversed(range(dims))) if layer % 2 else None
