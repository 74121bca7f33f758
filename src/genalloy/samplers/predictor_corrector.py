"""Predictor-corrector sampling: Langevin steps at every noise level the predictor reaches.

Song et al., 2021, arXiv:2011.13456.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from genalloy.core.distribution import sum_event
from genalloy.core.spec import Value
from genalloy.diffusion.process import Process
from genalloy.samplers.sampler import Sampler
from genalloy.samplers.sde import EulerMaruyama, Predictor


@dataclass(frozen=True)
class Corrector(Value):
    r"""Langevin steps :math:`x + h\,\nabla\log p_t + \sqrt{2 h}\,\xi`, :math:`h = 2 \alpha^2 (r\,|\xi| / |\nabla\log p_t|)^2`.

    snr: r; the norms are means over the batch of norms of events, so the step is one for all rows. steps: at each level.
    """

    snr: float = 0.16
    steps: int = 1

    def __call__(self, process: Process, x: Tensor, t: Tensor) -> Tensor:
        r"""x (\*B, \*E) after `steps` Langevin steps at time t."""
        for _ in range(self.steps):
            score, noise = process.score(x, t), torch.randn_like(x)
            norms = [sum_event(v.square(), process.event_dims).sqrt().mean() for v in (noise, score)]
            # as in the paper's code the step shrinks with alpha^2, which keeps it below the level's own width
            size = 2 * process.path.alpha(t).to(x).square() * (self.snr * norms[0] / norms[1].clamp(min=1e-12)).square()
            x = x + size * score + (2 * size).sqrt() * noise
        return x


@dataclass(frozen=True)
class PredictorCorrector(Sampler):
    """A predictor's steps with a corrector behind each (Song et al., 2021, arXiv:2011.13456)."""

    predictor: Predictor = field(default_factory=EulerMaruyama)
    corrector: Corrector = Corrector()

    def __call__(self, process: Process, noise: Tensor) -> Tensor:
        r"""Noise (\*B, \*E) -> samples (\*B, \*E); the corrector is the last to act."""
        x = process.start(noise)
        for t, s in pairwise(self.predictor.spacing(process, self.predictor.steps).to(noise.device)):
            x = self.corrector(process, self.predictor.step(process, x, t, s), s)
        return x
