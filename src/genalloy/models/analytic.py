r"""The analytic self-test of a diffusion: its network is swapped for the exact denoiser of a law with a known density.

Reals: four equal Gaussians of variance :math:`\tau^2` at :math:`\mu_k = (\pm m, \pm m)`, :math:`m^2 + \tau^2 = 1`; on the
normalised path :math:`w = a y + s\epsilon`,

.. math:: D(w) = \sum_k \rho_k \left[\mu_k + \frac{a\tau^2}{a^2\tau^2 + s^2}(w - a\mu_k)\right], \qquad
          \rho_k \propto N(w; a\mu_k, a^2\tau^2 + s^2).

Grids: independent elements with masses :math:`p_k`, :math:`D = \sum_k l_k\,p(k|w)`. What is left to err is the user's own choice
of path, parameterisation, sampler and estimator, and its error is printed beside its order.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from genalloy.core.contexts import Context
from genalloy.core.evidence import Evidence
from genalloy.core.isolation import Stream
from genalloy.core.spec import Module
from genalloy.diffusion.parameterisations import Edm, Parameterisation, level_grid, level_log_probs
from genalloy.diffusion.paths import Path, even
from genalloy.estimators.probability_flow import ProbabilityFlowLikelihood
from genalloy.estimators.variational_bound import VariationalBound
from genalloy.samplers.ode import ProbabilityFlow
from genalloy.samplers.sampler import Sampler
from genalloy.solvers.ode import RungeKutta4

CENTRE = 0.9
VARIANCE = 1 - CENTRE**2
DIMS = 2


class Checked(NamedTuple):
    """One line of a self-test: what was measured, its value, what it should be, and whether it is."""

    what: str
    value: float
    target: str
    ok: bool


class AnalyticNetwork(Module):
    """A network's output F for an exact denoiser, through the inverse of the parameterisation. inputs: ((d,), ())."""

    def __init__(self, path: Path, parameterisation: Parameterisation, levels: int = 0) -> None:
        super().__init__()
        self.path, self.parameterisation, self.levels = path, parameterisation, levels
        self.inputs: tuple[tuple[int, ...], ...] = ((DIMS,), ())

    def forward(self, context: Context) -> Tensor:
        r"""The output F, (\*B, 2), of the exact denoiser at context = (w (\*B, 2), -lambda/4 (\*B)); or logits (\*B, 2, levels).

        F solves :math:`D(w) = c_{skip}\, x_t + c_{out} F`, :math:`x_t = w \sqrt{\alpha^2 + \sigma^2}`; logits are log-masses.
        """
        w, level = context
        lam = (-4 * level).unsqueeze(-1)
        if self.parameterisation.logits(w) is not None:
            return masses(self.levels, w).log().expand(*w.shape, -1)
        t = self.path.time(lam)
        skip, out = self.parameterisation.pair(self.path, t)
        clean = level_denoiser(w, lam, self.levels) if self.levels else mixture_denoiser(w, lam)
        return (clean - skip * w * self.path.scale(t)) / out


def centres(like: Tensor) -> Tensor:
    """(4, 2) the mixture's means."""
    return CENTRE * torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]).to(like)


def mixture_denoiser(w: Tensor, lam: Tensor) -> Tensor:
    r"""E[y | w] under the four Gaussians; w (\*B, 2), lam (\*B, 1)."""
    a, variance = torch.sigmoid(2 * lam).sqrt(), VARIANCE * torch.sigmoid(2 * lam) + torch.sigmoid(-2 * lam)
    means = centres(w)
    gaps = w.unsqueeze(-2) - a.unsqueeze(-1) * means
    shares = (-0.5 * gaps.square().sum(-1) / variance).softmax(-1).unsqueeze(-1)
    return (shares * (means + (a * VARIANCE / variance).unsqueeze(-1) * gaps)).sum(-2)


def mixture_sample(count: int) -> Tensor:
    """(count, 2) draws of the four Gaussians, in double precision."""
    means = centres(torch.zeros((), dtype=torch.float64))
    return means[torch.randint(4, (count,))] + VARIANCE**0.5 * torch.randn(count, DIMS, dtype=torch.float64)


def mixture_log_density(y: Tensor) -> Tensor:
    r"""Exact log-density, (\*B, 2) -> (\*B)."""
    gaps = (y.unsqueeze(-2) - centres(y)).square().sum(-1)
    return (-0.5 * gaps / VARIANCE).logsumexp(-1) - math.log(4 * 2 * math.pi * VARIANCE)


def masses(levels: int, like: Tensor) -> Tensor:
    """(levels,) an uneven law: much at the ends, ripples between."""
    k = torch.arange(levels).to(like)
    weights = 0.2 + torch.cos(0.9 * k).square() + 2.0 * (k == 0) + (k == levels - 1)
    return weights / weights.sum()


def level_denoiser(w: Tensor, lam: Tensor, levels: int) -> Tensor:
    r"""E[y | w] for independent elements on levels of [-1, 1]; w (\*B, 2), lam (\*B, 1)."""
    normalised = _Normalised()
    logits = masses(levels, w).log().expand(*w.shape, -1)
    return (level_log_probs(logits, w, normalised, lam.expand(w.shape)).exp() * level_grid(levels, w)).sum(-1)


class _Normalised(Path):
    """alpha^2 + sigma^2 = 1 with lambda itself as the time."""

    def alpha(self, t: Tensor) -> Tensor:
        return torch.sigmoid(2 * t).sqrt()

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sigmoid(-2 * t).sqrt()

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = self.alpha(t), self.sigma(t)
        return alpha * sigma.square(), -sigma * alpha.square()

    def time(self, lam: Tensor) -> Tensor:
        return lam


@torch.no_grad()
def self_test(part: Any) -> list[Checked]:
    """The tests of one diffusion, seconds in all; `part.swapped(network)` is the part with another network.

    Randomness is drawn from torch's global generator, which is put back as it was.
    """
    with Stream(part):
        torch.manual_seed(0)
        real = part.swapped(AnalyticNetwork(part.path, _linear(part), 0), _linear(part), 0)
        findings = [_inverse(part), _denoiser(real), *_sampling(real), *_likelihood(real, part.estimator)]
        return findings + (_grid(part, part.levels) if part.levels else [])


def _linear(part: Any) -> Parameterisation:
    """The part's own parameterisation; where its outputs are logits of levels, the one for reals."""
    own = part.parameterisation
    return own if own.width == 1 else Edm()


def _inverse(part: Any) -> Checked:
    lam = even(part.window[0], part.window[1], 201)
    error = float((part.path.lam(part.path.time(lam)) - lam).abs().max())
    return Checked(f"{part.path!r}: lambda(t(lambda)) - lambda, largest", error, "< 1e-8", error < 1e-8)


def _denoiser(real: Any) -> Checked:
    lam = even(real.window[0], real.window[1], 50)
    t = real.path.time(lam)
    y = mixture_sample(50)
    x_t = real.path.noised(y, torch.randn_like(y), t.unsqueeze(-1))
    exact = mixture_denoiser(x_t / real.path.scale(t).unsqueeze(-1), lam.unsqueeze(-1))
    error = float((real().denoise(x_t, t) - exact).abs().max())
    return Checked(f"{real.parameterisation!r}: error of the denoiser, largest", error, "< 1e-6", error < 1e-6)


def _sampling(real: Any) -> list[Checked]:
    """Error of the deterministic sampler at its own steps, and the slope of the error as steps double."""
    if not real.sampler.order:
        return _random_sampling(real)
    noise, process = torch.randn(400, DIMS, dtype=torch.float64), real().process
    exact, sampler = ProbabilityFlow(RungeKutta4(), 120)(process, noise), real.sampler
    errors = [_rms(_with_steps(sampler, n)(process, noise) - exact) for n in (_steps(sampler), 40, 80)]
    slope = math.log2(max(errors[1], 1e-12) / max(errors[2], 1e-12))
    fine = errors[2] < 1e-7 or slope > sampler.order - 0.4
    return [
        Checked(f"{sampler!r}: rms error of samples", errors[0], "< 0.1", errors[0] < 0.1),
        Checked(f"{type(sampler).__name__}: order, by halving its steps", slope, f"{sampler.order}", fine),
    ]


def _random_sampling(real: Any) -> list[Checked]:
    """A random sampler's own samples against the law: second moment, shares of the four Gaussians, mean log-density."""
    y = real().sample((4000,))
    moment = float(y.square().mean())
    corner = (y[:, 0] > 0).long() * 2 + (y[:, 1] > 0).long()
    shares = float((torch.bincount(corner, minlength=4) / len(y) - 0.25).abs().max())
    gap = float(mixture_log_density(y).mean() - mixture_log_density(mixture_sample(20_000)).mean())
    name = repr(real.sampler)
    return [
        Checked(f"{name}: mean square of samples", moment, "1 +- 0.1", abs(moment - 1) < 0.1),
        Checked(f"{name}: share of a Gaussian among samples, largest error", shares, "< 0.04", shares < 0.04),
        Checked(f"{name}: mean log-density of samples less the law's own, nats", gap, "0 +- 0.25", abs(gap) < 0.25),
    ]


def _steps(sampler: Any) -> int:
    return sampler.steps if hasattr(sampler, "steps") else _steps(sampler.sampler)


def _with_steps(sampler: Any, steps: int) -> Sampler:
    """The sampler at another number of steps, inside a wrapper too."""
    if hasattr(sampler, "steps"):
        return replace(sampler, steps=steps)
    return replace(sampler, sampler=_with_steps(sampler.sampler, steps))


def _rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


def _mean_error(evidence: Evidence) -> float:
    """Standard error of the mean over rows."""
    error = torch.zeros(1) if evidence.stderr is None else evidence.stderr
    return _rms(error) / error.numel() ** 0.5


def _likelihood(real: Any, own: Any) -> list[Checked]:
    """The probability-flow likelihood against the exact density, and the bound below it."""
    y = mixture_sample(200)
    exact, flow = mixture_log_density(y), own if isinstance(own, ProbabilityFlowLikelihood) else ProbabilityFlowLikelihood()
    estimate = flow(real(), y)
    error = float((estimate.value - exact).abs().mean())
    bound = VariationalBound(128)(real(), y)
    gap = float((exact - bound.value).mean())
    noise = 4 * _mean_error(bound)
    return [
        Checked(f"{estimate.how}: mean error, nats", error, "< 0.01", error < 0.01),
        Checked("exact log-density minus the variational bound, nats", gap, f"0 +- {noise:.2g}, tight", abs(gap) < noise + 0.01),
    ]


def _grid(part: Any, levels: int) -> list[Checked]:
    """Masses of the levels among samples, and the bound against the exact mass."""
    own = part.swapped(AnalyticNetwork(part.path, part.parameterisation, levels), part.parameterisation, levels)
    p = masses(levels, torch.zeros((), dtype=torch.float64))
    sample = own().sample((4000,)).long().flatten()
    distance = 0.5 * float((torch.bincount(sample, minlength=levels) / len(sample) - p).abs().sum())
    expected = 0.5 * float((2 * p * (1 - p) / math.pi / len(sample)).sqrt().sum())
    x = torch.multinomial(p, 2000, replacement=True).reshape(-1, DIMS)
    bound = VariationalBound(128)(own(), x.double())
    gap = float((p.log()[x].sum(-1) - bound.value).mean())
    noise = 4 * _mean_error(bound)
    limit = 0.05 + 2 * expected
    return [
        Checked(f"{part.sampler!r}: total variation from the levels' masses", distance, f"< {limit:.2g}", distance < limit),
        Checked("exact log-mass minus the variational bound, nats", gap, f"0 +- {noise:.2g}, tight", abs(gap) < noise + 0.02),
    ]
