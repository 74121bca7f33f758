"""Sample metrics against closed forms, enumerations and generators whose fault is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from genalloy.data.load import load
from genalloy.evaluation.features import Pixels
from genalloy.evaluation.generation import (
    METRICS,
    Cubic,
    Gaussians,
    classifier_confidence,
    copying,
    floors,
    frechet,
    gaussian_frechet,
    gaussian_samples,
    kernel_distance,
    nearest_distance,
    panel,
    prdc,
)
from genalloy.evaluation.metric import Metric, Missing


def normal(n: int, dims: int, seed: int) -> Tensor:
    return torch.randn(n, dims, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def value(result: object) -> float:
    assert isinstance(result, Metric), result
    return result.value


# -- Fréchet


def test_frechet_closed_form() -> None:
    spread_a, spread_b, shift = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 2.0, 0.0]), torch.tensor([1.0, 0.0, -2.0])
    truth = shift.square().sum() + (spread_a - spread_b).square().sum()
    found = gaussian_frechet(torch.zeros(3), spread_a.square().diag(), shift, spread_b.square().diag())
    assert found == pytest.approx(truth.item(), rel=1e-5)
    sampled = frechet(normal(20_000, 3, 0) * spread_a, normal(20_000, 3, 1) * spread_b + shift)
    assert value(sampled) == pytest.approx(truth.item(), rel=0.05)


def test_frechet_of_covariances_that_do_not_commute() -> None:
    a, b = (normal(50, 4, seed) @ normal(4, 4, seed + 9) for seed in (1, 2))
    cov_a, cov_b = torch.cov(a.T), torch.cov(b.T)
    # tr (A^1/2 B A^1/2)^1/2 is the sum of the square roots of the eigenvalues of A B
    cross = torch.linalg.eigvals(cov_a @ cov_b).real.sqrt().sum()
    truth = (a.mean(0) - b.mean(0)).square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross
    assert value(frechet(a, b)) == pytest.approx(truth.item(), rel=1e-9)
    assert value(frechet(a, a)) == pytest.approx(0, abs=1e-9)


# -- kernel distance


def cubic(x: Tensor, y: Tensor) -> float:
    return float((x @ y / len(x) + 1) ** 3)


def gaussians(x: Tensor, y: Tensor) -> float:
    square = float((x - y).square().sum())
    return sum(math.exp(-square / (2 * width**2 * len(x))) for width in (1, 1 / 2, 1 / 4, 1 / 8)) / 4


def naive_mmd(k: Callable[[Tensor, Tensor], float], a: Tensor, b: Tensor) -> float:
    within = [
        sum(k(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j) / (len(x) * (len(x) - 1)) for x in (a, b)
    ]
    return sum(within) - 2 * sum(k(x, y) for x in a for y in b) / (len(a) * len(b))


@pytest.mark.parametrize(("kernel", "k"), [(Cubic(), cubic), (Gaussians(), gaussians)])
def test_kernel_distance_is_the_double_sum(kernel: Cubic | Gaussians, k: Callable[[Tensor, Tensor], float]) -> None:
    a, b = normal(21, 3, 0), normal(23, 3, 1) + 0.3
    assert value(kernel_distance(a, b, kernel)) == pytest.approx(naive_mmd(k, a, b), rel=1e-9)


def test_kernel_distance_error_is_the_jackknife() -> None:
    a, b = normal(20, 3, 0), normal(22, 3, 1) + 0.3
    without = [
        [value(_unchecked(torch.cat([a[:i], a[i + 1 :]]), b)) for i in range(len(a))],
        [value(_unchecked(a, torch.cat([b[:i], b[i + 1 :]]))) for i in range(len(b))],
    ]
    variance = sum((len(v) - 1) * torch.tensor(v, dtype=torch.float64).var(correction=0).item() for v in without)
    result = kernel_distance(a, b)
    assert isinstance(result, Metric) and result.stderr == pytest.approx(math.sqrt(variance), rel=1e-6)


def _unchecked(a: Tensor, b: Tensor) -> Metric:
    """One row below the least number of rows."""
    return Metric(naive_mmd(gaussians, a, b), None, len(a), "")


def test_few_features_get_a_kernel_that_tells_a_ring_of_modes_from_a_gaussian() -> None:
    data = load("8gaussians", limit=600)
    features = Pixels().fit(data.train)
    fake = features(gaussian_samples(data, 600, torch.Generator().manual_seed(0)))
    blind, seeing = kernel_distance(fake, features(data.test), Cubic()), kernel_distance(fake, features(data.test))
    assert blind.value < 3 * blind.stderr and seeing.value > 10 * seeing.stderr


def test_kernel_distance_is_unbiased_and_sees_a_shift() -> None:
    same = torch.tensor([value(kernel_distance(normal(60, 4, 2 * i), normal(60, 4, 2 * i + 1))) for i in range(60)])
    assert abs(same.mean().item()) < 3 * same.std().item() / 60**0.5
    assert (same < 0).any()
    shifted = kernel_distance(normal(300, 4, 0), normal(300, 4, 1) + 0.5)
    assert isinstance(shifted, Metric) and shifted.value > 4 * shifted.stderr


# -- precision, recall, density, coverage


def naive_prdc(real: Tensor, fake: Tensor, k: int) -> dict[str, float]:
    def radius(x: Tensor, i: int) -> float:
        return sorted((x[i] - x[j]).norm().item() for j in range(len(x)) if j != i)[k - 1]

    radii_real, radii_fake = ([radius(x, i) for i in range(len(x))] for x in (real, fake))
    distance = [[(r - f).norm().item() for f in fake] for r in real]
    n, m = len(real), len(fake)
    in_real = [[distance[i][j] <= radii_real[i] for i in range(n)] for j in range(m)]
    return {
        "precision": sum(any(row) for row in in_real) / m,
        "recall": sum(any(distance[i][j] <= radii_fake[j] for j in range(m)) for i in range(n)) / n,
        "density": sum(sum(row) for row in in_real) / (k * m),
        "coverage": sum(any(distance[i][j] <= radii_real[i] for j in range(m)) for i in range(n)) / n,
    }


@pytest.mark.parametrize(("n", "m", "shift"), [(60, 60, 0.0), (60, 60, 1.5), (70, 40, 0.7)])
def test_prdc_is_the_enumeration(n: int, m: int, shift: float) -> None:
    real, fake = normal(n, 2, 0), normal(m, 2, 1) * 0.7 + shift
    truth = naive_prdc(real, fake, 5)
    assert {name: value(v) for name, v in prdc(real, fake).items()} == pytest.approx(truth)


def test_prdc_of_copies_and_of_strangers() -> None:
    real = normal(100, 3, 0)
    copies = {name: value(v) for name, v in prdc(real, real).items()}
    assert copies["precision"] == copies["recall"] == copies["coverage"] == 1 and copies["density"] == pytest.approx(
        1.2, abs=0.05
    )
    assert all(value(v) == 0 for v in prdc(real, real + 100).values())
    # a generator stuck on one half: precise, but without recall
    half = prdc(real, normal(200, 3, 1)[normal(200, 3, 1)[:, 0] > 0][:80])
    assert value(half["precision"]) > 0.85 and value(half["recall"]) < 0.75


def test_density_counts_a_border_as_inside() -> None:
    real = torch.arange(30.0).unsqueeze(1)
    result = prdc(real, real, k=1)
    # in the middle: its own ball and the two that end there
    assert value(result["density"]) == pytest.approx((28 * 3 + 2 * 2) / 30)


# -- copying, classifier


@pytest.mark.parametrize("dims", [3, 20])
def test_copying(dims: int) -> None:
    train, test, fresh = normal(400, dims, 0), normal(150, dims, 1), normal(150, dims, 2)
    assert value(copying(train, test, train[:150])) == 1
    result = copying(train, test, fresh)
    assert isinstance(result, Metric) and abs(result.value - 0.5) < 4 * result.stderr
    assert value(copying(train, test, fresh * 3)) < 0.2
    truth = torch.cdist(test, train).amin(1)
    torch.testing.assert_close(nearest_distance(test, train), truth)


def test_classifier_confidence() -> None:
    probabilities = torch.tensor([[0.7, 0.2, 0.1]] * 150 + [[0.1, 0.9, 0.0]] * 49 + [[0.0, 0.1, 0.9]])
    result = classifier_confidence(probabilities)
    assert value(result["top_probability"]) == pytest.approx((150 * 0.7 + 50 * 0.9) / 200)
    assert value(result["classes"]) == 2


# -- never a wrong number


def test_too_few_or_broken_rows_are_missing() -> None:
    few, whole, broken = normal(5, 2, 0), normal(50, 2, 1), normal(50, 2, 2)
    broken[3, 1], broken[7] = math.nan, math.inf
    for metric in (frechet, kernel_distance, lambda a, b: prdc(b, a)["recall"], lambda a, b: copying(whole, b, a)):
        assert "needs at least" in metric(few, whole).reason
        assert "2 of 50 samples are not finite" in metric(broken, whole).reason
    assert "needs at least 62" in frechet(normal(50, 60, 0), normal(50, 60, 1)).reason
    assert "finite" in classifier_confidence(broken)["classes"].reason


# -- panels


@pytest.fixture(scope="module")
def toy() -> tuple:
    data = load("8gaussians", limit=600)
    return data, Pixels().fit(data.train)


def test_panel_of_good_and_of_bad_samples(toy: tuple) -> None:
    data, features = toy
    good = panel(data, load("8gaussians", seed=7, limit=600).train, features)
    bad = panel(data, data.modes[torch.arange(600) % 2] + 0.1 * torch.randn(600, 2), features)
    assert set(good) == set(bad) == set(METRICS)
    assert value(good["kernel_distance"]) < 3 * good["kernel_distance"].stderr < value(bad["kernel_distance"])
    assert value(good["coverage"]) > 0.9 > 0.3 > value(bad["coverage"])
    assert "pixels" in good["frechet"].how and good["frechet"].n == 600
    assert isinstance(good["classes"], Missing)
    assert isinstance(panel(data, torch.full((600, 2), math.nan), features)["frechet"], Missing)


def test_floors(toy: tuple) -> None:
    data, features = toy
    rows = floors(data, features)
    assert list(rows) == ["training rows", "copycat", "Gaussian"]
    assert value(rows["copycat"]["copying"]) == 1 > value(rows["Gaussian"]["copying"])
    assert value(rows["Gaussian"]["density"]) < 0.5 < 0.9 < value(rows["training rows"]["density"])
    assert rows["Gaussian"]["frechet"].n == 600


def test_gaussian_floor_keeps_moments_and_grid() -> None:
    data = load(torch.randint(0, 17, (900, 4, 4), generator=torch.Generator().manual_seed(0)).numpy().astype("uint8"))
    draws = gaussian_samples(data, 5000, torch.Generator().manual_seed(0))
    assert draws.shape == (5000, 1, 4, 4) and torch.equal(draws, draws.round()) and draws.min() >= 0 and draws.max() <= 16
    torch.testing.assert_close(draws.mean(0), data.train.mean(0), atol=0.4, rtol=0)
