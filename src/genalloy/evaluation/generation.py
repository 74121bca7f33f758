r"""How samples compare with held-out rows, in a named feature space.

* Fréchet distance between Gaussian fits (Dowson & Landau 1982; Heusel et al. 2017 in Inception features):
  :math:`|\mu_a - \mu_b|^2 + \mathrm{tr}(\Sigma_a + \Sigma_b - 2 (\Sigma_a^{1/2} \Sigma_b \Sigma_a^{1/2})^{1/2})`.
  Biased upwards at finite n, so it is read against the floors at the same n.
* Kernel distance (Bińkowski, Sutherland, Arbel & Gretton 2018): the unbiased estimate of
  :math:`\mathrm{MMD}^2 = \mathbb E k(a, a') + \mathbb E k(b, b') - 2 \mathbb E k(a, b)` with
  the cubic kernel :math:`k(a, b) = (a^\top b / F + 1)^3`,
  or Gaussian kernels in few dimensions; it is zero on average for equal laws, and may be negative.
  Its standard error is the delete-one jackknife over both sets, from the row sums of the kernel; near zero it errs upwards.
* Precision, recall (Kynkäänniemi et al. 2019), density, coverage (Naeem et al. 2020): balls reach to the k-th neighbour.
* Copying (after Meehan, Chaudhuri & Dasgupta 2020): the chance that a sample lies nearer to the training rows than a test row
  does. 1/2 for fresh rows, 1 for a copycat; above 1/2 also for samples that are too typical, so it is a flag, no verdict.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from genalloy.data.dataset import Dataset
from genalloy.evaluation.auroc import auroc
from genalloy.evaluation.features import Features
from genalloy.evaluation.metric import Metric, Missing, Panel, Result, mean_of, trouble

TILE = 2**18
MOST = 5000
FEWEST = 20
NEIGHBOURS = 5
TOUCH = 1e-10
FEW_FEATURES = 8


# -- Fréchet -------------------------------------------------------------------------------------------------------


def frechet(a: Tensor, b: Tensor) -> Result:
    """Fréchet distance between Gaussians fitted to features (N, F) and (M, F); Missing below F + 2 rows."""
    bad = trouble(max(FEWEST, a.shape[1] + 2), {"samples": a, "references": b})
    if bad:
        return bad
    a, b = a.double(), b.double()
    return Metric(
        gaussian_frechet(a.mean(0), _covariance(a), b.mean(0), _covariance(b)), None, min(len(a), len(b)),
        f"{a.shape[1]} features, Gaussian fits; biased upwards at this n",
    )  # fmt: skip


def gaussian_frechet(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> float:
    """The closed form, by symmetric eigendecompositions: no complex square roots for singular covariances."""
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp_min(0).sqrt().sum()
    distance = (mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross
    return max(distance.item(), 0.0)


def _covariance(x: Tensor) -> Tensor:
    return torch.cov(x.T).reshape(x.shape[1], -1)


# -- kernel distance -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cubic:
    """k(a, b) = (a.b / F + 1)^3: compares moments up to the third, which is enough only in rich feature spaces."""

    name: str = "cubic kernel"

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        base = a @ b.T / a.shape[1] + 1
        return base * base * base

    def diagonal(self, a: Tensor) -> Tensor:
        return (a.square().sum(1) / a.shape[1] + 1) ** 3


@dataclass(frozen=True)
class Gaussians:
    """k(a, b) = mean over widths s = 1, 1/2, 1/4, 1/8 of exp(-|a - b|^2 / 2 s^2 F): tells any two laws apart."""

    name: str = "Gaussian kernels of widths 1, 1/2, 1/4, 1/8"

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        power = _squares(a, b).div_(-2 * a.shape[1]).exp_()
        total = power.clone()
        for _ in range(3):
            # halving the width is taking the fourth power
            power = power.square_().square_()
            total += power
        return total / 4

    def diagonal(self, a: Tensor) -> Tensor:
        return torch.ones(len(a), dtype=a.dtype)


def kernel_distance(a: Tensor, b: Tensor, kernel: Cubic | Gaussians | None = None) -> Result:
    """Unbiased squared MMD of features (N, F) and (M, F), and its jackknife standard error.

    Without a `kernel`: Gaussians up to 8 features, where the cubic kernel is blind to much, and Cubic beyond.
    """
    bad = trouble(FEWEST, {"samples": a, "references": b})
    if bad:
        return bad
    a, b = a.double(), b.double()
    kernel = kernel or (Gaussians() if a.shape[1] <= FEW_FEATURES else Cubic())
    within_a = _kernel_sums(kernel, a, a) - kernel.diagonal(a)
    within_b = _kernel_sums(kernel, b, b) - kernel.diagonal(b)
    across = _kernel_sums(kernel, a, b), _kernel_sums(kernel, b, a)
    value = _mmd(within_a.sum(), len(a), within_b.sum(), len(b), across[0].sum())
    # leaving out row i removes its row and its column from "within", its row from "across"
    without_a = _mmd(within_a.sum() - 2 * within_a, len(a) - 1, within_b.sum(), len(b), across[0].sum() - across[0])
    without_b = _mmd(within_a.sum(), len(a), within_b.sum() - 2 * within_b, len(b) - 1, across[0].sum() - across[1])
    variance = sum((len(v) - 1) * v.var(correction=0) for v in (without_a, without_b))
    how = f"unbiased MMD^2, {kernel.name}, {a.shape[1]} features, jackknife"
    return Metric(value.item(), math.sqrt(float(variance)), min(len(a), len(b)), how)


def _kernel_sums(kernel: Cubic | Gaussians, a: Tensor, b: Tensor) -> Tensor:
    """sum_j k(a_i, b_j) for each i, in blocks of rows."""
    return torch.cat([kernel(rows, b).sum(1) for rows in _blocks(a, b)])


def _blocks(a: Tensor, b: Tensor) -> Sequence[Tensor]:
    """Rows of a, so few at a time that their pairs with b stay in the processor's cache."""
    return torch.split(a, max(1, TILE // len(b)))


def _mmd(within_a: Tensor, n: int, within_b: Tensor, m: int, across: Tensor) -> Tensor:
    return within_a / (n * (n - 1)) + within_b / (m * (m - 1)) - 2 * across / (n * m)


# -- neighbours ----------------------------------------------------------------------------------------------------


def prdc(real: Tensor, fake: Tensor, k: int = NEIGHBOURS) -> Panel:
    """precision, recall, density, coverage of features (N, F) and (M, F); errors are those of the mean, balls given.

    A point on the border of a ball counts as inside, so that copies of real rows have precision 1.
    """
    names = ("precision", "recall", "density", "coverage")
    bad = trouble(max(FEWEST, 2 * k), {"samples": fake, "references": real})
    if bad:
        return dict.fromkeys(names, bad)
    real, fake = real.double(), fake.double()
    inside_real, covered = _memberships(real, fake, _radii(real, k))
    _, recalled = _memberships(real, fake, _radii(fake, k), around_fake=True)
    how = f"k = {k}, {len(real):,} references, {len(fake):,} samples, {real.shape[1]} features"
    values = ((inside_real > 0).double(), recalled, inside_real / k, covered)
    return {name: mean_of(value, how) for name, value in zip(names, values, strict=True)}


def _squares(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances by one matrix product; its rounding, far below TOUCH, is what the comparisons allow for."""
    return (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T).clamp_min_(0)


def _radii(x: Tensor, k: int) -> Tensor:
    """Squared distance to the k-th neighbour inside the set, the point itself left out, with room for rounding."""
    blocks = [_squares(rows, x).topk(k + 1, dim=1, largest=False).values[:, -1] for rows in _blocks(x, x)]
    return torch.cat(blocks) + TOUCH * x.square().sum(1).mean()


def _memberships(real: Tensor, fake: Tensor, radii: Tensor, around_fake: bool = False) -> tuple[Tensor, Tensor]:
    """Number of balls around real rows that hold each fake row, and whether each real row's ball holds any fake row.

    With `around_fake` the balls are the fake rows': then the second is whether any of them holds each real row.
    """
    counts = torch.zeros(len(fake), dtype=torch.float64)
    any_inside = []
    start = 0
    for rows in _blocks(real, fake):
        inside = _squares(rows, fake) <= (radii if around_fake else radii[start : start + len(rows), None])
        start += len(rows)
        counts += inside.sum(0)
        any_inside.append(inside.any(1).double())
    return counts, torch.cat(any_inside)


def nearest_distance(x: Tensor, reference: Tensor) -> Tensor:
    """Distance (N,) of each row of (N, F) to the nearest row of (M, F)."""
    if x.shape[1] <= FEW_FEATURES:
        return _by_tree(x, reference)
    nearest = torch.full((len(x),), math.inf, dtype=x.dtype)
    for some in torch.split(reference, 2048):
        nearest = nearest.minimum(torch.cat([_squares(rows, some).amin(1) for rows in _blocks(x, some)]))
    return nearest.sqrt()


def _by_tree(x: Tensor, reference: Tensor) -> Tensor:
    from scipy.spatial import cKDTree

    return torch.from_numpy(cKDTree(reference.numpy()).query(x.numpy())[0])


def copying(train: Tensor, test: Tensor, samples: Tensor) -> Result:
    """Chance that a sample is nearer to the training rows than a test row is; all are features (N, F)."""
    bad = trouble(FEWEST, {"samples": samples, "references": test})
    if bad:
        return bad
    how = f"nearest of {len(train):,} training rows, against {len(test):,} test rows"
    return auroc(-nearest_distance(test, train), -nearest_distance(samples, train), how)


# -- the classifier's view -----------------------------------------------------------------------------------------


def classifier_confidence(probabilities: Tensor) -> Panel:
    """top_probability: mean of the largest class probability; classes: those with at least 1 % of the samples. (N, classes)."""
    bad = trouble(FEWEST, {"samples": probabilities})
    if bad:
        return {"top_probability": bad, "classes": bad}
    top, which = probabilities.max(-1)
    share = which.bincount(minlength=probabilities.shape[1]) / len(which)
    how = f"of {probabilities.shape[1]} classes, those that are the most likely one for at least 1 % of the samples"
    classes = Metric(float((share >= 0.01).sum()), None, len(which), how)
    return {"top_probability": mean_of(top, "mean largest class probability"), "classes": classes}


# -- panels --------------------------------------------------------------------------------------------------------


def panel(dataset: Dataset, samples: Tensor, features: Features, seed: int = 0) -> Panel:
    """Every generation metric of samples (N, *E) against the test rows: as many of each as the smaller set has, at most 5,000."""
    bad = trouble(FEWEST, {"samples": samples})
    if bad:
        return dict.fromkeys(METRICS, bad)
    n = min(len(samples), len(dataset.test), MOST)
    real, fake = (features(_some(rows, n, seed)) for rows in (dataset.test, samples))
    train = features(dataset.train)
    result: Panel = {
        "kernel_distance": kernel_distance(fake, real),
        "frechet": frechet(fake, real),
        **prdc(real, fake),
        "copying": copying(train, real, fake),
        **_confidence(features, _some(samples, n, seed)),
    }
    return {name: value.named(features.name) for name, value in result.items()}


METRICS = ("kernel_distance", "frechet", "precision", "recall", "density", "coverage", "copying", "top_probability", "classes")


def _confidence(features: Features, samples: Tensor) -> Panel:
    probabilities = features.probabilities(samples)
    if probabilities is not None:
        return classifier_confidence(probabilities)
    reason = Missing(f"no classifier: the features are {features.name}")
    return {"top_probability": reason, "classes": reason}


def _some(rows: Tensor, n: int, seed: int) -> Tensor:
    """n rows by the seed: a prefix would be wrong where rows are sorted by class."""
    if len(rows) == n:
        return rows
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:n]]


def floors(dataset: Dataset, features: Features, seed: int = 0) -> dict[str, Panel]:
    """What three generators that learn nothing score, each with as many samples as there are test rows (at most 5,000).

    "training rows" (drawn without replacement: the best that is possible), "copycat" (training rows, with replacement: what
    memorising scores), "Gaussian" (fitted to the training rows, put on the data's grid: what a model must beat).
    """
    generator = torch.Generator().manual_seed(seed)
    makers: dict[str, Callable[[int], Tensor]] = {
        "training rows": lambda n: dataset.train[torch.randperm(len(dataset.train), generator=generator)[:n]],
        "copycat": lambda n: dataset.train[torch.randint(len(dataset.train), (n,), generator=generator)],
        "Gaussian": lambda n: gaussian_samples(dataset, n, generator),
    }
    return {name: panel(dataset, make(min(len(dataset.test), MOST)), features, seed) for name, make in makers.items()}


def gaussian_samples(dataset: Dataset, n: int, generator: torch.Generator) -> Tensor:
    """Draws (n, *E) from a Gaussian fitted to the training rows, rounded and clipped where the data are on a grid."""
    flat = dataset.train.flatten(1).double()
    values, vectors = torch.linalg.eigh(_covariance(flat))
    noise = torch.randn(n, flat.shape[1], generator=generator, dtype=torch.float64)
    draws = flat.mean(0) + noise * values.clamp_min(0).sqrt() @ vectors.T
    grid = torch.as_tensor(dataset.space.discrete).expand(flat.shape[1])
    on_grid = draws.round().clamp(flat.amin(0), flat.amax(0))
    return torch.where(grid, on_grid, draws).float().reshape(n, *dataset.space.shape)
