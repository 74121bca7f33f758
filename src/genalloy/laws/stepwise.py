"""Law: cached autoregressive sampling equals naive sampling under the same noise."""

from __future__ import annotations

import copy

import torch

from genalloy.core.isolation import Stream
from genalloy.laws.subject import NotApplicable, Subject, check
from genalloy.models.autoregressive import naive_sample


@torch.no_grad()
def cached_equals_naive(subject: Subject, rows: int = 3) -> None:
    """Parameters element by element against one full pass on the same x, then samples in float64 against naive ones."""
    if not hasattr(subject.distribution(), "init_state"):
        raise NotApplicable(f"{subject.name} does not sample step by step")
    wide = Subject(copy.deepcopy(subject.part).double(), subject.event_shape, subject.context_shapes, subject.discrete)
    for tested, tolerance in ((subject, 1e-4), (wide, 1e-9)):
        dtype = next(tested.part.parameters()).dtype
        context = tested.context((rows,))
        context = None if context is None else _as(context, dtype)
        distribution = tested.part(context)
        shape = (rows,) if context is None else (2, rows)
        x = distribution.sample(shape[: len(shape) - len(distribution.batch_shape)]).to(dtype)
        full = distribution.network(x, distribution.context)
        full = full.flatten(len(shape), -2)
        state, previous = distribution.init_state(shape), None
        for indices in torch.tensor(distribution.network.sequence).reshape(-1, *distribution.step_shape):
            state, parameters = distribution.step(state, previous)
            gap = float((parameters - full[..., indices, :]).abs().max())
            check(gap < tolerance, f"{subject.name}: cached parameters of element {indices.tolist()} are off by {gap:.2g}")
            previous = x.flatten(len(shape))[..., indices]
    _same_samples(wide)


def _as(context: object, dtype: torch.dtype) -> object:
    return tuple(c.to(dtype) for c in context) if type(context) is tuple else context.to(dtype)  # type: ignore[attr-defined]


def _same_samples(subject: Subject) -> None:
    distribution = subject.part(None if not subject.context_shapes else _as(subject.context(), torch.float64))
    with Stream():
        torch.manual_seed(5)
        cached = distribution.sample((16,))
        torch.manual_seed(5)
        naive = naive_sample(distribution, (16,))
    gap = float((cached - naive).abs().max())
    check(gap < 1e-6, f"{subject.name}: cached and naive samples under one noise differ by {gap:.2g}")
