"""Baselines against laws whose entropy is known, and against the numbers published for the digits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from genalloy.core.evidence import Kind
from genalloy.data.load import load_data
from genalloy.evaluation.baselines import Baseline, baselines, independent


def by_name(found: list[Baseline]) -> dict[str, Baseline]:
    return {baseline.name: baseline for baseline in found}


def test_gaussian_data_score_minus_their_entropy() -> None:
    rng = np.random.default_rng(0)
    mix = np.array([[2.0, 0.0], [1.5, 0.5]])
    found = by_name(baselines(load_data(rng.normal(size=(20_000, 2)) @ mix.T)))
    truth = -math.log(2 * math.pi * math.e) - math.log(abs(np.linalg.det(mix)))
    for name in ("Gaussian", "mixture of 10 Gaussians"):
        nats = found[name].nats
        assert found[name].kind is Kind.EXACT and not nats.missing
        assert abs(nats.value - truth) < 4 * nats.stderr + 0.01
    assert found["independent entries"].nats.value < truth - 0.5
    assert len(found) == 3


def test_mixture_finds_the_modes() -> None:
    data = load_data("8gaussians", limit=5000)
    found = by_name(baselines(data))
    assert found["mixture of 10 Gaussians"].nats.value == pytest.approx(data.entropy_optimum, abs=0.05)
    assert found["Gaussian"].nats.value < -4


def test_independent_histograms_are_exact() -> None:
    x = np.random.default_rng(0).integers(0, 3, (500, 2))
    data = load_data(x)
    baseline = independent(data)
    train = torch.cat([data.train, data.validation])
    truth = torch.zeros(len(data.test))
    for i in range(2):
        share = torch.tensor([(train[:, i] == level).sum() + 1.0 for level in range(3)]) / (len(train) + 3)
        truth += share.log()[data.test[:, i].long()]
    assert baseline.kind is Kind.EXACT and baseline.nats.value == pytest.approx(truth.mean().item(), rel=1e-6)


def test_dequantised_bounds_stay_below_the_entropy() -> None:
    """P(x) uniform on 4 levels, 3 entries: no lower bound may exceed -3 ln 4, and the Gaussian must not be far below."""
    found = baselines(load_data(np.random.default_rng(0).integers(0, 4, (4000, 3))))
    truth = -3 * math.log(4)
    assert [b.kind for b in found] == [Kind.LOWER] * 4 + [Kind.EXACT]
    for baseline in found:
        assert truth - 0.8 < baseline.nats.value < truth + 0.01


def test_mixed_tables() -> None:
    pandas = pytest.importorskip("pandas", reason="tables are data frames")
    rng = np.random.default_rng(0)
    colour = rng.choice(["red", "green"], 4000)
    frame = pandas.DataFrame({"size": rng.normal(size=4000) + 9 * (colour == "red"), "colour": colour})
    found = by_name(baselines(load_data(frame)))
    assert found["Gaussian"].kind is Kind.LOWER and found["independent entries"].kind is Kind.EXACT
    truth = -0.5 * math.log(2 * math.pi * math.e) - math.log(2)
    assert found["mixture of 10 Gaussians"].nats.value == pytest.approx(truth, abs=0.25)
    assert found["mixture of 10 Gaussians"].nats.value < truth + 0.05


def test_refusals() -> None:
    found = by_name(baselines(load_data(np.random.default_rng(0).normal(size=(40, 60)))))
    assert found["Gaussian"].nats.missing and "61 rows" in found["Gaussian"].nats.reason
    assert not found["independent entries"].nats.missing


@pytest.mark.slow
def test_digits() -> None:
    found = by_name(baselines(load_data("digits")))
    published = {
        "Gaussian": 2.95, "Gaussian after a logit": 2.29, "mixture of 10 Gaussians": 2.62,
        "mixture of 10 Gaussians after a logit": 2.13, "independent entries": 2.43,
    }  # fmt: skip
    for name, bits in published.items():
        assert -found[name].nats.value / 64 / math.log(2) == pytest.approx(bits, abs=0.03)
