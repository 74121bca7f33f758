"""What a distribution may offer beyond ``density`` and ``draw``, and how objectives find it.

Each capability is one small Protocol. Objectives and estimators name the methods that they need; before step 0 `fit`
asks :func:`require` for them, so that a mismatch is an English sentence and not an AttributeError at step 500.

Fixed preprocessing (dequantisation, scaling) must not hide capabilities: a wrapper offers ``unwrap(x)``, and
:func:`reach` walks through wrappers until it meets a distribution with the capability, carrying x along.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.distributions import Distribution as TorchDistribution

from genalloy.core.evidence import Evidence, Kind, Unavailable

Context = Any
"""A tensor (\\*B, \\*E), a tuple of tensors, a record (dict) of tensors, or None. A record's parts stand in its own order."""


class Term(NamedTuple):
    r"""One latent variable of a trace: z (k, \*B, \*Z), log p(z), log r(z) and, where known, the analytic KL (\*B)."""

    name: str
    z: Tensor
    log_prior: Evidence
    log_posterior: Evidence
    kl: Tensor | None = None


class Trace(NamedTuple):
    r"""Separate terms of a latent model's log-weights; each Evidence has shape (k, \*B)."""

    likelihood: Evidence
    terms: tuple[Term, ...]
    decoded: TorchDistribution

    def log_weights(self) -> Evidence:
        """log p(x, z) - log r(z | x), (k, \\*B): LOWER and proper (one sample each)."""
        total = self.likelihood
        for term in self.terms:
            total = total + (term.log_prior - term.log_posterior)
        inner = "" if total.kind is Kind.EXACT else f"; {total.how}"
        return total.below(f"ELBO, 1 sample{inner}")


class Latent(Protocol):
    """A distribution with hidden variables: `infer` encodes once, `trace` draws k samples from that encoding."""

    def infer(self, x: Tensor) -> TorchDistribution: ...
    def trace(self, x: Tensor, k: int = 1, posterior: TorchDistribution | None = None) -> Trace: ...


class Codes(Protocol):
    """`encode(x)` gives one code per observation, (\\*B, \\*Z): posterior mean, or the flow's latent."""

    def encode(self, x: Tensor) -> Tensor: ...


class Scored(Protocol):
    """Gradient of the log-density with respect to x, same shape as x."""

    def score(self, x: Tensor) -> Tensor: ...


class Energetic(Protocol):
    """Unnormalised negative log-density, (\\*B, \\*E) -> (\\*B)."""

    def energy(self, x: Tensor) -> Tensor: ...


class Denoises(Protocol):
    """Posterior mean of the data given a noised copy: E[x | x_t], (\\*B, \\*E) and t (\\*B) in [0, 1]."""

    def denoise(self, x_t: Tensor, t: Tensor) -> Tensor: ...


class Stepwise(Protocol):
    """Cached autoregressive sampling; the cache is an explicit value, never a module attribute."""

    def init_state(self, shape: tuple[int, ...]) -> Any: ...
    def step(self, state: Any, previous: Tensor | None) -> tuple[Any, Tensor]: ...


class Reconstructs(Protocol):
    """`reconstruct(x)`: decoded mean of the code of x, same shape as x."""

    def reconstruct(self, x: Tensor) -> Tensor: ...


class Classifies(Protocol):
    r"""`label_given_x(x)`: p(y | x) of classes y in 0..K-1, a distribution with batch (\*B) and events of shape ()."""

    def label_given_x(self, x: Tensor) -> TorchDistribution: ...


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


@dataclass(frozen=True)
class Batch:
    r"""What a step sees: x (B, \*E), optional context (B, ...), rows' indices in the data set (B,)."""

    x: Tensor
    context: Context = None
    index: Tensor | None = None

    @staticmethod
    def of(item: Any) -> Batch:
        """A batch as data loaders give it: a Batch, rows alone, or a list or tuple of rows and their context (labels as floats).

        Raises ValueError for anything else.
        """
        if isinstance(item, Batch):
            return item
        parts = tuple(item) if type(item) in (list, tuple) else (item,)
        if not 1 <= len(parts) <= 2 or not hasattr(parts[0], "shape") or not hasattr(parts[-1], "shape"):
            what = f"a batch is a {type(item).__name__} of {len(parts)}"
            raise ValueError(f"{what}; expected Batch(x, context), a tensor, or (x, context); wrap it")
        return Batch(parts[0], None if len(parts) == 1 else parts[1].float())

    def __len__(self) -> int:
        return int(self.x.shape[0])

    def rows(self, select: slice | Tensor) -> Batch:
        """A subset of the rows."""
        index = None if self.index is None else self.index[select]
        return Batch(self.x[select], tree_map(lambda c: c[select], self.context), index)


def both(a: Context, b: Context) -> Context:
    """Two contexts as one, flat: both(a, None) = a. Nothing that was given on the way in is lost."""
    if a is None or b is None:
        return b if a is None else a
    return (*_parts(a), *_parts(b))


def _parts(context: Context) -> tuple[Any, ...]:
    if type(context) is dict:
        return tuple(context.values())
    return context if type(context) is tuple else (context,)


def tree_map(function: Callable[[Tensor], Tensor], context: Context) -> Context:
    """Apply a function to each tensor of a context; a tuple stays a tuple, a record a record."""
    if context is None:
        return None
    if type(context) is dict:
        return {name: function(c) for name, c in context.items()}
    return tuple(function(c) for c in context) if type(context) is tuple else function(context)


def ordered(context: Context, names: tuple[str, ...]) -> Context:
    """A record's parts as a tuple in the order of `names`; any other context, or no names, as it is.

    Raises ValueError where the record's names are others.
    """
    if type(context) is not dict or not names:
        return context
    if set(context) != set(names):
        raise ValueError(f"found a context with the parts {sorted(context)}, expected {sorted(names)}")
    return tuple(context[name] for name in names)


def batch_of(context: Context, shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
    """Batch shape of a context whose parts have the event shapes `shapes`; () without one."""
    if context is None or not shapes:
        return ()
    return tuple(torch.broadcast_shapes(*(p.shape[: p.dim() - len(s)] for p, s in zip(_parts(context), shapes, strict=True))))


def join(context: Context, shapes: tuple[tuple[int, ...], ...]) -> Tensor:
    r"""One feature vector (\*B, sum of sizes) from a context whose parts have the event shapes `shapes`.

    A label has shape (), a vector (d,), an image (C, H, W): the declared shapes tell them apart under any batch, and
    batches broadcast. Raises ValueError naming what was found and what was declared.
    """
    parts = () if context is None else _parts(context)
    if len(parts) != len(shapes):
        raise ValueError(f"found {len(parts)} context parts, expected {len(shapes)} of shapes {shapes}")
    if not parts:
        return torch.zeros(0)
    flat = [_flatten(p, s) for p, s in zip(parts, shapes, strict=True)]
    batch = torch.broadcast_shapes(*(f.shape[:-1] for f in flat))
    return torch.cat([f.expand(*batch, -1) for f in flat], -1) if len(flat) > 1 else flat[0]


def _flatten(part: Tensor, shape: tuple[int, ...]) -> Tensor:
    cut = part.dim() - len(shape)
    if cut < 0 or tuple(part.shape[cut:]) != tuple(shape):
        raise ValueError(f"found a context of shape {tuple(part.shape)}, expected one that ends in {tuple(shape)}")
    return part.reshape(*part.shape[:cut], -1).float() if part.dtype != torch.float64 else part.reshape(*part.shape[:cut], -1)
