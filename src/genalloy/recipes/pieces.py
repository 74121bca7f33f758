"""Pieces that recipes share: how a part meets the data's space, and which head fits it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from genalloy.core.part import Embedded
from genalloy.heads.discrete import Bernoulli, Categorical, LogisticMixture
from genalloy.heads.gaussian import Gaussian
from genalloy.heads.head import Head
from genalloy.models.flow import Preprocessed
from genalloy.networks.labels import LabelEmbedding
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.recipes.composition import Composition, Phase, Target
from genalloy.training.options import Training
from genalloy.transforms.layer import Layer, Transform
from genalloy.transforms.observation import Dequantise, Flatten, Logit, Standardise

Step = Layer | Transform
Scaling = Callable[[Target], Step]
"""How entries are brought to about unit scale, or to all reals."""
LABEL = 16
"""Features of a label."""


def grid(target: Target) -> torch.Tensor:
    """Which entries are integers, as a bool tensor of the event shape."""
    return torch.as_tensor(target.space.discrete).expand(target.space.shape).clone()


def moments(target: Target) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and scale of every entry once it is dequantised: uniform noise adds 1/2 and a variance of 1/12 where on a grid."""
    uniform = grid(target).to(target.mean.dtype)
    return target.mean + 0.5 * uniform, (target.scale.square() + uniform / 12).sqrt()


def dequantised(target: Target) -> list[Step]:
    """[Dequantise] where any entry lies on a grid, otherwise nothing."""
    discrete = grid(target)
    if not discrete.any():
        return []
    low, high = torch.zeros(target.space.shape), torch.full(target.space.shape, float(target.space.levels or 0) - 1)
    for index, column in enumerate(target.space.columns if target.space.levels is None else ()):
        low[index], high[index] = column.low, column.high
    return [Dequantise(discrete, low, high)]


def standardise(target: Target) -> Standardise:
    """Zero mean and unit scale: per entry for reals and mixed tables, one pair for grids such as images."""
    shift, scale = moments(target)
    if target.space.levels is None:
        return Standardise(shift, scale)
    spread = (scale.square().mean() + shift.var(correction=0)).sqrt()
    return Standardise(shift.mean().expand(shift.shape).clone(), spread.expand(shift.shape).clone())


def whiten(target: Target) -> Standardise:
    """Zero mean and unit scale of every entry; on a grid the dequantisation noise counts as scale (1/12)."""
    return Standardise(*moments(target))


def stretch(alpha: float) -> Scaling:
    """Integers through a logit, from (0, 1) shrunk to (alpha, 1 - alpha); everything else standardised."""

    def scaling(target: Target) -> Step:
        levels = target.space.levels
        return standardise(target) if levels is None else Logit(float(levels), alpha, len(target.space.shape))

    return scaling


def on_data(target: Target, part: nn.Module, scaling: Scaling = standardise, flat: bool = False) -> Preprocessed:
    """`part` over reals as a part over the data as given: dequantised where on a grid, brought to scale, flattened."""
    shape = target.space.shape
    steps = [*dequantised(target), scaling(target), *[Flatten(shape)] * (flat and len(shape) > 1)]
    return Preprocessed(part, steps, shape, getattr(part, "context_shapes", ()))


def likelihood_head(target: Target, components: int = 5, reals: Head | None = None) -> Head:
    """The head whose distribution is over the data as given: bits, integers, or `reals`, by default a Gaussian.

    Letters are classes, however many there are, since they have no order; other integers beyond 32 are mixtures of logistics.
    """
    levels = target.space.levels
    if levels is None:
        return reals or Gaussian(floor=1e-3)
    if levels == 2:
        return Bernoulli()
    return Categorical(levels) if levels <= 32 or target.space.kind == "text" else LogisticMixture(levels, components)


def observed(target: Target, model: nn.Module) -> nn.Module:
    """Integers and bits are modelled as they are; reals and mixed tables standardised."""
    return model if target.space.levels is not None else on_data(target, model)


def image_size(target: Target, name: str, instead: str = "made") -> tuple[int, int]:
    """(height, width). Raises ValueError, naming the recipe and one that takes the data, where they are not images."""
    space = target.space
    if space.kind != "image":
        raise ValueError(f"{name} needs images (C, H, W); found {space.kind} of shape {space.shape}; try {instead}")
    return space.shape[1], space.shape[2]


def label_shapes(conditional: bool) -> tuple[tuple[int, ...], ...]:
    """Context shapes of a part inside :func:`labelled`."""
    return ((LABEL,),) if conditional else ()


def labelled(target: Target, part: nn.Module, conditional: bool) -> nn.Module:
    """The part given learned features of the row's label, where `conditional`."""
    return Embedded(part, LabelEmbedding(target.classes, LABEL), ((),)) if conditional else part


def by_likelihood(
    target: Target, name: str, model: nn.Module, options: Training, batch: int, steps: int, conditional: bool
) -> Composition:
    """Maximum likelihood; `conditional`: given the label. Raises ValueError, naming the recipe, where there are no labels."""
    labels = target.labels(name) if conditional else None
    return Composition(model, [Phase(MaximumLikelihood(), options, batch=batch)], steps, labels)


# -- few rows --------------------------------------------------------------------------------------------------------

SCARCE = 2000
"""Rows of reals below which networks of the usual size learn them by heart."""
FEW_DROPOUT = 0.3
PASSES, FEWEST = 1000, 600
"""Passes over the rows after which nothing is learned that validation would keep, and steps that even ten rows are worth."""


def scarce(target: Target) -> bool:
    """Whether the data are so few reals that networks are to be small and have dropout."""
    return target.space.levels is None and target.rows < SCARCE


def sized(target: Target, grid: int, reals: int, few: int) -> int:
    """The number for integers, for reals, or for few reals."""
    return few if scarce(target) else reals if target.space.levels is None else grid


def worth(target: Target, steps: int, batch: int = 256) -> int:
    """So many steps, or as many as reals of so few rows are worth."""
    return steps if target.space.levels is not None else min(steps, max(FEWEST, PASSES * target.rows // batch))
