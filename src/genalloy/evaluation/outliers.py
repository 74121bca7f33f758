r"""Which scores point at outliers? AUROC against several named sets, each beside what mere complexity achieves.

Likelihoods are known to rank some foreign data above their own (Nalisnick et al., 2019a, arXiv:1810.09136), because :math:`-\log
p(x)` follows the complexity of x (Serrà et al., 2020, arXiv:1909.11480). So no number stands without the name of its set, nor
without that of the compressed length alone. All scores are larger for rows that look foreign; with L(x) the compressed length in
bits,

* ``auroc``: :math:`-\log p(x)`;
* ``typicality``: :math:`|\log p(x) - \hat m|`, with :math:`\hat m` the mean of log p over validation rows; ``typicality_10``:
  the same for the mean of ten rows of one kind (Nalisnick et al., 2019b, arXiv:1906.02994, whose test is for batches);
* ``likelihood_ratio``: :math:`\log p_0(x) - \log p(x)` against a background (Ren et al., 2019, arXiv:1906.02845): the same kind
  of model trained on mutated rows (`mutated`), by default independent entries;
* ``complexity_corrected``: :math:`-\log_2 p(x) - L(x)` (Serrà et al. 2020);
* ``complexity``: L(x) alone, no model at all.

An AUROC a below 1/2 separates as well as 1 - a does, with the sign turned; so a corrected score has added something only where
it exceeds both L(x) alone and its opposite. None changes when a constant is added to log p: minus an energy serves as well.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genalloy.core.schema import Number, absent
from genalloy.data.dataset import Dataset
from genalloy.evaluation.auroc import FEWEST, auroc
from genalloy.evaluation.independent_marginals import Score, independent_entries
from genalloy.evaluation.metric import Panel

TOGETHER = 10
"""Rows of a group whose mean log p is judged."""
MODEL_KEYS = ("auroc", "typicality", f"typicality_{TOGETHER}", "likelihood_ratio", "complexity_corrected")
NO_BYTES = "compressed length needs data on levels"
NO_MODEL = "the model gives neither a log-density nor an energy"


# -- named sets ----------------------------------------------------------------------------------------------------


def outlier_sets(dataset: Dataset, seed: int = 0) -> dict[str, Tensor]:
    r"""Named sets (N, \*E) of outliers, as many rows as the test set.

    On levels: the test rows with their entries shuffled (each row on its own), uniform levels, and flat rows (one level
    throughout: simpler than the data, where the others are more complex). Over columns and reals: each entry uniform between
    the smallest and largest training value, on the grid where there is one; and test rows that swap entries among themselves
    (each entry's own distribution is right, their dependence is gone).
    """
    generator = torch.Generator().manual_seed(seed)
    test, space = dataset.test, dataset.space
    if space.levels is not None:
        order = torch.rand(len(test), space.dims, generator=generator).argsort(1)
        shuffled = test.flatten(1).gather(1, order).reshape(test.shape)
        noise = torch.randint(space.levels, test.shape, generator=generator).float()
        flat = torch.randint(space.levels, (len(test), *[1] * len(space.shape)), generator=generator)
        return {"shuffled entries": shuffled, "uniform noise": noise, "flat rows": flat.float().expand(test.shape).clone()}
    box = {"uniform box": _box(dataset, generator)}
    if space.dims < 2:
        return box
    order = torch.rand(len(test), space.dims, generator=generator).argsort(0)
    return {**box, "swapped entries": test.flatten(1).gather(0, order).reshape(test.shape)}


def _box(dataset: Dataset, generator: torch.Generator) -> Tensor:
    flat, space = dataset.train.flatten(1), dataset.space
    low, high, shape = flat.amin(0), flat.amax(0), (len(dataset.test), space.dims)
    box = low + (high - low) * torch.rand(shape, generator=generator)
    grid = torch.as_tensor(space.discrete).expand(space.dims)
    whole = low + torch.floor((high - low + 1) * torch.rand(shape, generator=generator))
    return torch.where(grid, whole.minimum(high), box).reshape(dataset.test.shape)


def foreign(dataset: Dataset, name: str, source: Any) -> Tensor:
    """Rows of another Dataset (its test part), array, frame or tensor as outliers for `dataset`. Raises ValueError."""
    other = getattr(source, "space", None)
    reason = dataset.space.comparable(other) if other is not None else None
    if reason is None:
        try:
            return dataset.admit(source) if other is None else source.stored_as(dataset.space, dataset.form).test
        except ValueError as error:
            reason = str(error)
    raise ValueError(f"the outlier set {name!r} does not fit the data: {reason}; encode it as the data were, see dataset.admit")


def mutated(dataset: Dataset, rate: float = 0.2, seed: int = 0) -> Dataset:
    """The data with a share `rate` of training and validation entries redrawn: what Ren et al.'s background model learns.

    Ren et al., 2019, arXiv:1906.02845. Levels are redrawn uniformly, other entries from the training rows' own distribution of
    that entry.
    """
    generator = torch.Generator().manual_seed(seed)
    train, validation = (_mutate(part, dataset, rate, generator) for part in (dataset.train, dataset.validation))
    return replace(dataset, name=f"{dataset.name}, {rate:g} mutated", train=train, validation=validation)


def _mutate(x: Tensor, dataset: Dataset, rate: float, generator: torch.Generator) -> Tensor:
    chosen = torch.rand(x.shape, generator=generator) < rate
    if dataset.space.levels is not None:
        return torch.where(chosen, torch.randint(dataset.space.levels, x.shape, generator=generator).float(), x)
    rows = torch.randint(len(dataset.train), (len(x), dataset.space.dims), generator=generator)
    return torch.where(chosen, dataset.train.flatten(1).gather(0, rows).reshape(x.shape), x)


# -- what needs no model -------------------------------------------------------------------------------------------


def complexity(x: Tensor, levels: int) -> Tensor:
    r"""Length in bytes (N,) of each row (N, \*E) of levels, compressed by zlib: one byte an entry (two beyond 256 levels)."""
    array = x.round().numpy().astype(np.uint8 if levels <= 256 else np.uint16)
    return torch.tensor([len(zlib.compress(row.tobytes(), 9)) for row in array], dtype=torch.float64)


# -- the panel -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Facts:
    """What the scores of one set of rows are made of, each (N,): log p, log p0, bytes; log_p is None without a model."""

    log_p: Tensor | None
    background: Tensor
    length: Tensor | None


def outlier_panel(
    dataset: Dataset,
    log_p: Score | None,
    outliers: dict[str, Any] | None = None,
    seed: int = 0,
    background: Score | None = None,
    scores: dict[str, Score] | None = None,
) -> dict[str, Panel]:
    r"""{set name: {"auroc": ..., "typicality": ..., ..., "complexity": ...}}, AUROC of test rows against each set.

    log_p: (N, \*E) -> (N,), high for typical rows, up to a constant: a log-density, its bound, or minus an energy. None where
    there is none: only "complexity" and `scores` are then filled.

    outliers: name -> rows, array, frame or Dataset of the same space; `outlier_sets` by default. background: log p0 of the
    likelihood ratio; independent entries of the training rows by default. scores: further scores by name, larger for foreign
    rows: reconstruction errors, norms of a score.

    Raises ValueError for a set of another space.
    """
    sets = outlier_sets(dataset, seed) if outliers is None else {n: foreign(dataset, n, rows) for n, rows in outliers.items()}
    ratio = ("log-density of independent entries", independent_entries(dataset.space, dataset.train))
    how, base = ("the given background", background) if background else ratio
    look = _Look(dataset, log_p, how, base, log_p(dataset.validation).double() if log_p else torch.empty(0))
    own, more = look.facts(dataset.test), scores or {}
    inside = {name: score(dataset.test) for name, score in more.items()}
    panels = {}
    for name, rows in sets.items():
        where = f"test rows against {name}"
        panels[name] = {
            **look.compare(own, look.facts(rows), where, seed),
            **{key: auroc(inside[key], score(rows), f"{key}, {where}") for key, score in more.items()},
        }
    return panels


@dataclass(frozen=True)
class _Look:
    """A model, its background, and its log p of validation rows: turns rows into facts, and two sets of facts into AUROCs."""

    dataset: Dataset
    log_p: Score | None
    background_name: str
    background: Score
    reference: Tensor

    def facts(self, rows: Tensor) -> _Facts:
        levels = self.dataset.space.levels
        length = None if levels is None else complexity(rows, levels)
        return _Facts(None if self.log_p is None else self.log_p(rows).double(), self.background(rows).double(), length)

    def compare(self, inside: _Facts, outside: _Facts, where: str, seed: int) -> Panel:
        """AUROC of every score."""
        lengths = inside.length, outside.length
        alone = _pair(lengths, f"zlib length alone, {where}", NO_BYTES)
        if inside.log_p is None or outside.log_p is None:
            return {**dict.fromkeys(MODEL_KEYS, absent(NO_MODEL)), "complexity": alone}
        own, other = inside.log_p, outside.log_p
        corrected = _corrected(inside), _corrected(outside)
        ratio = inside.background - own, outside.background - other
        return {
            "auroc": auroc(-own, -other, f"-log p, {where}"),
            **self._typicality(own, other, where, seed),
            "likelihood_ratio": auroc(*ratio, f"{self.background_name} minus log p, {where}"),
            "complexity_corrected": _pair(corrected, f"-log2 p minus zlib length in bits, {where}", NO_BYTES),
            "complexity": alone,
        }

    def _typicality(self, own: Tensor, other: Tensor, where: str, seed: int) -> Panel:
        """Per row, and for disjoint random groups of rows."""
        keys = MODEL_KEYS[1:3]
        reference, finite = self.reference, int(self.reference.isfinite().sum())
        if finite < max(FEWEST, len(reference)):
            size = f"found {finite:,} of {len(reference):,}"
            return dict.fromkeys(keys, absent(f"needs at least {FEWEST} validation rows, all of finite log p; {size}"))
        centre, generator = reference.mean(), torch.Generator().manual_seed(seed)
        how = f"|log p - its mean over {len(reference):,} validation rows|"
        inside, outside = ((_grouped(rows, generator) - centre).abs() for rows in (own, other))
        return {
            keys[0]: auroc((own - centre).abs(), (other - centre).abs(), f"{how}, {where}"),
            keys[1]: auroc(inside, outside, f"{how}, means of {TOGETHER} rows, {where}"),
        }


def _corrected(facts: _Facts) -> Tensor | None:
    return None if facts.length is None or facts.log_p is None else -facts.log_p / math.log(2) - 8 * facts.length


def _pair(scores: tuple[Tensor | None, ...], how: str, reason: str) -> Number:
    inside, outside = scores
    return absent(reason) if inside is None or outside is None else auroc(inside, outside, how)


def _grouped(values: Tensor, generator: torch.Generator) -> Tensor:
    """Means of disjoint groups of rows in random order: files may be sorted by class."""
    kept = values[torch.randperm(len(values), generator=generator)]
    return kept[: len(values) // TOGETHER * TOGETHER].reshape(-1, TOGETHER).mean(1)
