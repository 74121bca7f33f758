"""Fully connected networks with skip connections and dropout, by the same description that masked networks take."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn

from genalloy.capabilities import Context, join
from genalloy.networks.masked import Hidden
from genalloy.spec import Module


class Dense(Module):
    r"""Context parts of shapes `inputs` -> features (\*B, outputs).

    h' = drop(phi(W h + b)), and h + h' in its place where skip connections are asked for and the widths are equal; the outputs
    are linear in the last h. zero: start at outputs of 0.
    """

    def __init__(self, inputs: tuple[tuple[int, ...], ...], outputs: int, hidden: Hidden = Hidden(), zero: bool = False) -> None:
        super().__init__()
        self.inputs, self.outputs, self.hidden, self.zero = tuple(tuple(i) for i in inputs), outputs, hidden, zero
        widths = [sum(math.prod(s) for s in self.inputs), *hidden.widths]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.skips = [hidden.residual and i > 0 and a == b for i, (a, b) in enumerate(pairwise(widths))]
        self.last = nn.Linear(widths[-1], outputs)
        if zero:
            nn.init.zeros_(self.last.weight)
            nn.init.zeros_(self.last.bias)
        self.activation, self.dropout = hidden.activation(), nn.Dropout(hidden.dropout)

    def forward(self, context: Context) -> Tensor:
        h = join(context, self.inputs)
        for layer, skip in zip(self.layers, self.skips, strict=True):
            above = self.dropout(self.activation(layer(h)))
            h = h + above if skip else above
        return self.last(h)
