r"""Samplers of the reverse-time SDE (Song et al., 2021, arXiv:2011.13456), :math:`dx = f x\,dt - g^2 \nabla\log p_t\,dt +
g\,d\bar w`.

The path gives :math:`f = \alpha'/\alpha` and :math:`g^2 = 2\sigma\sigma' - 2 f \sigma^2`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from genalloy.diffusion.process import Process
from genalloy.samplers.sampler import Sampler
from genalloy.samplers.spacing import EvenLambda, Spacing


class Predictor(Protocol):
    """A sampler that takes one step at a time, so that a corrector can stand between two."""

    @property
    def steps(self) -> int:
        """How many steps it takes."""

    @property
    def spacing(self) -> Spacing:
        """Where they lie."""

    def step(self, process: Process, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        r""":math:`x_s` from :math:`x_t`, s < t; x (\*B, \*E), times scalars."""


@dataclass(frozen=True)
class EulerMaruyama(Sampler):
    r"""The first-order scheme; weak error of order one, many steps (Song et al., 2021, arXiv:2011.13456).

    .. math:: x_s = x_t - f h\, x_t + g^2 h\, \nabla\log p_t(x_t) + g \sqrt h\, \xi, \qquad h = t - s
    """

    steps: int = 200
    spacing: Spacing = EvenLambda()  # noqa: RUF009

    def __call__(self, process: Process, noise: Tensor) -> Tensor:
        r"""Noise (\*B, \*E) -> samples (\*B, \*E) at the clean end of the window."""
        x = process.start(noise)
        for t, s in pairwise(self.spacing(process, self.steps).to(noise.device)):
            x = self.step(process, x, t, s)
        return x

    def step(self, process: Process, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        r"""One step of the class's formula, x (\*B, \*E); divides by alpha, so the path must keep some data at the first time."""
        path = process.path
        (alpha_rate, sigma_rate), alpha, sigma = path.rates(t), path.alpha(t), path.sigma(t)
        f, h = alpha_rate / alpha, t - s
        variance = (2 * sigma * sigma_rate - 2 * f * sigma.square()).clamp(min=0) * h
        moved = x - (f * h).to(x) * x + variance.to(x) * process.score(x, t)
        return moved + variance.sqrt().to(x) * torch.randn_like(x)
