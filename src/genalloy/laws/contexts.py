"""Law: named parts of a context are read by their names, whatever order a caller's dict has."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from genalloy.core.contexts import Context, split
from genalloy.core.distribution import density
from genalloy.core.evidence import Kind
from genalloy.laws.subject import NotApplicable, Subject, check

SEED = 5


@torch.no_grad()
def contexts_by_name(subject: Subject) -> None:
    """The order of a dict changes nothing, exchanged contents change the law, a missing part is refused.

    What is compared: the density, the energy where there is no density, and else samples under one seed.
    """
    front, named = split(subject.context((3,)))
    alike = [name for name, part in named.items() if part.shape == next(iter(named.values())).shape]
    if len(alike) < 2:
        raise NotApplicable("its context has no two named parts of one shape")
    x = _seeded(subject, (*front, named)).sample()
    here = _value(subject, (*front, named), x)
    gap = float((_value(subject, (*front, dict(reversed(named.items()))), x) - here).abs().max())
    check(gap == 0, f"{subject.name}: a dict in another order changes the law: {gap:.2g}, expected 0")
    a, b = alike[:2]
    exchanged = named | {a: named[b], b: named[a]}
    check(not torch.equal(_value(subject, (*front, exchanged), x), here), f"{subject.name}: exchanged parts change nothing")
    try:
        _value(subject, (*front, {name: part for name, part in named.items() if name != a}), x)
    except ValueError as error:
        check(a in str(error), f"{subject.name}: the refusal of a context without {a!r} does not name it: {error}")
    else:
        check(False, f"{subject.name} takes a context without its part {a!r}")


def _seeded(subject: Subject, context: Context) -> Any:
    torch.manual_seed(SEED)
    return subject.part(context)


def _value(subject: Subject, context: Context, x: Tensor) -> Tensor:
    """What tells the law at x, under one noise: log-densities, else minus energies, else samples."""
    distribution = _seeded(subject, context)
    evidence = density(distribution, x)
    if evidence.kind is not Kind.NONE:
        return evidence.value.nan_to_num()
    return -distribution.energy(x) if hasattr(distribution, "energy") else distribution.sample()
