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
from genalloy.heads.gaussian import HALF_LOG_2PI
from genalloy.heads.head import Factorised, Head, positive

SERIES = 40.0
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


def _log_constant(df: Tensor) -> Tensor:
    r"""log Gamma((df+1)/2) - log Gamma(df/2) - log(df pi)/2, for many degrees the series -log(2 pi)/2 - 1/(4 df) + ...

    The difference of two log-gammas loses its digits there: in single precision .06 nats at a million degrees. From 40 degrees on
    the series is within 1e-12.
    """
    few = df.clamp(max=SERIES)
    exact = torch.lgamma(0.5 * (few + 1)) - torch.lgamma(0.5 * few) - 0.5 * (few * math.pi).log()
    many = df.clamp(min=SERIES)
    return torch.where(df < SERIES, exact, -HALF_LOG_2PI - 0.25 / many + 1 / (24 * many**3) - 1 / (20 * many**5))


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
        return _log_constant(self.df) - self.scale.log() - half * torch.log1p(u.square() / self.df)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        """loc + scale eps / sqrt(g / df), eps standard normal and g chi-square with df degrees of freedom."""
        df = self.df.expand(*sample_shape, *self.loc.shape)
        g = Chi2(df, validate_args=False).rsample()
        return self.loc + self.scale * torch.randn_like(df) * (df / g).sqrt()
