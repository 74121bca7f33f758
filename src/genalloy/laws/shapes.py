r"""Law: samples have shape (\*S, \*B, \*E), densities (\*S, \*B), and each row of a batch meets its own context."""

from __future__ import annotations

from typing import Any

import torch

from genalloy.core.contexts import Context, tree_map
from genalloy.core.distribution import Shape, density, draw
from genalloy.core.evidence import Evidence, Kind
from genalloy.laws.subject import Subject, check

SAMPLES: tuple[Shape, ...] = ((), (4,), (3, 4))


@torch.no_grad()
def shapes(subject: Subject) -> None:
    """Every combination of sample and batch shape, and rows one by one where the density has no noise."""
    for batch in ((), (3,), (2, 3)) if subject.context_shapes else ((),):
        distribution = subject.distribution(batch)
        found = tuple(distribution.event_shape)
        check(found == subject.event_shape, f"{subject.name} has event_shape {found}, expected {subject.event_shape}")
        found = tuple(distribution.batch_shape)
        check(found == batch, f"{subject.name} has batch_shape {found} for contexts of batch {batch}")
        for sample in SAMPLES:
            _sampled(subject, distribution, sample, batch)
    if subject.context_shapes:
        _row_by_row(subject)


def _sampled(subject: Subject, distribution: Any, sample: Shape, batch: Shape) -> None:
    lead = (*sample, *batch)
    x, own = draw(distribution, sample)
    for word, drawn in (("sample", distribution.sample(sample)), ("draw", x)):
        shape, expected = tuple(drawn.shape), (*lead, *subject.event_shape)
        check(shape == expected, f"{subject.name}.{word}({sample}) has shape {shape}, expected {expected}")
    for word, evidence in (("density", density(distribution, x)), ("draw", own)):
        _labelled(subject, word, evidence, lead)


def _labelled(subject: Subject, word: str, evidence: Evidence, lead: Shape) -> None:
    found = tuple(evidence.value.shape)
    check(found == lead, f"{subject.name}.{word} gives log-densities of shape {found}, expected {lead}")
    finite = evidence.kind is Kind.NONE or bool(torch.isfinite(evidence.value).all())
    check(finite, f"{subject.name}.{word} is not finite on the part's own samples")
    dims = torch.Size(subject.event_shape).numel()
    right = evidence.kind is Kind.NONE or sum(evidence.measure) == dims
    check(right, f"{subject.name}.{word} has measure {evidence.measure} for {dims} coordinates")


def _row_by_row(subject: Subject) -> None:
    """As many samples as contexts, so that a mistaken broadcast shows in the numbers."""
    context = subject.context((3,))
    x = subject.part(context).sample((3,))
    whole = density(subject.part(context), x)
    if whole.kind is not Kind.EXACT:
        return
    rows = [density(subject.part(_row(context, i)), x[:, i]).value for i in range(3)]
    gap = float((whole.value - torch.stack(rows, 1)).abs().max())
    check(gap < 1e-3, f"{subject.name}: a batch of contexts and its rows one by one differ by {gap:.2g} nats")


def _row(context: Context, index: int) -> Context:
    return tree_map(lambda c: c[index], context)
