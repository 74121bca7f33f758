"""AUROC by enumeration, its error by simulation, named sets, and each score where the likelihood is known to fail."""

from __future__ import annotations

import itertools
import math
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from genalloy.data.dataset import Dataset
from genalloy.data.load import load_data
from genalloy.evaluation.auroc import auroc
from genalloy.evaluation.baselines import independent
from genalloy.evaluation.independent_marginals import independent_entries
from genalloy.evaluation.outliers import MODEL_KEYS, complexity, foreign, mutated, outlier_panel, outlier_sets


@pytest.fixture(scope="module")
def images() -> Dataset:
    """Smooth blobs on 17 levels: ordered pictures, whose shuffling is easy to see and hard to compress."""
    rng = np.random.default_rng(0)
    centre = rng.uniform(2, 6, (300, 2, 1, 1))
    row, column = np.mgrid[:8, :8]
    squares = (row - centre[:, 0]) ** 2 + (column - centre[:, 1]) ** 2
    return load_data(np.round(16 * np.exp(-squares / 6)).astype(np.uint8))


def test_auroc_is_the_share_of_ordered_pairs_with_ties_halved() -> None:
    inside, outside = (torch.randint(0, 6, (n,), generator=torch.Generator().manual_seed(n)).float() for n in (30, 40))
    truth = sum((o > i) + 0.5 * (o == i) for o, i in itertools.product(outside.tolist(), inside.tolist())) / 1200
    result = auroc(inside, outside, "")
    assert not result.missing and result.value == pytest.approx(truth)


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
    level = sets["flat rows"].flatten(1)
    assert (level == level[:, :1]).all() and len(level[:, 0].unique()) > 5
    toy = load_data("moons", limit=500)
    box, swapped = outlier_sets(toy)["uniform box"], outlier_sets(toy)["swapped entries"]
    assert torch.equal(swapped.sort(0).values, toy.test.sort(0).values) and not torch.equal(swapped.sum(1), toy.test.sum(1))
    assert (box >= toy.train.amin(0)).all() and (box <= toy.train.amax(0)).all() and box.shape == toy.test.shape


def test_complexity_orders_pictures(images: Dataset) -> None:
    sets = outlier_sets(images)
    flat, blobs, noise = (complexity(x, 17).mean() for x in (torch.zeros(9, 1, 8, 8), images.test, sets["uniform noise"]))
    assert flat < blobs < noise


def test_panel(images: Dataset) -> None:
    mean, spread = images.train.mean(0), images.train.std(0) + 0.5
    panel = outlier_panel(images, lambda x: -((x - mean) / spread).flatten(1).square().sum(1))
    assert set(panel) == {"shuffled entries", "uniform noise", "flat rows"}
    assert all(set(one) == {*MODEL_KEYS, "complexity"} for one in panel.values())
    assert panel["uniform noise"]["auroc"].value > 0.95 and panel["uniform noise"]["complexity"].value > 0.7
    # what is simpler than the data is where complexity alone is fooled
    assert panel["flat rows"]["complexity"].value < 0.1
    own = outlier_panel(images, lambda x: x.flatten(1).sum(1), {"itself": images.test})["itself"]
    for key in ("auroc", "complexity", "typicality", "complexity_corrected", "likelihood_ratio"):
        assert own[key].value == pytest.approx(0.5), key
    toy = outlier_panel(load_data("moons", limit=200), lambda x: -x.square().sum(1))
    assert toy["uniform box"]["complexity"].missing
    assert toy["uniform box"]["complexity_corrected"].missing


def gaussian(x: Tensor) -> Tensor:
    return -x.double().square().sum(1) / 2


@pytest.fixture(scope="module")
def normal() -> Dataset:
    """3,000 rows of N(0, I) in 30 dimensions."""
    return load_data(np.random.default_rng(1).normal(size=(3000, 30)))


def test_typicality_sees_the_middle_that_the_density_prefers(normal: Dataset) -> None:
    sets = {"middle": 0.3 * normal.test, "a little inwards": 0.93 * normal.test, "outwards": 1.6 * normal.test}
    panel = outlier_panel(normal, gaussian, sets)
    assert panel["middle"]["auroc"].value < 0.01 and panel["middle"]["typicality"].value > 0.99
    assert panel["outwards"]["auroc"].value > 0.99 and panel["outwards"]["typicality"].value > 0.99
    # single rows are hardly told apart, groups of ten are; a group's deviation follows its own mean's law
    near = panel["a little inwards"]
    assert near["typicality"].value < 0.7 < near["typicality_10"].value and near["typicality_10"].n == 60


def test_typicality_says_why_it_is_missing(normal: Dataset) -> None:
    few = replace(normal, validation=normal.validation[:5])
    assert "found 5 of 5" in outlier_panel(few, gaussian)["uniform box"]["typicality"].reason
    sharp = outlier_panel(normal, lambda x: torch.where(x[:, 0] > 1.5, -torch.inf, gaussian(x)))["uniform box"]
    assert "of finite log p" in sharp["typicality"].reason and not sharp["auroc"].missing


def test_likelihood_ratio_takes_the_background_away() -> None:
    # rows are x2 = x1 + little noise; outliers are as likely entry by entry, and differ in their dependence alone
    x = np.random.default_rng(2).normal(size=(3000, 1)) + 0.3 * np.random.default_rng(3).normal(size=(3000, 2))
    data = load_data(x)
    law = torch.distributions.MultivariateNormal(torch.zeros(2), torch.full((2, 2), 1.0) + 0.09 * torch.eye(2))
    swapped = outlier_panel(data, law.log_prob)["swapped entries"]
    assert swapped["likelihood_ratio"].value > swapped["auroc"].value + 0.02
    # a background of one's own: the same law, up to a constant, leaves nothing
    own = outlier_panel(data, law.log_prob, background=lambda x: law.log_prob(x))["swapped entries"]
    assert own["likelihood_ratio"].value == 0.5 and "the given background" in own["likelihood_ratio"].how


def test_complexity_corrected_is_bits_minus_bytes(images: Dataset) -> None:
    noise = {"noise": outlier_sets(images)["uniform noise"]}
    found = outlier_panel(images, lambda x: -9 * x[:, 0, 3, 3], noise)["noise"]["complexity_corrected"]

    def score(rows: Tensor) -> Tensor:
        lengths = [8 * len(zlib.compress(row.to(torch.uint8).numpy().tobytes(), 9)) for row in rows]
        return 9 * rows[:, 0, 3, 3].double() / math.log(2) - torch.tensor(lengths)

    truth = auroc(score(images.test), score(noise["noise"]), "")
    assert not truth.missing and found.value == pytest.approx(truth.value) and 0.01 < truth.value < 0.99


def test_energies_and_models_without_any_number(normal: Dataset) -> None:
    energy = outlier_panel(normal, lambda x: gaussian(x) - 1000.0)
    density = outlier_panel(normal, gaussian)
    assert {k: str(v) for k, v in energy["uniform box"].items()} == {k: str(v) for k, v in density["uniform box"].items()}
    norms = {"norm": lambda x: x.norm(dim=1)}
    without = outlier_panel(normal, None, scores=norms)["uniform box"]
    assert all("neither" in without[key].reason for key in MODEL_KEYS)
    assert without["norm"].value == pytest.approx(density["uniform box"]["auroc"].value)


def test_background_is_the_independent_baseline(images: Dataset, normal: Dataset) -> None:
    for data in (images, normal):
        everything = torch.cat([data.train, data.validation])
        truth = independent(data).nats
        assert not truth.missing
        assert independent_entries(data.space, everything)(data.test).mean().item() == pytest.approx(truth.value, rel=1e-3)


def test_background_of_a_mixed_table() -> None:
    import pandas as pd

    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"height": rng.normal(size=400), "count": rng.integers(2, 5, 400), "kind": rng.choice(["a", "b"], 400)})
    data = load_data(frame)
    log_p = independent_entries(data.space, data.train)
    counts = torch.arange(2.0, 5).repeat_interleave(2)
    kinds = torch.tensor([0.0, 1.0]).repeat(3)
    grid = torch.stack([torch.zeros(6), counts, kinds], 1)
    at_zero = torch.distributions.Normal(data.train[:, 0].mean(), data.train[:, 0].std()).log_prob(torch.tensor(0.0))
    assert log_p(grid).exp().sum().item() == pytest.approx(at_zero.exp().item(), rel=1e-4)
    unseen = log_p(torch.tensor([[0.0, 9.0, 0.0]]))
    assert unseen.isfinite().all() and unseen.item() < log_p(grid).min().item() - 3


def test_sets_of_the_users_own(images: Dataset, normal: Dataset) -> None:
    other = load_data(np.random.default_rng(0).integers(0, 17, (40, 8, 8)).astype(np.uint8))
    assert torch.equal(foreign(images, "other", other), other.test)
    assert foreign(images, "raw", images.restore(images.test)).shape == images.test.shape
    with pytest.raises(ValueError, match=r"'odd' does not fit the data.*admit"):
        outlier_panel(images, lambda x: x.sum(1), {"odd": torch.zeros(20, 3)})
    with pytest.raises(ValueError, match="'reals' does not fit the data: they describe"):
        foreign(images, "reals", normal)


def test_mutations_keep_to_the_space(images: Dataset, normal: Dataset) -> None:
    changed = mutated(images, 0.25)
    assert torch.equal(changed.test, images.test) and "mutated" in changed.name
    # uniform over 17 levels: one redrawn entry in 17 falls on its old value
    assert (changed.train != images.train).float().mean().item() == pytest.approx(0.25 * 16 / 17, abs=0.01)
    assert changed.train.min() >= 0 and changed.train.max() <= 16 and torch.equal(changed.train, changed.train.round())
    real = mutated(normal, 0.5)
    assert (real.train != normal.train).float().mean().item() == pytest.approx(0.5, abs=0.01)
    assert torch.isin(real.train[:, 3], normal.train[:, 3]).all() and not torch.isin(real.train[:50, 3], normal.train[:, 4]).any()
