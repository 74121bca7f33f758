"""Densities of whole data sets, in chunks, with the label that the model's evidence carries.

The work is done where the model's tensors are; what comes back is on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution as TorchDistribution

from genalloy.capabilities import Context, reach, tree_map
from genalloy.data.dataset import padded_to
from genalloy.distribution import Masked, density
from genalloy.evidence import Evidence, Kind, Unavailable
from genalloy.training.devices import device_of
from genalloy.training.seeding import Stream, seed_all

Estimator = Callable[[TorchDistribution, Tensor], Evidence]


@torch.no_grad()
def score(
    model: nn.Module,
    x: Tensor | Masked,
    estimator: Estimator | None = None,
    chunk: int = 256,
    seed: int = 0,
    context: Context = None,
) -> Evidence:
    """density(x), or estimator(model(c), x), for every row; in eval mode, from a random stream of its own.

    context: parts (n, *C) of a conditional model, row by row; the number is then log p(x | c), and `how` says so.
    """
    given = "" if context is None else "; given the label"
    with _aside(model, seed, -3):
        parts = []
        for piece, c in placed(model, x, context, chunk):
            parts.append(estimator(model(c), piece) if estimator else density(model(c), piece))
            if parts[-1].kind is Kind.NONE:
                return Evidence(torch.full((len(x),), torch.nan), Kind.NONE, parts[-1].how)
    stderrs = [p.stderr for p in parts if p.stderr is not None]
    stderr = torch.cat(stderrs).cpu() if len(stderrs) == len(parts) else None
    value, proper = torch.cat([p.value for p in parts]).cpu(), all(p.proper for p in parts)
    return Evidence(value, parts[0].kind, parts[0].how + given, proper, stderr, parts[0].measure)


@torch.no_grad()
def sample(
    model: nn.Module, count: int, chunk: int = 500, seed: int = 0, context: Context = None, lengths: Tensor | None = None
) -> Tensor:
    """`count` samples (count, *E), from a random stream of their own; context: one (count, *C) for each of them.

    lengths (count,): zeros behind so many steps; a beginning of an autoregressive sample is a sample of the beginning's law.
    """
    with _aside(model, seed, -4):
        rows = placed(model, torch.empty(count), context, chunk)
        drawn = [model(c).sample(() if c is not None else (len(row),)) for row, c in rows]
    return padded_to(torch.cat(drawn).cpu(), lengths)


@torch.no_grad()
def complete(model: Any, x: Tensor, known: Tensor, chunk: int = 500, seed: int = 0, context: Context = None) -> Tensor:
    """One completion of each row x (N, *E) that keeps its known (N, *E) entries. Raises Unavailable where the model has none."""
    made = []
    with _aside(model, seed, -4):
        for row, c in placed(model, torch.stack([x, known.to(x.dtype)], 1), context, chunk):
            made.append(_completes(model(c))(row[:, 0], row[:, 1].bool()))
    return torch.cat(made).cpu()


def _completes(distribution: Any) -> Any:
    if not hasattr(distribution, "complete"):
        raise Unavailable(
            f"complete(x, known) is needed; {type(distribution).__name__} has none. Autoregressive and any-order models have it"
        )
    return distribution.complete


def pieces(x: Any, context: Context, chunk: int) -> Iterator[tuple[Any, Context]]:
    """Rows in chunks, each with its own rows of the context."""
    for start in range(0, len(x), chunk):
        rows = slice(start, start + chunk)
        yield x[rows], tree_map(lambda c: c[rows], context)  # noqa: B023


def placed(model: nn.Module, x: Any, context: Context, chunk: int) -> Iterator[tuple[Any, Context]]:
    """The same where the model is."""
    device = device_of(model)
    for piece, c in pieces(x, context, chunk):
        yield tree_map(lambda t: t.to(device), piece), tree_map(lambda t: t.to(device), c)


@torch.no_grad()
def minus_energy(model: nn.Module, x: Tensor, chunk: int = 256, seed: int = 0) -> Tensor:
    """-E(x) (n,) of an unnormalised model, with what fixed preprocessing adds: no log-density, only one up to a constant.

    Raises Unavailable where the model has no energy.
    """
    parts = []
    with _aside(model, seed, -3):
        for piece, _ in placed(model, x, None, chunk):
            inner, seen, between = reach(model(), piece, "energy")
            parts.append(-inner.energy(seen) + (0.0 if between is None else between.value))
    return torch.cat(parts).cpu()


@contextmanager
def _aside(model: nn.Module, *key: int) -> Iterator[None]:
    """Eval mode and a random stream of the key's own; both are put back as they were."""
    with Stream(model):
        was_training = model.training
        model.eval()
        seed_all(*key)
        try:
            yield
        finally:
            model.train(was_training)


def encode(model: nn.Module, x: Tensor | Masked, context: Context = None, seed: int = 0) -> Tensor:
    """Codes (n, code size) of rows (n, *E), in eval mode, noise of dequantisation from a stream of its own.

    Raises Unavailable where the model has none.
    """
    parts = []
    with _aside(model, seed, -3):
        for piece, c in placed(model, x, context, 512):
            inner, seen, _ = reach(model(c), piece, "encode")
            parts.append(inner.encode(seen).flatten(1))
    return torch.cat(parts).cpu()
