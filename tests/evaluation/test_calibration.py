"""Calibration: zero for true probabilities within error, known for false ones; Bayes' rule for generative classifiers."""

from __future__ import annotations

import math
from importlib import import_module

import pytest
import torch
from torch import Tensor

from genalloy.evaluation.calibration import KEYS, by_class, calibration, class_log_probabilities, reliability

module = import_module("genalloy.evaluation.calibration")


def answers(n: int, sharpen: float = 1.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits (n, 5) and labels drawn from them; the logits are then sharpened."""
    generator = torch.Generator().manual_seed(seed)
    logits = 1.5 * torch.randn(n, 5, generator=generator)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)
    return sharpen * logits, labels


def test_true_probabilities_are_calibrated_within_error() -> None:
    panel = calibration(*answers(10_000))
    ece, null = panel["ece"], panel["ece_null"]
    assert not ece.missing and not null.missing and ece.low is not None and ece.high is not None
    assert 0 < null.value < 0.02 and abs(ece.value - null.value) < 4 * null.stderr
    assert ece.low == 0 and ece.high < 0.02
    assert panel["rmsce"].value < 0.015
    # few rows: the plain error is far from zero, the one expected of a calibrated classifier as well
    few = calibration(*answers(100))
    assert few["ece_null"].value > 0.04 and abs(few["ece"].value - few["ece_null"].value) < 4 * few["ece_null"].stderr


def test_overconfidence_has_a_known_error() -> None:
    logits = torch.tensor([[math.log(9), 0.0]]).expand(1000, 2)
    labels = (torch.arange(1000) >= 700).long()
    panel = calibration(logits, labels)
    assert panel["accuracy"].value == 0.7
    assert panel["ece"].value == pytest.approx(0.2) and panel["rmsce"].value == pytest.approx(0.2, abs=0.001)
    binomial = math.sqrt(0.7 * 0.3 / 1000)
    assert panel["ece"].stderr == pytest.approx(binomial, rel=0.15)
    assert panel["ece"].low == pytest.approx(0.2 - 2 * binomial, abs=0.004)
    assert panel["nll"].value == pytest.approx(-0.7 * math.log(0.9) - 0.3 * math.log(0.1), rel=1e-5)
    assert panel["brier"].value == pytest.approx(0.7 * 2 * 0.1**2 + 0.3 * 2 * 0.9**2)
    sharp = calibration(*answers(5000, 3.0))
    assert sharp["ece"].low > 3 * sharp["ece_null"].value and sharp["rmsce"].value > 0.1


def test_the_squared_error_is_free_of_the_noise_of_few_rows() -> None:
    plain, debiased = [], []
    for seed in range(30):
        logits, labels = answers(300, seed=seed)
        curve = reliability(logits, labels)
        used = curve.counts > 0
        gaps = (curve.accuracy - curve.confidence)[used].square() * curve.counts[used] / 300
        plain.append(gaps.sum().sqrt().item())
        debiased.append(module._rmsce(*module._confidence(logits, labels), module.BINS))
    assert sum(debiased) < 0.6 * sum(plain) and sum(plain) / 30 > 0.06


def test_brier_is_better_for_the_truth() -> None:
    truth, sharp, flat = (calibration(*answers(5_000, s)) for s in (1.0, 2.0, 0.5))
    for key in ("brier", "nll"):
        assert truth[key].value < min(sharp[key].value, flat[key].value)


def test_reliability_curve() -> None:
    p = torch.tensor([0.95, 0.91, 0.62, 0.66])
    logits = torch.stack([p, 1 - p], 1).double().log()
    curve = reliability(logits, torch.tensor([0, 1, 0, 0]), bins=3)
    assert curve.counts.tolist() == [0, 2, 2] and curve.edges.tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert curve.confidence[0].isnan() and curve.confidence[1:].tolist() == pytest.approx([0.64, 0.93], abs=1e-4)
    assert curve.accuracy[1:].tolist() == [1.0, 0.5]
    edges = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0], dtype=torch.float64)
    assert module._binned(edges, edges, 4)[0].tolist() == [2, 1, 1, 1]


def test_bayes_rule() -> None:
    means = torch.tensor([-1.0, 2.0])
    prior = torch.tensor([0.9, 0.1]).log()

    def log_p(x: Tensor, y: Tensor) -> Tensor:
        return torch.distributions.Normal(means[y], 1.0).log_prob(x.squeeze(1))

    x = torch.linspace(-3, 3, 11).unsqueeze(1).requires_grad_()
    found = by_class(log_p, 2, prior)(x)
    # log-odds of two unit normals: 3 x - (4 - 1) / 2, plus the prior's
    odds = 3 * x.squeeze(1) - 1.5 + math.log(1 / 9)
    torch.testing.assert_close(found[:, 1] - found[:, 0], odds)
    torch.testing.assert_close(found.exp().sum(1), torch.ones(11))
    (gradient,) = torch.autograd.grad((found[:, 1] - found[:, 0]).sum(), x)
    torch.testing.assert_close(gradient, torch.full_like(x, 3.0))
    assert class_log_probabilities(torch.tensor([-5.0, -5.0])).exp().tolist() == pytest.approx([0.5, 0.5])
    assert class_log_probabilities(torch.full((2,), -torch.inf)).isnan().all()


def test_missing() -> None:
    logits, labels = answers(200)
    panel = calibration(logits, labels)
    assert tuple(panel) == KEYS
    assert all("needs at least" in r.reason for r in calibration(logits[:10], labels[:10]).values())
    logits[3, 2] = torch.nan
    assert all("1 of 200 rows are not finite" in r.reason for r in calibration(logits, labels).values())
    hard = torch.nn.functional.one_hot(labels, 5).double().log()
    assert calibration(hard, labels)["nll"].value == 0
    assert calibration(hard, (labels + 1) % 5)["nll"].missing
    with pytest.raises(ValueError, match=r"expected 0\.\.4"):
        calibration(torch.zeros(100, 5), torch.full((100,), 5))
