"""Paths, parameterisations, weights and time distributions against their definitions."""

import pytest
import torch

from genalloy.diffusion.parameterisations import X0, Edm, Eps, Levels, Score, V, Velocity, level_grid, level_log_probs
from genalloy.diffusion.paths import (
    CosinePath,
    Karras,
    LinearPath,
    SubVariancePreserving,
    VarianceExploding,
    VariancePreserving,
    stratified,
)
from genalloy.diffusion.times import LogisticLambda, LogNormalSigma, UniformLambda, UniformTime
from genalloy.diffusion.weights import Likelihood, Unit

PATHS = [LinearPath(), CosinePath(), VariancePreserving(), SubVariancePreserving(), VarianceExploding(), Karras()]
HEADS = [X0(), Eps(), Score(), V(), Velocity(), Edm(), Edm(0.5)]
inner = torch.linspace(0.02, 0.98, 25, dtype=torch.float64)


@pytest.mark.parametrize("path", PATHS, ids=repr)
def test_rates_are_derivatives(path):
    t = inner.clone().requires_grad_()
    for function, rate in zip((path.alpha, path.sigma), path.rates(inner)):
        (slope,) = torch.autograd.grad(function(t).sum() + 0 * t.sum(), t)
        torch.testing.assert_close(rate, slope)


@pytest.mark.parametrize("path", PATHS, ids=repr)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 2e-4)])
def test_time_inverts_lambda(path, dtype, tolerance):
    low, high = path.clip((-4.5, 6.0))
    lam = torch.linspace(low + 1e-3, high - 1e-3, 101, dtype=dtype)
    t = path.time(lam)
    assert ((t >= 0) & (t <= 1)).all() and (t.diff() < 0).all()
    alpha, sigma = path.alpha(t.double()), path.sigma(t.double())
    assert (alpha.log() - sigma.log() - lam).abs().max() < tolerance


def test_variance_preserving_paths_keep_their_name():
    path, sub = VariancePreserving(), SubVariancePreserving()
    torch.testing.assert_close(path.alpha(inner) ** 2 + path.sigma(inner) ** 2, torch.ones_like(inner))
    torch.testing.assert_close(sub.sigma(inner), path.sigma(inner) ** 2)


@pytest.mark.parametrize("path", PATHS, ids=repr)
@pytest.mark.parametrize("head", HEADS, ids=repr)
def test_each_output_means_what_its_name_says(path, head):
    """F computed from its definition gives back D, whatever D is."""
    torch.manual_seed(0)
    t = inner[:, None]
    x_t, clean = torch.randn(25, 2, dtype=torch.float64), torch.randn(25, 2, dtype=torch.float64)
    alpha, sigma = path.alpha(t), path.sigma(t)
    alpha_rate, sigma_rate = path.rates(t)
    eps = (x_t - alpha * clean) / sigma
    norm = alpha**2 + sigma**2
    spread = getattr(head, "sd", 1.0)
    variance = (alpha * spread) ** 2 + sigma**2
    meaning = {
        "X0": clean,
        "Eps": eps,
        "Score": (alpha * clean - x_t) / sigma**2,
        "V": alpha * eps - sigma * clean,
        "Velocity": alpha_rate * clean + sigma_rate * eps,
        "Edm": (clean - alpha * spread**2 / variance * x_t) * variance.sqrt() / (sigma * spread),
    }[type(head).__name__]
    torch.testing.assert_close(head.denoised(meaning.unsqueeze(-1), x_t, path, t), clean)
    if type(head) is V:
        torch.testing.assert_close(head.pair(path, t)[0], alpha / norm)


def test_edm_output_has_unit_variance():
    """For Gaussian data of standard deviation sd the ideal regression target has variance one at every noise level."""
    torch.manual_seed(0)
    head, path = Edm(0.5), LinearPath()
    y, eps = 0.5 * torch.randn(200000, 1, dtype=torch.float64), torch.randn(200000, 1, dtype=torch.float64)
    t = torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64)
    skip, out = head.pair(path, t)
    target = (y - skip * path.noised(y, eps, t)) / out
    torch.testing.assert_close(target.var(0), torch.ones(3, dtype=torch.float64), rtol=0.02, atol=0)


@pytest.mark.parametrize("head", [Eps(), Score()], ids=repr)
@pytest.mark.parametrize("path", [LinearPath(), CosinePath()], ids=repr)
def test_singular_pairs_are_refused(head, path):
    with pytest.raises(ValueError, match=r"alpha\(1\) = 0"):
        head.refuse(path)
    head.refuse(VariancePreserving())


def test_levels_are_bayes():
    """Posterior over levels against the definition, and D is its mean."""
    path, t = LinearPath(), torch.tensor([[0.3, 0.3]], dtype=torch.float64)
    x_t, logits = torch.tensor([[0.1, -0.6]], dtype=torch.float64), torch.randn(1, 2, 5, dtype=torch.float64)
    grid = level_grid(5, x_t)
    joint = logits.softmax(-1) * torch.distributions.Normal(0.7 * grid, 0.3).log_prob(x_t.unsqueeze(-1)).exp()
    posterior = joint / joint.sum(-1, keepdim=True)
    torch.testing.assert_close(level_log_probs(logits, x_t, path, t).exp(), posterior)
    torch.testing.assert_close(Levels(5).denoised(logits, x_t, path, t), (posterior * grid).sum(-1))


@pytest.mark.parametrize("path", PATHS, ids=repr)
@pytest.mark.parametrize("times", [UniformLambda(), UniformTime(), LogisticLambda(), LogNormalSigma()], ids=repr)
def test_time_distributions_integrate(path, times):
    """du = p(lambda) dlambda: the mean of g / p over strata is the integral of g over the window."""
    window = path.clip((-3.0, 4.0))
    u = (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000
    lam, density = times.quantile(u, path, window)
    assert lam.min() > window[0] - 1e-6 and lam.max() < window[1] + 1e-6
    integral = (torch.exp(-lam.square()) / density).mean()
    grid = torch.linspace(*window, 20001, dtype=torch.float64)
    torch.testing.assert_close(integral, torch.trapezoid(torch.exp(-grid.square()), grid), rtol=1e-3, atol=0)


def test_weights():
    lam, density = torch.tensor([0.0, 1.0]), torch.tensor([0.5, 0.25])
    torch.testing.assert_close(Likelihood()(lam, density, lam), torch.exp(2 * lam) / density)
    path, t = VariancePreserving(), inner
    snr = torch.exp(2 * path.lam(t))
    torch.testing.assert_close(Unit()(t, t, Eps().unit_weight(path, t)), snr)
    torch.testing.assert_close(Unit()(t, t, V().unit_weight(path, t)), snr + 1)


def test_strata_hold_one_each():
    u = stratified(100, torch.zeros(()))
    assert sorted((u * 100).long().tolist()) == list(range(100))
