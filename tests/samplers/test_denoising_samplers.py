"""Samplers with the exact denoiser of a mixture: order, ordering, law of the samples."""

import math

import pytest
import torch

from genalloy.diffusion.paths import (
    CosinePath,
    Karras,
    LinearPath,
    SubVariancePreserving,
    VarianceExploding,
    VariancePreserving,
    expand_time,
)
from genalloy.diffusion.process import Process
from genalloy.models.analytic import mixture_denoiser, mixture_log_density, mixture_sample
from genalloy.samplers.ancestral import DDIM, Ancestral
from genalloy.samplers.ode import AdamsBashforth, ProbabilityFlow
from genalloy.solvers.ode import RungeKutta4

PATHS = [LinearPath(), CosinePath(), VariancePreserving(), SubVariancePreserving(), VarianceExploding(), Karras()]


def denoiser(path):
    def denoise(x, t):
        times = expand_time(t, x, 1)
        return mixture_denoiser(x / path.scale(times), path.lam(times).clamp(-30, 30))

    return denoise


def run(sampler, path, noise):
    return sampler(Process(denoiser(path), path, path.clip((-4.5, 6.0))), noise)


@pytest.fixture
def noise():
    torch.manual_seed(0)
    return torch.randn(200, 2, dtype=torch.float64)


def error(sampler, path, noise):
    reference = run(ProbabilityFlow(RungeKutta4(), 120), path, noise)
    return float((run(sampler, path, noise) - reference).square().mean().sqrt())


@pytest.mark.parametrize("path", PATHS, ids=repr)
@pytest.mark.parametrize("sampler", [DDIM, AdamsBashforth, ProbabilityFlow])
def test_order_on_every_path(path, sampler, noise):
    coarse, fine = error(sampler(steps=60), path, noise), error(sampler(steps=120), path, noise)
    assert abs(math.log2(coarse / fine) - sampler().order) < 0.35


def test_adams_bashforth_needs_the_fewest_evaluations(noise):
    """At ten evaluations on the linear path: well below DDIM, and far below Heun in lambda."""
    ab, ddim, heun = (error(s, LinearPath(), noise) for s in (AdamsBashforth(10), DDIM(10), ProbabilityFlow(steps=5)))
    assert ab < 0.5 * ddim and ab < 0.5 * heun and ab < 0.03


def test_adams_bashforth_starts_at_pure_noise():
    torch.manual_seed(0)
    ends = Process(denoiser(LinearPath()), LinearPath(), (-math.inf, math.inf))
    x = AdamsBashforth(20)(ends, torch.randn(50, 2, dtype=torch.float64))
    assert torch.isfinite(x).all()


@pytest.mark.parametrize("sampler", [AdamsBashforth(40), Ancestral(200), DDIM(100), DDIM(100, 0.5)], ids=repr)
def test_samples_follow_the_law(sampler):
    """Mean log-density and moments of samples against the exact law's, within four standard errors."""
    torch.manual_seed(0)
    n = 4000
    samples = run(sampler, LinearPath(), torch.randn(n, 2, dtype=torch.float64)) / LinearPath().alpha(torch.tensor(0.0025))
    found, true = mixture_log_density(samples), mixture_log_density(mixture_sample(n))
    assert abs(found.mean() - true.mean()) < 4 * true.std() * (2 / n) ** 0.5 + 0.02
    assert abs(samples.square().mean() - 1) < 0.05
    shares = torch.tensor(
        [((samples[:, 0] > 0) == a).logical_and((samples[:, 1] > 0) == b).double().mean() for a in (0, 1) for b in (0, 1)]
    )
    assert (shares - 0.25).abs().max() < 4 * (0.25 * 0.75 / n) ** 0.5


def test_deterministic_samplers_are(noise):
    for sampler in (AdamsBashforth(5), DDIM(5), ProbabilityFlow(steps=5)):
        assert torch.equal(run(sampler, LinearPath(), noise), run(sampler, LinearPath(), noise))
    assert not torch.equal(run(Ancestral(5), LinearPath(), noise), run(Ancestral(5), LinearPath(), noise))


def test_ancestral_step_is_the_forward_posterior():
    """One step of the chain given D = y: mean and variance of q(x_s | x_t, y), by Bayes from the path's Gaussians."""
    torch.manual_seed(0)
    path, t, s, y = VariancePreserving(), torch.tensor(0.6).double(), torch.tensor(0.4).double(), 0.7
    x = torch.full((200000,), 0.3, dtype=torch.float64)
    process = Process(lambda x, t: torch.full_like(x, y), path, (float(path.lam(t)), float(path.lam(s))), 0)
    found = Ancestral(1)(process, x / path.scale(t))
    a_t, a_s, v_t, v_s = path.alpha(t), path.alpha(s), path.sigma(t) ** 2, path.sigma(s) ** 2
    ratio = a_t / a_s
    noise = v_t - ratio**2 * v_s
    mean = (ratio * v_s * 0.3 + a_s * noise * y) / v_t
    torch.testing.assert_close(found.mean(), mean, rtol=0, atol=5e-3)
    torch.testing.assert_close(found.var(), noise * v_s / v_t, rtol=0.02, atol=0)
