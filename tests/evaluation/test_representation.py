"""Probes: an accuracy with a binomial error, references over seeds, untrained twins, and no number without labels."""

from __future__ import annotations

import pytest
import torch

from genalloy.core.schema import Number, absent
from genalloy.data.dataset import Dataset
from genalloy.data.load import load_data
from genalloy.evaluation import representation as module
from genalloy.evaluation.representation import (
    linear_probe,
    neighbour_probe,
    probe,
    probe_references,
    random_encoder,
    representation_panel,
    untrained,
)
from genalloy.networks.mlp import MLP
from genalloy.recipes.composition import Target
from genalloy.recipes.registry import find


def test_probe_on_good_scaled_and_useless_codes() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = {part: torch.arange(n) % 2 for part, n in (("train", 400), ("test", 200))}
    noise = {part: torch.randn(len(y), 3, generator=generator) for part, y in labels.items()}
    good = {part: noise[part] + 2 * labels[part][:, None] for part in labels}
    result = linear_probe(good, labels)
    # Bayes: three unit normals two apart give Phi(sqrt 3) = .958
    assert not result.missing and result.value == pytest.approx(0.958, abs=0.04)
    assert result.stderr == pytest.approx((result.value * (1 - result.value) / 200) ** 0.5)
    scaled = {part: codes * torch.tensor([1e-4, 1.0, 1e4]) + 7 for part, codes in good.items()}
    assert linear_probe(scaled, labels).value == pytest.approx(result.value, abs=0.011)
    assert linear_probe(noise, labels).value == pytest.approx(0.5, abs=0.15)
    assert neighbour_probe(good, labels).value == pytest.approx(0.95, abs=0.04)
    assert neighbour_probe(noise, labels).value == pytest.approx(0.5, abs=0.15)


def test_digits_references_and_model_codes() -> None:
    data = load_data("digits")
    references = probe_references(data)
    assert set(references) == {"pixels", "pca"} and all(v.value > 0.93 for v in references.values())
    assert probe(data, lambda x: x.flatten(1)).value == pytest.approx(references["pixels"].value, abs=0.006)
    assert probe(data, lambda x: x.flatten(1).sum(1, keepdim=True)).value < 0.4


def test_missing() -> None:
    codes = {"train": torch.randn(50, 2), "test": torch.randn(30, 2)}
    labels = {"train": torch.zeros(50, dtype=torch.int64), "test": torch.zeros(30, dtype=torch.int64)}
    assert linear_probe(codes, {}).missing
    assert "single class" in linear_probe(codes, labels).reason
    assert "not finite" in linear_probe({**codes, "test": torch.full((30, 2), torch.nan)}, labels).reason


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_data("digits")


def test_panel_over_seeds(digits: Dataset) -> None:
    panel = representation_panel(digits, lambda x: x.flatten(1)[:, 20:28], seeds=3)
    names = ("codes", "pixels", "pca", "random encoder")
    assert set(panel) == {*names, *(f"{name}, neighbours" for name in names)}
    assert all("3 seeds" in r.how and r.stderr > 0 and r.low < r.value < r.high for r in panel.values())
    assert panel["pixels"].value > panel["pca"].value > panel["random encoder"].value > 0.3
    assert " 8 standardised codes" in panel["pca"].how and " 8 standardised codes" in panel["random encoder"].how
    # the interval holds the test rows' own error too
    own = (panel["codes"].value * (1 - panel["codes"].value) / 360) ** 0.5
    assert panel["codes"].high - panel["codes"].value == pytest.approx(2 * (own**2 + panel["codes"].stderr ** 2) ** 0.5)
    again = representation_panel(digits, lambda x: x.flatten(1)[:, 20:28], seeds=3)
    assert str(again) == str(panel)


def test_shuffled_codes_are_at_chance(digits: Dataset) -> None:
    generator = torch.Generator().manual_seed(0)
    parts = {part: digits.part(part).flatten(1) for part in ("train", "test")}
    rows = {part: x[torch.randperm(len(x), generator=generator)] for part, x in parts.items()}
    # ten classes of about equal size: guessing is right for about a tenth
    for kind in (linear_probe, neighbour_probe):
        result = kind(rows, digits.labels)
        assert not result.missing and result.value == pytest.approx(0.1, abs=0.06)


def test_random_encoders_differ_by_seed_alone(digits: Dataset) -> None:
    before = torch.get_rng_state()
    a, b, again = (random_encoder(digits, 6, seed)(digits.test) for seed in (0, 1, 0))
    assert a.shape == (360, 6) and torch.equal(a, again) and not torch.equal(a, b)
    assert torch.equal(before, torch.get_rng_state())


def test_an_untrained_twin_has_the_same_shape_and_other_weights(digits: Dataset) -> None:
    trained = MLP(((1, 8, 8),), 4, shift=8.0, scale=5.0)
    before = torch.get_rng_state()
    twin, again, other = (untrained(trained, seed) for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state()) and repr(twin) == repr(trained)
    weights = [torch.cat([p.flatten() for p in m.parameters()]) for m in (trained, twin, again, other)]
    assert torch.equal(weights[1], weights[2])
    # by chance a few of 25,000 weights fall on each other
    assert torch.isclose(weights[0], weights[1]).float().mean() < 0.01 and not torch.equal(weights[1], weights[3])


def test_an_untrained_twin_of_a_recipe_encodes(digits: Dataset) -> None:
    model = find("vae")(Target.of(digits)).model
    twin = untrained(model, 0, digits.train[:100])
    assert repr(twin) == repr(model) and not twin.training
    assert sum(p.numel() for p in twin.parameters()) == sum(p.numel() for p in model.parameters())
    codes = twin.part().encode(digits.test) if hasattr(twin, "part") else twin().encode(digits.test)
    assert torch.isfinite(codes).all() and codes.flatten(1).shape[0] == 360


def test_panel_without_labels() -> None:
    panel = representation_panel(load_data("moons", limit=100), lambda x: x, seeds=2)
    assert all("no labels" in result.reason for result in panel.values())


def test_one_missing_seed_leaves_no_number() -> None:
    sure, gap = Number(0.9, 0.01, 100, ""), absent("a reason")
    assert module._together([sure, gap, sure]) == gap and module._together([gap]) == gap
    assert module._together([sure, Number(0.8, 0.01, 100, "")]).value == pytest.approx(0.85)
    assert module._together([]).missing
