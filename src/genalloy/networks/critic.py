"""Networks for critics, generators and energies: residual, leaky or smooth, and without any normalisation across a batch.

Zero-centred gradient penalties and Langevin chains differentiate one row at a time, which batch normalisation would
mix. Residual branches end in zeros, so that depth costs nothing at the start (Zhang, Dauphin & Ma, 2019; Huang et al., 2024).
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from genalloy.capabilities import Context, join
from genalloy.spec import Module


class ResidualMLP(Module):
    r"""Context parts of shapes `inputs` -> features (\*B, outputs): `blocks` residual blocks of `width`.

    A block is h + W_2 phi(W_1 phi(h)), W_2 zero at the start. zero: start at outputs of 0.
    activation: LeakyReLU for critics and generators, SiLU for energies (chains need a smooth gradient).
    """

    def __init__(
        self,
        inputs: tuple[tuple[int, ...], ...],
        outputs: int = 1,
        width: int = 128,
        blocks: int = 2,
        activation: type[nn.Module] = nn.LeakyReLU,
        zero: bool = False,
    ) -> None:
        super().__init__()
        self.inputs, self.outputs, self.width, self.blocks = tuple(tuple(i) for i in inputs), outputs, width, blocks
        self.activation, self.zero = activation, zero
        self.enter = nn.Linear(sum(math.prod(s) for s in self.inputs), width)
        self.body = nn.ModuleList(self._block() for _ in range(blocks))
        last = nn.Linear(width, outputs)
        if zero:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.leave = nn.Sequential(activation(), last)

    def _block(self) -> nn.Sequential:
        last = nn.Linear(self.width, self.width)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        return nn.Sequential(self.activation(), nn.Linear(self.width, self.width), self.activation(), last)

    def forward(self, context: Context) -> Tensor:
        h = self.enter(join(context, self.inputs))
        for block in self.body:
            h = h + block(h)
        return self.leave(h)
