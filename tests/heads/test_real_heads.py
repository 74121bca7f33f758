"""Heads over reals: against torch.distributions, against quadrature, and at parameters where naive formulas break."""

from __future__ import annotations

import pytest
import scipy.stats
import torch
from torch import Tensor
from torch import distributions as D

from genalloy.heads.gaussian import Gaussian
from genalloy.heads.head import Factorised, Head
from genalloy.heads.logistic import ContinuousLogisticMixture, Logistic
from genalloy.heads.mixture import GaussianMixture
from genalloy.heads.student import StudentT, StudentTDistribution
from genalloy.heads.unit import Beta, Kumaraswamy, LogitNormal

REALS = {"t": StudentT(), "logistic": Logistic(), "mixture": ContinuousLogisticMixture(3), "gaussians": GaussianMixture(3)}
UNIT = {"beta": Beta(), "kumaraswamy": Kumaraswamy(), "logit-normal": LogitNormal()}
HEADS: dict[str, Head] = {"gaussian": Gaussian(), **REALS, **UNIT}


def made(head: Head, rows: int = 5, scale: float = 0.6) -> Factorised:
    torch.manual_seed(0)
    return head(scale * torch.randn(rows, head.width, dtype=torch.float64), 0)


def quadrature(name: str, count: int = 20001) -> tuple[Tensor, Tensor]:
    """Nodes and weights that reach the tails: x = sinh(v) over reals, x = sigmoid(v) over (0, 1)."""
    v = torch.linspace(-1, 1, count, dtype=torch.float64) * (36 if name in UNIT else 25)
    x, slope = (v.sigmoid(), v.sigmoid() * (-v).sigmoid()) if name in UNIT else (v.sinh(), v.cosh())
    return x.unsqueeze(-1), slope.unsqueeze(-1) * (v[1] - v[0])


@pytest.mark.parametrize("name", HEADS)
def test_integrates_to_one_with_the_stated_mean(name: str) -> None:
    distribution = made(HEADS[name])
    x, weights = quadrature(name)
    inside = (x > 0) & (x < 1) if name in UNIT else torch.ones_like(x, dtype=torch.bool)
    mass = distribution.element_log_prob(x).exp().where(inside, 0.0) * weights
    torch.testing.assert_close(mass.sum(0), torch.ones(5, dtype=torch.float64), rtol=0, atol=1e-4)
    torch.testing.assert_close((mass * x).sum(0), distribution.mean, rtol=0, atol=2e-3 if name == "t" else 1e-4)


@pytest.mark.parametrize("name", HEADS)
def test_samples_follow_the_density(name: str) -> None:
    """Means of bounded waves over samples and under the density agree to five standard errors."""
    distribution, n = made(HEADS[name]), 20000
    x, weights = quadrature(name)
    mass = distribution.element_log_prob(x).exp().nan_to_num() * weights
    drawn = distribution.sample((n,))
    for frequency in (0.7, 3.0, 9.0):
        for wave in (torch.sin, torch.cos):
            expected = (mass * wave(frequency * x)).sum(0)
            found = wave(frequency * drawn)
            assert ((found.mean(0) - expected).abs() < 5 * found.std(0) / n**0.5 + 1e-5).all(), (name, frequency)


def test_equals_torch() -> None:
    x = torch.randn(7, 5, dtype=torch.float64)
    t = made(StudentT())
    torch.testing.assert_close(t.element_log_prob(x), D.StudentT(t.df, t.loc, t.scale).log_prob(x))
    beta = made(Beta())
    torch.testing.assert_close(beta.element_log_prob(x.sigmoid()), D.Beta(beta.a, beta.b).log_prob(x.sigmoid()))
    kumaraswamy = made(Kumaraswamy())
    peer = D.Kumaraswamy(kumaraswamy.a, kumaraswamy.b)
    torch.testing.assert_close(kumaraswamy.element_log_prob(x.sigmoid()), peer.log_prob(x.sigmoid()))
    torch.testing.assert_close(kumaraswamy.mean, peer.mean)
    normal = made(LogitNormal())
    peer = D.TransformedDistribution(D.Normal(normal.loc, normal.scale), [D.SigmoidTransform()])
    torch.testing.assert_close(normal.element_log_prob(x.sigmoid()), peer.log_prob(x.sigmoid()))
    logistic = made(Logistic())
    uniform = D.Uniform(torch.zeros((), dtype=x.dtype), 1.0)
    transforms = [D.SigmoidTransform().inv, D.AffineTransform(logistic.loc, logistic.scale)]
    torch.testing.assert_close(logistic.element_log_prob(x), D.TransformedDistribution(uniform, transforms).log_prob(x))
    mixture = made(ContinuousLogisticMixture(3))
    parts = [
        D.TransformedDistribution(uniform, [D.SigmoidTransform().inv, D.AffineTransform(m, s)])
        for m, s in zip(mixture.locs.unbind(-1), mixture.scales.unbind(-1), strict=True)
    ]
    mass = sum(w * p.log_prob(x).exp() for w, p in zip(mixture.weights.softmax(-1).unbind(-1), parts, strict=True))
    torch.testing.assert_close(mixture.element_log_prob(x).exp(), mass)


@pytest.mark.parametrize("name", UNIT)
def test_nothing_outside_the_unit_interval(name: str) -> None:
    distribution = made(UNIT[name])
    x = torch.tensor([-1.0, 0.0, 1.0, 1.5], dtype=torch.float64).unsqueeze(-1)
    assert (distribution.element_log_prob(x) == -torch.inf).all()
    assert torch.isfinite(distribution.element_log_prob(torch.full((5,), 0.5, dtype=torch.float64))).all()


@pytest.mark.parametrize("name", HEADS)
def test_stable_at_extreme_parameters(name: str) -> None:
    """float32, raw parameters of scale 20: finite densities of own samples and of ordinary points, and finite gradients."""
    torch.manual_seed(1)
    head = HEADS[name]
    raw = (20 * torch.randn(400, head.width)).requires_grad_()
    distribution = head(raw, 0)
    x = distribution.sample((50,))
    assert torch.isfinite(x).all() and torch.isfinite(distribution.mean).all()
    assert name not in UNIT or ((x > 0) & (x < 1)).all()
    points = torch.tensor([1e-6, 0.1, 0.999]).unsqueeze(-1)
    for value in (distribution.element_log_prob(x), distribution.element_log_prob(points)):
        assert torch.isfinite(value).all()
        gradient = torch.autograd.grad(value.sum(), raw, retain_graph=True)[0]
        assert torch.isfinite(gradient).all()
    if distribution.has_rsample:
        assert torch.isfinite(torch.autograd.grad(distribution.rsample((20,)).sum(), raw)[0]).all()


@pytest.mark.parametrize("name", HEADS)
def test_gradients_flow_through_samples_where_promised(name: str) -> None:
    """d/d(raw) E[sin 3x] by samples equals the one by quadrature; where nothing is promised, samples carry none."""
    head = HEADS[name]
    torch.manual_seed(0)
    raw = torch.randn(head.width, dtype=torch.float64).requires_grad_()
    drawn = head(raw.expand(100000, -1), 0).rsample()
    assert drawn.requires_grad == head(raw, 0).has_rsample
    if not drawn.requires_grad:
        return
    x, weights = quadrature(name)
    mass = head(raw, 0).element_log_prob(x.squeeze(-1)).exp().nan_to_num() * weights.squeeze(-1)
    expected = torch.autograd.grad((mass * (3 * x.squeeze(-1)).sin()).sum(), raw)[0]
    found = torch.autograd.grad((3 * drawn).sin().mean(), raw)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02)


@pytest.mark.parametrize("name", HEADS)
def test_shapes_dtypes_and_event_sum(name: str) -> None:
    head = HEADS[name]
    distribution = head(torch.randn(2, 1, 3, 4, head.width, dtype=torch.float64), 2)
    assert (tuple(distribution.batch_shape), tuple(distribution.event_shape)) == ((2, 1), (3, 4))
    x = distribution.sample((5,))
    assert x.shape == (5, 2, 1, 3, 4) and x.dtype == torch.float64 and distribution.mean.shape == (2, 1, 3, 4)
    evidence = distribution.density(x)
    torch.testing.assert_close(evidence.value, distribution.element_log_prob(x).sum((-1, -2)))
    assert evidence.how == "closed form" and evidence.measure.lebesgue == 12


def test_the_mean_of_a_t_without_one_is_not_a_number() -> None:
    one = torch.ones(2, dtype=torch.float64)
    assert StudentTDistribution(one, one, torch.tensor([0.9, 1.1]), 0).mean.isnan().tolist() == [True, False]


def test_logit_normal_means_of_wide_ones() -> None:
    head = LogitNormal(floor=20.0)
    distribution = head(torch.tensor([[0.0, -30.0], [8.0, -30.0]], dtype=torch.float64), 0)
    eps = torch.linspace(-9, 9, 200001, dtype=torch.float64)
    weights = (-0.5 * eps.square()).softmax(0)
    expected = torch.sigmoid(distribution.loc[:, None] + distribution.scale[:, None] * eps) @ weights
    torch.testing.assert_close(distribution.mean, expected, rtol=0, atol=1e-4)


def test_impossible_options_are_refused() -> None:
    with pytest.raises(ValueError, match="degrees of freedom"):
        StudentT(lowest=-1.0)


def test_students_t_keeps_its_digits_with_many_degrees_of_freedom() -> None:
    """At 1e6 degrees log-gammas differ by 7 in 6e6: single precision lost .06 nats there."""
    df = torch.tensor([1.01, 5.0, 39.0, 41.0, 1e3, 1e6, 1e12])
    x = torch.full_like(df, 1.5)
    single = StudentTDistribution(torch.zeros_like(x), torch.ones_like(x), df, 0).element_log_prob(x)
    want = torch.tensor([scipy.stats.t.logpdf(1.5, float(d)) for d in df]).float()
    torch.testing.assert_close(single, want, atol=1e-5, rtol=0)
    deep = df.double().requires_grad_()
    StudentTDistribution(x.double() * 0, x.double() * 0 + 1, deep, 0).element_log_prob(x.double()).sum().backward()
    assert deep.grad is not None and bool(torch.isfinite(deep.grad).all())
