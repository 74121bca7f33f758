"""Sample metrics against closed forms, enumerations and generators whose fault is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from sample_truths import clustered, clusters, normal, value
from torch import Tensor

from genalloy.core.schema import Number
from genalloy.data.dataset import Dataset
from genalloy.data.load import load_data
from genalloy.data.space import Space
from genalloy.evaluation.class_scores import classification_accuracy, classifier_confidence, classifier_score
from genalloy.evaluation.classifier import TrainingBudget
from genalloy.evaluation.features import Features, PixelFeatures
from genalloy.evaluation.frechet import frechet, gaussian_frechet
from genalloy.evaluation.generation import METRICS, panel, reference_generators
from genalloy.evaluation.kernel import Cubic, Gaussians, kernel_distance
from genalloy.evaluation.memorisation import copying
from genalloy.evaluation.neighbours import nearest, nearest_distance, prdc
from genalloy.evaluation.references import gaussian_samples, mixture_samples
from genalloy.evaluation.sharpness import laplacian_variance, sharpness
from genalloy.evaluation.sliced import sliced_wasserstein
from genalloy.evaluation.two_sample import c2st

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
    assert not result.missing and result.stderr == pytest.approx(math.sqrt(variance), rel=1e-6)


def _unchecked(a: Tensor, b: Tensor) -> Number:
    """One row below the least number of rows."""
    return Number(naive_mmd(gaussians, a, b), None, len(a), "")


SHIFT = torch.tensor([0.7, -0.4, 0.2], dtype=torch.float64)
MIX = torch.tensor([[1.2, 0.0, 0.0], [0.5, 0.7, 0.0], [-0.3, 0.2, 0.4]], dtype=torch.float64)


def cubic_expectation(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> float:
    """E (a.b / F + 1)^3 for independent Gaussians, from their first three moments."""

    def moments(mean: Tensor, cov: Tensor) -> tuple[Tensor, Tensor]:
        crossed = torch.einsum("ij,k->ijk", cov, mean)
        third = torch.einsum("i,j,k->ijk", mean, mean, mean) + crossed + crossed.permute(0, 2, 1) + crossed.permute(2, 0, 1)
        return cov + mean.outer(mean), third

    (second_a, third_a), (second_b, third_b) = moments(mean_a, cov_a), moments(mean_b, cov_b)
    f = len(mean_a)
    powers = 1 + 3 * (mean_a @ mean_b) / f + 3 * (second_a * second_b).sum() / f**2 + (third_a * third_b).sum() / f**3
    return float(powers)


def gaussian_expectation(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> float:
    """E exp(-|a - b|^2 / 2 s^2 F), averaged over the widths: a Gaussian integral over a - b."""
    f, spread, gap = len(mean_a), cov_a + cov_b, mean_a - mean_b
    total = 0.0
    for width in (1, 1 / 2, 1 / 4, 1 / 8):
        wide = torch.eye(f).double() * width**2 * f
        total += float((wide.det() / (wide + spread).det()).sqrt() * torch.exp(-gap @ torch.linalg.solve(wide + spread, gap) / 2))
    return total / 4


@pytest.mark.parametrize(("kernel", "expectation"), [(Cubic(), cubic_expectation), (Gaussians(), gaussian_expectation)])
def test_kernel_distance_of_two_gaussians_is_the_closed_form(kernel: Cubic | Gaussians, expectation: Callable) -> None:
    zero, unit, other = torch.zeros(3).double(), torch.eye(3).double(), MIX @ MIX.T
    a, b = (SHIFT, other), (zero, unit)
    truth = expectation(*a, *a) + expectation(*b, *b) - 2 * expectation(*a, *b)
    result = kernel_distance(normal(6000, 3, 0) @ MIX.T + SHIFT, normal(6000, 3, 1), kernel)
    assert not result.missing and abs(result.value - truth) < 3 * result.stderr < 0.2 * truth


def test_few_features_get_a_kernel_that_tells_a_ring_of_modes_from_a_gaussian() -> None:
    data = load_data("8gaussians", limit=600)
    features = PixelFeatures().fit(data.train)
    fake = features(gaussian_samples(data, 600, torch.Generator().manual_seed(0)))
    blind, seeing = kernel_distance(fake, features(data.test), Cubic()), kernel_distance(fake, features(data.test))
    assert blind.value < 3 * blind.stderr and seeing.value > 10 * seeing.stderr


def test_kernel_distance_is_unbiased_and_sees_a_shift() -> None:
    same = torch.tensor([value(kernel_distance(normal(60, 4, 2 * i), normal(60, 4, 2 * i + 1))) for i in range(60)])
    assert abs(same.mean().item()) < 3 * same.std().item() / 60**0.5
    assert (same < 0).any()
    shifted = kernel_distance(normal(300, 4, 0), normal(300, 4, 1) + 0.5)
    assert not shifted.missing and shifted.value > 4 * shifted.stderr


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


def test_errors_of_prdc_are_near_those_of_new_rows() -> None:
    drawn = [prdc(normal(200, 3, 2 * i), normal(200, 3, 2 * i + 1) + 0.5) for i in range(40)]
    for name in ("precision", "recall", "density", "coverage"):
        spread = torch.tensor([value(d[name]) for d in drawn]).std().item()
        error = sum(d[name].stderr for d in drawn) / len(drawn)
        # dropping a row also widens its neighbours' balls, which the errors leave out: they may be too large
        assert 0.75 < error / spread < 2.2, name
        assert all(d[name].low <= d[name].value <= d[name].high for d in drawn)


def test_density_and_coverage_of_equal_laws_are_their_expectations() -> None:
    """A sample is in a ball with chance k / n, by exchange; a ball is empty if its k nearest of 2n - 1 rows are all real."""
    n, k = 80, 5
    drawn = [prdc(normal(n, 3, 2 * i), normal(n, 3, 2 * i + 1), k) for i in range(60)]
    truth = {"density": 1.0, "coverage": 1 - math.prod((n - 1 - i) / (2 * n - 1 - i) for i in range(k))}
    for name, expected in truth.items():
        found = torch.tensor([value(d[name]) for d in drawn]).double()
        assert abs(found.mean().item() - expected) < 3 * found.std().item() / math.sqrt(60), name
        assert found.std() / math.sqrt(60) < 0.02


def test_a_generator_that_drops_a_mode_is_caught_by_recall_and_coverage_alone() -> None:
    real, dropped, whole = clusters(500, 0)[0], clusters(500, 1, keep=3)[0], clusters(500, 2)[0]
    bad, good = prdc(real, dropped), prdc(real, whole)
    for name in ("recall", "coverage"):
        assert bad[name].high < 0.85 < good[name].low, name
    assert abs(value(bad["precision"]) - value(good["precision"])) < 0.05


# -- sliced Wasserstein, two-sample test


def test_sliced_wasserstein_of_shifted_gaussians() -> None:
    shift = torch.tensor([2.0, 0.0, 1.0, 0.0]).double()
    result = sliced_wasserstein(normal(4000, 4, 0) + shift, normal(3000, 4, 1), directions=400)
    assert not result.missing and abs(result.value - shift.norm().item() / 2) < 3 * result.stderr < 0.2
    assert result.low < shift.norm().item() / 2 < result.high
    same = sliced_wasserstein(normal(4000, 4, 0), normal(4000, 4, 1))
    assert same.low < 0.04 and value(same) < 0.1


@pytest.mark.parametrize(("n", "m"), [(30, 30), (36, 24), (25, 31)])
def test_sliced_wasserstein_in_one_dimension_is_optimal_transport(n: int, m: int) -> None:
    from scipy.optimize import linprog

    a, b = normal(n, 1, 0), normal(m, 1, 1) * 0.5 + 0.3
    cost = (a - b.T).square()
    rows = torch.kron(torch.eye(n), torch.ones(1, m)), torch.kron(torch.ones(1, n), torch.eye(m))
    mass = torch.cat([torch.full((n,), 1 / n), torch.full((m,), 1 / m)]).double()
    best = linprog(cost.flatten().numpy(), A_eq=torch.cat(rows).numpy(), b_eq=mass.numpy()).fun
    assert value(sliced_wasserstein(a, b, directions=3)) == pytest.approx(math.sqrt(best), rel=1e-6)


def test_c2st_is_at_chance_for_equal_laws_and_near_one_for_strangers() -> None:
    same = [c2st(normal(200, 5, 2 * i), normal(200, 5, 2 * i + 1), seed=i, steps=60) for i in range(12)]
    assert sum(r.low <= 0.5 <= r.high for r in same) >= 10
    assert abs(sum(value(r) for r in same) / 12 - 0.5) < 3 * 0.5 / math.sqrt(12 * 200)
    far = c2st(normal(200, 5, 0), normal(200, 5, 1) + 4)
    assert value(far) > 0.98 and far.n == 200
    # no classifier can do better than 1/2 + TV/2 = Phi(1/2) here, and this one comes near
    near = c2st(normal(4000, 5, 0), normal(4000, 5, 1) + torch.tensor([1.0, 0, 0, 0, 0]).double())
    assert near.low < 0.6915 < near.high + 0.02


def test_c2st_sees_what_differs_in_a_direction_of_little_variance() -> None:
    thin = torch.tensor([10.0, 10.0, 0.01]).double()
    assert value(c2st(normal(300, 3, 0) * thin, (normal(300, 3, 1) + torch.tensor([0.0, 0.0, 4.0])) * thin)) > 0.9


# -- sharpness


def test_sharpness_is_the_laplacian_by_hand_and_falls_with_blur() -> None:
    pictures = normal(60, 64, 0).reshape(60, 1, 8, 8)
    x = pictures[0, 0]
    by_hand = [
        float(x[i + 1, j] + x[i - 1, j] + x[i, j + 1] + x[i, j - 1] - 4 * x[i, j]) for i in range(1, 7) for j in range(1, 7)
    ]
    assert laplacian_variance(pictures)[0].item() == pytest.approx(torch.tensor(by_hand).double().var().item())
    blurred = torch.nn.functional.avg_pool2d(pictures, 3, 1, 1)
    assert value(sharpness(pictures, pictures)) == pytest.approx(1)
    assert sharpness(blurred, pictures).high < 0.5 and sharpness(3 * pictures, pictures).low > 5
    assert "4 x 4" in sharpness(normal(60, 3, 0), normal(60, 3, 1)).reason


# -- copying, classifier


@pytest.mark.parametrize("dims", [3, 20])
def test_copying(dims: int) -> None:
    train, test, fresh = normal(400, dims, 0), normal(150, dims, 1), normal(150, dims, 2)
    assert value(copying(train, test, train[:150])) == 1
    result = copying(train, test, fresh)
    assert not result.missing and abs(result.value - 0.5) < 4 * result.stderr
    assert value(copying(train, test, fresh * 3)) < 0.2
    truth = torch.cdist(test, train).amin(1)
    torch.testing.assert_close(nearest_distance(test, train), truth)


def test_classifier_confidence() -> None:
    probabilities = torch.tensor([[0.7, 0.2, 0.1]] * 150 + [[0.1, 0.9, 0.0]] * 49 + [[0.0, 0.1, 0.9]])
    result = classifier_confidence(probabilities)
    assert value(result["top_probability"]) == pytest.approx((150 * 0.7 + 50 * 0.9) / 200)
    assert value(result["classes"]) == 2


def test_nearest_is_exact_and_can_leave_out_the_row_itself() -> None:
    for dims in (3, 20):
        reference = normal(2500, dims, 0)
        found = nearest(reference[[5, 2100]], reference)
        assert found.distance.tolist() == [0, 0] and found.where.tolist() == [5, 2100]
        others = torch.cdist(reference[[5, 2100]], reference)
        others[0, 5] = others[1, 2100] = math.inf
        own = nearest(reference[[5, 2100]], reference, skip_self=True)
        torch.testing.assert_close(own.distance, others.amin(1))
        assert own.where.tolist() == others.argmin(1).tolist()


def test_classifier_score_between_one_and_the_number_of_classes() -> None:
    sure = torch.eye(5).double().repeat(20, 1)
    assert value(classifier_score(sure)) == pytest.approx(5)
    assert value(classifier_score(sure[:1].expand(100, 5))) == pytest.approx(1)
    mixed = (sure + 0.3).div(2.5)
    p = torch.tensor([1.3, 0.3, 0.3, 0.3, 0.3]).double() / 2.5
    assert value(classifier_score(mixed)) == pytest.approx(float(torch.exp((p * (5 * p).log()).sum())))


def test_classification_accuracy_of_good_and_of_shuffled_labels() -> None:
    (x, y), (u, v), short = clusters(400, 0), clusters(300, 1), TrainingBudget(steps=100)
    good = classification_accuracy(x, y, u, v, short)
    assert good.low > 0.95 and good.n == 300
    assert value(classification_accuracy(x, y[normal(400, 1, 5)[:, 0].argsort()], u, v, short)) < 0.6
    # a generator without the last class cannot teach it
    lacking = classification_accuracy(*clusters(400, 2, keep=3), u, v, short)
    assert value(lacking) == pytest.approx((v < 3).double().mean().item(), abs=0.05)
    assert "no labels" in classification_accuracy(x, None, u, v).reason
    assert "the data" in classification_accuracy(x, y, u, None).reason


# -- never a wrong number


def test_too_few_or_broken_rows_are_missing() -> None:
    few, whole, broken = normal(5, 2, 0), normal(50, 2, 1), normal(50, 2, 2)
    broken[3, 1], broken[7] = math.nan, math.inf
    pairs = (frechet, kernel_distance, sliced_wasserstein, c2st)
    for metric in (*pairs, lambda a, b: prdc(b, a)["recall"], lambda a, b: copying(whole, b, a)):
        assert "needs at least" in metric(few, whole).reason
        assert "2 of 50 samples are not finite" in metric(broken, whole).reason
    assert "needs at least 62" in frechet(normal(50, 60, 0), normal(50, 60, 1)).reason
    assert "finite" in classifier_confidence(broken)["classes"].reason


# -- panels


@pytest.fixture(scope="module")
def toy() -> tuple:
    data = load_data("8gaussians", limit=600)
    return data, PixelFeatures().fit(data.train)


def test_panel_of_good_and_of_bad_samples(toy: tuple) -> None:
    data, features = toy
    good = panel(data, load_data("8gaussians", seed=7, limit=600).train, features)
    bad = panel(data, data.modes[torch.arange(600) % 2] + 0.1 * torch.randn(600, 2), features)
    assert set(good) == set(bad) == set(METRICS)
    assert value(good["kernel_distance"]) < 3 * good["kernel_distance"].stderr < value(bad["kernel_distance"])
    assert value(good["coverage"]) > 0.9 > 0.3 > value(bad["coverage"])
    assert "pixels" in good["frechet"].how and good["frechet"].n == 600
    assert good["classes"].missing
    assert panel(data, torch.full((600, 2), math.nan), features)["frechet"].missing


def test_floors(toy: tuple) -> None:
    data, features = toy
    rows = reference_generators(data, features)
    assert list(rows) == ["training rows", "memorisation baseline", "Gaussian", "mixture of 10 Gaussians"]
    assert value(rows["memorisation baseline"]["copying"]) == 1 > value(rows["Gaussian"]["copying"])
    assert value(rows["Gaussian"]["density"]) < 0.5 < 0.9 < value(rows["training rows"]["density"])
    assert rows["Gaussian"]["frechet"].n == 600
    # eight modes are nothing to ten components
    mixture = rows["mixture of 10 Gaussians"]["kernel_distance"]
    assert mixture.value < 3 * mixture.stderr < value(rows["Gaussian"]["kernel_distance"])


def test_every_metric_but_copying_likes_copies() -> None:
    data = clustered()
    features = PixelFeatures().fit(data.train)
    order = torch.randperm(800, generator=torch.Generator().manual_seed(0))[:400]
    result = panel(data, data.train[order], features, labels=data.labels["train"][order])
    assert value(result["kernel_distance"]) < 3 * result["kernel_distance"].stderr
    assert result["c2st"].low < 0.5 and value(result["sliced_wasserstein"]) < 0.2
    assert all(value(result[name]) > 0.9 for name in ("precision", "recall", "density", "coverage", "classification_accuracy"))
    assert value(result["copying"]) == 1


def test_rows_that_are_not_finite_are_counted_and_never_dropped(toy: tuple) -> None:
    data, features = toy
    samples = data.train.clone()
    samples[[3, 70, 400], 1] = math.nan
    result = panel(data, samples, features)
    assert set(result) == set(METRICS)
    assert {v.reason for v in result.values()} == {f"3 of {len(samples):,} samples are not finite"}


def test_a_panel_says_how_many_rows_it_used(toy: tuple) -> None:
    data, features = toy
    numbers = [v for v in panel(data, data.train[:300], features).values() if not v.missing]
    assert {v.n for v in numbers} <= {300, 600} and min(v.n for v in numbers) == 300


def test_gaussian_floor_keeps_moments_and_grid() -> None:
    data = load_data(torch.randint(0, 17, (900, 4, 4), generator=torch.Generator().manual_seed(0)).numpy().astype("uint8"))
    draws = gaussian_samples(data, 5000, torch.Generator().manual_seed(0))
    assert draws.shape == (5000, 1, 4, 4) and torch.equal(draws, draws.round()) and draws.min() >= 0 and draws.max() <= 16
    torch.testing.assert_close(draws.mean(0), data.train.mean(0), atol=0.4, rtol=0)


def test_mixture_floor_keeps_the_grid_and_is_seeded() -> None:
    data = load_data("digits")
    draws = [mixture_samples(data, 500, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert draws[0].shape == (500, 1, 8, 8) and torch.equal(draws[0], draws[0].round())
    assert draws[0].min() >= 0 and draws[0].max() <= 16
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    torch.testing.assert_close(draws[0].mean(0), data.train.mean(0), atol=1.2, rtol=0)
    # components come mixed
    assert (draws[0][:250].mean(0) - draws[0][250:].mean(0)).abs().max() < 2


def test_directions_beyond_the_mixture_keep_their_variance() -> None:
    rows = (normal(500, 20, 0) @ normal(20, 20, 1)).float()
    data = Dataset("wide", Space((20,), "points"), rows, rows[:0], rows)
    draws = mixture_samples(data, 3000, torch.Generator().manual_seed(0))
    assert draws.var(0).sum().item() == pytest.approx(rows.var(0).sum().item(), rel=0.08)
    torch.testing.assert_close(torch.cov(draws.T), torch.cov(rows.T), atol=5, rtol=0.1)


def test_floors_of_rows_too_large_for_a_covariance_say_so() -> None:
    wide = torch.rand(60, 5000)
    data = Dataset("wide", Space((5000,), "points"), wide, wide[:0], torch.rand(50, 5000))
    rows = reference_generators(data, Some().fit(wide))
    assert "5,000" in rows["Gaussian"]["frechet"].reason and not rows["memorisation baseline"]["kernel_distance"].missing


class Some(Features):
    """The first three entries."""

    name = "some"

    def _learn(self, train: Tensor, labels: Tensor | None) -> None:
        """Nothing."""

    def _raw(self, x: Tensor) -> Tensor:
        return x[:, :3]
