"""Named feature spaces in which samples are compared; a metric's name is incomplete without one.

Every space is centred on the training rows and scaled by one number, so that a training feature has mean zero and unit
variance on average: distances then have the same unit in every space, and no direction is favoured beyond what the space
itself does. Nothing is downloaded: the classifier is trained here, on the training rows and their labels only.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from typing import Self

import torch
from torch import Tensor, nn

from genalloy.data.dataset import Dataset
from genalloy.data.space import Column, Space

CHUNK = 1000


class Features(ABC):
    """A map (N, *E) -> (N, F) float64, fitted once on training rows; `name` is printed beside every number made with it."""

    name: str = ""
    _shift: Tensor | None = None
    _scale: float = 1.0

    def fit(self, train: Tensor, labels: Tensor | None = None) -> Self:
        """Learn the space from (N, *E) training rows, and from their labels (N,) where it needs any."""
        self._learn(train, labels)
        raw = self._in_chunks(train)
        self._shift = raw.mean(0)
        self._scale = raw.var(0).mean().sqrt().item() or 1.0
        return self

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """(N, *E) -> (N, F) float64, on the CPU. Raises ValueError before `fit`."""
        if self._shift is None:
            raise ValueError(f"the features {self.name or type(self).__name__} are not fitted; call fit(training rows) first")
        return (self._in_chunks(x) - self._shift) / self._scale

    @torch.no_grad()
    def _in_chunks(self, x: Tensor) -> Tensor:
        return torch.cat([self._raw(chunk.detach().cpu()).double() for chunk in torch.split(x, CHUNK)])

    @abstractmethod
    def _learn(self, train: Tensor, labels: Tensor | None) -> None:
        """What comes before centring and scaling."""

    def probabilities(self, x: Tensor) -> Tensor | None:
        """Class probabilities (N, classes) float64 where the space has a classifier, else None."""
        return None

    @abstractmethod
    def _raw(self, x: Tensor) -> Tensor:
        """(N, *E) -> (N, F) before centring and scaling."""


class Pixels(Features):
    """The entries themselves."""

    name = "pixels"

    def _learn(self, train: Tensor, labels: Tensor | None) -> None:
        """Nothing to learn."""

    def _raw(self, x: Tensor) -> Tensor:
        return x.flatten(1)


class Columns(Features):
    """A table's columns: numbers divided by their training standard deviation, categories as one column for each."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.name = "columns"

    def _learn(self, train: Tensor, labels: Tensor | None) -> None:
        self._spread = train.double().std(0).clamp_min(1e-12)

    def _raw(self, x: Tensor) -> Tensor:
        columns = self.space.columns or (Column("x"),) * self.space.dims
        scaled = x.double() / self._spread
        parts = [_one_hot(c, x[:, i]) if c.categories else scaled[:, i, None] for i, c in enumerate(columns)]
        return torch.cat(parts, 1)


def _one_hot(column: Column, values: Tensor) -> Tensor:
    """One column for each category, each with half the squared distance of a real one, so that a change costs one unit."""
    codes = torch.arange(len(column.categories), dtype=torch.float64)
    return (values.double().round().unsqueeze(1) == codes).double() / 2**0.5


class PCA(Features):
    """The first `components` principal directions of the training rows (fewer where the rows have fewer)."""

    def __init__(self, components: int = 64) -> None:
        self.components = components

    def _learn(self, train: Tensor, labels: Tensor | None) -> None:
        flat = train.flatten(1).double()
        covariance = torch.cov(flat.T).reshape(flat.shape[1], -1)
        values, vectors = torch.linalg.eigh(covariance)
        rank = int((values > 1e-10 * values[-1]).sum())
        self._basis = vectors[:, -min(self.components, rank) :].flip(1)
        self.name = f"pca-{self._basis.shape[1]}"

    def _raw(self, x: Tensor) -> Tensor:
        return x.flatten(1).double() @ self._basis


class ClassifierFeatures(Features):
    """The last hidden layer of a small classifier trained on the labelled training rows; the name holds its weights' hash.

    Images go through two convolutions, everything else through two dense layers. `probabilities` are the classifier's own.
    """

    def __init__(self, width: int = 64, steps: int = 500, seed: int = 0) -> None:
        self.width, self.steps, self.seed = width, steps, seed

    def _learn(self, train: Tensor, labels: Tensor | None) -> None:
        if labels is None or len(labels) != len(train):
            raise ValueError("classifier features need one label per training row; use PCA() or Pixels() where there are none")
        self._mean, self._spread = train.mean(), train.std().clamp_min(1e-6)
        # fork: building layers draws from the global generator, which is not ours to move
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(self.seed)
            self.body = _body(tuple(train.shape[1:]), self.width)
            self.head = nn.Linear(self.width, int(labels.max()) + 1)
            _train(nn.Sequential(self.body, self.head), self._standard(train), labels, self.steps)
        weights = b"".join(p.detach().numpy().tobytes() for p in (*self.body.parameters(), *self.head.parameters()))
        self.name = f"classifier-{self.width}[{hashlib.sha256(weights).hexdigest()[:6]}]"

    def _standard(self, x: Tensor) -> Tensor:
        return (x.float() - self._mean) / self._spread

    def _raw(self, x: Tensor) -> Tensor:
        return self.body(self._standard(x))

    @torch.no_grad()
    def probabilities(self, x: Tensor) -> Tensor:
        """Class probabilities (N, classes) float64."""
        parts = [self.head(self._raw(chunk.detach().cpu())).double() for chunk in torch.split(x, CHUNK)]
        return torch.cat(parts).softmax(-1)


def _body(shape: tuple[int, ...], width: int) -> nn.Sequential:
    if len(shape) < 3:
        return nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(shape).numel(), 256), nn.SiLU(), nn.Linear(256, width), nn.SiLU())
    channels, height, breadth = shape
    # one more halving for pictures beyond 16 pixels keeps the cost of a step about equal
    stride = 2 if min(height, breadth) > 16 else 1
    side = [-(-n // (2 * stride)) for n in (height, breadth)]
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, stride, 1), nn.SiLU(),
        nn.Conv2d(16, 32, 3, 2, 1), nn.SiLU(),
        nn.Flatten(), nn.Linear(32 * side[0] * side[1], width), nn.SiLU(),
    )  # fmt: skip


def _train(network: nn.Module, x: Tensor, labels: Tensor, steps: int, batch: int = 128) -> None:
    """Cross entropy with Adam and a cosine learning rate; small enough that it stops before a model's own training begins."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        rows = torch.randint(len(x), (min(batch, len(x)),))
        loss = nn.functional.cross_entropy(network(x[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def default_features(dataset: Dataset, seed: int = 0) -> Features:
    """Fitted features for a data set: its own classifier where pictures have labels, else PCA, columns or the entries."""
    labels = dataset.labels.get("train")
    if dataset.space.kind == "image" and labels is not None and len(dataset.label_names) > 1:
        return ClassifierFeatures(seed=seed).fit(dataset.train, labels)
    if dataset.space.kind == "points":
        return Pixels().fit(dataset.train)
    if dataset.space.kind == "table" and dataset.space.dims <= 64:
        return Columns(dataset.space).fit(dataset.train)
    return PCA(64).fit(dataset.train)
