r"""Sound in 256 levels: mu-law companding (ITU-T G.711) and the categorical head over its codes.

As in WaveNet (van den Oord et al., 2016, arXiv:1609.03499),

.. math:: f(x) = \operatorname{sign}(x) \frac{\ln(1 + \mu |x|)}{\ln(1 + \mu)}, \quad \mu = K - 1, \qquad
          \text{code} = \left\lfloor \frac{f(x) + 1}{2} \mu + \frac12 \right\rfloor \in \{0, \dots, K - 1\}.

The codes are the data of :class:`MuLaw`: its masses are over codes, a counting measure, and do not compare with densities
of the waveform.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from genalloy.heads.discrete import CategoricalDistribution
from genalloy.heads.head import Head


def mu_law_encode(x: Tensor, levels: int = 256) -> Tensor:
    r""":math:`\lfloor (f(x) + 1) \mu / 2 + \tfrac12 \rfloor`: waveform (\*B) in [-1, 1] -> codes 0..levels-1, as floats.

    Raises ValueError outside [-1, 1].
    """
    peak = float(x.abs().max()) if x.numel() else 0.0
    if not peak <= 1 + 1e-6:
        raise ValueError(f"found a waveform that reaches {peak:g}, expected [-1, 1]; divide by the peak of the whole set")
    mu = levels - 1
    y = x.sign() * torch.log1p(mu * x.abs()) / math.log1p(mu)
    return ((y + 1) / 2 * mu + 0.5).floor().clamp(0, mu)


def mu_law_decode(codes: Tensor, levels: int = 256) -> Tensor:
    r"""Codes (\*B) -> waveform in [-1, 1]; encoding it again gives the codes."""
    mu = levels - 1
    y = 2 * codes / mu - 1
    return y.sign() * torch.expm1(y.abs() * math.log1p(mu)) / mu


class MuLaw(Head):
    """`levels` logits an element over mu-law codes 0..levels-1 (WaveNet: van den Oord et al., 2016, arXiv:1609.03499).

    Raises ValueError where there are fewer than two levels.
    """

    has_rsample = False
    discrete = True

    def __init__(self, levels: int = 256) -> None:
        super().__init__()
        if levels < 2:
            raise ValueError(f"found {levels} levels, expected two or more; 256 is usual")
        self.levels = self.width = levels

    def forward(self, parameters: Tensor, event_dims: int) -> CategoricalDistribution:
        r"""Logits (\*B, \*E, K) -> distribution of codes (\*B, \*E), stored as floats."""
        return CategoricalDistribution(parameters, event_dims)

    def encode(self, x: Tensor) -> Tensor:
        r"""Waveform (\*B) in [-1, 1] -> codes, what the head's data are. Raises ValueError outside [-1, 1]."""
        return mu_law_encode(x, self.levels)

    def decode(self, codes: Tensor) -> Tensor:
        r"""Codes (\*B) -> waveform in [-1, 1]."""
        return mu_law_decode(codes, self.levels)

    def amplitude(self, distribution: CategoricalDistribution) -> Tensor:
        r"""Mean waveform (\*B, \*E) of a distribution over codes: the codes are not on a linear scale, so not decode(mean)."""
        codes = torch.arange(self.levels, dtype=distribution.logits.dtype, device=distribution.logits.device)
        return distribution.logits.softmax(-1) @ self.decode(codes)
