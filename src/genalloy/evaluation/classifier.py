r"""Classifiers for evaluation: a Part :math:`p(y \mid x)` like any other, fitted by maximum likelihood in the one training loop.

:math:`y \sim \mathrm{Categorical}(W h(x) + b)` with a small body h: two convolutions for pictures, two dense layers for all
else. It serves as a feature space (h), as the judge of a two-sample test, and for the classification accuracy score.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from genalloy.core.batch import Batch
from genalloy.core.contexts import Context
from genalloy.core.isolation import Stream
from genalloy.core.moments import mean_and_scale
from genalloy.core.part import Conditional, Part
from genalloy.core.schedules import Cosine
from genalloy.core.spec import Module
from genalloy.heads.discrete import Categorical
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.training.fit import fit
from genalloy.training.options import Adam, Training

CHUNK = 1000
BATCH = 128


@dataclass(frozen=True)
class TrainingBudget:
    """How long an evaluation's network trains: AdamW with a cosine rate, and the seed of everything random in it."""

    steps: int = 500
    seed: int = 0
    lr: float = 2e-3
    weight_decay: float = 1e-2


STANDARD = TrainingBudget()


class Body(Module):
    r"""Rows (\*B, \*E) -> features (\*B, width), after (x - shift) / scale. Pictures are (channels, height, width)."""

    shift: Tensor
    scale: Tensor

    def __init__(self, shape: tuple[int, ...], width: int, shift: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.shape, self.width = tuple(shape), width
        self.register_buffer("shift", shift)
        self.register_buffer("scale", scale)
        self.net = pictures(self.shape, width) if len(shape) == 3 else dense(self.shape, width)

    def forward(self, context: Context) -> Tensor:
        return self.net((context.float() - self.shift) / self.scale)


def dense(shape: tuple[int, ...], width: int, hidden: int = 256) -> nn.Sequential:
    """Two dense layers on flattened rows."""
    entries = torch.Size(shape).numel()
    return nn.Sequential(nn.Flatten(), nn.Linear(entries, hidden), nn.SiLU(), nn.Linear(hidden, width), nn.SiLU())


def pictures(shape: tuple[int, ...], width: int) -> nn.Sequential:
    """Two convolutions and a dense layer."""
    channels, height, breadth = shape
    # one more halving for pictures beyond 16 pixels keeps the cost of a step about equal
    stride = 2 if min(height, breadth) > 16 else 1
    side = [-(-n // (2 * stride)) for n in (height, breadth)]
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, stride, 1), nn.SiLU(),
        nn.Conv2d(16, 32, 3, 2, 1), nn.SiLU(),
        nn.Flatten(), nn.Linear(32 * side[0] * side[1], width), nn.SiLU(),
    )  # fmt: skip


def scale_of(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and scale of rows (N, *E): one of all entries of pictures, which share a unit, and of each entry of all else."""
    shift, scale = mean_and_scale(x.reshape(-1, 1) if x.dim() == 4 else x)
    return shift.float(), scale.float()


def fit_classifier(x: Tensor, labels: Tensor, classes: int, width: int = 64, budget: TrainingBudget = STANDARD) -> Conditional:
    """p(y | x) with y in 0..classes-1, fitted to rows (N, *E) and labels (N,); `network[0]` is its body.

    Raises ValueError where there is not one label in 0..classes-1 per row.
    """
    _check(x, labels, classes)
    shape = tuple(x.shape[1:])
    # fork: building layers draws from the global generator, which is not ours to move
    with Stream(torch.float32):
        torch.manual_seed(budget.seed)
        network = nn.Sequential(Body(shape, width, *scale_of(x)), nn.Linear(width, classes))
    part = Conditional(Categorical(classes), network, (), (shape,))
    maximise(part, labels.float(), x, budget)
    return part


def maximise(part: Part, y: Tensor, x: Tensor, budget: TrainingBudget) -> None:
    """Maximum likelihood of p(y | x) over rows drawn with replacement by the seed; the part is left in eval mode."""
    training = Training(Adam(budget.lr, weight_decay=budget.weight_decay), Cosine(1.0, 0.0, budget.steps), seed=budget.seed)
    with torch.enable_grad():
        for _ in fit(part, MaximumLikelihood(), _batches(y, x, budget), training=training):
            pass
    part.eval()


def _check(x: Tensor, labels: Tensor, classes: int) -> None:
    if len(labels) != len(x):
        raise ValueError(f"found {len(labels):,} labels for {len(x):,} rows; a classifier needs one label per row")
    if len(labels) == 0 or int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise ValueError(f"expected labels in 0..{classes - 1} for every row; found {labels.unique()[:5].tolist()}")


def _batches(y: Tensor, x: Tensor, budget: TrainingBudget) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(budget.seed)
    for _ in range(budget.steps):
        rows = torch.randint(len(x), (min(BATCH, len(x)),), generator=generator)
        yield Batch(y[rows], x[rows].float())


@torch.no_grad()
def class_log_probs(classifier: Conditional, x: Tensor) -> Tensor:
    """log p(y | x) of every class, (N, classes) float64, in chunks."""
    parts = [classifier.network(chunk.detach().cpu()).double() for chunk in torch.split(x, CHUNK)]
    return torch.cat(parts).log_softmax(-1)
