"""The probe: an accuracy with a binomial error, and no number without labels."""

from __future__ import annotations

import pytest
import torch

from genalloy.data.load import load
from genalloy.evaluation.metric import Metric, Missing
from genalloy.evaluation.representation import linear_probe, probe, probe_references


def test_probe_on_good_scaled_and_useless_codes() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = {part: torch.arange(n) % 2 for part, n in (("train", 400), ("test", 200))}
    noise = {part: torch.randn(len(y), 3, generator=generator) for part, y in labels.items()}
    good = {part: noise[part] + 2 * labels[part][:, None] for part in labels}
    result = linear_probe(good, labels)
    # Bayes: three unit normals two apart give Phi(sqrt 3) = .958
    assert isinstance(result, Metric) and result.value == pytest.approx(0.958, abs=0.04)
    assert result.stderr == pytest.approx((result.value * (1 - result.value) / 200) ** 0.5)
    scaled = {part: codes * torch.tensor([1e-4, 1.0, 1e4]) + 7 for part, codes in good.items()}
    assert linear_probe(scaled, labels).value == pytest.approx(result.value, abs=0.011)
    assert linear_probe(noise, labels).value == pytest.approx(0.5, abs=0.15)


def test_digits_references_and_model_codes() -> None:
    data = load("digits")
    references = probe_references(data)
    assert set(references) == {"pixels", "pca"} and all(v.value > 0.93 for v in references.values())
    assert probe(data, lambda x: x.flatten(1)).value == pytest.approx(references["pixels"].value, abs=0.006)
    assert probe(data, lambda x: x.flatten(1).sum(1, keepdim=True)).value < 0.4


def test_missing() -> None:
    codes = {"train": torch.randn(50, 2), "test": torch.randn(30, 2)}
    labels = {"train": torch.zeros(50, dtype=torch.int64), "test": torch.zeros(30, dtype=torch.int64)}
    assert isinstance(linear_probe(codes, {}), Missing)
    assert "single class" in linear_probe(codes, labels).reason
    assert "not finite" in linear_probe({**codes, "test": torch.full((30, 2), torch.nan)}, labels).reason
