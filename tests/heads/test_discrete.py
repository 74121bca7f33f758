"""Heads over integers: enumeration, and torch.distributions."""

from __future__ import annotations

import pytest
import torch
from torch import distributions as D

from genalloy.heads.audio import MuLaw, mu_law_decode, mu_law_encode
from genalloy.heads.discrete import Bernoulli, Categorical, LogisticMixture
from genalloy.heads.head import Head

HEADS: dict[str, tuple[Head, int]] = {
    "bernoulli": (Bernoulli(), 2), "categorical": (Categorical(5), 5),
    "logistics": (LogisticMixture(6, 3), 6), "mu-law": (MuLaw(16), 16),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADS)
def test_masses_sum_to_one_with_the_stated_mean_and_nothing_elsewhere(name: str) -> None:
    head, levels = HEADS[name]
    torch.manual_seed(0)
    distribution = head(torch.randn(4, head.width, dtype=torch.float64), 0)
    values = torch.arange(levels, dtype=torch.float64).unsqueeze(-1)
    mass = distribution.element_log_prob(values).exp()
    torch.testing.assert_close(mass.sum(0), torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close((mass * values).sum(0), distribution.mean)
    for outside in (-1.0, 0.5, levels):
        assert (distribution.element_log_prob(torch.full((4,), outside, dtype=torch.float64)) == -torch.inf).all()
    counts = torch.stack([(distribution.sample((20000,)) == v).double().mean(0) for v in values.squeeze(-1)])
    assert ((counts - mass).abs() < 5 * (mass / 20000).sqrt() + 1e-4).all()


@pytest.mark.parametrize("name", HEADS)
def test_stable_at_extreme_parameters(name: str) -> None:
    head, _ = HEADS[name]
    torch.manual_seed(1)
    raw = (20 * torch.randn(300, head.width)).requires_grad_()
    distribution = head(raw, 0)
    x = distribution.sample((20,))
    value = distribution.element_log_prob(x)
    assert torch.isfinite(value).all() and torch.isfinite(distribution.mean).all()
    assert torch.isfinite(torch.autograd.grad(value.sum(), raw)[0]).all()
    assert not x.requires_grad and not distribution.has_rsample


def test_discretised_logistics_are_differences_of_distribution_functions() -> None:
    torch.manual_seed(0)
    distribution = LogisticMixture(7, 2)(torch.randn(6, dtype=torch.float64), 0)
    edges = torch.tensor([-torch.inf, *(k - 0.5 for k in range(1, 7)), torch.inf], dtype=torch.float64).unsqueeze(-1)
    cdf = ((edges - distribution.centre) / distribution.scale).sigmoid() @ distribution.weights.softmax(-1)
    torch.testing.assert_close(distribution.element_log_prob(torch.arange(7).double()).exp(), cdf.diff())
    torch.testing.assert_close(distribution.masses().logits.exp(), cdf.diff())


def test_categorical_equals_torch() -> None:
    logits = torch.randn(3, 4, 5)
    x = torch.randint(0, 5, (2, 3, 4)).float()
    expected = D.Independent(D.Categorical(logits=logits), 1).log_prob(x)
    torch.testing.assert_close(Categorical(5)(logits, 1).density(x).value, expected)


def test_mu_law_codes() -> None:
    codes = torch.arange(256.0)
    assert (mu_law_encode(mu_law_decode(codes)) == codes).all()
    wave = torch.linspace(-1, 1, 4001, dtype=torch.float64)
    # the same rule by counting thresholds: code k + 1 begins where the companded wave passes (2k + 1) / 255 - 1
    y = wave.sign() * torch.log(1 + 255 * wave.abs()) / torch.log(torch.tensor(256.0, dtype=torch.float64))
    expected = (y.unsqueeze(-1) >= (2 * torch.arange(255) + 1) / 255 - 1).sum(-1).double()
    assert (mu_law_encode(wave) - expected).abs().max() <= 1 and ((mu_law_encode(wave) != expected).double().mean() < 0.002)
    assert (mu_law_decode(mu_law_encode(wave)) - wave).abs().max() < 0.024
    small = wave[wave.abs() < 0.01]
    assert (mu_law_decode(mu_law_encode(small)) - small).abs().max() < 4e-4
    with pytest.raises(ValueError, match=r"reaches 1\.5"):
        mu_law_encode(torch.tensor([0.0, -1.5]))
    with pytest.raises(ValueError, match="two or more"):
        MuLaw(1)


def test_the_mean_amplitude_is_the_mean_of_waves() -> None:
    head = MuLaw(16)
    distribution = head(torch.randn(2, 16), 0)
    expected = sum(distribution.logits.softmax(-1)[:, k] * head.decode(torch.tensor(float(k))) for k in range(16))
    torch.testing.assert_close(head.amplitude(distribution), expected)
    assert (head.encode(head.decode(torch.arange(16.0))) == torch.arange(16.0)).all()
