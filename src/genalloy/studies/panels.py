"""What can be measured of a trained model: panels by name, each a dict of numbers, so that a table asks for what it needs.

A panel never raises for a model that lacks a capability: the number says why it is missing. Numbers that several panels need (the
one-draw density, the samples) are made once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from genalloy.core.evidence import Evidence, Kind, Unavailable
from genalloy.core.observations import Masked
from genalloy.core.schema import Number, absent
from genalloy.data.dataset import Dataset
from genalloy.data.load import load_data
from genalloy.estimators.importance_weighted import ImportanceWeighted, importance_curve
from genalloy.evaluation.accuracy import accuracy_panel
from genalloy.evaluation.class_scores import label_agreement
from genalloy.evaluation.disentanglement import chance, disentanglement
from genalloy.evaluation.features import Features
from genalloy.evaluation.generation import panel
from genalloy.evaluation.latent import latent_panel
from genalloy.evaluation.memorisation import Reference, memorisation, reference
from genalloy.evaluation.metric import Panel
from genalloy.evaluation.noise import noise_panel
from genalloy.evaluation.outliers import foreign, outlier_panel, outlier_sets
from genalloy.evaluation.representation import probe, representation_panel, untrained
from genalloy.models.mixture import over_labels
from genalloy.runs.densities import density_number
from genalloy.runs.labels import conditional, context_of, drawn_labels, label_law
from genalloy.runs.score import Estimator, encode, minus_energy, sample, score
from genalloy.runs.sequences import step_number, with_steps
from genalloy.runs.settings import keep_limits
from genalloy.studies.cost import Cost, evaluations, spend
from genalloy.training.devices import CPU

IMPORTANCE = 64
"""Importance samples of the table's tightest bound."""
DEFAULT = ("density", "generation", "memorisation", "representation", "outliers", "accuracy", "cost")
TIMED_ROWS = 200


@dataclass(frozen=True)
class EvaluationSettings:
    """What is measured. samples: drawn for generation. importance: k of the tightest bound. outliers: names of foreign sets."""

    panels: tuple[str, ...] = DEFAULT
    samples: int = 1000
    importance: int = IMPORTANCE
    outliers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        keep_limits(self)
        panels_of(self.panels)


@dataclass
class Evaluation:
    """A model in eval mode beside the data it was trained on, and what is made once for all panels."""

    model: nn.Module
    dataset: Dataset
    features: Features
    seed: int
    request: EvaluationSettings
    device: torch.device = CPU

    @cached_property
    def whole(self) -> nn.Module:
        """p(x): the model itself, or sum_y p(y) p(x | y) of one that takes the label."""
        return self.model if self.context is None else over_labels(self.model, label_law(self.dataset))

    @cached_property
    def one(self) -> Evidence:
        """density() of the test rows under p(x), by one draw."""
        return self._named(score(self.whole, self.dataset.observed("test"), seed=self.seed))

    def _named(self, scores: Evidence) -> Evidence:
        if self.context is None:
            return scores
        sum_ = f"sum over {len(self.dataset.label_names)} labels at their shares of the training rows (add-one)"
        return replace(scores, how=f"{sum_}; {scores.how}")

    @cached_property
    def conditional(self) -> Evidence | None:
        """The tightest log p(x | label) of the test rows; None for a model that takes none."""
        if self.context is None:
            return None
        test = self.dataset.observed("test")
        own = score(self.model, test, seed=self.seed, context=self.context)
        try:
            return self.scores(test, ImportanceWeighted(self.request.importance), self.context) if own.kind is Kind.LOWER else own
        except Unavailable:
            return own

    @cached_property
    def context(self) -> Tensor | None:
        """Labels of the test rows where the model takes them as its context."""
        return context_of(self.model, self.dataset, "test")

    @cached_property
    def importance(self) -> dict[int, Evidence]:
        """Bounds by k, all from one set of draws; empty where the density is no proper bound."""
        if self.one.kind is not Kind.LOWER:
            return {}
        most = self.request.importance
        if self.context is not None:
            return self._by_label(most)
        ks = sorted({k for k in (1, 10, 100, 1000) if k < most} | {most})
        curve: dict[int, Evidence] = {}

        def estimator(distribution: Any, x: Tensor) -> Evidence:
            bounds, convergence = importance_curve(distribution, x, ks)
            # rows that overflow are asked for once more, on their own
            curve.update(bounds if not curve else {})
            top = bounds[most]
            return Evidence(top.value, top.kind, f"{top.how}; {convergence}", top.proper, top.stderr, top.measure)

        try:
            tightest = self.scores(self.dataset.observed("test"), estimator)
        except Unavailable:
            return {}
        return {**curve, most: tightest}

    def _by_label(self, k: int) -> dict[int, Evidence]:
        """The importance-weighted bound of every label's density in the sum over labels; empty where there is none."""
        estimator = lambda mixture, x: mixture.estimated(x, ImportanceWeighted(k))  # noqa: E731
        try:
            return {k: self._named(score(self.whole, self.dataset.observed("test"), estimator, seed=self.seed))}
        except Unavailable:
            return {}

    @property
    def tightest(self) -> Evidence:
        """Importance-weighted where the density is a proper bound, otherwise the density as it is."""
        return self.importance.get(self.request.importance, self.one)

    def scores(self, x: Tensor | Masked, estimator: Estimator | None = None, context: Tensor | None = None) -> Evidence:
        """Of all rows at once where an estimator has a memory setting of its own, otherwise in chunks."""
        return score(self.model, x, estimator, len(x) if estimator else 256, self.seed, context)

    @cached_property
    def typical(self) -> tuple[Callable[[Tensor], Tensor] | None, str]:
        """Rows -> a number that is high for typical ones, and its name: log-density, else minus an energy, else nothing."""
        if self.one.kind is not Kind.NONE:
            return lambda x: score(self.whole, x, seed=self.seed).value, f"{self.one.kind.value} log-density"
        try:
            minus_energy(self.whole, self.dataset.test[:2])
        except Unavailable:
            return None, self.one.how
        return lambda x: minus_energy(self.whole, x, len(x), self.seed), "minus the energy"

    @cached_property
    def sampling(self) -> Cost:
        """The samples and what they cost."""
        labels, lengths = self.drawn_labels, self.dataset.drawn_lengths(self.request.samples, self.seed)
        return spend(lambda: sample(self.model, self.request.samples, seed=self.seed, context=labels, lengths=lengths))

    @cached_property
    def drawn_labels(self) -> Tensor | None:
        """The labels that the samples were given; None for a model that takes none."""
        return drawn_labels(self.model, self.dataset, self.request.samples, self.seed)

    @cached_property
    def reference(self) -> Reference | Number:
        """The rows that the memorisation scores are relative to, in the feature space."""
        return reference(self.dataset, self.features)

    @property
    def drawn(self) -> Tensor:
        return self.sampling.result


def foreign_sets(dataset: Dataset, request: EvaluationSettings, seed: int) -> dict[str, Tensor]:
    """The named foreign sets that were asked for, otherwise the synthetic ones."""
    if not request.outliers:
        return outlier_sets(dataset, seed)
    return {name: foreign(dataset, name, load_data(name)) for name in request.outliers}


def under(name: str, panel: Panel) -> Panel:
    """A panel's numbers with `name` in front of their own."""
    return {f"{name}: {key}": number for key, number in panel.items()}


# -- the panels ----------------------------------------------------------------------------------------------------


def density_panel(it: Evaluation) -> Panel:
    """The tightest number, the one-draw number, the bound at each k; what a model that takes the label says given it."""
    space = it.dataset.space
    curve = {f"k = {k}": density_number(scores, space) for k, scores in it.importance.items()}
    cells = {"density": density_number(it.tightest, space), "bound": density_number(it.one, space), **curve}
    if it.conditional is not None:
        cells["conditional"] = density_number(it.conditional, space)
        step = step_number(it.conditional, it.dataset)
        cells |= {} if step is None else {"conditional_step": step}
    return with_steps(cells, it.tightest, it.dataset)


def generation_panel(it: Evaluation) -> Panel:
    """Samples against test rows."""
    labels = None if it.drawn_labels is None else it.drawn_labels.long()
    numbers = panel(it.dataset, it.drawn, it.features, it.seed, labels)
    numbers["prdc_density"] = numbers.pop("density")
    if "memorisation" in it.request.panels:
        numbers.pop("copying")  # the memorisation panel has it, against the rows that its null leaves
    return numbers


def memorisation_panel(it: Evaluation) -> Panel:
    """Samples against training rows, beside held-out rows."""
    return memorisation(it.dataset, it.drawn, it.features, it.seed, it.reference)


def probe_panel(it: Evaluation) -> Panel:
    """What the codes say of the labels, by one linear probe."""
    try:
        return {"probe": probe(it.dataset, lambda x: encode(it.model, x))}
    except Unavailable:
        return {"probe": absent("the model has no codes")}


def codes_panel(it: Evaluation) -> Panel:
    """Probes over five seeds beside pixels, PCA and a random encoder; scores of disentanglement where factors are known."""
    encoder = lambda x: encode(it.model, x)  # noqa: E731
    try:
        encoder(it.dataset.test[:2])
    except Unavailable:
        return {"codes": absent("the model has no codes")}
    cells = representation_panel(it.dataset, encoder, partial(_untrained_encoder, it), it.seed)
    if not it.dataset.factors:
        return {**cells, "mig": absent("the data have no known factors")}
    codes = torch.cat([encoder(x) for x in it.dataset.test.split(1000)])
    factors = it.dataset.factors["test"]
    return {
        **cells,
        **disentanglement(codes, factors, it.seed),
        **under("shuffled", chance(codes, factors, it.seed)),
    }


def _untrained_encoder(it: Evaluation, seed: int) -> Callable[[Tensor], Tensor]:
    """The random encoder of the model's own kind."""
    fresh = untrained(it.model, seed, it.dataset.train[:512])
    return lambda x: encode(fresh, x)


def hidden_panel(it: Evaluation) -> Panel:
    """What a latent-variable model does with its codes."""
    return latent_panel(it.model, it.dataset.test, it.seed, context=it.context)


def annealing_panel(it: Evaluation) -> Panel:
    """Annealed importance sampling on 32 random test rows, and both sides of log p(x) on simulated rows."""
    from genalloy.studies.annealing import annealing_numbers

    return annealing_numbers(it.model, it.dataset, it.seed)


def noise_cells(it: Evaluation) -> Panel:
    """The density at several noise scales."""
    if it.one.kind is Kind.NONE:
        return {"alarm": absent(it.one.how)}
    parts = noise_panel(it.dataset, lambda x: it.scores(x).value, it.seed)
    return {name: cell for part, numbers in parts.items() for name, cell in under(part, numbers).items()}


def outliers_panel(it: Evaluation) -> Panel:
    """AUROC of several scores against each named set; the first set's log-density (or energy) stands in the table."""
    typical, name = it.typical
    by_set = outlier_panel(it.dataset, typical, foreign_sets(it.dataset, it.request, it.seed), it.seed)
    if typical is None:
        return {"outliers": absent(name)}
    first = next(iter(by_set.values()))["auroc"].named(name)
    return {
        "outliers": first,
        **{key: cell for rows, numbers in by_set.items() for key, cell in under(rows, numbers).items()},
    }


def cost_panel(it: Evaluation) -> Panel:
    """Seconds, network evaluations, memory and size."""
    count, seconds = sum(p.numel() for p in it.model.parameters()), it.sampling.seconds * 1000 / it.request.samples
    few = drawn_labels(it.model, it.dataset, 2, it.seed)
    calls = evaluations(it.model, lambda: sample(it.model, 2, context=few))
    return {
        "sample_seconds": Number(seconds, None, it.request.samples, f"{it.request.samples} samples", unit="s"),
        "sample_evaluations": Number(calls, how="network calls for one batch, cached steps included"),
        "sample_memory": _megabytes(it.sampling, "sampling"),
        **_density_cost(it),
        "parameters": Number(count, how="of the model alone"),
    }


def _megabytes(spent: Cost, what: str) -> Number:
    return Number(spent.megabytes, how=f"peak resident while {what}", unit="MiB")


def _density_cost(it: Evaluation) -> Panel:
    """Seconds for 1,000 densities as density() gives them, and its network evaluations."""
    order = torch.randperm(len(it.dataset.test), generator=torch.Generator().manual_seed(it.seed))
    rows: Any = it.dataset.observed("test")[order[:TIMED_ROWS]]
    labels = None if it.context is None else it.context[order[:TIMED_ROWS]]
    spent = spend(lambda: it.scores(rows, None, labels))
    scores, seconds = spent.result, spent.seconds * 1000 / len(rows)
    if scores.kind is Kind.NONE:
        return {"density_seconds": absent(scores.how), "density_evaluations": absent(scores.how)}
    calls = evaluations(it.model, lambda: score(it.model, rows[:2], context=None if labels is None else labels[:2]))
    return {
        "density_seconds": Number(seconds, how=f"{len(rows)} random test rows, {scores.how}", unit="s"),
        "density_memory": _megabytes(spent, "scoring"),
        "density_evaluations": Number(calls, how="network calls for one batch"),
    }


def labels_panel(it: Evaluation) -> Panel:
    """What p(label | x) is worth: accuracy, calibration, likelihood; and whether samples are of the label they were given."""
    numbers = accuracy_panel(it.model, it.dataset, it.seed)
    if it.drawn_labels is None:
        return numbers
    return numbers | label_agreement(it.dataset, it.features, it.drawn, it.drawn_labels)


class Described(NamedTuple):
    """A panel's heading on the page, what makes its numbers, and whether it can be asked of a model that takes the label, and
    of rows of unequal lengths. here: whether it calls the model itself, which is on the CPU then.
    """

    title: str
    make: Callable[[Evaluation], Panel]
    given_labels: bool = False
    unequal: bool = False
    here: bool = False


PANELS = {
    "density": Described("Density", density_panel, True, True),
    "generation": Described("Samples", generation_panel, True, True),
    "memorisation": Described("Memorisation", memorisation_panel, True, True),
    "representation": Described("Codes", probe_panel),
    "outliers": Described("Outliers", outliers_panel, True),
    "accuracy": Described("Labels", labels_panel, True, here=True),
    "latent": Described("Hidden variables", hidden_panel, True, here=True),
    "codes": Described("Codes, over seeds", codes_panel, here=True),
    "noise": Described("Noise scales", noise_cells),
    "annealing": Described("Annealing", annealing_panel, here=True),
    "cost": Described("Cost", cost_panel, True, True),
}


def panels_of(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names, checked. Raises ValueError on an unknown one."""
    wrong = [name for name in names if name not in PANELS]
    if wrong:
        raise ValueError(f"there is no panel {wrong[0]!r}; expected some of {', '.join(PANELS)}")
    return names


@torch.no_grad()
def run_panels(it: Evaluation, listener: Callable[[str], None] = lambda words: None) -> dict[str, Panel]:
    """The numbers of every panel that was asked for, by the panel's name; `listener` hears what is being measured."""
    measured = {}
    for name in panels_of(it.request.panels):
        listener(f"measuring {PANELS[name].title.lower()}")
        described = PANELS[name]
        it.model.to("cpu" if described.here else it.device)
        refused = _refusal(described, it)
        measured[name] = {name: absent(refused)} if refused else _collapsed(described.make(it))
    return measured


def _refusal(described: Described, it: Evaluation) -> str:
    if conditional(it.model) and not described.given_labels:
        return GIVEN
    return PADDED if it.dataset.lengths and not described.unequal else ""


PADDED = "not measured on rows of unequal lengths"
GIVEN = "the model takes the label as its context, which is not known here"


def _collapsed(cells: Panel) -> Panel:
    """One line where every number is missing for the same reason; a column of the table keeps its own name."""
    reasons = {number.missing for number in cells.values()}
    name = next(iter(cells), "")
    return {name: cells[name]} if len(cells) > 2 and len(reasons) == 1 and "" not in reasons else cells
