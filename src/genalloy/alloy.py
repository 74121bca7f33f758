"""The scikit-learn style front: Alloy("vae-iaf").fit(X).sample(100).

It clones, works in a Pipeline, and is stored, pickles included, as the same safetensors as everything else.
"""

from __future__ import annotations

import json
import numbers
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d, validate_data
from torch import Tensor, nn

from genalloy.core.bounds import shown
from genalloy.core.evidence import Evidence, Kind, Unavailable
from genalloy.core.observations import Masked
from genalloy.core.spec import from_spec, to_spec
from genalloy.data.dataset import Dataset
from genalloy.data.labels import log_shares
from genalloy.data.load import load_data, rows
from genalloy.data.memory import unmasked
from genalloy.data.space import Space
from genalloy.evaluation.accuracy import label_log_probs
from genalloy.models.mixture import over_labels
from genalloy.recipes.composition import Target
from genalloy.recipes.registry import find
from genalloy.runs.create import RunData, create_run, dataset_of, trained_model
from genalloy.runs.labels import conditional
from genalloy.runs.score import Estimator, encode, placed, sample, score
from genalloy.runs.settings import RunSettings
from genalloy.runs.train import Progress, Trainer
from genalloy.training import checkpoint
from genalloy.training.devices import resolve_device
from genalloy.training.seeding import Stream, seed_all, seed_of

Array = np.ndarray[Any, Any]
_NUMBERS = ("seed_", "history_", "_n_features_out")
_ARRAYS = ("classes_", "class_count_", "feature_names_in_")


def _classifies(alloy: Alloy) -> bool:
    """Recipes whose task it is, and fitted models of p(x | label), by Bayes' rule."""
    return "classify" in find(alloy.recipe).tasks or conditional(getattr(alloy, "model_", nn.Identity()))


class Alloy(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """A recipe as an estimator.

    recipe: a name that `genalloy recipes` lists. settings: what `--set` changes. steps or minutes: the budget, the
    recipe's own where both are None. random_state: seed of split, weights and training: an integer, None for fresh entropy,
    a NumPy RandomState or Generator. device: auto, cpu or cuda, where it trains, samples and scores. patience: validations
    without improvement before stopping early. verbose: print a line at each validation.

    Attributes after fit: model_ (the Part), dataset_ (what is known of the data, without rows), history_ (validation and training
    curves), seed_ (what random_state came to), n_features_in_ and feature_names_in_ for tables; where there are labels,
    classes_ as they were given and class_count_, how many training rows each has.
    """

    def __init__(
        self,
        recipe: str = "vae",
        *,
        settings: dict[str, Any] | None = None,
        steps: int | None = None,
        minutes: float | None = None,
        random_state: Any = 0,
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

    # -- fit -------------------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None) -> Alloy:
        """Train on rows X (n, ...): array, data frame, list of sequences, path or the name of a toy.

        y (n,): labels, for recipes that take them (`hybrid-flow`, any with `settings={"conditional": True}`); others warn.
        Raises ValueError on an unknown recipe, setting or device, on data that cannot be modelled, and Unavailable where the
        recipe does not fit the data's kind.
        """
        for _ in self.iter_fit(X, y):
            pass
        return self

    def iter_fit(self, X: Any, y: Any = None) -> Iterator[Progress]:
        """The same as a generator of progress: for step in alloy.iter_fit(X): ..."""
        find(self.recipe)
        resolve_device(self.device)
        settings = self._run_settings(seed_of(self.random_state))
        dataset, classes = self._loaded(self._seen(X, reset=True), y, settings)
        trainer = self._started(settings, dataset)
        for progress in trainer.run():
            if self.verbose and progress.validation is not None:
                print(f"step {progress.done}/{progress.total}: validation {progress.validation:.4g} nats")
            yield progress
        self._adopt(trainer.model, _from_record(_record(dataset)), settings.seed)
        self.history_ = {"train": trainer.memory.train, "validation": trainer.memory.validation}
        self._name_classes(dataset, classes)
        self._count_codes(dataset.observed("train")[:1])

    def _started(self, settings: RunSettings, dataset: Dataset) -> Trainer:
        try:
            return create_run(settings, None, dataset)
        except ValueError:
            if dataset.labels or not _takes_labels(settings, dataset):
                raise
        raise ValueError(f"{self.recipe} needs labels: it requires y to be passed, but the target y is None; call fit(X, y)")

    def _run_settings(self, seed: int) -> RunSettings:
        return RunSettings(
            self.recipe,
            data="array",
            settings={} if self.settings is None else self.settings,
            steps=self.steps,
            minutes=self.minutes,
            seed=seed,
            device=self.device,
            patience=self.patience,
        )

    def _loaded(self, x: Any, y: Any, settings: RunSettings) -> tuple[Dataset, Array]:
        """The data that are trained on, and the distinct labels as the caller wrote them."""
        dataset = load_data(x, seed=settings.seed)
        if y is not None and _takes_labels(settings, dataset):
            if isinstance(x, (str, Path, tuple)):
                raise ValueError("y was given beside data that bring their own labels; expected it with rows alone: leave y out")
            check_consistent_length(x, y)
            classes, codes = _distinct(y)
            return _all_rows(load_data((x, codes), seed=settings.seed)), classes
        if y is not None:
            how = "; give settings={'conditional': True} to model X given y" * ("conditional" in find(self.recipe).settings())
            warnings.warn(f"{self.recipe} takes no labels here, so y is not used{how}", stacklevel=4)
        return _all_rows(dataset), np.array(dataset.label_names)

    def _adopt(self, model: nn.Module, dataset: Dataset, seed: int) -> None:
        """The fitted attributes that every estimator has."""
        self.model_, self.dataset_, self.seed_ = model.eval(), dataset, seed
        if len(dataset.space.shape) == 1 and dataset.form.style in ("array", "frame"):
            self.n_features_in_ = dataset.space.dims

    def _name_classes(self, dataset: Dataset, classes: Array) -> None:
        for name in ("classes_", "class_count_"):
            self.__dict__.pop(name, None)
        if dataset.labels:
            self.classes_ = classes
            self.class_count_ = dataset.labels["train"].bincount(minlength=len(classes)).numpy()

    def _count_codes(self, row: Any) -> None:
        """How many columns transform returns; none where the model has no codes."""
        self.__dict__.pop("_n_features_out", None)
        with suppress(ValueError):
            self._n_features_out = self._codes_of(row).shape[1]

    # -- rows and labels -------------------------------------------------------------------------------------------

    def _seen(self, X: Any, reset: bool) -> Any:
        """X as the loader takes it: arrays through scikit-learn's own checks, frames in the order of the names seen in fit."""
        if reset:
            self._forget_features(getattr(X, "columns", ()))
        if hasattr(X, "columns"):
            return X if reset else self._in_order(X)
        if isinstance(X, (str, Path, tuple)) or (not reset and self.dataset_.form.style not in ("array", "frame")):
            return X
        X = unmasked(X) if hasattr(X, "filled") else X  # scikit-learn's checks would drop the mask
        if _ragged(X):
            return [row if hasattr(row, "ndim") else np.asarray(row) for row in X]
        flat = getattr(X, "ndim", 2) <= 2
        return validate_data(self, X, reset=reset, ensure_2d=flat, allow_nd=not flat, ensure_min_samples=2 if reset else 1)

    def _forget_features(self, names: Any) -> None:
        """Of an earlier fit; the columns' names are kept where all are texts, as scikit-learn does."""
        for attribute in ("n_features_in_", "feature_names_in_"):
            self.__dict__.pop(attribute, None)
        if len(names) and all(isinstance(name, str) for name in names):
            self.feature_names_in_ = np.array(list(names), dtype=object)

    def _in_order(self, X: Any) -> Any:
        """A frame's columns in the order of fit. Raises ValueError where some are missing or were not seen then."""
        if not hasattr(self, "feature_names_in_"):
            return X
        names, here = list(self.feature_names_in_), list(X.columns)
        missing, unseen = ([n for n in a if n not in b] for a, b in ((names, here), (here, names)))
        if missing or unseen:
            found = "; ".join(f"{word} {_some(some)}" for word, some in (("missing", missing), ("unseen in fit", unseen)) if some)
            raise ValueError(f"the columns differ from those of fit: {found}; expected {_some(names)}")
        return X if here == names else X[names]

    def _rows(self, X: Any) -> Any:
        check_is_fitted(self, "model_")
        if isinstance(X, (str, Path)):
            parts = [self.dataset_.admit(values) for _, values, _ in rows(str(X))]
            return parts[0] if len(parts) == 1 else _joined(parts)
        return self.dataset_.admit(self._seen(X, reset=False))

    def _coded(self, y: Any, count: int) -> Tensor:
        """Labels (count,) of the classes as the model takes them; one stands for all. Raises ValueError for unknown ones."""
        if not conditional(self.model_):
            raise Unavailable(f"{self.recipe} is not conditional on a label, so y says nothing to it; leave y out")
        labels = [y] * count if np.ndim(y) == 0 else np.asarray(y).tolist()
        if len(labels) != count:
            raise ValueError(f"found {len(labels)} labels for {count} rows; expected one label, or one a row")
        places = {label: code for code, label in enumerate(self.classes_.tolist())}
        unknown = [label for label in labels if label not in places]
        if unknown:
            raise ValueError(f"found the label {unknown[0]!r}; expected one of {_some(self.classes_.tolist())}")
        return torch.tensor([float(places[label]) for label in labels], dtype=torch.float32)

    def _placed(self) -> nn.Module:
        """The model on the estimator's device."""
        check_is_fitted(self, "model_")
        return self.model_.to(resolve_device(self.device))

    # -- what a fitted model answers -------------------------------------------------------------------------------

    def sample(self, n_samples: int = 1, random_state: Any = None, *, y: Any = None) -> Any:
        """Samples in the form of the training data: an array of its dtype, a data frame with its columns, a list of sequences.

        random_state: as in the constructor, whose own is used where it is None. y: one label, or one for each sample, where the
        recipe is conditional; labels are drawn as often as they were in training where it is None.
        """
        model = self._placed()
        if isinstance(n_samples, bool) or not isinstance(n_samples, numbers.Integral) or n_samples < 1:
            raise ValueError(f"n_samples is {shown(n_samples)}; expected an integer of at least 1")
        count, seed = int(n_samples), seed_of(self.random_state if random_state is None else random_state)
        labels = None if y is None else self._coded(y, count)
        if labels is None and conditional(model):
            generator = torch.Generator().manual_seed(seed)
            labels = torch.multinomial(torch.as_tensor(self.class_count_).double(), count, True, generator=generator).float()
        lengths = self.dataset_.drawn_lengths(count, seed)
        return self.dataset_.restore(sample(model, count, seed=seed, context=labels, lengths=lengths), lengths)

    def density(self, X: Any, estimator: Estimator | None = None, *, y: Any = None) -> Evidence:
        """Log-densities with their claim, as the library's density() gives them: .value (n,) nats, .kind, .how, .stderr.

        y: labels of the rows, for log p(x | y) of a conditional recipe; without them it is log p(x), the sum over all labels
        with their shares of the training rows, each counted once more than it was seen.
        """
        model, x = self._placed(), self._rows(X)
        if y is None and conditional(model):
            by_label = None if estimator is None else lambda whole, rows: whole.estimated(rows, estimator)
            return score(over_labels(model, self._label_law), x, by_label, seed=self.seed_)
        context = None if y is None else self._coded(y, len(x))
        return score(model, x, estimator, seed=self.seed_, context=context)

    @property
    def _label_law(self) -> Tensor:
        """log p(label) of every class; a label that the training rows happen to lack is not impossible."""
        return log_shares(self.class_count_)

    def score_samples(self, X: Any, *, y: Any = None) -> Array:
        """Exact log-densities, (n,) nats.

        Raises Unavailable where only a bound or an estimate exists; density(X) returns those with their label.
        """
        evidence = self._available(X, y)
        if evidence.kind is not Kind.EXACT:
            raise Unavailable(
                f"{self.recipe} has no exact log-density: it is {evidence.kind.value} ({evidence.how}). Use density(X), or "
                "density(X, ImportanceWeighted(100)) for a tighter bound"
            )
        return evidence.value.double().numpy()

    def score(self, X: Any, y: Any = None) -> float:
        """Mean log-density of X whatever its claim; density(X) says which it is. Raises Unavailable without one.

        y: labels, used where the recipe is conditional.
        """
        check_is_fitted(self, "model_")
        return float(self._available(X, y if conditional(self.model_) else None).value.double().mean())

    def _available(self, X: Any, y: Any) -> Evidence:
        evidence = self.density(X, y=y)
        if evidence.kind is Kind.NONE:
            raise Unavailable(f"{self.recipe} has no density: {evidence.how}")
        return evidence

    def transform(self, X: Any) -> Array:
        """Codes of the rows, (n, code size): posterior mean, or a flow's latent. Raises Unavailable without codes."""
        x = self._rows(X)
        self._placed()
        return self._codes_of(x).double().numpy()

    def _codes_of(self, x: Any) -> Tensor:
        if conditional(self.model_):
            raise Unavailable(f"{self.recipe} is conditional on a label and has no codes; leave out the setting conditional")
        with torch.no_grad():
            return encode(self.model_, x, seed=self.seed_).cpu()

    @available_if(_classifies)
    def predict_proba(self, X: Any) -> Array:
        """p(label | x), (n, classes) in the order of classes_. For recipes that classify, and conditional ones once fitted."""
        return self._label_log_probs(X).softmax(-1).numpy()

    @available_if(_classifies)
    def predict(self, X: Any) -> Array:
        """The most likely label of each row, as it was given to fit. Where :meth:`predict_proba` is."""
        codes = self._label_log_probs(X).argmax(-1).numpy()
        return self.classes_[codes]

    @torch.no_grad()
    def _label_log_probs(self, X: Any) -> Tensor:
        """log p(label | x) (n, classes) up to a constant of each row: the model's own, or log p(x, label) for Bayes' rule."""
        model, x = self._placed(), self._rows(X)
        if conditional(model):
            given = [score(model, x, seed=self.seed_, context=self._coded(label, len(x))) for label in self.classes_.tolist()]
            return torch.stack([term.available.double() for term in given], -1) + self._label_law
        with Stream(model):
            seed_all(self.seed_, -3)
            parts = [label_log_probs(model(), piece, len(self.classes_)) for piece, _ in placed(model, x, None, 512)]
        return torch.cat(parts).double().cpu()

    # -- storage ---------------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> Path:
        """Write the fitted estimator to one .safetensors file: what is known of the data, and a model as `genalloy.save` does."""
        check_is_fitted(self, "model_")
        spec, tensors = to_spec(self.model_)
        checkpoint.write_tensors(Path(path), tensors, {"format": checkpoint.FORMAT, "spec": spec, "alloy": self._facts()})
        return Path(path)

    def _facts(self) -> dict[str, Any]:
        """Everything but the model, as JSON; a random_state that moves on is stored as the seed that it came to."""
        plain = self._run_settings(self.seed_)
        parameters = self.get_params(deep=False)
        parameters |= {name: getattr(plain, name) for name in ("steps", "minutes", "patience")}
        parameters["random_state"] = None if self.random_state is None else self.seed_
        kept = {name: vars(self)[name] for name in _NUMBERS if name in vars(self)}
        arrays = {name: _stored(vars(self)[name]) for name in _ARRAYS if name in vars(self)}
        facts = {"parameters": parameters, "data": _record(self.dataset_), "kept": kept, "arrays": arrays}
        return dict(json.loads(json.dumps(facts, default=lambda value: value.tolist())))  # settings may be NumPy's numbers

    @classmethod
    def load(cls, path: str | Path, trust: Iterable[str] = ()) -> Alloy:
        """A fitted estimator from the file that :meth:`save` wrote, or from the folder of a run that `genalloy fit` finished.

        trust: third-party classes that may be built, as for `genalloy.load`. Raises ValueError where the path is neither.
        """
        path = Path(path)
        folder = path.parent if path.name == "model.safetensors" else path
        if (folder / "run.json").exists() or path.is_dir():
            return cls._of_run(folder, trust)
        tensors, stored = checkpoint.read_tensors(path)
        if "alloy" not in stored:
            raise ValueError(f"{path} holds a model alone, expected what Alloy.save or a run wrote; read it with genalloy.load")
        facts, model = stored["alloy"], from_spec(stored["spec"], tensors, trust)
        alloy = cls(**facts["parameters"])
        alloy.__dict__.update(facts["kept"], **{name: _array(record) for name, record in facts["arrays"].items()})
        alloy._adopt(model, _from_record(facts["data"]), alloy.seed_)
        return alloy

    @classmethod
    def _of_run(cls, folder: Path, trust: Iterable[str]) -> Alloy:
        """A finished run's model."""
        settings, data = RunSettings.read(folder), RunData.read_existing(folder)
        alloy = cls(settings.recipe, settings=settings.settings, steps=settings.steps, minutes=settings.minutes)
        alloy.set_params(random_state=settings.seed, device="auto", patience=settings.patience)
        alloy.history_ = {"train": [], "validation": []}
        record = {"name": data.name, "space": data.space.to_json(), "source": data.source}
        dataset = _from_record({**record, "classes": data.classes, "lengths": data.lengths})
        alloy._adopt(trained_model(folder, trust), dataset, settings.seed)
        if data.classes:
            alloy.classes_ = np.array(data.classes)
        if conditional(alloy.model_):
            alloy.class_count_ = _counts(settings, folder, len(data.classes))
        return alloy

    def __getstate__(self) -> dict[str, Any]:
        """Parameters and attributes; the model as safetensors bytes with its spec, the data without rows as JSON."""
        from safetensors.torch import save as to_bytes

        state = dict(super().__getstate__())
        if "model_" in state:
            spec, tensors = to_spec(state.pop("model_"))
            plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
            state["model_bytes_"], state["model_spec_"] = to_bytes(plain), json.dumps(spec)
            state["data_record_"] = json.dumps(_record(state.pop("dataset_")))
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        from safetensors.torch import load as from_bytes

        state = dict(state)
        if "model_bytes_" in state:
            spec = json.loads(state.pop("model_spec_"))
            state["model_"] = from_spec(spec, from_bytes(state.pop("model_bytes_"))).eval()
            state["dataset_"] = _from_record(json.loads(state.pop("data_record_")))
        super().__setstate__(state)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.non_deterministic = False
        tags.target_tags.required = _classifies(self)
        return tags


# -- data ----------------------------------------------------------------------------------------------------------


def _record(dataset: Dataset) -> dict[str, Any]:
    """What samples and new rows need to know of the data, as JSON: no rows."""
    facts = {"name": dataset.name, "space": dataset.space.to_json(), "source": dataset.source, "notes": dataset.notes}
    lengths = dataset.lengths["train"].tolist() if dataset.lengths else []
    record = {**facts, "classes": dataset.label_names, "lengths": lengths, "entropy_optimum": dataset.entropy_optimum}
    return json.loads(json.dumps(record, default=str))


def _from_record(record: dict[str, Any]) -> Dataset:
    """The data set that :func:`_record` described, its parts empty."""
    space = Space.from_json(record["space"])
    none = torch.empty(0, *space.shape, dtype=torch.float32)
    lengths = {"train": torch.tensor(record["lengths"])} if record["lengths"] else {}
    dataset = Dataset(record["name"], space, none, none, none, source=record["source"], lengths=lengths)
    dataset.label_names, dataset.notes = tuple(record["classes"]), tuple(record.get("notes", ()))
    dataset.entropy_optimum = record.get("entropy_optimum")
    return dataset


def _all_rows(dataset: Dataset) -> Dataset:
    """Train on the test part too, with all that stands beside its rows: an estimator's caller keeps test rows of their own."""
    dataset.train = torch.cat([dataset.train, dataset.test])
    for beside in (d for d in vars(dataset).values() if isinstance(d, dict) and {"train", "test"} <= d.keys()):
        beside["train"] = torch.cat([beside["train"], beside["test"]])
    return dataset


def _counts(settings: RunSettings, folder: Path, classes: int) -> Array:
    """How many training rows of a run have each label, counted in its data; all alike, with a warning, where they are gone."""
    try:
        labels = dataset_of(settings, folder).labels["train"]
    except (ValueError, OSError) as reason:
        warnings.warn(f"labels are taken to be equally frequent, as the run's data cannot be loaded: {reason}", stacklevel=4)
        return np.ones(classes, dtype=int)
    return labels.bincount(minlength=classes).numpy()


def _takes_labels(settings: RunSettings, dataset: Dataset) -> bool:
    """Whether the recipe's composition, were there labels, would have them as its context."""
    with Stream(dataset.train):
        return find(settings.recipe)(replace(Target.of(dataset), classes=2), **settings.settings).context is not None


def _distinct(y: Any) -> tuple[Array, Array]:
    """The sorted distinct labels, in the caller's dtype, and the index (n,) of each row's. Raises ValueError for missing ones."""
    labels = column_or_1d(y)
    if (labels != labels).any():
        raise ValueError(f"y holds {int((labels != labels).sum())} missing labels; expected one for every row: drop those rows")
    try:
        return np.unique(labels, return_inverse=True)
    except TypeError:
        kinds = sorted({type(label).__name__ for label in labels})
        raise ValueError(f"y holds labels of the kinds {', '.join(kinds)}, which have no order; expected one kind") from None


def _ragged(X: Any) -> bool:
    """Whether X is a list of rows of different lengths."""
    return isinstance(X, list) and len({len(row) for row in X if np.ndim(row)}) > 1


def _joined(parts: list[Any]) -> Any:
    """Parts of one source as one observation."""
    if not hasattr(parts[0], "mask"):
        return torch.cat(parts)
    return Masked(torch.cat([part.x for part in parts]), torch.cat([part.mask for part in parts]))


def _some(names: list[Any]) -> str:
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _stored(array: Array) -> dict[str, Any]:
    """An array as JSON; dates and spans as texts, which NumPy reads back."""
    values = array.astype(str) if array.dtype.kind in "mM" else array
    return {"dtype": array.dtype.str, "values": values.tolist()}


def _array(record: dict[str, Any]) -> Array:
    return np.array(record["values"], dtype=record["dtype"])
