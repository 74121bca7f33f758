r"""Theis, van den Oord & Bethge (2016): samples and likelihood are nearly independent.

Mixing a model with noise, :math:`q = 0.01\,p + 0.99\,n`, costs at most :math:`\log 100 = 4.61` nats, since
:math:`\log q \ge \log p - \log 100`, while 99 % of the samples are noise. Conversely, memorised rows with a little noise
make perfect samples and no likelihood.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from genalloy.core.spec import Value
from genalloy.data.dataset import Dataset
from genalloy.experiments.declare import Experiment, Method, PublishedNumber
from genalloy.experiments.verdict import AllOf, Better, Between
from genalloy.models.fitted import KernelSmoothed, UniformLevels
from genalloy.models.mixture import Mixture

SHARE = 0.99
BITS = math.log(1 / (1 - SHARE)) / (64 * math.log(2))
"""log 100 nats as bits per dimension of an 8x8 image."""


@dataclass(frozen=True)
class MixedWithNoise(Value):
    """(1 - share) of the model and `share` of uniform noise on the data's levels."""

    share: float = SHARE

    def __call__(self, model: nn.Module, dataset: Dataset) -> nn.Module:
        assert dataset.space.levels is not None
        mixed = Mixture([model, UniformLevels(dataset.space.levels, dataset.space.shape)])
        with torch.no_grad():
            mixed.logits.copy_(torch.tensor([1 - self.share, self.share]).log())
        return mixed


@dataclass(frozen=True)
class Memorised(Value):
    """The training rows themselves, each entry replaced by a uniform level with chance `noise`; the model is dropped."""

    noise: float = 0.02

    def __call__(self, model: Any, dataset: Dataset) -> nn.Module:
        assert dataset.space.levels is not None
        return KernelSmoothed(dataset.train, dataset.space.levels, self.noise)


STEPS = {"quick": 700, "full": 700}
EXPERIMENTS = (
    Experiment(
        "theis",
        "evaluation",
        "Samples and likelihood say different things",
        "A model mixed with 99 % noise keeps its likelihood to within log 100 nats while its samples are noise; memorised "
        "training rows make better samples than the model and a far worse likelihood.",
        "digits",
        (
            Method("made", "made", STEPS),
            Method("made, 99 % noise", "made", STEPS, after=MixedWithNoise()),
            Method("memorised rows", "made", STEPS, after=Memorised()),
        ),
        ("density", "generation", "memorisation", "cost"),
        ("density", "kernel_distance"),
        AllOf(
            (
                Better("made, 99 % noise", "made", "density", -BITS - 1e-3),
                Between("made, 99 % noise", "precision", high=0.1),
                Better("made", "made, 99 % noise", "kernel_distance"),
                Better("memorised rows", "made", "kernel_distance"),
                Better("made", "memorised rows", "density", 1.0),
                Between("memorised rows", "copying", low=0.75),
                Between("made", "copying", high=0.75),
            )
        ),
        {"quick": 3, "full": 3},
        (
            PublishedNumber(
                "loss of a 99 % noise mixture, at most", 4.61, "nats", "any model and data: log 100", "Theis et al., 2016"
            ),
        ),
    ),
)
