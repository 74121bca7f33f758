"""Law: one seed, one result; and nothing is remembered between calls."""

from __future__ import annotations

import torch
from torch import Tensor

from genalloy.core.distribution import density, draw
from genalloy.core.isolation import Stream
from genalloy.laws.subject import Subject, check


@torch.no_grad()
def determinism(subject: Subject) -> None:
    """Samples, own densities and densities repeat under the same seed; samples differ under another.

    Parts that keep chains (a replay buffer) move on between calls on purpose: their state is put back first.
    """
    kept = {k: v.clone() for k, v in subject.part.state_dict().items()}
    with Stream():
        first = _results(subject, 7)
        subject.part.load_state_dict(kept)
        again = _results(subject, 7)
        subject.part.load_state_dict(kept)
        other = _results(subject, 8)
        subject.part.load_state_dict(kept)
    for word, a, b in zip(("sample", "draw", "density"), first, again, strict=True):
        check(torch.equal(a.nan_to_num(), b.nan_to_num()), f"{subject.name}: two {word}s under one seed differ")
    check(not torch.equal(first[0], other[0]), f"{subject.name}: samples do not depend on the seed")


def _results(subject: Subject, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(seed)
    distribution = subject.distribution()
    x = distribution.sample((5,))
    _, own = draw(distribution, (5,))
    return x, own.value, density(distribution, x).value
