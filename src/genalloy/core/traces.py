r"""A latent model's log-weights term by term: :math:`\log p(x|z) + \sum_g [\log p(z_g|\cdot) - \log r(z_g|\cdot)]`.

One term for each group of latents. Where the prior or the likelihood is itself a latent model, its terms stand in the same list
(``z/z`` is the code of the code), so that a bound sees every group there is and not only the outermost.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple, Protocol

from torch import Tensor
from torch.distributions import Distribution as TorchDistribution

from genalloy.core.capabilities import Reached, has
from genalloy.core.distribution import density
from genalloy.core.evidence import Evidence, Kind

Shape = tuple[int, ...]


class Encoding(Protocol):
    """What `infer(x)` returns and `trace` needs: one pass through the encoder. A distribution over codes is one."""

    @property
    def mean(self) -> Tensor:
        r"""The codes' mean, (\*B, \*Z)."""
        ...

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        r"""Codes (\*S, \*B, \*Z)."""
        ...


class Term:
    r"""One group of latents: z (k, \*B, \*Z), log p(z | groups above), log r(z | x, groups above), each (k, \*B).

    kl: in closed form where it is known, (\*B, units) or, given the groups above, (k, \*B, units): one entry for each element of
    z where both sides factorise, otherwise a single one. Prior and KL may be given as functions, called when they are first
    asked for: importance weights need no KL, and a bound with a KL in closed form no log p(z).
    """

    def __init__(
        self,
        name: str,
        z: Tensor,
        log_prior: Evidence | Callable[[], Evidence],
        log_posterior: Evidence,
        kl: Tensor | Callable[[], Tensor | None] | None = None,
    ) -> None:
        self.name, self.z, self.log_posterior = name, z, log_posterior
        self._log_prior, self._kl = log_prior, kl

    @cached_property
    def log_prior(self) -> Evidence:
        """log p(z | groups above), (k, \\*B)."""
        return self._log_prior() if callable(self._log_prior) else self._log_prior

    @cached_property
    def kl(self) -> Tensor | None:
        """KL(r || p) in closed form, None where it is not known."""
        return self._kl() if callable(self._kl) else self._kl

    def divergence(self, analytic: bool = True) -> Tensor:
        r"""KL(r || p) in nats, (..., units): in closed form, or from the samples, log r - log p, (k, \*B, 1).

        A closed form that depends on sampled groups above is a mean over these samples, as the other is over its own.
        """
        if analytic and self.kl is not None:
            return self.kl
        return (self.log_posterior.value - self.log_prior.value).unsqueeze(-1)

    def under(self, name: str) -> Term:
        """The term of a model that another one holds under a name."""
        return Term(f"{name}/{self.name}", self.z, lambda: self.log_prior, self.log_posterior, lambda: self.kl)

    def first(self) -> Term:
        """The only one of k = 1 samples."""
        log_posterior = self.log_posterior.at(0)

        def kl() -> Tensor | None:
            return self.kl[0] if self.kl is not None and self.kl.dim() > log_posterior.value.dim() + 1 else self.kl

        return Term(self.name, self.z[0], lambda: self.log_prior.at(0), log_posterior, kl)


class Trace(NamedTuple):
    r"""Separate terms of a latent model's log-weights; each Evidence has shape (k, \*B)."""

    likelihood: Evidence
    terms: tuple[Term, ...]
    decoded: TorchDistribution

    def log_weights(self) -> Evidence:
        r"""log p(x, z) - log r(z | x), (k, \*B): LOWER and proper (one sample each)."""
        total = self.likelihood
        for term in self.terms:
            total = total + (term.log_prior - term.log_posterior)
        inner = "" if total.kind is Kind.EXACT else f"; {total.how}"
        return total.below(f"ELBO, 1 sample{inner}")


def traced(distribution: Any, x: Any) -> Reached | None:
    """The latent model inside fixed preprocessing, and x as it sees it; None where there is none.

    It stops at a distribution under an estimator of its own (`Estimated`): the number that was asked for is the estimator's.
    """
    between: Evidence | None = None
    while not has(distribution, "trace"):
        inside = None if getattr(distribution, "relabelled", False) else _unwrapped(distribution, x)
        if inside is None:
            return None
        distribution, x, evidence = inside
        between = evidence if between is None or evidence is None else evidence.plus(between, settled=True)
    return Reached(distribution, x, between)


def _unwrapped(distribution: Any, x: Any) -> Any:
    return distribution.unwrap(x) if hasattr(distribution, "unwrap") else None


def surfaced(distribution: Any, x: Any, name: str) -> tuple[Evidence, tuple[Term, ...]]:
    """density(distribution, x) as what its own latents leave, and the terms of these latents, named under `name`."""
    later, terms = surfacing(distribution, x, name)
    return later() if callable(later) else later, terms


def surfacing(distribution: Any, x: Any, name: str) -> tuple[Evidence | Callable[[], Evidence], tuple[Term, ...]]:
    """The same, the density of a distribution without latents as a function: who does not ask, does not pay."""
    inside = traced(distribution, x)
    if inside is None:
        return lambda: density(distribution, x), ()
    trace = inside.distribution.trace(inside.x, 1)
    matched = trace.likelihood.at(0)
    whole = matched if inside.evidence is None else matched.plus(inside.evidence, settled=True)
    return whole, tuple(term.first().under(name) for term in trace.terms)
