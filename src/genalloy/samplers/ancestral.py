r"""Samplers that mix the denoised point with noise anew, on any path.

With :math:`D = E[y|x_t]` and :math:`\hat\epsilon = (x_t - \alpha D)/\sigma`, a step from t to s < t re-mixes the two,

.. math:: x_s = \alpha_s D + \sqrt{\sigma_s^2 - c^2}\,\hat\epsilon + c\,\xi, \qquad
          c = \eta\,\sigma_s \sqrt{1 - e^{2(\lambda_t - \lambda_s)}},

which never divides by :math:`\alpha`: :math:`\eta = 1` is DDPM's ancestral step (Ho, Jain & Abbeel, 2020, arXiv:2006.11239),
:math:`\eta = 0` DDIM (Song, Meng & Ermon, 2021, arXiv:2010.02502).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from genalloy.diffusion.process import Process
from genalloy.samplers.sampler import Sampler
from genalloy.samplers.spacing import EvenTime, Spacing


def remix(process: Process, x: Tensor, t: Tensor, s: Tensor, eta: float) -> Tensor:
    r"""One step :math:`x_t \to x_s`, (\*B, \*E), by the module's formula; t, s scalars, eta = 0 deterministic, 1 ancestral."""
    path, clean = process.path, process.clean(x, t)
    (a, b), (a_s, b_s) = ((path.alpha(v), path.sigma(v)) for v in (t, s))
    eps = (x - a.to(x) * clean) / b.to(x)
    c = eta * b_s * (1 - (a * b_s / (b * a_s)).square()).clamp(min=0).sqrt()
    mixed = a_s.to(x) * clean + (b_s.square() - c.square()).sqrt().to(x) * eps
    return mixed + c.to(x) * torch.randn_like(x) if eta else mixed


@dataclass(frozen=True)
class DDIM(Sampler):
    """First order; eta = 0 deterministic (Song, Meng & Ermon, 2021, arXiv:2010.02502), eta = 1 ancestral.

    steps: evaluations of the denoiser. spacing: where the steps lie.
    """

    steps: int = 50
    eta: float = 0.0
    spacing: Spacing = EvenTime()  # noqa: RUF009

    @property
    def order(self) -> int:  # type: ignore[override]
        """1 where it is deterministic, 0 where it is random."""
        return 0 if self.eta else 1

    def __call__(self, process: Process, noise: Tensor) -> Tensor:
        r"""Noise (\*B, \*E) -> samples (\*B, \*E) at the clean end of the window."""
        x = process.start(noise)
        for t, s in pairwise(self.spacing(process, self.steps).to(noise.device)):
            x = remix(process, x, t, s, self.eta)
        return x


@dataclass(frozen=True)
class Ancestral(Sampler):
    """The reverse chain that the discrete variational bound is about (DDPM: Ho et al., 2020, arXiv:2006.11239).

    A process with steps of its own (`transition`) takes them; others step as DDIM with eta = 1.
    """

    steps: int = 100
    spacing: Spacing = EvenTime()  # noqa: RUF009

    def __call__(self, process: Process, noise: Tensor) -> Tensor:
        r"""Noise (\*B, \*E) -> samples (\*B, \*E) at the clean end of the window."""
        x = process.start(noise)
        for t, s in pairwise(self.spacing(process, self.steps).to(noise.device)):
            x = remix(process, x, t, s, 1.0) if process.transition is None else process.transition(x, t, s)
        return x
