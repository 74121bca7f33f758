r"""Bidirectional Monte Carlo: both sides of log p(x).

Grosse, Ghahramani & Adams, 2015, arXiv:1511.02543; Wu, Burda, Salakhutdinov & Grosse, 2017, arXiv:1611.04273.

Where x was simulated from the model, (z*, x) ~ p(z) p(x|z), the code z* that made it is an exact sample of p(z|x). Annealing
forward from the prior gives a weight of mean p(x), annealing backward from z* one whose inverse has mean 1/p(x):

.. math:: \mathbb E \log \tfrac1c \sum_i w_i \;\le\; \log p(x) \;\le\; -\mathbb E \log \tfrac1c \sum_i \tilde w_i^{-1} .

The gap bounds the error of either side on these rows. It says nothing rigorous about rows of data, for which no exact z* is
known: there it is a measure of how far annealing of this length can be trusted. (The same backward run turns exact samples of
an energy model into an upper bound of log Z, but energy models that can be sampled exactly need no such bound.)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution as TorchDistribution

from genalloy.core.capabilities import reach
from genalloy.core.evidence import Evidence, Kind, Unavailable
from genalloy.estimators.annealed_importance import AnnealedImportance, bridge_to, row_blocks
from genalloy.estimators.annealing import backward, log_mean

SIMULATED = "on rows simulated from the model"


class Sandwich(NamedTuple):
    r"""Both bounds of log p(x) at simulated rows, nats.

    lower, upper: Evidence of shape (rows,). x: the simulated rows (rows, \*E), as the latent model sees them.
    """

    lower: Evidence
    upper: Evidence
    x: Tensor

    @property
    def gap(self) -> float:
        """Mean of upper minus lower, nats."""
        return float((self.upper.value - self.lower.value).double().mean())


@torch.no_grad()
def sandwich(distribution: TorchDistribution, rows: int = 32, ais: AnnealedImportance | None = None) -> Sandwich:
    """Bounds from both sides of log p(x) for `rows` simulated rows.

    Behind fixed preprocessing, the rows and the bounds are those of the latent model inside. Raises Unavailable where there is
    none, where a part has no exact density, where a context fixes the batch, or where the kernel is not adjusted.
    """
    ais = AnnealedImportance(chains=16) if ais is None else ais
    if not ais.kernel.adjusted:
        raise Unavailable(f"both bounds need a kernel with a Metropolis test; found {ais.kernel.label}; use HMC or MALA")
    latent: Any = reach(distribution, distribution.sample(torch.Size((1,))), "trace").distribution
    if latent.batch_shape != ():
        raise Unavailable(f"simulated rows need a model without a batch of its own; found batch {tuple(latent.batch_shape)}")
    z = latent.prior.sample(torch.Size((rows,)))
    x = latent.decode(z).sample()
    lower = ais(latent, x)
    return Sandwich(_named(lower, lower.how), _upper(latent, x, z, ais), x)


def _upper(latent: Any, x: Tensor, z: Tensor, ais: AnnealedImportance) -> Evidence:
    """Every chain starts at the same exact sample: their inverse weights are dependent, but the mean stays 1/p(x)."""
    kernels, parts = ais.kernels(latent, x), row_blocks(latent, x, ais.chains)
    bounds = []
    for part, start in zip(parts, z.split(len(parts[0])), strict=True):
        path = bridge_to(latent, part, ais.start).path
        bounds.append(log_mean(-backward(path, start.expand(ais.chains, *start.shape), ais.betas, kernels)))
    value, share = (torch.cat([getattr(f, name) for f in bounds], -1) for name in ("value", "share"))
    errors = [f.stderr for f in bounds if f.stderr is not None]
    evidence = Evidence(-value, Kind.UPPER, "", False, torch.cat(errors, -1) if errors else None, latent.measure)
    return _named(evidence, f"reverse {ais.words(share)}")


def _named(evidence: Evidence, how: str) -> Evidence:
    return Evidence(evidence.value, evidence.kind, f"{how}, {SIMULATED}", evidence.proper, evidence.stderr, evidence.measure)
