"""A copies is caught by every test, held-out rows by none; each test against its definition."""

from __future__ import annotations

import math

import pytest
import torch
from sample_truths import clustered, clusters, normal, value
from torch import Tensor

from genalloy.data.dataset import Dataset
from genalloy.evaluation.features import Features, PixelFeatures
from genalloy.evaluation.memorisation import MEMORISATION, Reference, mann_whitney, memorisation, memorisation_controls, reference
from genalloy.evaluation.neighbours import Nearest, nearest


@pytest.fixture(scope="module")
def scene() -> tuple[Dataset, Features, Reference]:
    data = clustered(1500, 800)
    features = PixelFeatures().fit(data.train)
    known = reference(data, features)
    assert isinstance(known, Reference)
    return data, features, known


def caught(panel: dict, null: dict) -> dict[str, bool]:
    """Which tests call it copying: by more than three errors beyond the null."""
    beyond = {name: value(panel[name]) - value(null[name]) for name in MEMORISATION}
    error = {name: 3 * math.hypot(panel[name].stderr, null[name].stderr) for name in MEMORISATION}
    sign = {"copying": 1, "copying_in_cells": -1, "neighbour_ratio": -1, "authenticity": -1}
    return {name: sign[name] * beyond[name] > error[name] for name in MEMORISATION}


def test_every_test_catches_the_memorisation_baseline_and_passes_fresh_rows(scene: tuple) -> None:
    data, features, known = scene
    controls = memorisation_controls(data, features, known=known)
    null, copies = controls["held-out rows"], controls["memorisation baseline"]
    assert caught(copies, null) == dict.fromkeys(MEMORISATION, True)
    fresh = memorisation(data, clusters(800, 7)[0], features, known=known)
    assert caught(fresh, null) == dict.fromkeys(MEMORISATION, False)
    assert value(copies["copying"]) == 1 and value(copies["authenticity"]) == value(copies["neighbour_ratio"]) == 0
    assert value(copies["copying_in_cells"]) < -5 and abs(value(null["copying_in_cells"])) < 1
    assert abs(value(null["copying"]) - 0.5) < 4 * null["copying"].stderr
    assert all("pixels" in v.how for v in copies.values())


def test_near_copies_and_copies_of_one_region_are_caught(scene: tuple) -> None:
    data, features, known = scene
    null = memorisation_controls(data, features, known=known)["held-out rows"]
    noisy = data.train[:400] + 0.1 * normal(400, 6, 3).float()
    assert all(caught(memorisation(data, noisy, features, known=known), null).values())
    x, which = clusters(800, 8)
    x[which == 0] = data.train[data.labels["train"] == 0][: int((which == 0).sum())]
    partly = memorisation(data, x, features, known=known)
    assert caught(partly, null)["copying_in_cells"] and caught(partly, null)["authenticity"]


def test_underfitting_is_not_called_copying(scene: tuple) -> None:
    data, features, known = scene
    wide = memorisation(data, data.train[:500].mean(0) + 3 * normal(500, 6, 4).float(), features, known=known)
    assert value(wide["copying"]) < 0.3 and value(wide["copying_in_cells"]) > 3 and value(wide["authenticity"]) > 0.8


def test_authenticity_and_ratio_are_the_double_loop(scene: tuple) -> None:
    _, features, known = scene
    fake = features(clusters(60, 9)[0])
    panel = known.judge(fake)
    to_train, within = torch.cdist(fake, known.train), torch.cdist(known.train, known.train).fill_diagonal_(math.inf)
    own = [within[to_train[i].argmin()].min() for i in range(60)]
    assert value(panel["authenticity"]) == pytest.approx(sum(float(to_train[i].min() > own[i]) for i in range(60)) / 60)
    ratio = to_train.amin(1) / torch.cdist(fake, known.held_out).amin(1)
    assert value(panel["neighbour_ratio"]) == pytest.approx(ratio.median().item())


def test_the_score_in_cells_is_the_weighted_mean_of_rank_tests(scene: tuple) -> None:
    from scipy.stats import mannwhitneyu, norm

    _, features, known = scene
    fake = features(clusters(300, 10)[0])
    found = nearest(fake, known.train)
    cells = [known.cells.predict(rows.numpy()) for rows in (fake, known.held_out)]
    total, mass = 0.0, 0
    for cell in range(known.cells.n_clusters):
        ours, theirs = found.distance[cells[0] == cell], known.to_train[cells[1] == cell]
        if min(len(ours), len(theirs)) < 10:
            continue
        u = mannwhitneyu(ours, theirs, use_continuity=False, method="asymptotic", alternative="less")
        total, mass = total + norm.ppf(u.pvalue) * len(theirs), mass + len(theirs)
    assert value(known.copying_in_cells(fake, found)) == pytest.approx(total / mass, rel=1e-4)


def test_mann_whitney_with_ties_and_with_nothing_but_ties() -> None:
    from scipy.stats import mannwhitneyu, norm

    a, b = (normal(40, 1, 0) * 2).round()[:, 0], (normal(30, 1, 1) * 2 + 1).round()[:, 0]
    p = mannwhitneyu(a, b, use_continuity=False, method="asymptotic", alternative="less").pvalue
    assert mann_whitney(a, b) == pytest.approx(norm.ppf(p)) and mann_whitney(a, b) < 0
    assert mann_whitney(torch.ones(20), torch.ones(15)) == 0


def test_no_training_row_is_left_out() -> None:
    data = clustered(3000, 100)
    features = PixelFeatures().fit(data.train)
    known = reference(data, features)
    assert isinstance(known, Reference) and len(known.train) == 3000
    for row in (0, 1700, 2999):
        assert value(known.authenticity(Nearest(torch.zeros(20), torch.full((20,), row)))) == 0
        assert nearest(features(data.train[row : row + 1]), known.train).distance.item() == 0


def test_duplicates_in_the_data_do_not_divide_by_zero() -> None:
    rows = torch.randint(2, (300, 3), generator=torch.Generator().manual_seed(0)).float()
    data = clustered(10, 10)
    data.train, data.test = rows[:200], rows[200:]
    panel = memorisation(data, rows[:50], PixelFeatures().fit(rows[:200]))
    assert value(panel["neighbour_ratio"]) == 1 and value(panel["copying_in_cells"]) == 0 and value(panel["copying"]) == 0.5
    # a copy of a row that occurs twice is a copy
    assert value(panel["authenticity"]) == 0


def test_too_few_or_broken_rows_are_missing(scene: tuple) -> None:
    data, features, known = scene
    samples = data.train[:100].clone()
    assert "needs at least 20 samples" in str(memorisation(data, samples[:5], features, known=known)["copying"])
    samples[2] = math.nan
    broken = memorisation(data, samples, features, known=known)
    assert {v.reason for v in broken.values()} == {"1 of 100 samples are not finite"}
    few = clustered(100, 30)
    panels = [memorisation(few, few.train, features), *memorisation_controls(few, features).values()]
    assert all(v.missing and "40 test rows" in v.reason for p in panels for v in p.values())


def test_every_number_carries_an_error(scene: tuple) -> None:
    data, features, known = scene
    panel = memorisation(data, clusters(100, 11)[0], features, known=known)
    assert tuple(panel) == MEMORISATION
    assert all(not v.missing and v.stderr is not None and v.stderr > 0 for v in panel.values())


def test_features_decide_what_a_copy_is() -> None:
    """Rows moved only in an entry that the features ignore are copies in those features."""
    data = clustered(400, 200)
    moved = data.train[:100].clone()
    moved[:, 5] += 50

    class FirstFive(PixelFeatures):
        name = "first five"

        def _raw(self, x: Tensor) -> Tensor:
            return x[:, :5]

    assert value(memorisation(data, moved, FirstFive().fit(data.train))["copying"]) == 1
    assert value(memorisation(data, moved, PixelFeatures().fit(data.train))["copying"]) == 0
