"""What a distribution may offer beyond ``density`` and ``draw``, and how objectives find it.

Each capability is one small Protocol. Objectives and estimators name the methods that they need; before step 0 `fit`
asks :func:`require` for them, so that a mismatch is an English sentence and not an AttributeError at step 500.

Fixed preprocessing (dequantisation, scaling) must not hide capabilities: a wrapper offers ``unwrap(x)``, and
:func:`reach` walks through wrappers until it meets a distribution with the capability, carrying x along.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from torch import Tensor
from torch.distributions import Distribution as TorchDistribution

from genalloy.core.evidence import Evidence, Unavailable


class Latent(Protocol):
    """A distribution with hidden variables: `infer` encodes once, `trace` draws k samples from that encoding.

    The encoding and the trace are those of :mod:`genalloy.core.traces`.
    """

    def infer(self, x: Tensor) -> Any:
        r"""One encoding of x (\*B, \*E), which `trace` takes."""
        ...

    def trace(self, x: Tensor, k: int = 1, encoding: Any = None) -> Any:
        r"""k samples of the hidden variables from one encoding of x (\*B, \*E), by default its own; every term is (k, \*B)."""
        ...


class Codes(Protocol):
    r"""`encode(x)` gives one code per observation, (\*B, \*Z): posterior mean, or the flow's latent."""

    def encode(self, x: Tensor) -> Tensor:
        r"""The code (\*B, \*Z) of x (\*B, \*E)."""
        ...


class Scored(Protocol):
    """Gradient of the log-density with respect to x, same shape as x."""

    def score(self, x: Tensor) -> Tensor:
        r""":math:`\nabla_x \log p(x)`, (\*B, \*E), at x (\*B, \*E)."""
        ...


class Energetic(Protocol):
    r"""Unnormalised negative log-density, (\*B, \*E) -> (\*B)."""

    def energy(self, x: Tensor) -> Tensor:
        r""":math:`E(x) = -\log p(x)` up to a constant, (\*B) nats, of x (\*B, \*E)."""
        ...


class Denoises(Protocol):
    r"""Posterior mean of the data given a noised copy: E[x | x_t], (\*B, \*E) and t (\*B) in [0, 1]."""

    def denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        r"""E[x | x_t], (\*B, \*E), of x_t (\*B, \*E) at times t (\*B)."""
        ...


class Stepwise(Protocol):
    """Cached autoregressive sampling; the cache is an explicit value, never a module attribute."""

    def init_state(self, shape: tuple[int, ...]) -> Any:
        r"""The empty cache for samples of shape (\*shape, \*E)."""
        ...

    def step(self, state: Any, previous: Tensor | None) -> tuple[Any, Tensor]:
        r"""(cache, parameters (\*shape, ...) of the next step) from a cache and the values of the step before, None at first."""
        ...


class Reconstructs(Protocol):
    """`reconstruct(x)`: decoded mean of the code of x, same shape as x."""

    def reconstruct(self, x: Tensor) -> Tensor:
        r"""The decoded mean, (\*B, \*E), of the code of x (\*B, \*E)."""
        ...


class Classifies(Protocol):
    r"""`label_given_x(x)`: p(y | x) of classes y in 0..K-1, a distribution with batch (\*B) and events of shape ()."""

    def label_given_x(self, x: Tensor) -> TorchDistribution:
        r"""p(y | x) with batch (\*B) of x (\*B, \*E)."""
        ...


SIGNATURES = {
    "density": "density(x)",
    "draw": "draw()",
    "infer": "infer(x)",
    "trace": "trace(x, k)",
    "encode": "encode(x)",
    "score": "score(x)",
    "energy": "energy(x)",
    "denoise": "denoise(x_t, t)",
    "reconstruct": "reconstruct(x)",
    "label_given_x": "label_given_x(x)",
}


def has(distribution: TorchDistribution, capability: str) -> bool:
    """Whether the distribution offers a capability itself."""
    return hasattr(distribution, capability)


def offered(distribution: TorchDistribution) -> list[str]:
    """Names of the capabilities on offer, for messages."""
    return [name for name in SIGNATURES if has(distribution, name)]


class Reached(NamedTuple):
    """A distribution that has the capability, x as it sees it, and the log-density contribution of what lies between."""

    distribution: Any
    x: Tensor
    evidence: Evidence | None


def reach(distribution: TorchDistribution, x: Tensor, capability: str) -> Reached:
    """Walk through fixed preprocessing to the first distribution that has `capability`.

    Raises:
        Unavailable: naming the capability, the distribution, and what it does have.
    """
    start, between = distribution, None
    while not has(distribution, capability):
        step = distribution.unwrap(x) if hasattr(distribution, "unwrap") else None
        if step is None:
            raise Unavailable(
                f"{SIGNATURES.get(capability, capability)} is needed; {type(start).__name__} has none. "
                f"It has: {', '.join(offered(distribution)) or 'log_prob, sample'}"
            )
        distribution, x, evidence = step
        between = evidence if between is None or evidence is None else evidence.plus(between, settled=True)
    return Reached(distribution, x, between)
