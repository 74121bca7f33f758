r"""Does a generator copy its training rows? Four tests, each beside held-out rows (the null) and training rows (the control).

With :math:`d_T(x)` the distance to the nearest of *all* training rows and :math:`d_H(x)` that to the nearest held-out row:

* copying: :math:`P(d_T(f) < d_T(h)) + \frac12 P(=)` over samples f and held-out rows h (the global test of Meehan, Chaudhuri &
  Dasgupta, 2020, arXiv:2004.05675). 1/2 for fresh rows, 1 for copies of training rows; above 1/2 also for samples that are too
  typical.
* copying in cells, :math:`C_T` (ibid.): the same comparison as a Mann-Whitney z-score in cells of the training rows (k-means),
  averaged by the held-out mass :math:`P(\pi)` of the cells. Its error is that of fresh samples, so below -3 errors: copying,
  in some cells; above 3 errors: samples stray from the data.
* neighbour ratio: median of :math:`d_T(f) / d_H(f)`. Training rows are more, hence nearer: the null is below 1.
* authenticity (Alaa et al., 2022, arXiv:2102.08921): share of samples farther from their nearest training row t than t is from
  its own nearest neighbour among the training rows; 0 for copies.

No single one tells memorising from under-fitting (Stein et al., 2023, arXiv:2306.04675), so each is read against its null: the
test rows are split, one half plays the samples and the other is the held-out reference of everybody. The training rows are never
subsampled: a copy's original must be among them to be found.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genalloy.core.schema import Number, absent
from genalloy.data.dataset import Dataset
from genalloy.evaluation.auroc import auroc, share_below
from genalloy.evaluation.features import Features
from genalloy.evaluation.intervals import bootstrap, proportion
from genalloy.evaluation.metric import FEWEST, Panel, validate
from genalloy.evaluation.neighbours import Nearest, nearest, nearest_distance

MEMORISATION = ("copying", "copying_in_cells", "neighbour_ratio", "authenticity")
ROWS_PER_CELL = 50
"""Held-out rows for each cell, on average: what sets the number of cells, up to MOST_CELLS."""
MOST_CELLS = 20
FEWEST_IN_CELL = 10
"""Samples and held-out rows that a cell must hold to be compared."""
MOST = 5000
"""Samples that are judged, and held-out rows; training rows are never left out."""


# -- the tests, on distances ---------------------------------------------------------------------------------------


def copying(train: Tensor, test: Tensor, samples: Tensor) -> Number:
    r""":math:`P(d_T(f) < d_T(h)) + \tfrac12 P(=)`: chance that a sample is nearer to the training rows than a test row is.

    Meehan, Chaudhuri & Dasgupta, 2020, arXiv:2004.05675. train, test, samples: features (N, F) each. 1/2 for fresh rows. Absent
    for few rows or rows with NaN.
    """
    bad = validate(FEWEST, {"samples": samples, "references": test})
    if bad:
        return bad
    how = f"nearest of {len(train):,} training rows, against {len(test):,} test rows"
    return auroc(-nearest_distance(test, train), -nearest_distance(samples, train), how)


def mann_whitney(ours: Tensor, theirs: Tensor) -> float:
    """z-score of the rank-sum test, ties corrected: negative where ours (N,) are smaller than theirs (M,). 0 if all are equal."""
    n, m = len(ours), len(theirs)
    ties = torch.cat([ours, theirs]).unique(return_counts=True)[1].double()
    variance = (n + m + 1 - float((ties**3 - ties).sum()) / ((n + m) * (n + m - 1))) / (12 * n * m)
    share = share_below(theirs, ours).mean().item()
    return (share - 0.5) / math.sqrt(variance) if variance > 0 else 0.0


@dataclass(frozen=True)
class Reference:
    """What every row of the memorisation table shares: features (N, F), their cells and nearest training rows.

    train: all training rows. held_out: half of the test rows; null: the other half. cells: k-means over the training rows.
    """

    train: Tensor
    held_out: Tensor
    null: Tensor
    cells: Any
    to_train: Tensor

    def copying(self, nearest_row: Nearest) -> Number:
        r""":math:`P(d_T(f) < d_T(h)) + \tfrac12 P(=)`, from the samples' nearest training rows (N,)."""
        how = f"nearest of {len(self.train):,} training rows, against {len(self.held_out):,} held-out rows; 0.5 for fresh rows"
        return auroc(-self.to_train, -nearest_row.distance, how)

    def copying_in_cells(self, samples: Tensor, nearest_row: Nearest) -> Number:
        """:math:`C_T`, over cells that hold at least 10 samples and 10 held-out rows; its error is that of fresh samples.

        samples: features (N, F). A mean z-score, negative for copying (Meehan, Chaudhuri & Dasgupta, 2020, arXiv:2004.05675).
        Absent where no cell holds enough.
        """
        ours, theirs = (torch.from_numpy(self.cells.predict(rows.numpy())).long() for rows in (samples, self.held_out))
        k = self.cells.n_clusters
        enough = [c for c in range(k) if min((ours == c).sum(), (theirs == c).sum()) >= FEWEST_IN_CELL]
        mass = theirs.bincount(minlength=k).double()[enough]
        if not enough:
            return absent(f"no cell of the training rows holds {FEWEST_IN_CELL} samples and {FEWEST_IN_CELL} held-out rows")
        scores = torch.tensor([mann_whitney(nearest_row.distance[ours == c], self.to_train[theirs == c]) for c in enough])
        weights = mass / mass.sum()
        left = 1 - float(mass.sum()) / len(theirs)
        how = f"mean z-score in {len(enough)} of {k} cells, {left:.0%} of held-out rows outside them; below -3 errors: copying"
        return Number(float(weights @ scores.double()), weights.norm().item(), len(samples), how)

    def neighbour_ratio(self, samples: Tensor, nearest_row: Nearest) -> Number:
        """Median of :math:`d_T(f) / d_H(f)` over samples (N, F); 1 where both are zero."""
        there = nearest_distance(samples, self.held_out)
        ratio = torch.where((nearest_row.distance == 0) & (there == 0), 1.0, nearest_row.distance / there)
        how = f"median distance to {len(self.train):,} training rows over that to {len(self.held_out):,} held-out rows"
        return bootstrap(ratio, Number(ratio.median().item(), None, len(samples), how))

    def authenticity(self, nearest_row: Nearest) -> Number:
        """Share of samples farther from their training row than that row is from its own nearest neighbour.

        Alaa et al., 2022, arXiv:2102.08921.
        """
        hit, place = nearest_row.where.unique(return_inverse=True)
        own = nearest(self.train[hit], self.train, skip_self=True).distance
        share = (nearest_row.distance > own[place]).double().mean().item()
        return proportion(share, len(nearest_row.where), f"farther from a training row than its nearest of {len(self.train):,}")

    def judge(self, samples: Tensor) -> Panel:
        """All four tests of features (N, F)."""
        nearest_row = nearest(samples, self.train)
        return {
            "copying": self.copying(nearest_row),
            "copying_in_cells": self.copying_in_cells(samples, nearest_row),
            "neighbour_ratio": self.neighbour_ratio(samples, nearest_row),
            "authenticity": self.authenticity(nearest_row),
        }


# -- panels --------------------------------------------------------------------------------------------------------


def reference(dataset: Dataset, features: Features, seed: int = 0) -> Reference | Number:
    """Features of the training rows and of both halves of the test rows; absent below 40 test rows."""
    if len(dataset.test) < 2 * FEWEST:
        return absent(f"needs at least {2 * FEWEST:,} test rows, half of them as a null; found {len(dataset.test):,}")
    order = torch.randperm(len(dataset.test), generator=torch.Generator().manual_seed(seed))
    train, test = features(dataset.train), features(dataset.test[order[: 2 * MOST]])
    bad = validate(FEWEST, {"training rows": train, "references": test})
    if bad:
        return bad
    half = len(test) // 2
    held_out = test[half:]
    return Reference(train, held_out, test[:half], _cells(train, len(held_out), seed), nearest_distance(held_out, train))


def _cells(train: Tensor, rows: int, seed: int) -> Any:
    """k-means over all training rows, with cells large enough for `rows` held-out rows to be compared inside them."""
    from sklearn.cluster import KMeans

    k = max(1, min(MOST_CELLS, rows // ROWS_PER_CELL, len(train)))
    return KMeans(k, n_init=1, max_iter=50, random_state=seed).fit(train.numpy())


def memorisation(
    dataset: Dataset, samples: Tensor, features: Features, seed: int = 0, known: Reference | Number | None = None
) -> Panel:
    r"""The four tests of samples (N, \*E), at most 5,000 by the seed, against all training rows and half of the test rows.

    known: the `reference` of the same data, features and seed, where several generators are judged.
    """
    bad = validate(FEWEST, {"samples": samples})
    if bad:
        return dict.fromkeys(MEMORISATION, bad)
    held = known or reference(dataset, features, seed)
    if isinstance(held, Number):
        return dict.fromkeys(MEMORISATION, held)
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(seed))[:MOST]
    return {name: value.named(features.name) for name, value in held.judge(features(samples[order])).items()}


def memorisation_controls(
    dataset: Dataset, features: Features, seed: int = 0, known: Reference | None = None
) -> dict[str, Panel]:
    """The same tests of "held-out rows" (the other half of the test rows: the null) and of training rows as samples."""
    held = known or reference(dataset, features, seed)
    if isinstance(held, Number):
        return {name: dict.fromkeys(MEMORISATION, held) for name in ("held-out rows", "memorisation baseline")}
    drawn = torch.randint(len(held.train), (len(held.null),), generator=torch.Generator().manual_seed(seed))
    rows = {"held-out rows": held.null, "memorisation baseline": held.train[drawn]}
    return {name: {m: v.named(features.name) for m, v in held.judge(codes).items()} for name, codes in rows.items()}
