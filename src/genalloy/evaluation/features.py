"""Named feature spaces in which samples are compared; a metric's name is incomplete without one.

Every space is centred on the training rows and scaled by one number, so that a training feature has mean zero and unit
variance on average: distances then have the same unit in every space, and no direction is favoured beyond what the space
itself does. Nothing is downloaded: the classifier is trained here, on the training rows only, and pinned by a hash of its
weights. A network of the user's own (`External`) is the exception to both: it comes and stays as it is.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from genalloy.core.moments import mean_and_scale
from genalloy.data.dataset import Dataset
from genalloy.data.space import Column, Space
from genalloy.evaluation.classifier import CHUNK, TrainingBudget, class_log_probs, fit_classifier
from genalloy.heads.gaussian import GaussianDistribution
from genalloy.heads.head import Head


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


class PixelFeatures(Features):
    """The entries themselves."""

    name = "pixels"

    def _learn(self, train: Tensor, labels: Tensor | None) -> None:
        """Nothing to learn."""

    def _raw(self, x: Tensor) -> Tensor:
        return x.flatten(1)


class ColumnFeatures(Features):
    """Entries that need not share a unit: numbers divided by their training scale, categories as one column for each.

    The scale of an integer counts the width of its cell, so that a flag that hardly ever is set does not outweigh the rest.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self.name = "columns"

    def _learn(self, train: Tensor, labels: Tensor | None) -> None:
        grid = torch.as_tensor(self.space.discrete).expand(self.space.dims)
        self._centre, self._spread = mean_and_scale(train.flatten(1), grid)

    def _raw(self, x: Tensor) -> Tensor:
        columns = self.space.columns or (Column("x"),) * self.space.dims
        x = x.flatten(1)
        scaled = (x.double() - self._centre) / self._spread
        parts = [_one_hot(c, x[:, i]) if c.categories else scaled[:, i, None] for i, c in enumerate(columns)]
        return torch.cat(parts, 1)


def _one_hot(column: Column, values: Tensor) -> Tensor:
    """One column for each category, each with half the squared distance of a real one, so that a change costs one unit."""
    codes = torch.arange(len(column.categories), dtype=torch.float64)
    return (values.double().round().unsqueeze(1) == codes).double() / 2**0.5


class PCA(Features):
    """The first `components` principal directions of the training rows (fewer where the rows have fewer).

    of: the features whose directions they are, by default the entries as they are, which then must share a unit.
    """

    def __init__(self, components: int = 64, of: Features | None = None) -> None:
        self.components, self.of = components, of or PixelFeatures()

    def _learn(self, train: Tensor, labels: Tensor | None) -> None:
        flat = self.of.fit(train, labels)(train)
        covariance = torch.cov(flat.T).reshape(flat.shape[1], -1)
        values, vectors = torch.linalg.eigh(covariance)
        rank = int((values > 1e-10 * values[-1]).sum())
        self._basis = vectors[:, -min(self.components, rank) :].flip(1)
        self.name = f"pca-{self._basis.shape[1]}"

    def _raw(self, x: Tensor) -> Tensor:
        return self.of(x) @ self._basis


class ClassifierFeatures(Features):
    """The last hidden layer of a small classifier trained on the labelled training rows; the name holds its weights' hash.

    Images go through two convolutions, everything else through two dense layers. `probabilities` are the classifier's own.
    """

    def __init__(self, width: int = 64, steps: int = 500, seed: int = 0) -> None:
        self.width, self.steps, self.seed = width, steps, seed

    def _learn(self, train: Tensor, labels: Tensor | None) -> None:
        if labels is None or len(labels) != len(train):
            raise ValueError("classifier features need one label per training row; use PCA() or Pixels() where there are none")
        self.classifier = fit_classifier(train, labels, int(labels.max()) + 1, self.width, TrainingBudget(self.steps, self.seed))
        self._body: nn.Module = self.classifier.network[0]  # type: ignore[index]
        self.name = f"classifier-{self.width}[{fingerprint(self.classifier)}]"

    def _raw(self, x: Tensor) -> Tensor:
        return self._body(x)

    def probabilities(self, x: Tensor) -> Tensor:
        """Class probabilities (N, classes) float64."""
        return class_log_probs(self.classifier, x).exp()


class External(Features):
    """Any network of the user's: a map (N, *E) -> (N, F), in eval mode on the CPU, under the name that the user gives.

    The rows come in the data's own units (levels 0..K-1 for pictures): resizing and scaling are the network's. Its features
    are left as they are, so that Fréchet and kernel distances are those of the literature: with Inception's pool features this
    is FID and KID, and then, if `name` says so, may be called that; with any other network it may not.
    probabilities: rows -> class probabilities, where the network has classes.
    """

    def __init__(
        self,
        network: Callable[[Tensor], Tensor],
        name: str,
        probabilities: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.network, self.name, self._classes = network, name, probabilities

    def fit(self, train: Tensor, labels: Tensor | None = None) -> Self:
        """Nothing is learned, centred or scaled; one row is passed, so that a wrong shape is found out now."""
        self._shift = torch.zeros(())
        features = self(train[:1])
        if features.dim() != 2:
            raise ValueError(f"the network {self.name!r} returned shape {tuple(features.shape)} for one row; expected (1, F)")
        return self

    def _learn(self, train: Tensor, labels: Tensor | None) -> None:
        """Nothing to learn."""

    def _raw(self, x: Tensor) -> Tensor:
        return self.network(x).cpu()

    @torch.no_grad()
    def probabilities(self, x: Tensor) -> Tensor | None:
        """Class probabilities (N, classes) float64, None where the user gave none."""
        if self._classes is None:
            return None
        return torch.cat([self._classes(chunk.detach().cpu()).cpu().double() for chunk in torch.split(x, CHUNK)])


def fingerprint(module: nn.Module) -> str:
    """Six digits that pin a network: SHA-256 of its weights."""
    return hashlib.sha256(b"".join(p.detach().cpu().numpy().tobytes() for p in module.parameters())).hexdigest()[:6]


class UnitGaussian(Head):
    """N(mean, 1): its negative log-density is half the squared error."""

    width = 1

    def forward(self, parameters: Tensor, event_dims: int) -> GaussianDistribution:
        mean = parameters.squeeze(-1)
        return GaussianDistribution(mean, torch.ones_like(mean), event_dims)


def default_features(dataset: Dataset, seed: int = 0) -> Features:
    """Fitted features for a data set: its own classifier where pictures have labels, else PCA, columns or the entries.

    Pictures without labels keep PCA, though the autoencoder is a little more sensitive: for Fashion-MNIST the kernel distance
    of a fitted Gaussian is 20 of its errors away from zero with it and 16 with PCA, of 5 % noise 3.6 and 2.0, of a dropped
    class 3.9 and 3.1. PCA takes a second instead of thirty and has no seed, so its numbers are the same everywhere.
    """
    labels = dataset.labels.get("train")
    if dataset.space.kind == "image" and labels is not None and len(dataset.label_names) > 1:
        return ClassifierFeatures(seed=seed).fit(dataset.train, labels)
    if own_units(dataset.space) and dataset.space.dims <= 64:
        return ColumnFeatures(dataset.space).fit(dataset.train)
    return principal(dataset.space).fit(dataset.train)


def own_units(space: Space) -> bool:
    """Whether every entry has a unit of its own, as a table's columns have and pixels have not."""
    return space.kind in ("points", "table")


def principal(space: Space, components: int = 64) -> PCA:
    """The principal directions of entries that share a unit, or of columns."""
    return PCA(components, ColumnFeatures(space) if own_units(space) else None)
