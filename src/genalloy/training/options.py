"""What a training run is told, as frozen values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Optimizer

from genalloy.core.schedules import Number
from genalloy.core.spec import Value


@dataclass(frozen=True)
class Adam(Value):
    r"""Adam, with decoupled weight decay where it is not 0.

    .. math:: \theta \leftarrow \theta - \eta \Big(\frac{\hat m}{\sqrt{\hat v} + 10^{-8}} + \mathrm{weight\_decay}\; \theta\Big)

    with means m and v of gradients and their squares, corrected for their start at 0. lr: :math:`\eta`, multiplied by the
    player's and the loop's rates. betas: decay of m and v. Kingma & Ba, 2015, arXiv:1412.6980; Loshchilov & Hutter, 2019,
    arXiv:1711.05101.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0

    def build(self, parameters: Iterable[nn.Parameter], rate: float = 1.0) -> Optimizer:
        """The optimiser of these parameters at lr times `rate`; one fused kernel where all are floats on CPU or CUDA."""
        make = torch.optim.AdamW if self.weight_decay else torch.optim.Adam
        own = list(parameters)
        fused = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in own)
        return make(own, lr=self.lr * rate, betas=self.betas, weight_decay=self.weight_decay, fused=fused)


@dataclass(frozen=True)
class Training(Value):
    """Options of `fit`.

    optimizer: used by every player, at its own relative rate. rate: multiplies the learning rate, float or step -> float.
    clip: largest gradient norm of a player, None for no limit. ema: decay of the averaged weights, None for none.
    seed: of everything random. shards: slices that each batch is cut into; their gradients are added.
    """

    optimizer: Adam = Adam()
    rate: Number = 1.0
    clip: float | None = None
    ema: float | None = None
    seed: int = 0
    shards: int = 1
