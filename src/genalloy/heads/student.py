r"""Student's t with learned degrees of freedom (Student, 1908): tails as heavy as the data want.

.. math:: p(x) = \frac{\Gamma(\frac{\nu+1}{2})}{\Gamma(\frac{\nu}{2})\sqrt{\nu\pi}\,s}
          \Bigl(1 + \frac{u^2}{\nu}\Bigr)^{-\frac{\nu+1}{2}}, \qquad u = \frac{x - \mu}{s}.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Chi2
from torch.nn import functional as F

from genalloy.core.distribution import Shape
from genalloy.heads.head import Factorised, Head, positive

RAW_DF = 3.0
"""About four degrees of freedom at zero features."""


class StudentT(Head):
    """Features (location, raw scale, raw degrees of freedom); scale = floor + softplus, df = lowest + softplus.

    lowest: least degrees of freedom; above one, so that there is a mean. Support: all reals. Raises ValueError where
    `lowest` is negative.
    """

    has_rsample = True
    width = 3

    def __init__(self, floor: float = 1e-4, lowest: float = 1.01) -> None:
        super().__init__()
        if lowest < 0:
            raise ValueError(f"found lowest={lowest} degrees of freedom, expected 0 or more; 1.01 keeps the mean finite")
        self.floor, self.lowest = floor, lowest

    def forward(self, parameters: Tensor, event_dims: int) -> StudentTDistribution:
        loc, raw_scale, raw_df = parameters.unbind(-1)
        scale = positive(raw_scale, self.floor)
        return StudentTDistribution(loc, scale, F.softplus(raw_df + RAW_DF) + self.lowest, event_dims)


class StudentTDistribution(Factorised):
    r"""Independent t's; location, scale and degrees of freedom (\*B, \*E). Samples carry gradients, to df too."""

    def __init__(self, loc: Tensor, scale: Tensor, df: Tensor, event_dims: int) -> None:
        super().__init__(tuple(loc.shape), event_dims)
        self.loc, self.scale, self.df = loc, scale, df

    @property
    def mean(self) -> Tensor:
        """The location where df > 1, NaN where the mean does not exist."""
        return self.loc.where(self.df > 1, math.nan)

    def element_log_prob(self, x: Tensor) -> Tensor:
        u, half = (x - self.loc) / self.scale, 0.5 * (self.df + 1)
        normaliser = torch.lgamma(half) - torch.lgamma(0.5 * self.df) - 0.5 * (self.df * math.pi).log() - self.scale.log()
        return normaliser - half * torch.log1p(u.square() / self.df)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        """loc + scale eps / sqrt(g / df), eps standard normal and g chi-square with df degrees of freedom."""
        df = self.df.expand(*sample_shape, *self.loc.shape)
        g = Chi2(df, validate_args=False).rsample()
        return self.loc + self.scale * torch.randn_like(df) * (df / g).sqrt()
