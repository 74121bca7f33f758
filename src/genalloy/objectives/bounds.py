r"""Bounds of latent-variable models as objectives: short functions of one shared encoding and trace.

.. math::
    \mathrm{ELBO}_\beta &= \mathbb E_r \log p(x|z) - \beta \sum_g \mathrm{KL}(r(z_g|x)\,\|\,p(z_g)) \\
    \mathcal L_k &= \mathbb E \log \tfrac1k \sum_i \tfrac{p(x, z_i)}{r(z_i|x)}

A training objective and an evaluation label are unrelated: a beta-VAE's density() is LOWER whatever trained it. On rows of
unequal lengths every loss is divided by the padded length.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genalloy.core.evidence import Kind, Unavailable
from genalloy.core.schedules import Number, number
from genalloy.core.spec import Value
from genalloy.core.traces import Trace
from genalloy.objectives.objective import Objective, Play
from genalloy.objectives.sources import encoding


def batch_trace(play: Play, k: int) -> Trace:
    """The latent model's trace of the batch with k samples, once, from the one encoding of the play."""

    def draw() -> Trace:
        distribution, x, _ = play.reach("trace")
        return distribution.trace(x, k, encoding(play))

    return play.once(("trace", k), draw)


@dataclass(frozen=True)
class FreeBits(Value, ABC):
    """Nats of KL that are not charged (Kingma, Salimans, Jozefowicz, Chen, Sutskever & Welling, 2016, arXiv:1606.04934).

    couples: whether the charge is of the batch's mean, so that shards of a batch do not add up.
    """

    nats: float
    couples = True

    @abstractmethod
    def charged(self, kl: Tensor) -> Tensor:
        r"""Scalar, from the KL (..., \*B, units) of one group."""


@dataclass(frozen=True)
class PerGroup(FreeBits):
    """max(nats, KL of a group, averaged over the batch)."""

    def charged(self, kl: Tensor) -> Tensor:
        return kl.sum(-1).mean().clamp(min=self.nats)


@dataclass(frozen=True)
class PerDimension(FreeBits):
    """The sum over a group's units of max(nats, KL of the unit, averaged over the batch); needs a posterior that factorises."""

    def charged(self, kl: Tensor) -> Tensor:
        return kl.flatten(0, -2).mean(0).clamp(min=self.nats).sum()


@dataclass(frozen=True)
class PerRow(FreeBits):
    """The mean over rows of max(nats, KL of a group in that row)."""

    couples = False

    def charged(self, kl: Tensor) -> Tensor:
        return kl.sum(-1).clamp(min=self.nats).mean()


class ELBO(Objective):
    """-E[log p(x|z)] + beta sum_g KL(r(z_g|x) || p(z_g)), nats; g runs over all groups of latents, nested ones too.

    beta: number or schedule (Higgins et al., 2017; annealing: Bowman et al., 2016). samples: draws of z. free_bits: what is not
    charged, PerGroup, PerDimension or PerRow. analytic: whether a KL in closed form is used where there is one, instead of the
    samples' log r - log p. Notes `reconstruction` and `kl/<group>` in the play.

    Raises Unavailable before step 0 where a part of the bound has no density, and warns where no gradient reaches the posterior.
    """

    needs = ("trace",)

    def __init__(self, beta: Number = 1.0, samples: int = 1, free_bits: FreeBits | None = None, analytic: bool = True) -> None:
        super().__init__()
        self.beta, self.samples, self.free_bits, self.analytic = beta, samples, free_bits, analytic
        self.couples = free_bits is not None and free_bits.couples

    def check(self, play: Play) -> None:
        super().check(play)
        trace = batch_trace(play, self.samples)
        priors = {f"log p({term.name})": term.log_prior for term in trace.terms}
        posteriors = {f"log r({term.name})": term.log_posterior for term in trace.terms}
        for name, evidence in {"the likelihood": trace.likelihood, **priors, **posteriors}.items():
            if evidence.kind is Kind.NONE:
                raise Unavailable(f"{self!r} cannot train this model: {name} has no density ({evidence.how})")
        self._check_encoder(play)

    def _check_encoder(self, play: Play) -> None:
        """A posterior whose codes are cut off (an argmax, a codebook) learns nothing here; another term may train it."""
        posterior: Any = getattr(play.reach("trace").distribution.part, "posterior", None)
        own = [p for p in posterior.parameters() if p.requires_grad] if hasattr(posterior, "parameters") else []
        if not own or not torch.is_grad_enabled():
            return
        slopes = torch.autograd.grad(self(play), own, allow_unused=True, retain_graph=True)
        if all(gradient is None for gradient in slopes):
            count = sum(p.numel() for p in own)
            warnings.warn(
                f"no gradient of {self!r} reaches the posterior ({count:,} parameters): its codes are cut off from its network. "
                "Use a straight-through or relaxed posterior, or add a term that trains it",
                stacklevel=2,
            )

    def forward(self, play: Play) -> Tensor:
        trace = batch_trace(play, self.samples)
        reconstruction = -trace.likelihood.value.mean()
        play.note("reconstruction", reconstruction)
        loss, beta = reconstruction, number(self.beta, play.step)
        for term in trace.terms:
            divergence = term.divergence(self.analytic)
            play.note(f"kl/{term.name}", divergence.sum(-1).mean())
            charged = divergence.sum(-1).mean() if self.free_bits is None else self.free_bits.charged(divergence)
            loss = loss + beta * charged
        return loss / play.batch.steps


class ImportanceWeightedBound(Objective):
    """The k-sample bound of IWAE (Burda, Grosse & Salakhutdinov, 2016, arXiv:1509.00519), which rises to log p(x) with k.

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
        return -weights.log_mean_exp().value.mean() / play.batch.steps
