r"""Does each code dimension stand for one known factor? Five scores, by estimators that are pinned here.

Codes :math:`z_i` are cut into 20 bins of equal width, factors :math:`v_j` are integers, and mutual informations are those of the
counts, :math:`I(z_i; v_j) = \sum p(z, v) \log \frac{p(z, v)}{p(z) p(v)}`; nothing depends on another library's defaults, except
the forest of DCI, whose settings are written out.

* MIG (Chen et al., 2018, arXiv:1802.04942): :math:`\frac1F \sum_j (I_{(1)j} - I_{(2)j}) / H(v_j)`, the gap between the two
  dimensions that know most.
* Modularity (Ridgeway & Mozer, 2018, arXiv:1802.05312): :math:`1 - \sum_{j \ne j^*} I_{ij}^2 / (I_{ij^*}^2 (F - 1))`, averaged
  over i.
* SAP (Kumar et al., 2018, arXiv:1711.00848): the same gap for the balanced accuracy of naming :math:`v_j` from the bin of
  :math:`z_i` alone, fitted on one half of the rows, read on the other, rescaled so that guessing is 0 and knowing is 1.
* DCI (Eastwood & Williams, 2018): importances :math:`R_{ij}` of :math:`z_i` in a random forest for :math:`v_j`. Disentanglement
  :math:`\sum_i \rho_i (1 - H_F(P_{i\cdot}))`, completeness the mean over j of :math:`1 - H_Z(\tilde P_{\cdot j})`, where rows of
  P and columns of :math:`\tilde P` sum to 1, H has the base of its number of outcomes and :math:`\rho_i` is the share of
  dimension i in all importance; informativeness is the forest's accuracy on held-out rows.
* FactorVAE (Kim & Mnih, 2018, arXiv:1802.05983): hold one factor fixed, name it from the dimension with the smallest variance
  relative to the whole, by majority vote. Nothing can be generated here, so "fixed" is conditioning on given rows: draw a factor,
  then one of its values in proportion to its rows, then 64 rows with that value (with replacement); values with fewer than 10
  rows are left out.

What says nothing does not score 0 everywhere: for codes that are independent of the factors MIG, SAP, D and C come near 0 (a
little above, by the noise of finite rows), informativeness is the share of the commonest value, FactorVAE is 1/F, and modularity
depends on the factors' numbers of values. So `chance` scores the same codes after shuffling their rows. Dimensions whose variance
is below 0.01 are inactive (Burda et al., 2016, arXiv:1509.00519, for mean codes under a unit prior); keys that end in "_active"
leave them out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genalloy.core.schema import Number, absent
from genalloy.evaluation.intervals import proportion
from genalloy.evaluation.metric import Panel, validate

BINS = 20
FEWEST = 200
MOST_ROWS = 10_000
BLOCKS = 10
"""Of the jackknife: tenths of the rows."""
VOTES, GROUP, FEWEST_IN_GROUP = 1000, 64, 10
"""Of FactorVAE: groups to fit (and as many to read), rows in each, and rows that a value must have to be fixed."""
REPEATS, TREES, DEPTH, FOREST_ROWS = 3, 20, 12, 5_000
"""Of DCI: draws of the rows, and the settings of a forest with the most rows it sees."""
INACTIVE = 0.01
"""Variance of a code dimension below which it does not count as active."""
NOTHING = 1e-12
"""Nats: rounding of an information that is zero."""
KEYS = ("mig", "modularity", "sap", "factor_vae", "dci_disentanglement", "dci_completeness", "dci_informativeness")
PRUNED = tuple(f"{key}_active" for key in KEYS[:-1])


def disentanglement(codes: Tensor, factors: Tensor, seed: int = 0) -> Panel:
    r"""Panel of KEYS, the same for active dimensions alone (PRUNED) and "active_units"; all but the last between 0 and 1.

    codes (N, \*Z): deterministic, for instance posterior means; factors (N, F): integer values. At most 10,000 rows are used,
    chosen by the seed. Absent for fewer than 200 rows, codes with NaN, a single factor or dimension, a factor of one value.
    """
    z, v = codes.detach().flatten(1).double(), factors.long()
    bad = _refusal(z, v)
    if bad:
        return dict.fromkeys((*KEYS, *PRUNED, "active_units"), bad)
    rows = torch.randperm(len(z), generator=torch.Generator().manual_seed(seed))[:MOST_ROWS]
    z, v = z[rows], torch.stack([column.unique(return_inverse=True)[1] for column in v[rows].T], 1)
    active = z.var(0) > INACTIVE
    panel = _scores(z, v, seed)
    pruned: Panel = panel if bool(active.all()) else _pruned(z[:, active], v, seed)
    how = f"of {z.shape[1]} dimensions with variance above {INACTIVE}"
    units = Number(float(active.sum()), None, len(z), how)
    return {**panel, **{f"{key}_active": pruned[key] for key in KEYS[:-1]}, "active_units": units}


def chance(codes: Tensor, factors: Tensor, seed: int = 0) -> Panel:
    """`disentanglement` of the codes with their rows shuffled: what codes of this shape score by saying nothing."""
    order = torch.randperm(len(codes), generator=torch.Generator().manual_seed(seed + 1))
    shuffled = disentanglement(codes[order], factors, seed)
    return {key: result.named("shuffled codes") for key, result in shuffled.items()}


def _refusal(z: Tensor, v: Tensor) -> Number | None:
    if v.dim() != 2 or len(v) != len(z):
        raise ValueError(f"factors of shape {tuple(v.shape)} for {len(z):,} codes; expected (N, F), one row for each code")
    if v.shape[1] < 2:
        return absent(f"needs at least 2 factors; found {v.shape[1]}")
    constant = [str(j) for j in range(v.shape[1]) if len(v[:, j].unique()) < 2] if len(v) else []
    if constant:
        return absent(f"factor {constant[0]} has a single value")
    return _few_dimensions(z) or validate(FEWEST, {"codes": z})


def _few_dimensions(z: Tensor) -> Number | None:
    return absent(f"needs at least 2 code dimensions; found {z.shape[1]}") if z.shape[1] < 2 else None


def _pruned(z: Tensor, v: Tensor, seed: int) -> Panel:
    few = _few_dimensions(z)
    return dict.fromkeys(KEYS, absent(f"{few.reason} active")) if few else _scores(z, v, seed)


def _scores(z: Tensor, v: Tensor, seed: int) -> Panel:
    bins, sizes = binned(z), [int(column.max()) + 1 for column in v.T]
    information = _by_block(bins, v, sizes)
    gap = "gap of mutual information over entropy, 20 bins of equal width"
    return {
        "mig": _jackknife(information, _mig, len(z), gap),
        "modularity": _jackknife(information, _modularity, len(z), "by mutual information, 20 bins of equal width"),
        "sap": _sap(bins, v, sizes, seed),
        "factor_vae": _factor_vae(z, v, seed),
        **_dci(z, v, seed),
    }


# -- by counts -----------------------------------------------------------------------------------------------------


def binned(z: Tensor, bins: int = BINS) -> Tensor:
    """Bin (N, Z) int64 of each code, equal widths between its smallest and largest value."""
    low, high = z.amin(0), z.amax(0)
    return ((z - low) / (high - low).clamp_min(1e-300) * bins).long().clamp(0, bins - 1)


def counts(a: Tensor, b: Tensor, na: int, nb: int) -> Tensor:
    """How often a (N,) and b (N,) take each pair of values: (na, nb) float64."""
    return torch.bincount(a * nb + b, minlength=na * nb).reshape(na, nb).double()


def mutual_information(table: Tensor) -> Tensor:
    r""":math:`I = H(a) + H(c) - H(a, c)`, nats, (\*B), of the joint distribution that counts (\*B, A, C) stand for."""
    joint = table / table.sum((-2, -1), keepdim=True)
    return (_entropy(joint.sum(-1)) + _entropy(joint.sum(-2)) - _entropy(joint.flatten(-2))).clamp_min(0)


def _entropy(p: Tensor) -> Tensor:
    """Over the last axis, in nats."""
    return -torch.special.xlogy(p, p).sum(-1)


Information = tuple[Tensor, Tensor]


def _by_block(bins: Tensor, v: Tensor, sizes: list[int]) -> list[Information]:
    """(mutual information (Z, F), factor entropies (F,)) of all rows, then with each tenth of the rows left out."""
    edges = [len(bins) * i // BLOCKS for i in range(BLOCKS + 1)]
    blocks = [slice(a, b) for a, b in pairwise(edges)]
    stacked = [[torch.stack([counts(z[s], v[s, j], BINS, k) for s in blocks]) for j, k in enumerate(sizes)] for z in bins.T]
    less = [[torch.cat([t.sum(0, keepdim=True), t.sum(0) - t]) for t in row] for row in stacked]
    information = torch.stack([torch.stack([mutual_information(t) for t in row], -1) for row in less], -2)
    entropies = torch.stack([_entropy(t.sum(1) / t.sum((1, 2))[:, None]) for t in less[0]], -1)
    return list(zip(information, entropies, strict=True))


def _jackknife(blocks: list[Information], score: Callable[[Tensor, Tensor], float], n: int, how: str) -> Number:
    """The score of all rows; its error from leaving out a tenth at a time."""
    whole, *parts = (score(*block) for block in blocks)
    left = torch.tensor(parts, dtype=torch.float64)
    error = math.sqrt((BLOCKS - 1) * left.var(correction=0).item())
    return Number(whole, error, n, how)


def _mig(information: Tensor, entropies: Tensor) -> float:
    top = information.topk(2, 0).values
    return ((top[0] - top[1]) / entropies.clamp_min(1e-12)).mean().item()


def _modularity(information: Tensor, entropies: Tensor) -> float:
    """Dimensions that know nothing at all (zero information) count as 0."""
    square = information.square()
    most = square.amax(1)
    rest = (square.sum(1) - most) / (most.clamp_min(1e-300) * (information.shape[1] - 1))
    return torch.where(most > NOTHING**2, 1 - rest, 0.0).mean().item()


def _sap(bins: Tensor, v: Tensor, sizes: list[int], seed: int) -> Number:
    order = torch.randperm(len(bins), generator=torch.Generator().manual_seed(seed))
    fit, read = order.chunk(2)
    scores = torch.tensor([[_skill(z, v[:, j], k, fit, read) for j, k in enumerate(sizes)] for z in bins.T])
    top = scores.topk(2, 0).values
    how = "gap of balanced accuracy above guessing, from 20 bins, fitted to one half of the rows and read on the other"
    return Number((top[0] - top[1]).mean().item(), None, len(bins), how)


def _skill(bins: Tensor, v: Tensor, values: int, fit: Tensor, read: Tensor) -> float:
    """Balanced accuracy of the likeliest value given the bin, 0 for guessing and 1 for knowing."""
    seen = counts(bins[fit], v[fit], BINS, values)
    answer = (seen / seen.sum(0).clamp_min(1)).argmax(1)
    table = counts(answer[bins[read]], v[read], values, values)
    present = table.sum(0) > 0
    recall = (table.diag() / table.sum(0).clamp_min(1))[present].mean().item()
    return (recall - 1 / values) / (1 - 1 / values)


# -- FactorVAE -----------------------------------------------------------------------------------------------------


def _factor_vae(z: Tensor, v: Tensor, seed: int) -> Number:
    generator = torch.Generator().manual_seed(seed)
    spread = z.std(0)
    if not bool((spread > 0).any()):
        return absent("no code dimension varies")
    scaled, total = z[:, spread > 0] / spread[spread > 0], 2 * VOTES
    factor = torch.randint(v.shape[1], (total,), generator=generator)
    least = torch.empty(total, dtype=torch.int64)
    for j in range(v.shape[1]):
        mine = (factor == j).nonzero().flatten()
        groups = _groups(v[:, j], len(mine), generator)
        if groups is None:
            return absent(f"needs at least {FEWEST_IN_GROUP} rows with one value of factor {j}")
        least[mine] = scaled[groups].var(1).argmin(1)
    votes = counts(least[:VOTES], factor[:VOTES], scaled.shape[1], v.shape[1]).argmax(1)
    share = (votes[least[VOTES:]] == factor[VOTES:]).double().mean().item()
    how = f"majority vote of {VOTES} groups of {GROUP} rows, read on as many; guessing gives {1 / v.shape[1]:.2g}"
    return proportion(share, VOTES, how)


def _groups(values: Tensor, n: int, generator: torch.Generator) -> Tensor | None:
    """Rows (n, GROUP) that share a value within each group; None where no value has enough rows."""
    order, sizes = values.argsort(), torch.bincount(values)
    starts = sizes.cumsum(0) - sizes
    weights = torch.where(sizes >= FEWEST_IN_GROUP, sizes, 0).double()
    if not weights.any():
        return None
    value = torch.multinomial(weights, n, replacement=True, generator=generator) if n else torch.empty(0, dtype=torch.int64)
    within = torch.rand(n, GROUP, generator=generator, dtype=torch.float64) * sizes[value].unsqueeze(1)
    return order[starts[value].unsqueeze(1) + within.long()]


# -- DCI -----------------------------------------------------------------------------------------------------------


def _dci(z: Tensor, v: Tensor, seed: int) -> Panel:
    """Three draws of the rows, a forest for each factor; mean over the draws and its error."""
    runs = torch.tensor([_dci_once(z, v, seed + repeat) for repeat in range(REPEATS)], dtype=torch.float64)
    common = f"random forests, {TREES} trees of depth {DEPTH}, error over {REPEATS} draws of the rows"
    guess = torch.stack([torch.bincount(column).max() / len(v) for column in v.T]).mean().item()
    words = ("", "", f"; mean accuracy over factors, guessing gives {guess:.2g}")
    return {
        key: Number(values.mean().item(), values.std().item() / math.sqrt(REPEATS), min(len(z), FOREST_ROWS), common + more)
        for key, values, more in zip(KEYS[-3:], runs.T, words, strict=True)
    }


def _dci_once(z: Tensor, v: Tensor, seed: int) -> list[float]:
    """Disentanglement, completeness, informativeness; four fifths of the rows to fit, one to read."""
    order = torch.randperm(len(z), generator=torch.Generator().manual_seed(seed))[:FOREST_ROWS]
    fit, read = order[len(order) // 5 :], order[: len(order) // 5]
    forests = [_forest(z[fit].numpy(), column[fit].numpy(), seed) for column in v.T]
    unseen = z[read].numpy()
    accuracy = float(np.mean([forest.score(unseen, column[read].numpy()) for forest, column in zip(forests, v.T, strict=True)]))
    importance = torch.from_numpy(np.stack([forest.feature_importances_ for forest in forests], 1))
    return [*disentangled_and_complete(importance), accuracy]


def _forest(z: Any, value: Any, seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    # every dimension is offered at every split: a random subset would credit useless dimensions for lack of better ones
    return RandomForestClassifier(
        TREES,
        criterion="gini",
        max_depth=DEPTH,
        min_samples_leaf=2,
        max_features=None,
        bootstrap=True,
        n_jobs=1,
        random_state=seed,
    ).fit(z, value)


def disentangled_and_complete(importance: Tensor) -> tuple[float, float]:
    """Eastwood & Williams' D and C, see the module, of importances R (Z, F); each from 0 to 1."""
    importance, (dimensions, factors) = importance.double(), importance.shape
    rows, columns = importance.sum(1, keepdim=True), importance.sum(0, keepdim=True)
    one_factor = 1 - _entropy(importance / rows.clamp_min(1e-300)) / math.log(factors)
    one_dimension = 1 - _entropy((importance / columns.clamp_min(1e-300)).T) / math.log(dimensions)
    share = rows.squeeze(1) / rows.sum().clamp_min(1e-300)
    return (share * one_factor).sum().item(), one_dimension.mean().item()
