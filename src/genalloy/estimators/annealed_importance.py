"""Annealed importance sampling (Neal, 2001, arXiv:physics/9803008): log Z of an energy model, log p(x) of a latent model.

Energy model, base b: with r(x) = -E(x) - log b(x) the mean weight estimates Z. By Jensen the logarithm of a mean of weights
lies below log Z in expectation, so -E(x) minus it lies *above* log p(x): UPPER.

Latent model, one path for each datum x (Wu, Burda, Salakhutdinov & Grosse, 2017, arXiv:1611.04273): from b(z) = p(z) with
r(z) = log p(x|z), or from b(z) = q(z|x) with r(z) = log p(x|z) + log p(z) - log q(z|x). Now Z = p(x): LOWER, and proper.

Without a Metropolis test the weights are biased and nothing is claimed: ESTIMATE.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution as TorchDistribution

from genalloy.core.capabilities import has, offered, reach
from genalloy.core.distribution import density, measure_of
from genalloy.core.evidence import Evidence, Kind, Unavailable
from genalloy.core.observations import in_blocks, leading, repeat
from genalloy.core.spec import Value
from genalloy.estimators.annealing import AnnealingPath, LogMean, forward, log_mean, temperatures, tuned
from genalloy.mcmc.langevin import Kernel
from genalloy.mcmc.mala import MALA

MOST_FLOATS = 2**22
"""Floats of observations that chains x rows hold at once; rows beyond it wait their turn."""


class Start(Value, ABC):
    """Where the path for a latent model's datum begins."""

    @abstractmethod
    def base(self, latent: Any, x: Tensor) -> TorchDistribution:
        r"""The distribution b(z) for rows x (\*B, \*E)."""


@dataclass(frozen=True)
class FromPrior(Start):
    """:math:`b(z) = p(z)`: needs nothing of the inference network."""

    def base(self, latent: Any, x: Tensor) -> TorchDistribution:
        """The model's prior."""
        return latent.prior


@dataclass(frozen=True)
class FromPosterior(Start):
    """:math:`b(z) = q(z|x)`: a shorter path where q is good.

    Chains that q never starts near are missed, as in importance weighting.
    """

    def base(self, latent: Any, x: Tensor) -> TorchDistribution:
        """The model's posterior at x."""
        return latent.infer(x)


@dataclass(frozen=True)
class AnnealedImportance(Value):
    r""":math:`\log p(x)` from :math:`\log \tfrac1c \sum_i w_i`, nats, by annealed chains; the module says which side it lies on.

    Neal, 2001, arXiv:physics/9803008. chains: c, importance samples (for each row of a latent model). temperatures: K. kernel:
    moves the chains at each of them.

    pilot: chains of a first run that sets the step size at each temperature (0: keep the kernel's own); the estimate uses fresh
    chains, so the bound stands. start: of a latent model's path. bend: of the temperatures, see `annealing`.
    """

    chains: int = 256
    temperatures: int = 200
    kernel: Kernel = MALA(steps=1, step_size=0.1)  # noqa: RUF009
    pilot: int = 32
    start: Start = field(default_factory=FromPrior)
    bend: float = 4.0

    def __call__(self, distribution: TorchDistribution, x: Tensor) -> Evidence:
        r"""log p(x), (\*S, \*B); distributions with an energy, or with latents, behind fixed preprocessing or not.

        Raises Unavailable where there is neither, or where a part of the latent model has no exact density in reals.
        """
        for capability, estimate in (("energy", self._of_energy), ("trace", self._of_latent)):
            try:
                model, seen, between = reach(distribution, x, capability)
            except Unavailable:
                continue
            evidence = estimate(model, seen)
            return evidence if between is None else evidence + between
        raise Unavailable(
            f"annealing needs energy(x), or trace(x, k) of a latent model; {type(distribution).__name__} has neither. "
            f"It has: {', '.join(offered(distribution)) or 'log_prob, sample'}"
        )

    @property
    def betas(self) -> list[float]:
        r""":math:`\beta_0 .. \beta_K`, K + 1 floats from 0 to 1."""
        return temperatures(self.temperatures, self.bend)

    @torch.no_grad()
    def log_z(self, model: Any) -> LogMean:
        """log Z of an energy distribution (see EnergyModel), nats, one number; an adjusted kernel's mean lies below log Z."""
        path = AnnealingPath(
            lambda x: density(model.base, x).available, lambda x: -model.energy(x) - density(model.base, x).available
        )
        kernels = tuned(path, model.fresh((self.pilot,)), self.betas, self.kernel) if self.pilot else self._plain
        return log_mean(forward(path, model.fresh((self.chains,)), self.betas, kernels))

    @property
    def _plain(self) -> list[Kernel]:
        return [self.kernel] * (self.temperatures + 1)

    def words(self, share: Tensor) -> str:
        """How the number was made, given the effective share of the chains."""
        size = f"{self.chains} chains x {self.temperatures} temperatures, {type(self.kernel).__name__}"
        return f"annealed importance sampling, {size}, effective share {share.double().mean().item():.2f}"

    def _of_energy(self, model: Any, x: Tensor) -> Evidence:
        log_z, value = self.log_z(model), -model.energy(x)
        # a base that is itself a bound leaves the side of -E(x) unknown
        exact = density(model.base, x).kind is Kind.EXACT
        kind = Kind.UPPER if self.kernel.adjusted and exact else Kind.ESTIMATE
        stderr = None if log_z.stderr is None else log_z.stderr.expand_as(value)
        return Evidence(value - log_z.value, kind, self.words(log_z.share), False, stderr, model.measure)

    @torch.no_grad()
    def _of_latent(self, latent: Any, x: Tensor) -> Evidence:
        leading(x, tuple(latent.event_shape))
        kernels = self.kernels(latent, x)
        blocks = [log_mean(self._weights(latent, rows, kernels)) for rows in row_blocks(latent, x, self.chains)]
        value, share = (torch.cat([getattr(f, name) for f in blocks], -1) for name in ("value", "share"))
        errors = [f.stderr for f in blocks if f.stderr is not None]
        stderr = torch.cat(errors, -1) if errors else None
        adjusted = self.kernel.adjusted
        kind = Kind.LOWER if adjusted else Kind.ESTIMATE
        return Evidence(value, kind, self.words(share), adjusted, stderr, latent.measure)

    def _weights(self, latent: Any, x: Tensor, kernels: list[Kernel]) -> Tensor:
        bridge = bridge_to(latent, x, self.start)
        return forward(bridge.path, bridge.fresh(self.chains), self.betas, kernels)

    def kernels(self, latent: Any, x: Tensor) -> list[Kernel]:
        """One for each temperature, K + 1 with beta_0, from a pilot run on some of the rows."""
        if not self.pilot:
            return self._plain
        some = x[: self.pilot] if _free(latent, x) else x
        bridge = bridge_to(latent, some, self.start)
        rows = max(math.prod(leading(some, tuple(latent.event_shape))), 1)
        return tuned(bridge.path, bridge.fresh(-(-self.pilot // rows)), self.betas, self.kernel)


class Bridge(NamedTuple):
    """The path of a latent model for rows x, and where it starts."""

    path: AnnealingPath
    base: TorchDistribution
    missing: tuple[int, ...]

    def fresh(self, chains: int) -> Tensor:
        r"""Samples of the base, (chains, \*B, \*Z)."""
        return self.base.sample(torch.Size((chains, *self.missing)))


def bridge_to(latent: Any, x: Tensor, start: Start) -> Bridge:
    r"""The path from `start` to p(x, z) for rows x (\*B, \*E), over z (chains, \*B, \*Z).

    Raises Unavailable where z is not real, or where prior, likelihood or the start have no exact density.
    """
    absent = [name for name in ("prior", "decode", "infer") if not has(latent, name)]
    if absent:
        raise Unavailable(f"annealing needs a latent model with prior, decode, infer; {type(latent).__name__} lacks {absent}")
    base, lead = start.base(latent, x), leading(x, tuple(latent.event_shape))
    missing = lead[: len(lead) - len(base.batch_shape)]

    def likelihood(z: Tensor) -> Tensor:
        return density(latent.decode(z), repeat(x, z.shape[0])).value

    def tilt(z: Tensor) -> Tensor:
        return likelihood(z) + density(latent.prior, z).value - density(base, z).value

    bridge = Bridge(AnnealingPath(lambda z: density(base, z).value, likelihood if base is latent.prior else tilt), base, missing)
    _refuse(latent, base, bridge.fresh(1), x)
    return bridge


def _refuse(latent: Any, base: TorchDistribution, z: Tensor, x: Tensor) -> None:
    """Annealing in z needs exact, differentiable densities of real codes."""
    if measure_of(latent.prior).counting or not measure_of(latent.prior).lebesgue:
        raise Unavailable("annealing moves z by gradients, and the codes are discrete; enumerate them, or use ImportanceWeighted")
    evidences = {"prior": density(latent.prior, z), "start": density(base, z)}
    evidences["likelihood"] = density(latent.decode(z), repeat(x, 1))
    for role, evidence in evidences.items():
        if evidence.kind is not Kind.EXACT:
            raise Unavailable(
                f"annealing needs an exact {role}; found {evidence.kind.value} ({evidence.how}); "
                "ImportanceWeighted takes proper bounds"
            )


def _free(latent: Any, x: Tensor) -> bool:
    """Whether rows may be taken apart: nothing but x decides the batch."""
    return latent.batch_shape == () and len(x.shape) == len(latent.event_shape) + 1


def row_blocks(latent: Any, x: Any, chains: int) -> list[Any]:
    """Rows in blocks whose chains fit in memory."""
    size = max(1, MOST_FLOATS // (chains * max(latent.event_shape.numel(), 1)))
    return in_blocks(x, size) if _free(latent, x) else [x]
