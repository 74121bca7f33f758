"""Errors by influence against the bootstrap that they stand for; intervals of proportions against the exact binomial."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from sample_truths import normal, value
from torch import Tensor

from genalloy.core.schema import Number
from genalloy.evaluation.class_scores import classifier_score
from genalloy.evaluation.frechet import covariance, frechet, influence
from genalloy.evaluation.intervals import bootstrap, counts, percentiles, proportion, wilson, with_influences
from genalloy.evaluation.sharpness import sharpness
from genalloy.evaluation.sliced import influences, sliced_wasserstein


def resampled(metric: Callable[[Tensor, Tensor], object], a: Tensor, b: Tensor, times: int = 150) -> Tensor:
    """The real bootstrap: the metric of rows drawn again, (times,)."""
    g = torch.Generator().manual_seed(5)
    drawn = [[rows[torch.randint(len(rows), (len(rows),), generator=g)] for rows in (a, b)] for _ in range(times)]
    return torch.tensor([value(metric(*pair)) for pair in drawn])


def scores(a: Tensor, b: Tensor) -> object:
    return classifier_score(a.softmax(1))


def pictures(a: Tensor, b: Tensor) -> object:
    return sharpness(a.reshape(-1, 1, 5, 5), b.reshape(-1, 1, 5, 5))


METRICS = {
    "frechet": (frechet, 4),
    "sliced": (lambda a, b: sliced_wasserstein(a, b, directions=20), 4),
    "classifier score": (scores, 4),
    "sharpness": (pictures, 25),
}


@pytest.mark.parametrize("name", METRICS)
def test_influences_give_the_bootstrap(name: str) -> None:
    metric, dims = METRICS[name]
    a, b = normal(300, dims, 0) * torch.linspace(0.5, 2, dims) + 1, normal(250, dims, 1)
    found = metric(a, b)
    assert not found.missing
    again = resampled(metric, a, b)
    if name == "sliced":
        # the directions are drawn once there, but count as random here
        assert found.stderr > 0.85 * again.std().item()
        return
    assert found.stderr == pytest.approx(again.std().item(), rel=0.2)
    low, high = percentiles(again)
    width = high - low
    # a biased metric's resamples are biased again: the widths are what agrees
    assert found.high - found.low == pytest.approx(width, rel=0.3) and found.low < found.value < found.high


def agree(influence: Tensor, whole: float, without: list[float]) -> None:
    """Leaving out row i moves a metric by -psi_i / (n - 1), up to a constant and to second order."""
    moved = (len(without) - 1) * (whole - torch.tensor(without).double())
    assert torch.corrcoef(torch.stack([influence, moved]))[0, 1] > 0.995
    assert (influence.std() / moved.std()).item() == pytest.approx(1, abs=0.06)


def test_frechet_influences_are_what_leaving_out_a_row_does() -> None:
    a, b = normal(120, 3, 0) @ normal(3, 3, 7) + 0.3, normal(90, 3, 1)
    moments = [(x.mean(0), covariance(x)) for x in (a, b)]
    own = influence(a - a.mean(0), a.mean(0) - b.mean(0), moments[0][1], moments[1][1])
    agree(own, value(frechet(a, b)), [value(frechet(torch.cat([a[:i], a[i + 1 :]]), b)) for i in range(len(a))])
    other = influence(b - b.mean(0), b.mean(0) - a.mean(0), moments[1][1], moments[0][1])
    agree(other, value(frechet(a, b)), [value(frechet(a, torch.cat([b[:i], b[i + 1 :]]))) for i in range(len(b))])
    error = math.sqrt(float(own.var() / 120 + other.var() / 90))
    assert frechet(a, b).stderr == pytest.approx(error)


def test_sliced_influences_are_what_leaving_out_a_row_does() -> None:
    a, b = normal(120, 3, 0) @ normal(3, 3, 7) + 0.3, normal(90, 3, 1)
    lines = torch.nn.functional.normalize(normal(3, 10, 2), dim=0)
    along, from_a, from_b = influences(a, b, lines)
    whole = along.mean().item()
    agree(from_a, whole, [influences(torch.cat([a[:i], a[i + 1 :]]), b, lines)[0].mean().item() for i in range(len(a))])
    agree(from_b, whole, [influences(a, torch.cat([b[:i], b[i + 1 :]]), lines)[0].mean().item() for i in range(len(b))])


def test_frechet_interval_covers_the_mean_over_new_samples() -> None:
    drawn = [frechet(normal(150, 3, 2 * i) + 0.7, normal(150, 3, 2 * i + 1)) for i in range(60)]
    mean = sum(value(d) for d in drawn) / 60
    assert sum(d.low <= mean <= d.high for d in drawn) >= 51


def test_counts_are_resamples() -> None:
    drawn = counts(50, 40, seed=1)
    assert torch.equal(drawn.sum(1), torch.full((40,), 50.0).double()) and drawn.min() == 0
    assert drawn.var(0).mean().item() == pytest.approx(1 - 1 / 50, rel=0.15)
    assert torch.equal(drawn, counts(50, 40, seed=1)) and not torch.equal(drawn, counts(50, 40, seed=2))


def test_an_interval_keeps_to_possible_values() -> None:
    found = with_influences(Number(0.01, None, 50, ""), [normal(50, 1, 0)[:, 0]], least=0.0)
    assert found.low == 0 < found.high and found.stderr == pytest.approx(1 / math.sqrt(50), rel=0.3)


@pytest.mark.parametrize(("share", "n"), [(0.0, 20), (1.0, 20), (0.3, 50), (0.97, 200)])
def test_wilson_is_near_the_exact_interval(share: float, n: int) -> None:
    from scipy.stats import binomtest

    exact = binomtest(round(share * n), n).proportion_ci(method="wilson")
    assert wilson(round(share * n) / n, n) == pytest.approx((exact.low, exact.high), abs=1e-6)


def test_an_extra_error_widens_a_proportion() -> None:
    plain, wide = proportion(0.5, 400, ""), proportion(0.5, 400, "", error=0.05)
    assert plain.stderr == pytest.approx(0.025) and wide.stderr == 0.05
    assert wide.high - wide.low == pytest.approx(2 * (plain.high - plain.low), rel=0.03)
    assert proportion(1.0, 400, "", error=0.01).low < 0.995


def test_bootstrap_of_a_median() -> None:
    found = bootstrap(normal(400, 1, 0)[:, 0], Number(0.0, None, 400, ""))
    assert found.stderr == pytest.approx(math.sqrt(math.pi / 2 / 400), rel=0.35)
