"""Autoregressive recipes: exact densities, cached sampling."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from genalloy.core.evidence import Kind
from genalloy.heads.gaussian import Gaussian
from genalloy.heads.head import Head
from genalloy.heads.mixture import GaussianMixture
from genalloy.models.autoregressive import Autoregressive
from genalloy.models.mixture import Mixture
from genalloy.networks.causal.gated_pixelcnn import GatedPixelCNN, GatedStack
from genalloy.networks.causal.made import MADE
from genalloy.networks.causal.network import CausalLayer, CausalNet, Tokens
from genalloy.networks.causal.positions import PositionalEmbedding
from genalloy.networks.input_embedding import CompressedInput, Entry, OneHot, ScaledInput
from genalloy.networks.mlp import Hidden
from genalloy.recipes.composition import Composition, Target
from genalloy.recipes.pieces import by_likelihood, image_size, label_shapes, labelled, likelihood_head, observed, sized, worth
from genalloy.recipes.registry import recipe
from genalloy.training.options import Adam, Training

TASKS = ("sample", "score")
FEW = 32


def head_of(target: Target, components: int) -> Head:
    """Mixtures of Gaussians for reals, classes for letters, which have no order, otherwise the data's own head."""
    return likelihood_head(target, components, GaussianMixture(components) if components > 1 else Gaussian())


def entry_of(target: Target) -> Entry:
    """One-hot for few levels and for letters; many levels enter as numbers in [-1, 1], reals compressed."""
    levels = target.space.levels
    if levels is None:
        return CompressedInput()
    return OneHot(levels) if levels <= FEW or target.space.kind == "text" else ScaledInput((levels - 1) / 2, (levels - 1) / 2)


def causal(
    target: Target, head: Head, first: CausalLayer, layers: Sequence[nn.Module], places: PositionalEmbedding, tokens: Tokens
) -> nn.Module:
    """A causal network over the data as they are; given the label where the places are."""
    shape, context = target.space.shape, places.context_shapes
    net = CausalNet(shape, head.width, first, list(layers), places, tokens, entry_of(target))
    return observed(target, labelled(target, Autoregressive(net, head, shape, context), bool(context)))


@recipe("made", "autoregressive", Kind.EXACT, Kind.EXACT, TASKS, "Germain, Gregor, Murray & Larochelle, 2015")
def made(
    target: Target,
    width: int | None = None,
    layers: int = 2,
    components: int = 10,
    dropout: float = 0.3,
    orders: int = 1,
    rate: float = 2e-3,
    decay: float = 0.0,
    conditional: bool = False,
    steps: int | None = None,
) -> Composition:
    """Masked autoencoder: one masked network for all conditionals; mixtures of Gaussians on reals.

    width None: 256, 32 on few reals. dropout: on integers. orders: members of an ensemble, their mixture; the first takes the
    natural order of the entries, the others random ones. rate, decay: of the optimiser. conditional: on the label. steps None:
    500 on integers, 1500 on reals, fewer on few rows.
    Germain et al., 2015, arXiv:1502.03509; MADE-MoG: Papamakarios et al., 2017, arXiv:1705.07057.
    """
    reals = target.space.levels is None
    hidden = Hidden((width or sized(target, 256, 256, 32),) * layers, dropout=0.0 if reals else dropout)
    members: list[nn.Module] = [_member(target, hidden, components, i, conditional) for i in range(orders)]
    part = members[0] if orders == 1 else Mixture(members)
    model = observed(target, labelled(target, part, conditional))
    training = Training(Adam(rate, weight_decay=decay), ema=0.99, clip=100.0)
    return by_likelihood(target, "made", model, training, 128, steps or worth(target, 1500 if reals else 500), conditional)


def _member(target: Target, hidden: Hidden, components: int, index: int, conditional: bool) -> Autoregressive:
    """The natural order for the first, a random one for every other; few levels start at equal odds."""
    head, shape, levels = head_of(target, components), target.space.shape, target.space.levels
    order = None if index == 0 else tuple(torch.randperm(target.space.dims).tolist())
    given = label_shapes(conditional)
    network = MADE(shape, head.width, hidden, order, given, entry_of(target))
    return Autoregressive(network.zero_output() if (levels or FEW + 1) <= FEW else network, head, shape, given)


@recipe("gated-pixelcnn", "autoregressive", Kind.EXACT, Kind.EXACT, TASKS, "van den Oord et al., 2016")
def gated_pixelcnn(
    target: Target,
    channels: int = 24,
    layers: int = 7,
    components: int = 5,
    dropout: float = 0.1,
    conditional: bool = False,
    steps: int = 700,
) -> Composition:
    """Gated PixelCNN: masked convolutions in two stacks, sampled through an activation cache.

    conditional: on the label. Raises ValueError where the data are not images.
    van den Oord et al., 2016, arXiv:1606.05328.
    """
    image_size(target, "gated-pixelcnn")
    head, given, stack = head_of(target, components), label_shapes(conditional), GatedStack(channels, layers, dropout=dropout)
    network = GatedPixelCNN(target.space.shape, head.width, stack, given, entry_of(target))
    part = Autoregressive(network, head, target.space.shape, given)
    model, training = observed(target, labelled(target, part, conditional)), Training(Adam(6e-3), ema=0.998, clip=100.0)
    return by_likelihood(target, "gated-pixelcnn", model, training, 32, steps, conditional)
