"""The scikit-learn style front: Alloy("vae-iaf").fit(X).sample(100).

It clones, works in a Pipeline, and pickles through the same safetensors bytes as everything else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from genalloy.data.dataset import Dataset
from genalloy.data.load import load, rows
from genalloy.data.memory import unmasked
from genalloy.evaluation.accuracy import label_log_probs
from genalloy.evidence import Kind, Unavailable
from genalloy.recipes.registry import find
from genalloy.runs.score import Estimator, Scores, encode, sample, score
from genalloy.runs.settings import RunSettings
from genalloy.runs.start import start
from genalloy.runs.train import Progress
from genalloy.spec import from_spec, to_spec


def _classifies(alloy: Alloy) -> bool:
    return "classify" in find(alloy.recipe).tasks


class Alloy(TransformerMixin, BaseEstimator):
    """A recipe as an estimator.

    recipe: a name that `genalloy recipes` lists. settings: what `--set` changes. steps or minutes: the budget, the
    recipe's own where both are None. random_state: seed of split, weights and training. device: auto, cpu or cuda.
    patience: validations without improvement before stopping early. verbose: print a line at each validation.

    Attributes after fit: model_ (the Part), dataset_, history_ (validation and training curves), n_features_in_.
    """

    def __init__(
        self,
        recipe: str = "vae",
        *,
        settings: dict[str, Any] | None = None,
        steps: int | None = None,
        minutes: float | None = None,
        random_state: int = 0,
        device: str = "cpu",
        patience: int | None = None,
        verbose: bool = False,
    ) -> None:
        self.recipe = recipe
        self.settings = settings
        self.steps = steps
        self.minutes = minutes
        self.random_state = random_state
        self.device = device
        self.patience = patience
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> Alloy:
        """Train on rows X (n, ...): array, data frame, path or the name of a toy; y: labels, for recipes that classify.

        Raises ValueError on an unknown recipe, on data that cannot be modelled, and Unavailable where the recipe does not
        fit the data's kind.
        """
        for _ in self.iter_fit(X, y):
            pass
        return self

    def iter_fit(self, X: Any, y: Any = None) -> Iterator[Progress]:
        """The same as a generator of progress: for step in alloy.iter_fit(X): ..."""
        find(self.recipe)
        x = self._checked(X, reset=True)
        self.dataset_ = _all_rows(load((x, y) if y is not None and _classifies(self) else x, seed=int(self.random_state)))
        trainer = start(self._run_settings(), None, self.dataset_)
        for progress in trainer.run():
            if self.verbose and progress.validation is not None:
                print(f"step {progress.done}/{progress.total}: validation {progress.validation:.4g} nats")
            yield progress
        self.model_ = trainer.model
        self.history_ = {"train": trainer.memory.train, "validation": trainer.memory.validation}
        self.model_.eval()

    def _run_settings(self) -> RunSettings:
        return RunSettings(
            self.recipe,
            data="array",
            settings=dict(self.settings or {}),
            steps=self.steps,
            minutes=self.minutes,
            seed=int(self.random_state),
            device=self.device,
            patience=self.patience,
        )

    def _checked(self, X: Any, reset: bool) -> Any:
        """Numeric arrays go through scikit-learn's own checks; data frames and paths through the loader's."""
        if isinstance(X, (str, Path)) or hasattr(X, "iloc"):
            return X
        X = unmasked(X) if hasattr(X, "filled") else X  # scikit-learn's checks would drop the mask
        flat = getattr(X, "ndim", 2) <= 2
        return validate_data(self, X, reset=reset, ensure_2d=flat, allow_nd=not flat, ensure_min_samples=2 if reset else 1)

    def _rows(self, X: Any) -> Tensor:
        check_is_fitted(self, "model_")
        if isinstance(X, (str, Path)):
            return torch.cat([self.dataset_.admit(values) for _, values, _ in rows(str(X))])
        return self.dataset_.admit(self._checked(X, reset=False))

    def sample(self, n_samples: int = 1, random_state: int | None = None) -> Any:
        """Samples in the form of the training data: an array of its dtype, or a data frame with its columns."""
        check_is_fitted(self, "model_")
        seed = int(self.random_state) if random_state is None else random_state
        return self.dataset_.restore(sample(self.model_, n_samples, seed=seed))

    def density(self, X: Any, estimator: Estimator | None = None) -> Scores:
        """Log-densities with their label: .values (n,) nats, .kind, .how."""
        return score(self.model_, self._rows(X), estimator, seed=int(self.random_state))

    def score_samples(self, X: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Exact log-densities, (n,) nats.

        Raises Unavailable where only a bound or an estimate exists; density(X) returns those with their label.
        """
        scores = self.density(X)
        if scores.kind is Kind.NONE:
            raise Unavailable(f"{self.recipe} has no density: {scores.how}")
        if scores.kind is not Kind.EXACT:
            raise Unavailable(
                f"{self.recipe} has no exact log-density: it is {scores.kind.value} ({scores.how}). Use density(X), or "
                "density(X, ImportanceWeighted(100)) for a tighter bound"
            )
        return scores.values.double().numpy()

    def score(self, X: Any, y: Any = None) -> float:
        """Mean log-density of X whatever its label; density(X) says which label it is. Raises Unavailable without one."""
        scores = self.density(X)
        if scores.kind is Kind.NONE:
            raise Unavailable(f"{self.recipe} has no density: {scores.how}")
        return scores.mean()

    @torch.no_grad()
    def transform(self, X: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Codes of the rows, (n, code size): posterior mean, or a flow's latent. Raises Unavailable without codes."""
        return encode(self.model_, self._rows(X)).double().numpy()

    @available_if(_classifies)
    def predict_proba(self, X: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
        """p(label | x), (n, classes) in the order of dataset_.label_names. Recipes that classify have it."""
        return self._label_log_probs(X).exp().double().numpy()

    @available_if(_classifies)
    def predict(self, X: Any) -> np.ndarray[Any, np.dtype[Any]]:
        """The most likely label of each row, as text. Recipes that classify have it."""
        return np.asarray(self.dataset_.label_names)[self._label_log_probs(X).argmax(-1).numpy()]

    @torch.no_grad()
    def _label_log_probs(self, X: Any) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(self.random_state))
            return label_log_probs(self.model_(), self._rows(X), len(self.dataset_.label_names))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.non_deterministic = False
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Parameters, and the fitted model as safetensors bytes with its spec."""
        from safetensors.torch import save as to_bytes

        state = dict(super().__getstate__())
        if "model_" in state:
            spec, tensors = to_spec(state.pop("model_"))
            state["model_bytes_"] = to_bytes(tensors, metadata={"genalloy": json.dumps(spec)})
            state["model_spec_"] = json.dumps(spec)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        from safetensors.torch import load as from_bytes

        if "model_bytes_" in state:
            spec = json.loads(state.pop("model_spec_"))
            state["model_"] = from_spec(spec, from_bytes(state.pop("model_bytes_"))).eval()
        super().__setstate__(state)


def _all_rows(dataset: Dataset) -> Dataset:
    """Train on the test part too: an estimator's caller keeps a test set of their own."""
    dataset.train = torch.cat([dataset.train, dataset.test])
    if dataset.labels:
        dataset.labels["train"] = torch.cat([dataset.labels["train"], dataset.labels["test"]])
    return dataset
