"""Law: objectives add, term by term: the gradient of a + w b is that of a plus w times that of b, on one play."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genalloy.core.batch import Batch
from genalloy.core.isolation import Stream
from genalloy.laws.subject import check
from genalloy.objectives.objective import Objective, Play
from genalloy.training.slots import put_back, snapshot

Gradients = list[Tensor | None]


def additive(model: nn.Module, a: Objective, b: Objective, batch: Batch, weight: float = 0.1) -> None:
    """One seed, buffers put back; the two terms share encodings and fakes through the play, summed or one by one."""
    total = a + weight * b
    buffers = tuple(b for m in (model, total) for b in m.buffers())
    still = snapshot(buffers)
    own = [p for p in dict.fromkeys([*model.parameters(), *total.parameters()]) if p.requires_grad]
    with Stream():
        torch.manual_seed(11)
        summed, whole = _gradient(total, Play(model, batch), own)
        put_back(buffers, still)
        torch.manual_seed(11)
        play = Play(model, batch)
        first, loss_a = _gradient(a, play, own)
        second, loss_b = _gradient(b, play, own)
    gap = abs(float(whole - loss_a - weight * loss_b))
    check(gap < 1e-5 * (1 + abs(float(whole))), f"{total!r}: the value is off by {gap:.2g} from the sum of its terms")
    for s, x, y in zip(summed, first, second, strict=True):
        expected = _sum(x, y, weight)
        same = (s is None and expected is None) or (
            s is not None and expected is not None and torch.allclose(s, expected, rtol=1e-4, atol=1e-6)
        )
        check(same, f"{total!r}: a gradient is not the sum of its terms' gradients")


def _sum(a: Tensor | None, b: Tensor | None, weight: float) -> Tensor | None:
    if a is None or b is None:
        return a if b is None else weight * b
    return a + weight * b


def _gradient(objective: Objective, play: Play, own: list[nn.Parameter]) -> tuple[Gradients, Tensor]:
    loss = objective(play)
    return list(torch.autograd.grad(loss, own, allow_unused=True, retain_graph=True)), loss.detach()
