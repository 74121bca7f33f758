"""Fully connected networks on contexts of declared shapes."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn

from genalloy.capabilities import Context, join
from genalloy.spec import Module


class MLP(Module):
    r"""Context parts of shapes `inputs` -> features (\*B, outputs): h' = drop(phi(W h + b)), the outputs linear in the last h.

    inputs: event shapes of the context's parts, e.g. ((16,),) or ((1, 8, 8), ()); hidden: widths; activation: a torch.nn
    class. shift, scale: the joined input is first mapped to (input - shift) / scale.
    dropout: after each hidden layer. zero: start at outputs of 0.
    """

    def __init__(
        self,
        inputs: tuple[tuple[int, ...], ...],
        outputs: int,
        hidden: tuple[int, ...] = (128, 128),
        activation: type[nn.Module] = nn.SiLU,
        shift: float = 0.0,
        scale: float = 1.0,
        dropout: float = 0.0,
        zero: bool = False,
    ) -> None:
        super().__init__()
        self.inputs, self.outputs, self.hidden = tuple(tuple(i) for i in inputs), outputs, tuple(hidden)
        self.activation, self.shift, self.scale, self.dropout, self.zero = activation, shift, scale, dropout, zero
        widths = [sum(math.prod(s) for s in self.inputs), *hidden]
        layers: list[nn.Module] = []
        for a, b in pairwise(widths):
            layers += [nn.Linear(a, b), activation(), *([nn.Dropout(dropout)] if dropout else [])]
        last = nn.Linear(widths[-1], outputs)
        if zero:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.net = nn.Sequential(*layers, last)

    def forward(self, context: Context) -> Tensor:
        features = join(context, self.inputs)
        if self.shift or self.scale != 1.0:
            features = (features - self.shift) / self.scale
        return self.net(features)
