"""Densities of whole data sets, in chunks, with the label that the model's evidence carries.

The work is done where the model's tensors are; what comes back is on the CPU.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution as TorchDistribution

from genalloy.core.batch import Batch
from genalloy.core.capabilities import reach
from genalloy.core.contexts import Context, tree_map
from genalloy.core.distribution import density
from genalloy.core.evidence import Evidence, Kind, join_words
from genalloy.core.observations import Masked
from genalloy.data.dataset import padded_to
from genalloy.models.completion import Completed, Completion, completer
from genalloy.training.devices import device_of
from genalloy.training.finite import not_finite
from genalloy.training.seeding import Stream, seed_all

Estimator = Callable[[TorchDistribution, Tensor], Evidence]


LABEL = "the label"
"""What a conditional model's numbers are given."""


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

    context: parts (n, *C) of a conditional model, row by row; the number is then log p(x | c), and says so.
    Every number is finite or -inf: -inf for a row with an infinite entry; rows that overflow are seen again in double precision,
    and have -inf where they still do. The kind is NONE, with the reason, where a density is +inf. Raises ValueError for a NaN
    in a row or in a weight.
    """
    asked, (x, outside) = estimator or density, _bounded(x)
    with _aside(model, seed, -3):
        parts = []
        for piece, c in placed(model, x, context, chunk):
            parts.append(asked(model(c), piece))
            if parts[-1].kind is Kind.NONE:
                return Evidence(torch.full((len(x),), torch.nan), Kind.NONE, parts[-1].how)
    stderrs = [p.stderr for p in parts if p.stderr is not None]
    stderr = torch.cat(stderrs).cpu() if len(stderrs) == len(parts) else None
    value = torch.cat([p.value for p in parts]).cpu().masked_fill(outside.cpu(), -torch.inf)
    odd = value.isnan() | (value == torch.inf)
    if bool(odd.any()):
        with _aside(model, seed, -3):
            value[odd] = _again(model, x[odd], asked, tree_map(lambda c: c[odd], context), chunk).to(value)
    first = parts[0]
    how, given = (first.how, "") if context is None else (f"{first.how}; given {LABEL}", LABEL)
    if bool((value == torch.inf).any()):
        return Evidence(torch.full_like(value, torch.nan), Kind.NONE, _infinite(value), measure=first.measure, given=given)
    return Evidence(value, first.kind, how, all(p.proper for p in parts), stderr, first.measure, given)


def _bounded(x: Any) -> tuple[Any, Tensor]:
    """Rows with zeros for infinite entries, and which rows (N,) have one. Raises ValueError, naming the first, for NaN."""
    seen = x.x.masked_fill(~x.mask, 0.0) if type(x) is Masked else x
    missing = seen.isnan().flatten(1).any(1)
    if bool(missing.any()):
        raise ValueError(f"row {int(missing.nonzero()[0])} holds NaN; expected numbers; drop such rows or fill them in")
    outside = seen.isinf()
    if not bool(outside.any()):
        return x, outside.flatten(1).any(1)
    whole = seen.masked_fill(outside, 0.0)
    return Masked(whole, x.mask) if type(x) is Masked else whole, outside.flatten(1).any(1)


def _again(model: nn.Module, x: Any, asked: Estimator, context: Context, chunk: int) -> Tensor:
    """Rows whose number is no number, in double precision; -inf where they still overflow, since every weight is finite."""
    if (words := not_finite(model)) is not None:
        raise ValueError(f"{words}, so no density is a number; train again, with a lower learning rate or clipped gradients")
    twin, doubled = copy.deepcopy(model).double(), tree_map(Tensor.double, context)
    values = [asked(twin(c), piece).value for piece, c in placed(twin, x.to(torch.float64), doubled, chunk)]
    return torch.cat(values).cpu().nan_to_num(-torch.inf, torch.inf, -torch.inf)


def _infinite(values: Tensor) -> str:
    rows = f"{int((values == torch.inf).sum()):,} of {len(values):,} rows"
    return f"the density is infinite on {rows}: a scale has collapsed to zero"


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
    """One completion of each row x (N, *E) that keeps its known (N, *E) entries, by the model's own `complete`.

    By what law, `law_of` says; `completions` draws from p(the rest | what is given). Raises Unavailable where the model has none.
    """
    chunks = []
    with _aside(model, seed, -4):
        for row, c in placed(model, torch.stack([x, known.to(x.dtype)], 1), context, chunk):
            chunks.append(completer(model(c))(row[:, 0], row[:, 1].bool()))
    return torch.cat(chunks).cpu()


@torch.no_grad()
def completions(model: Any, x: Tensor, known: Tensor, scheme: Completion, seed: int = 0, context: Context = None) -> Completed:
    """One completion of each row x (N, *E) by a scheme, equal rows together; x, known (N, *E) and context as of `complete`."""
    groups: dict[bytes, list[int]] = {}
    for i in range(len(x)):
        parts = (x[i].masked_fill(~known[i], 0.0), known[i], *(_leaves(context, i)))
        groups.setdefault(b"".join(part.cpu().numpy().tobytes() for part in parts), []).append(i)
    values, effective, how = torch.empty_like(x), torch.full((len(x),), torch.nan), ""
    with _aside(model, seed, -4):
        for rows in groups.values():
            first = rows[0]
            completed = scheme(model(tree_map(lambda c: c[first], context)), x[first], known[first], len(rows))  # noqa: B023
            values[rows], how = completed.values.to(values), join_words(how, completed.how)
            effective[rows] = effective[rows] if completed.effective is None else completed.effective.to(effective)
    return Completed(values, how, None if bool(effective.isnan().all()) else effective)


def _leaves(context: Context, row: int) -> list[Tensor]:
    """The parts of a context at one row."""
    parts: list[Tensor] = []
    tree_map(lambda c: parts.append(c[row]) or c, context)  # type: ignore[func-returns-value]
    return parts


def pieces(x: Any, context: Context, chunk: int) -> Iterator[tuple[Any, Context]]:
    """Rows in chunks, each with its own rows of the context."""
    for start in range(0, len(x), chunk):
        piece = Batch(x, context).rows(slice(start, start + chunk))
        yield piece.x, piece.context


def placed(model: nn.Module, x: Any, context: Context, chunk: int) -> Iterator[tuple[Any, Context]]:
    """The same where the model is."""
    device = device_of(model)
    for piece, c in pieces(x, context, chunk):
        yield tree_map(lambda t: t.to(device), piece), tree_map(lambda t: t.to(device), c)


@torch.no_grad()
def minus_energy(model: nn.Module, x: Tensor, chunk: int = 256, seed: int = 0) -> Tensor:
    """-E(x) (n,) of an unnormalised model, with what fixed preprocessing adds: no log-density, only one up to a constant.

    Finite or -inf, as :func:`score`'s are. Raises Unavailable where the model has no energy.
    """
    return score(model, x, _minus_energy, chunk, seed).value


def _minus_energy(distribution: TorchDistribution, x: Tensor) -> Evidence:
    inner, seen, between = reach(distribution, x, "energy")
    value = -inner.energy(seen)
    return Evidence(value if between is None else value + between.value, Kind.ESTIMATE, "minus the energy")


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
