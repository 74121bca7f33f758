"""Numbers that may change with the step: `float | Schedule`. Frozen values, so that a run can be stored and resumed."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from genalloy.core.spec import Value

__all__ = ["Cosine", "Linear", "Schedule"]


class Schedule(Value, ABC):
    """step -> float."""

    @abstractmethod
    def __call__(self, step: int) -> float:
        """The value at a step, counted from 0."""
        ...


@dataclass(frozen=True)
class Linear(Schedule):
    r""":math:`a + (b - a) \min(t / n, 1)` at step t: from a = `start` to b = `end` over n = `steps` (Bowman et al., 2016,
    arXiv:1511.06349, for the KL), constant afterwards.
    """

    start: float
    end: float
    steps: int

    def __call__(self, step: int) -> float:
        return self.start + (self.end - self.start) * min(step / max(self.steps, 1), 1.0)


@dataclass(frozen=True)
class Cosine(Schedule):
    r"""Linear warm-up, then half a cosine from a = `start` to b = `end`, constant afterwards (Loshchilov & Hutter, 2017,
    arXiv:1608.03983).

    .. math:: a\, \frac{t + 1}{w} \; (t < w), \qquad
              b + \frac{a - b}2 \left(1 + \cos \pi \min\Big(\frac{t - w}{n - w}, 1\Big)\right) \; (t \ge w)

    at step t, with w = `warmup` and n = `steps`, the warm-up included.
    """

    start: float
    end: float
    steps: int
    warmup: int = 0

    def __call__(self, step: int) -> float:
        if step < self.warmup:
            return self.start * (step + 1) / self.warmup
        part = min((step - self.warmup) / max(self.steps - self.warmup, 1), 1.0)
        return self.end + (self.start - self.end) * 0.5 * (1.0 + math.cos(math.pi * part))


Number = float | Schedule


def number(value: Number, step: int) -> float:
    """The value at a step."""
    return value(step) if callable(value) else float(value)
