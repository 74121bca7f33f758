"""Feature spaces: scale, names, seeds, and a classifier that can classify."""

from __future__ import annotations

import pytest
import torch

from genalloy.data.dataset import Dataset
from genalloy.data.load import load_data
from genalloy.data.space import Column, Space
from genalloy.evaluation.classifier import fit_classifier
from genalloy.evaluation.features import (
    PCA,
    ClassifierFeatures,
    ColumnFeatures,
    External,
    Features,
    PixelFeatures,
    default_features,
)
from genalloy.evaluation.frechet import frechet


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_data("digits")


@pytest.mark.parametrize("features", [PixelFeatures(), PCA(10), PCA(500)])
def test_training_features_are_centred_with_unit_mean_variance(digits: Dataset, features: Features) -> None:
    codes = features.fit(digits.train)(digits.train)
    assert codes.dtype == torch.float64 and codes.mean(0).abs().max() < 1e-9
    assert codes.var(0).mean().item() == pytest.approx(1)


def test_pca_keeps_the_directions_of_largest_variance() -> None:
    x = torch.randn(500, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 5.0, 1.0, 9.0, 1.0, 0.0])
    features = PCA(2).fit(x)
    assert features.name == "pca-2" and PCA(64).fit(x).name == "pca-5"
    spread = features(x).std(0)
    assert (spread[0] / spread[1]).item() == pytest.approx(9 / 5, rel=0.1)


def test_columns_count_a_changed_category_as_one_unit() -> None:
    space = Space((2,), "table", None, (Column("a"), Column("b", "category", "str", ("x", "y", "z"))))
    rows = torch.stack([torch.arange(30.0) * 100, torch.arange(30.0) % 3], 1)
    codes = ColumnFeatures(space).fit(rows)(torch.tensor([[0.0, 0.0], [0.0, 1.0], [0.0, 2.0], [rows[:, 0].std().item(), 0.0]]))
    distance = torch.cdist(codes, codes)[0]
    assert codes.shape == (4, 4)
    torch.testing.assert_close(distance[1:] / distance[1], torch.ones(3, dtype=torch.float64))


def test_classifier_learns_is_seeded_and_leaves_the_global_generator_alone(digits: Dataset) -> None:
    state = torch.get_rng_state()
    fitted = [ClassifierFeatures(32, 120, seed).fit(digits.train, digits.labels["train"]) for seed in (0, 0, 1)]
    assert torch.equal(state, torch.get_rng_state())
    assert fitted[0].name == fitted[1].name != fitted[2].name and fitted[0].name.startswith("classifier-32[")
    probabilities = fitted[0].probabilities(digits.test)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(360, dtype=torch.float64))
    assert (probabilities.argmax(1) == digits.labels["test"]).double().mean() > 0.9
    assert fitted[0](digits.test).shape == (360, 32) and not fitted[0](digits.test).requires_grad


def test_classifier_on_vectors() -> None:
    labels = torch.arange(200) % 2
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)) + 4 * labels[:, None]
    features = ClassifierFeatures(8, 60).fit(x, labels)
    assert (features.probabilities(x).argmax(1) == labels).double().mean() > 0.95


def test_external_network_is_taken_as_it_is_under_the_users_name(digits: Dataset) -> None:
    def network(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x.mean((1, 2, 3)), x.amax((1, 2, 3)), x[:, 0, 3, 3]], 1)

    features = External(network, "three-numbers", lambda x: network(x).softmax(1)).fit(digits.train)
    torch.testing.assert_close(features(digits.test), network(digits.test).double())
    assert features.probabilities(digits.test).shape == (360, 3)
    assert frechet(features(digits.test), features(digits.train)).named(features.name).how.startswith("three-numbers: ")
    assert External(network, "bare").fit(digits.train).probabilities(digits.test) is None
    with pytest.raises(ValueError, match=r"'flat' returned shape \(1,\)"):
        External(lambda x: x.mean((1, 2, 3)), "flat").fit(digits.train)


def test_the_classifier_is_a_part_fitted_by_the_one_loop(digits: Dataset) -> None:
    features = ClassifierFeatures(16, 40).fit(digits.train, digits.labels["train"])
    log_p = features.classifier(digits.test).log_prob(digits.labels["test"].float())
    chosen = features.probabilities(digits.test).gather(1, digits.labels["test"][:, None])[:, 0]
    torch.testing.assert_close(log_p.double().exp(), chosen, atol=1e-5, rtol=1e-4)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="not fitted"):
        PixelFeatures()(torch.zeros(3, 2))
    with pytest.raises(ValueError, match="label"):
        ClassifierFeatures().fit(torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"labels in 0\.\.1"):
        fit_classifier(torch.zeros(3, 2), torch.tensor([0, 1, 2]), 2)
    assert PixelFeatures().probabilities(torch.zeros(3, 2)) is None


def test_default_choice() -> None:
    assert default_features(load_data("moons", limit=100)).name == "columns"
    assert default_features(load_data(torch.randn(100, 9).numpy())).name == "columns"
    images = torch.randint(0, 256, (200, 6, 6), dtype=torch.uint8).numpy()
    assert default_features(load_data(images)).name == "pca-36"
