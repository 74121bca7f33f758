"""Densities of whole data sets, in chunks, with the label that the model's evidence carries."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution as TorchDistribution

from genalloy.capabilities import Context, reach, tree_map
from genalloy.data.dataset import padded_to
from genalloy.distribution import Masked, density
from genalloy.evidence import Evidence, Kind, join_words
from genalloy.models.completion import Completed, Completion, completer
from genalloy.training.seeding import Stream, seed_all

Estimator = Callable[[TorchDistribution, Tensor], Evidence]


LABEL = "the label"
"""What a conditional model's numbers are given."""


@dataclass(frozen=True)
class Scores:
    """One number a row, nats, with the claim they share. stderr: the estimator's own, per row, where it is known.

    given: what the numbers are conditional on, "" for log p(x) itself; one is never to be ranked beside the other.
    """

    values: Tensor
    kind: Kind
    how: str
    stderr: Tensor | None = None
    given: str = ""

    def mean(self) -> float:
        return float(self.values.mean())

    def __str__(self) -> str:
        if self.kind is Kind.NONE:
            return f"n/a ({self.how})"
        claim = f"{self.kind.relation} {self.mean():.5g} nats over {len(self.values)} rows"
        given = f" | {self.given}" if self.given else ""
        return f"mean log p(x{given}) {claim} ({self.kind.value}; {self.how})"


@torch.no_grad()
def score(
    model: nn.Module,
    x: Tensor | Masked,
    estimator: Estimator | None = None,
    chunk: int = 256,
    seed: int = 0,
    context: Context = None,
) -> Scores:
    """density(x), or estimator(model(c), x), for every row; in eval mode, from a random stream of its own.

    context: parts (n, *C) of a conditional model, row by row; the number is then log p(x | c), and says so.
    Every number is finite or -inf: -inf for a row with an infinite entry; rows that overflow are seen again in double precision,
    and have -inf where they still do. The kind is NONE, with the reason, where a density is +inf. Raises ValueError for a NaN
    in a row or in a weight.
    """
    asked, (x, outside) = estimator or density, _bounded(x)
    with _aside(model, seed, -3):
        parts = []
        for piece, c in pieces(x, context, chunk):
            parts.append(asked(model(c), piece))
            if parts[-1].kind is Kind.NONE:
                return Scores(torch.full((len(x),), torch.nan), Kind.NONE, parts[-1].how)
    stderrs = [p.stderr for p in parts if p.stderr is not None]
    stderr = torch.cat(stderrs) if len(stderrs) == len(parts) else None
    values = torch.cat([p.value for p in parts]).masked_fill(outside, -torch.inf)
    how, given = (parts[0].how, "") if context is None else (f"{parts[0].how}; given {LABEL}", LABEL)
    odd = values.isnan() | (values == torch.inf)
    if bool(odd.any()):
        with _aside(model, seed, -3):
            values[odd] = _again(model, x[odd], asked, tree_map(lambda c: c[odd], context), chunk).to(values)
    if bool((values == torch.inf).any()):
        return Scores(torch.full_like(values, torch.nan), Kind.NONE, _infinite(values), None, given)
    return Scores(values, parts[0].kind, how, stderr, given)


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
    bad = [name for name, weight in model.named_parameters() if not bool(weight.isfinite().all())]
    bad += [name for name, buffer in model.named_buffers() if bool(buffer.isnan().any())]
    if bad:
        raise ValueError(f"the weight {bad[0]} is not finite, and so is no density; train again, with a lower learning rate")
    twin, doubled = copy.deepcopy(model).double(), tree_map(Tensor.double, context)
    values = [asked(twin(c), piece).value for piece, c in pieces(x.to(torch.float64), doubled, chunk)]
    return torch.cat(values).nan_to_num(-torch.inf, torch.inf, -torch.inf)


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
        made = [model(c).sample(() if c is not None else (len(rows),)) for rows, c in pieces(torch.empty(count), context, chunk)]
    return padded_to(torch.cat(made), lengths)


@torch.no_grad()
def complete(model: Any, x: Tensor, known: Tensor, chunk: int = 500, seed: int = 0, context: Context = None) -> Tensor:
    """One completion of each row x (N, *E) that keeps its known (N, *E) entries, by the model's own `complete`.

    By what law, `law_of` says; `completions` draws from p(the rest | what is given). Raises Unavailable where the model has none.
    """
    made = []
    with _aside(model, seed, -4):
        for row, c in pieces(torch.stack([x, known.to(x.dtype)], 1), context, chunk):
            made.append(completer(model(c))(row[:, 0], row[:, 1].bool()))
    return torch.cat(made)


@torch.no_grad()
def completions(
    model: Any, x: Tensor, known: Tensor, scheme: Completion, seed: int = 0, context: Context = None
) -> Completed:
    """One completion of each row x (N, *E) by a scheme, equal rows together; x, known (N, *E) and context as of `complete`."""
    groups: dict[bytes, list[int]] = {}
    for i in range(len(x)):
        parts = (x[i].masked_fill(~known[i], 0.0), known[i], *(_leaves(context, i)))
        groups.setdefault(b"".join(part.cpu().numpy().tobytes() for part in parts), []).append(i)
    values, effective, how = torch.empty_like(x), torch.full((len(x),), torch.nan), ""
    with _aside(model, seed, -4):
        for rows in groups.values():
            first = rows[0]
            found = scheme(model(tree_map(lambda c: c[first], context)), x[first], known[first], len(rows))  # noqa: B023
            values[rows], how = found.values.to(values), join_words(how, found.how)
            effective[rows] = effective[rows] if found.effective is None else found.effective.to(effective)
    return Completed(values, how, None if bool(effective.isnan().all()) else effective)


def _leaves(context: Context, row: int) -> list[Tensor]:
    """The parts of a context at one row."""
    parts: list[Tensor] = []
    tree_map(lambda c: parts.append(c[row]) or c, context)  # type: ignore[func-returns-value]
    return parts


def pieces(x: Any, context: Context, chunk: int) -> Iterator[tuple[Any, Context]]:
    """Rows in chunks, each with its own rows of the context."""
    for start in range(0, len(x), chunk):
        rows = slice(start, start + chunk)
        yield x[rows], tree_map(lambda c: c[rows], context)  # noqa: B023


@torch.no_grad()
def minus_energy(model: nn.Module, x: Tensor, chunk: int = 256, seed: int = 0) -> Tensor:
    """-E(x) (n,) of an unnormalised model, with what fixed preprocessing adds: no log-density, only one up to a constant.

    Finite or -inf, as :func:`score`'s are. Raises Unavailable where the model has no energy.
    """
    return score(model, x, _minus_energy, chunk, seed).values


def _minus_energy(distribution: TorchDistribution, x: Tensor) -> Evidence:
    inner, seen, between = reach(distribution, x, "energy")
    value = -inner.energy(seen)
    return Evidence(value if between is None else value + between.value, Kind.ESTIMATE, "minus the energy")


@contextmanager
def _aside(model: nn.Module, *key: int) -> Iterator[None]:
    """Eval mode and a random stream of the key's own; both are put back as they were."""
    was_training, stream = model.training, Stream()
    model.eval()
    stream.enter()
    seed_all(*key)
    try:
        yield
    finally:
        stream.leave()
        model.train(was_training)


def encode(model: nn.Module, x: Tensor | Masked, context: Context = None) -> Tensor:
    """Codes (n, code size) of rows (n, *E). Raises Unavailable where the model has none."""
    parts = []
    for piece, c in pieces(x, context, 512):
        inner, seen, _ = reach(model(c), piece, "encode")
        parts.append(inner.encode(seen).flatten(1))
    return torch.cat(parts)
