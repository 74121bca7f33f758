r"""Logarithmic tails between a flow and its Gaussian.

Far from the data an affine flow is what its networks happen to say there: scales multiply from layer to layer, and a code
z = 1000 costs half a million nats under N(0, 1). With a heavy-tailed base a row that the flow does not know costs the logarithm
of its distance instead (Jaini, Kobyzev, Yu & Brubaker, 2020; Alexanderson & Henter, 2020, "Studentising flows"), its gradient is
bounded, and so is what a single row does to a held-out mean. Here that base is N(0, 1) seen through

.. math:: z = x \;(|x| \le b), \qquad z = \mathrm{sign}(x)\,(b + \mathrm{asinh}(|x| - b)) \;(|x| > b), \qquad
          \log \frac{dz}{dx} = -\tfrac12 \log\big(1 + (|x| - b)_+^2\big),

so codes stay Gaussian, and within b, where all but 6e-5 of them lie for b = 4, nothing changes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from genalloy.capabilities import Context
from genalloy.distribution import sum_event
from genalloy.networks.entry import compress
from genalloy.transforms.layer import Transform
from genalloy.transforms.linear import ActNorm

Shape = tuple[int, ...]


class LogTails(Transform):
    """Elementwise on events of `event_dims` axes, the identity within `limit`; see the module's text."""

    def __init__(self, event_dims: int = 1, limit: float = 4.0) -> None:
        super().__init__()
        self.event_dims, self.limit = event_dims, limit

    def encode(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return compress(x, self.limit), -self._log_slope(F.softshrink(x, self.limit))

    def decode(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        over = torch.sinh(F.softshrink(z, self.limit))
        return z.clamp(-self.limit, self.limit) + over, self._log_slope(over)

    def _log_slope(self, over: Tensor) -> Tensor:
        """log sqrt(1 + over^2), summed, without overflow."""
        return sum_event(torch.hypot(over, torch.ones_like(over)).log(), self.event_dims)


def normalised(shape: Shape) -> list[Transform]:
    """What ends a flow on N(0, I): a scale and shift of every entry, and logarithmic tails."""
    return [ActNorm(shape), LogTails(len(shape))]
