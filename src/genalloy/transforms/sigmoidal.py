r"""Deep sigmoidal maps (Huang, Krueger, Lacoste & Courville, 2018, NAF), the same as Flow++'s mixtures (Ho et al., 2019).

The distribution function of K logistic variables mixed, taken back to the line by the logit:

.. math:: S(x) = \sum_{k=1}^{K} w_k\, \sigma(a_k x + b_k), \qquad z = \operatorname{logit} S(x) + \lambda x, \qquad
          a_k > 0,\; w \in \Delta^{K-1}.

A logit of S computed as a number loses everything where S rounds to 0 or 1, at :math:`|x| \approx 17 / a`. So all is done in
log-space, with :math:`p_k = a_k x + b_k` and :math:`1 - \sigma(p) = \sigma(-p)`:

.. math:: \log S = \operatorname{logsumexp}_k(\log w_k + \log\sigma(p_k)), \qquad
          \log(1-S) = \operatorname{logsumexp}_k(\log w_k + \log\sigma(-p_k)),

.. math:: \log \frac{d\operatorname{logit} S}{dx} =
          \operatorname{logsumexp}_k(\log w_k + \log a_k + \log\sigma(p_k) + \log\sigma(-p_k)) - \log S - \log(1-S),

finite at any x; the tails are linear. Between far units S is flat: the leak :math:`\lambda` keeps the slope above
:math:`\lambda`, so that the inverse keeps to float32 whatever the network says; 0 gives the papers' map.

The inverse is the root of an increasing function. logit S is a mean, in the sense of means, of the :math:`p_k`: it lies between
their least and their greatest, so the root lies between the least and the greatest of
:math:`(z - b_k) / (a_k + \lambda)`; the search starts in their middle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from genalloy.solvers.roots import Bracketed
from genalloy.transforms.univariate import Univariate, soft_clamp

ROOTS = Bracketed()
"""To the precision of the numbers."""


class Units(NamedTuple):
    r"""log a, b and log w of K units, each (\*B, K)."""

    log_slope: Tensor
    offset: Tensor
    log_weight: Tensor


@dataclass(frozen=True)
class DeepSigmoid(Univariate):
    r"""The deep sigmoidal map of NAF (Huang et al., 2018, arXiv:1804.00779) and Flow++ (Ho et al., 2019, arXiv:1902.00275).

    .. math:: z = \operatorname{logit} \sum_{k=1}^{K} w_k\, \sigma(a_k x + b_k) + \lambda x

    units: K; raw (\*B, 3 K) = (slopes, offsets, weights). bound: log a lies within (-bound, bound). spread: offsets at raw = 0
    are even in [-spread, spread], so that units differ. leak: :math:`\lambda`, the least slope. solver: of the inverse; it raises
    :class:`genalloy.solvers.roots.NotConverged` where it fails.
    """

    units: int = 8
    bound: float = 5.0
    spread: float = 2.0
    leak: float = 1e-3
    solver: Bracketed = ROOTS

    @property
    def width(self) -> int:
        """3 units: slopes, offsets and weights."""
        return 3 * self.units

    def parameters(self, raw: Tensor) -> Units:
        r"""Admissible parameters from raw ones (\*B, 3 units)."""
        slopes, offsets, weights = raw.split(self.units, -1)
        even = torch.linspace(-self.spread, self.spread, self.units, dtype=raw.dtype, device=raw.device)
        places = even if self.units > 1 else torch.zeros_like(even)
        return Units(soft_clamp(slopes, self.bound), places + offsets, weights.log_softmax(-1))

    def encode(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        r"""(z, log dz/dx), each (\*B), in log-space; x (\*B), raw (\*B, 3 K)."""
        return self._curve(x, self.parameters(raw))

    def decode(self, z: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        r"""(x, log dx/dz), each (\*B), x by the solver; z (\*B), raw (\*B, 3 K). Raises NotConverged."""
        units = self.parameters(raw)

        # z near 0 is a difference of terms of the size of the offsets: known to their last place, not to its own
        shift = (1 + units.offset.abs().amax(-1)).detach().copysign(z.detach())

        def increasing(x: Tensor) -> tuple[Tensor, Tensor]:
            value, log_slope = self._curve(x, units)
            return value + shift, log_slope.exp()

        ends = ((z.unsqueeze(-1) - units.offset) / (units.log_slope.exp() + self.leak)).detach()
        x = self.solver(increasing, z + shift, (ends.amin(-1) + ends.amax(-1)) / 2)
        return x, -self._curve(x, units)[1]

    def _curve(self, x: Tensor, units: Units) -> tuple[Tensor, Tensor]:
        """(z, log dz/dx)."""
        p = torch.addcmul(units.offset, units.log_slope.exp(), x.unsqueeze(-1))
        below, above = units.log_weight + F.logsigmoid(p), units.log_weight + F.logsigmoid(-p)
        log_s, log_rest = below.logsumexp(-1), above.logsumexp(-1)
        # differences of near numbers first: the terms grow with |x|, their sum does not
        shares = (below - log_s.unsqueeze(-1)) + (above - log_rest.unsqueeze(-1)) - units.log_weight
        log_slope = (shares + units.log_slope).logsumexp(-1)
        return self._leaked(x, log_s - log_rest, log_slope)

    def _leaked(self, x: Tensor, z: Tensor, log_slope: Tensor) -> tuple[Tensor, Tensor]:
        if not self.leak:
            return z, log_slope
        floor = log_slope.new_tensor(math.log(self.leak))
        return torch.add(z, x, alpha=self.leak), torch.logaddexp(log_slope, floor)
