"""AUROC by enumeration, its error by simulation, outlier sets and the complexity-only baseline."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from genalloy.data.dataset import Dataset
from genalloy.data.load import load
from genalloy.evaluation.auroc import auroc
from genalloy.evaluation.metric import Metric, Missing
from genalloy.evaluation.outliers import complexity, outlier_panel, outlier_sets


@pytest.fixture(scope="module")
def images() -> Dataset:
    """Smooth blobs on 17 levels: ordered pictures, whose shuffling is easy to see and hard to compress."""
    rng = np.random.default_rng(0)
    centre = rng.uniform(2, 6, (300, 2, 1, 1))
    row, column = np.mgrid[:8, :8]
    squares = (row - centre[:, 0]) ** 2 + (column - centre[:, 1]) ** 2
    return load(np.round(16 * np.exp(-squares / 6)).astype(np.uint8))


def test_auroc_is_the_share_of_ordered_pairs_with_ties_halved() -> None:
    inside, outside = (torch.randint(0, 6, (n,), generator=torch.Generator().manual_seed(n)).float() for n in (30, 40))
    truth = sum((o > i) + 0.5 * (o == i) for o, i in itertools.product(outside.tolist(), inside.tolist())) / 1200
    result = auroc(inside, outside, "")
    assert isinstance(result, Metric) and result.value == pytest.approx(truth)


def test_auroc_error_matches_its_scatter() -> None:
    generator = torch.Generator().manual_seed(0)
    results = [auroc(torch.randn(200, generator=generator), torch.randn(40, generator=generator) + 1, "") for _ in range(300)]
    values, errors = (torch.tensor([getattr(r, name) for r in results]) for name in ("value", "stderr"))
    assert values.mean().item() == pytest.approx(0.5 * (1 + math.erf(0.5)), abs=0.01)
    assert errors.mean().item() == pytest.approx(values.std().item(), rel=0.15)


def test_auroc_edges() -> None:
    zeros, ones = torch.zeros(20), torch.ones(20)
    assert auroc(zeros, ones, "").value == 1 and auroc(zeros, ones, "").stderr == 1 / 20
    assert auroc(zeros, ones * math.inf, "").value == 1
    assert "not finite" in auroc(zeros, ones * math.nan, "").reason
    assert "needs at least" in auroc(zeros[:3], ones, "").reason


def test_default_sets(images: Dataset) -> None:
    sets = outlier_sets(images)
    shuffled = sets["shuffled entries"]
    assert torch.equal(shuffled.flatten(1).sort(1).values, images.test.flatten(1).sort(1).values)
    assert not torch.equal(shuffled, images.test)
    order = [row.argsort().tolist() for row in shuffled.flatten(1)[:2]]
    assert order[0] != order[1]
    assert sets["uniform noise"].unique().tolist() == list(range(17))
    toy = load("moons", limit=500)
    box = outlier_sets(toy)["uniform box"]
    assert (box >= toy.train.amin(0)).all() and (box <= toy.train.amax(0)).all() and box.shape == toy.test.shape


def test_complexity_orders_pictures(images: Dataset) -> None:
    sets = outlier_sets(images)
    flat, blobs, noise = (complexity(x, 17).mean() for x in (torch.zeros(9, 1, 8, 8), images.test, sets["uniform noise"]))
    assert flat < blobs < noise


def test_panel(images: Dataset) -> None:
    mean, spread = images.train.mean(0), images.train.std(0) + 0.5
    panel = outlier_panel(images, lambda x: -((x - mean) / spread).flatten(1).square().sum(1))
    assert set(panel) == {"shuffled entries", "uniform noise"}
    assert panel["uniform noise"]["auroc"].value > 0.95 and panel["uniform noise"]["complexity"].value > 0.7
    own = outlier_panel(images, lambda x: x.flatten(1).sum(1), {"itself": images.test})
    assert own["itself"]["auroc"].value == own["itself"]["complexity"].value == 0.5
    toy = outlier_panel(load("moons", limit=200), lambda x: -x.square().sum(1))
    assert isinstance(toy["uniform box"]["complexity"], Missing)
    with pytest.raises(ValueError, match="admit"):
        outlier_panel(images, lambda x: x.sum(1), {"odd": torch.zeros(20, 3)})
