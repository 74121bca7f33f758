r"""Annealed importance sampling (Neal, 2001): log Z of an energy model along a path from its base.

With r(x) = -E(x) - log b(x), temperatures :math:`0 = \beta_0 < \dots < \beta_K = 1`, x_0 ~ b and kernels T_k that leave
:math:`b\,e^{\beta_k r}` invariant,

.. math:: \log w = \sum_k (\beta_k - \beta_{k-1})\, r(x_{k-1}), \quad x_k \sim T_k(\cdot | x_{k-1}), \quad \mathbb E w = Z.

By Jensen the logarithm of a mean of weights lies below log Z in expectation, so -E(x) minus it lies *above* log p(x): UPPER.
Without a Metropolis test the weights are biased and nothing is claimed: ESTIMATE.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution as TorchDistribution

from genalloy.capabilities import reach
from genalloy.distribution import density, leading
from genalloy.evidence import Evidence, Kind
from genalloy.mcmc.langevin import Energy, Kernel
from genalloy.mcmc.mala import MALA
from genalloy.spec import Value


class LogZ(NamedTuple):
    """log of the mean weight, its standard error (delta method), and the effective share of the chains; each (\\*B)."""

    value: Tensor
    stderr: Tensor
    share: Tensor


@dataclass(frozen=True)
class AnnealedImportance(Value):
    """chains: importance samples. temperatures: K. kernel: moves the chains at each of them.

    pilot: chains of a first run that sets the step size at each temperature (0: keep the kernel's own); the estimate uses
    fresh chains, so the bound stands.
    """

    chains: int = 256
    temperatures: int = 200
    kernel: Kernel = MALA(steps=1, step_size=0.1)  # noqa: RUF009
    pilot: int = 32

    def __call__(self, distribution: TorchDistribution, x: Tensor) -> Evidence:
        r"""-E(x) - log Z, (\*S, \*B); a distribution with energy, base and fresh, behind fixed preprocessing or not."""
        model, seen, between = reach(distribution, x, "energy")
        found = self.log_z(model)
        value = -model.energy(seen)
        how = (
            f"annealed importance sampling, {self.chains} chains x {self.temperatures} temperatures, "
            f"effective share {found.share.mean().item():.2f}"
        )
        kind = Kind.UPPER if self.kernel.adjusted else Kind.ESTIMATE
        stderr = found.stderr.expand_as(value)
        evidence = Evidence(value - found.value, kind, how, False, stderr, model.measure)
        return evidence if between is None else evidence + between

    @torch.no_grad()
    def log_z(self, model: Any) -> LogZ:
        """The normaliser of an energy distribution (see EnergyModel)."""
        factors = torch.ones(self.temperatures)
        if self.pilot:
            factors = self._anneal(model, self.pilot, factors, tune=True)[1]
        weights, _ = self._anneal(model, self.chains, factors, tune=False)
        value = weights.logsumexp(0) - math.log(self.chains)
        relative = (weights - value).exp()
        return LogZ(value, relative.std(0) / math.sqrt(self.chains), 1.0 / relative.square().mean(0))

    def _anneal(self, model: Any, chains: int, factors: Tensor, tune: bool) -> tuple[Tensor, Tensor]:
        """Log-weights (chains, *B) and step factors (K,), tuned towards 60 % acceptance where asked."""
        x = model.fresh((chains,))
        lead = leading(x, tuple(model.event_shape))
        weights, factors, level = x.new_zeros(lead), factors.clone(), 1.0
        for k in range(1, self.temperatures + 1):
            log_base = density(model.base, x).available
            weights = weights + (-model.energy(x) - log_base) / self.temperatures
            factor = level if tune else float(factors[k - 1])
            x, accepted = self.kernel.scaled(factor).run(_path(model, k / self.temperatures), x)
            if tune:
                factors[k - 1] = level
                level *= math.exp(accepted.mean().item() - 0.6)
        return weights, factors


def _path(model: Any, beta: float) -> Energy:
    """(1 - beta) (-log b) + beta E."""
    base: Callable[[Tensor], Tensor] = lambda x: density(model.base, x).available  # noqa: E731
    return lambda x: beta * model.energy(x) - (1 - beta) * base(x)
