r"""Bounds of latent-variable models as objectives: short functions of one shared trace.

.. math::
    \mathrm{ELBO}_\beta &= \mathbb E_r \log p(x|z) - \beta\, \mathrm{KL}(r(z|x)\,\|\,p(z)) \\
    \mathcal L_k &= \mathbb E \log \tfrac1k \sum_i \tfrac{p(x, z_i)}{r(z_i|x)}

A training objective and an evaluation label are unrelated: a beta-VAE's density() is LOWER whatever trained it.
"""

from __future__ import annotations

from torch import Tensor

from genalloy.core.capabilities import Term, Trace
from genalloy.core.evidence import Unavailable, log_mean_exp
from genalloy.core.schedules import Number, number
from genalloy.objectives.objective import Objective, Play


def batch_trace(play: Play, k: int) -> Trace:
    """The latent model's trace of the batch with k samples, once."""

    def make() -> Trace:
        distribution, x, _ = play.reach("trace")
        return distribution.trace(x, k)

    return play.once(("trace", k), make)


def kl_of(term: Term) -> Tensor:
    r"""KL(r || p) of one latent variable, (\*B): analytic where known, otherwise the sample mean of log r - log p."""
    if term.kl is not None:
        return term.kl
    return (term.log_posterior - term.log_prior).value.mean(0)


class ELBO(Objective):
    """-E[log p(x|z)] + beta KL(r(z|x) || p(z)), with free bits per latent variable.

    beta: number or schedule (Higgins et al., 2017; annealing: Bowman et al., 2016). samples: draws of z.
    free_bits: nats of KL per latent variable that are not charged, on the batch mean (Kingma et al., 2016).
    """

    needs = ("trace",)

    def __init__(self, beta: Number = 1.0, samples: int = 1, free_bits: float = 0.0) -> None:
        super().__init__()
        self.beta, self.samples, self.free_bits = beta, samples, free_bits
        self.couples = free_bits > 0

    def forward(self, play: Play) -> Tensor:
        trace = batch_trace(play, self.samples)
        beta = number(self.beta, play.step)
        loss = -trace.likelihood.value.mean()
        for term in trace.terms:
            kl = kl_of(term).mean()
            loss = loss + beta * (kl.clamp(min=self.free_bits) if self.free_bits else kl)
        return loss / play.batch.steps


class ImportanceWeightedBound(Objective):
    """The k-sample bound of IWAE (Burda, Grosse & Salakhutdinov, 2016), which rises to log p(x) with k.

    Raises Unavailable where the log-weights are not proper (an average of improper terms bounds nothing).
    """

    needs = ("trace",)

    def __init__(self, samples: int = 5) -> None:
        super().__init__()
        self.samples = samples

    def forward(self, play: Play) -> Tensor:
        weights = batch_trace(play, self.samples).log_weights()
        if not weights.proper:
            raise Unavailable(f"{self!r} needs proper log-weights; found {weights.kind.value} ({weights.how})")
        return -log_mean_exp(weights).value.mean() / play.batch.steps
