"""Autoregressive diffusion: one network for all orders; samples in any number of steps, completes any part."""

from __future__ import annotations

from typing import Any

from genalloy.core.evidence import Kind
from genalloy.heads.discrete import Bernoulli
from genalloy.heads.head import Head
from genalloy.models.any_order import AnyOrder, OneByOne, Parallel, RandomStep, even
from genalloy.networks.attention import AttentionConfig
from genalloy.networks.input_embedding import Entry, ScaledInput
from genalloy.networks.order_agnostic import OrderAgnosticAttention, OrderAgnosticMLP, OrderAgnosticUNet, TrunkConfig, UNetConfig
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.recipes.autoregressive import TASKS, entry_of, head_of
from genalloy.recipes.composition import Composition, Phase, Target
from genalloy.recipes.pieces import observed
from genalloy.recipes.registry import recipe
from genalloy.training.options import Adam, Training


@recipe("ardm", "autoregressive", Kind.LOWER, Kind.LOWER, TASKS, "Hoogeboom et al., 2022")
def ardm(
    target: Target,
    size: int | None = None,
    blocks: int | None = None,
    components: int = 10,
    dropout: float = 0.1,
    budget: int | None = None,
    steps: int | None = None,
) -> Composition:
    """Autoregressive diffusion: any-order conditionals by one network; any part completed, sampled in any number of steps.

    size: channels of images (32) and sequences (64), width of the dense network for all else (256). blocks: None for the
    network's own number. dropout: on integers. budget: parallel steps of samples and density, None for one an entry. steps None:
    1000 on images, 2400 on all else.
    Hoogeboom et al., 2022, arXiv:2110.02037; parallel steps: Watson et al., 2021, arXiv:2106.03802.
    """
    head, entry = _head_entry(target, components)
    drop = 0.0 if target.space.levels is None else dropout
    network = network_of(target, head, entry, (size, blocks), drop)
    dims = target.space.dims
    generation = Parallel(even(dims, budget)) if budget else OneByOne()
    model = observed(target, AnyOrder(network, head, target.space.shape, (), generation, RandomStep(4)))
    # one step of one order is a noisy bound of the whole: dense networks, cheap a step, take many
    dense = target.space.levels is not None and not (_image(target) or _long(target))
    phase = Phase(MaximumLikelihood(), Training(Adam(4e-3 if dense else 2e-3), ema=0.995, clip=100.0))
    return Composition(model, [phase], steps or (1000 if _image(target) else 2400))


def _head_entry(target: Target, components: int) -> tuple[Head, Entry]:
    """Bits enter as -1 and 1: what is unknown is 0."""
    if target.space.levels == 2:
        return Bernoulli(), ScaledInput(0.5, 0.5)
    return head_of(target, components), entry_of(target)


def network_of(target: Target, head: Head, entry: Entry, size: tuple[int | None, int | None], dropout: float) -> Any:
    """A U-Net for images, attention for sequences and text, a dense network for all else. size: (channels, blocks) or None."""
    shape, (width, blocks) = target.space.shape, size
    if _image(target):
        depth = 1 if max(shape[1:]) <= 16 else 2
        return OrderAgnosticUNet(shape, head.width, UNetConfig(width or 32, depth, blocks or 1, dropout), (), entry)
    if _long(target):
        return OrderAgnosticAttention(shape, head.width, AttentionConfig(width or 64, blocks or 3, 4, dropout), (), entry)
    return OrderAgnosticMLP(shape, head.width, TrunkConfig(width or 256, blocks or 1, dropout), (), entry)


def _image(target: Target) -> bool:
    return target.space.kind == "image" and min(target.space.shape[1:]) > 1


def _long(target: Target) -> bool:
    return target.space.kind in ("sequence", "text") and len(target.space.shape) <= 2
