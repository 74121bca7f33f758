r"""How small a change of x changes a classifier's answer? Projected gradient ascent (Madry et al., 2018, arXiv:1706.06083).

Around each row, within :math:`\|\delta\| \le \epsilon`,

.. math:: \delta \leftarrow \Pi_\epsilon (\delta + \alpha\, s(\nabla_x J(x + \delta, y))), \quad \alpha = 2.5\,\epsilon / S,

in S steps, where s is the sign for :math:`L_\infty` and the unit vector for :math:`L_2`: the steepest ascent in either norm. J is
the margin :math:`\max_{k \ne y} f_k - f_y`: cross entropy has the same maximiser, but its gradient underflows where a classifier
is sure of itself, which looks like robustness and is none (Carlini & Wagner, 2017, arXiv:1608.04644). What is found is an upper
bound of the accuracy under attack: a stronger attack can only lower it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from genalloy.core.schema import Number
from genalloy.core.spec import Value
from genalloy.evaluation.calibration import Classifier
from genalloy.evaluation.intervals import proportion
from genalloy.evaluation.metric import Panel, validate

FEWEST = 20
CHUNK = 500
"""Rows that are classified or attacked at once."""
TINY = torch.finfo(torch.float32).tiny
"""What keeps a quotient of zeros finite, below every length that has a direction."""


@dataclass(frozen=True)
class Norm(Value, ABC):
    r"""A norm over each row's entries; deltas and gradients are (N, \*E)."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What is printed before a radius."""

    @abstractmethod
    def steepest(self, gradient: Tensor) -> Tensor:
        r"""The direction (N, \*E), of norm 1 in each row, along which a linear function rises most."""

    @abstractmethod
    def project(self, delta: Tensor, radius: float) -> Tensor:
        r"""The nearest change (N, \*E) of norm at most `radius` in each row."""

    @abstractmethod
    def start(self, like: Tensor, radius: float, generator: torch.Generator) -> Tensor:
        r"""A random change (N, \*E) within the ball, in the dtype and on the device of `like`."""


@dataclass(frozen=True)
class LInfinity(Norm):
    r""":math:`\max_i |\delta_i|`, the largest change of an entry."""

    name = "Linf"

    def steepest(self, gradient: Tensor) -> Tensor:
        """The sign of the gradient."""
        return gradient.sign()

    def project(self, delta: Tensor, radius: float) -> Tensor:
        """Each entry clamped to [-radius, radius]."""
        return delta.clamp(-radius, radius)

    def start(self, like: Tensor, radius: float, generator: torch.Generator) -> Tensor:
        """Uniform over the cube."""
        return radius * (2 * torch.rand(like.shape, generator=generator) - 1).to(like)


@dataclass(frozen=True)
class L2(Norm):
    r""":math:`(\sum_i \delta_i^2)^{1/2}`, the Euclidean length of the change."""

    name = "L2"

    def steepest(self, gradient: Tensor) -> Tensor:
        """The gradient at length 1, row by row."""
        return gradient / _length(gradient).clamp_min(TINY)

    def project(self, delta: Tensor, radius: float) -> Tensor:
        """Rows that are longer than `radius` scaled down to it."""
        return delta * (radius / _length(delta).clamp_min(TINY)).clamp_max(1.0)

    def start(self, like: Tensor, radius: float, generator: torch.Generator) -> Tensor:
        """Uniform over the ball: a uniform direction, and a radius of the law u^(1/d)."""
        direction = self.steepest(torch.randn(like.shape, generator=generator).to(like))
        reach = torch.rand(len(like), generator=generator).to(like).pow(1 / like[0].numel())
        return radius * direction * reach.view(-1, *[1] * (like.dim() - 1))


def _length(x: Tensor) -> Tensor:
    """Per row, shaped to broadcast; scaled first, so that squares of tiny gradients do not vanish."""
    flat = x.flatten(1)
    scale = flat.abs().amax(1, keepdim=True).clamp_min(TINY)
    return (scale * (flat / scale).norm(dim=1, keepdim=True)).view(-1, *[1] * (x.dim() - 1))


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    r""":math:`\max_{k \ne y} f_k - f_y`, (N,), of logits (N, K) and labels (N,): positive where the answer is wrong."""
    right = torch.nn.functional.one_hot(labels, logits.shape[-1]).bool()
    return logits.masked_fill(right, -torch.inf).amax(-1) - logits[right]


@dataclass(frozen=True)
class PGD(Value):
    r""":math:`\delta \leftarrow \Pi_\epsilon(\delta + \alpha\,s(\nabla_x J))` from the row itself, then from random changes.

    Madry et al., 2018, arXiv:1706.06083; J is the margin and :math:`\alpha = 2.5\,\epsilon / S`, see the module. norm: of the
    change. steps: S, of each ascent. restarts: how many random changes. low, high: what entries may be, in data units, None where
    there is no limit.

    Raises ValueError for rows outside it.
    """

    norm: Norm
    steps: int = 40
    restarts: int = 1
    low: float | None = None
    high: float | None = None

    def __call__(self, classify: Classifier, x: Tensor, labels: Tensor, radius: float, seed: int = 0) -> Tensor:
        r"""Changed rows (N, \*E): wrongly classified where the attack succeeded, else the largest margin found.

        classify: (N, \*E) -> logits (N, K), differentiable in x; its parameters get no gradients.
        """
        self._check(x)
        generator = torch.Generator().manual_seed(seed)
        best, top = x.clone(), self._payoff(classify, x, labels)
        for attempt in range(1 + self.restarts):
            delta = self.norm.start(x, radius, generator) if attempt else torch.zeros_like(x)
            for _ in range(self.steps):
                moved, value, gradient = self._look(classify, x + self._inside(x, delta), labels)
                best, top = _better(best, top, moved, value)
                delta = self.norm.project(delta + 2.5 * radius / self.steps * self.norm.steepest(gradient), radius)
                delta = self._inside(x, delta)
            moved = x + delta
            best, top = _better(best, top, moved, self._payoff(classify, moved, labels))
        return best

    def _check(self, x: Tensor) -> None:
        least, most = x.min().item(), x.max().item()
        if (self.low is not None and least < self.low) or (self.high is not None and most > self.high):
            raise ValueError(f"rows from {least:g} to {most:g} lie outside {self.low} to {self.high}; change low and high")

    def _inside(self, x: Tensor, delta: Tensor) -> Tensor:
        return (x + delta).clamp(self.low, self.high) - x if (self.low, self.high) != (None, None) else delta

    @torch.no_grad()
    def _payoff(self, classify: Classifier, x: Tensor, labels: Tensor) -> Tensor:
        return margin(classify(x), labels)

    def _look(self, classify: Classifier, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The rows, their margins and the margins' gradients."""
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            value = margin(classify(leaf), labels)
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
        return x.detach(), value.detach(), gradient


def _better(best: Tensor, top: Tensor, rows: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    wins = value > top
    return torch.where(wins.view(-1, *[1] * (rows.dim() - 1)), rows, best), torch.where(wins, value, top)


def attacked(classify: Classifier, x: Tensor, labels: Tensor, attack: PGD, radii: Sequence[float]) -> dict[float, Tensor]:
    """radius -> whether each row (N,) is still classified rightly; a row lost at one radius is lost at all larger ones."""
    standing = _right(classify, x, labels)
    results = {}
    for radius in sorted(radii):
        rows = standing.nonzero().flatten()
        # split() of nothing is one empty chunk
        for chunk in rows.split(CHUNK) if len(rows) else ():
            changed = attack(classify, x[chunk], labels[chunk], radius)
            standing[chunk] = _right(classify, changed, labels[chunk])
        results[radius] = standing.clone()
    return results


@torch.no_grad()
def _right(classify: Callable[[Tensor], Tensor], x: Tensor, labels: Tensor) -> Tensor:
    parts = [classify(chunk).argmax(-1) == y for chunk, y in zip(x.split(CHUNK), labels.split(CHUNK), strict=True)]
    return torch.cat(parts)


def robustness(classify: Classifier, x: Tensor, labels: Tensor, attacks: Sequence[tuple[PGD, Sequence[float]]]) -> Panel:
    r"""{"clean": accuracy, "L2 0.5": accuracy under attack, ...} for rows x (N, \*E) and labels (N,) int64.

    attacks: pairs (attack, radii in data units). Missing for fewer than 20 rows or NaN. The caller puts the model in eval mode.
    """
    names = ["clean", *(f"{attack.norm.name} {radius:g}" for attack, radii in attacks for radius in radii)]
    bad = validate(FEWEST, {"rows": x})
    if bad:
        return dict.fromkeys(names, bad)
    panel: Panel = {"clean": _share(_right(classify, x, labels), "accuracy without an attack")}
    for attack, radii in attacks:
        for radius, standing in attacked(classify, x, labels, attack, radii).items():
            how = f"accuracy, projected gradients, {attack.steps} steps, {1 + attack.restarts} starts, {attack.norm.name}"
            panel[f"{attack.norm.name} {radius:g}"] = _share(standing, f"{how} radius {radius:g} in data units")
    return panel


def _share(right: Tensor, how: str) -> Number:
    return proportion(right.double().mean().item(), len(right), how)
