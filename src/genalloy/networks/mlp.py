"""Fully connected networks on contexts of declared shapes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from genalloy.core.contexts import Context, Shapes, flat, join, shapes_of
from genalloy.core.spec import Module, Value


@dataclass(frozen=True)
class Hidden(Value):
    """Hidden layers: widths, a torch.nn activation class, skip connections between equal widths, dropout."""

    widths: tuple[int, ...] = (128, 128)
    activation: type[nn.Module] = nn.SiLU
    residual: bool = False
    dropout: float = 0.0


class MLP(Module):
    r"""Context parts of shapes `inputs` -> features (\*B, outputs), fully connected.

    .. math:: h_0 = (c - \mathrm{shift}) / \mathrm{scale}, \qquad h_{l+1} = \mathrm{drop}(\phi(W_l h_l + b_l)),

    c the parts joined, the outputs linear in the last h. inputs: event shapes of the context's parts, e.g. ((16,),) or
    ((1, 8, 8), ()); hidden: widths; activation: a torch.nn class. dropout: after each hidden layer. zero: start at outputs of 0.
    """

    def __init__(
        self,
        inputs: Shapes,
        outputs: int,
        hidden: tuple[int, ...] = (128, 128),
        activation: type[nn.Module] = nn.SiLU,
        shift: float = 0.0,
        scale: float = 1.0,
        dropout: float = 0.0,
        zero: bool = False,
    ) -> None:
        super().__init__()
        self.inputs, self.outputs, self.hidden = shapes_of(inputs), outputs, tuple(hidden)
        self.activation, self.shift, self.scale, self.dropout, self.zero = activation, shift, scale, dropout, zero
        widths = [sum(math.prod(s) for s in flat(self.inputs)), *hidden]
        layers: list[nn.Module] = []
        for a, b in pairwise(widths):
            layers += [nn.Linear(a, b), activation(), *([nn.Dropout(dropout)] if dropout else [])]
        last = nn.Linear(widths[-1], outputs)
        if zero:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.net = nn.Sequential(*layers, last)

    def forward(self, context: Context) -> Tensor:
        r"""Features (\*B, outputs) of the context's parts, joined."""
        features = join(context, self.inputs)
        if self.shift or self.scale != 1.0:
            features = (features - self.shift) / self.scale
        return self.net(features)


class Dense(Module):
    r"""Context parts of shapes `inputs` -> features (\*B, outputs), fully connected, with skip connections where asked for.

    .. math:: h_{l+1} = [h_l +]\; \mathrm{drop}(\phi(W_l h_l + b_l))

    h is added behind the first layer where `hidden.residual` is set and the widths are equal; the outputs are linear in the last
    h. zero: start at outputs of 0.
    """

    def __init__(self, inputs: Shapes, outputs: int, hidden: Hidden = Hidden(), zero: bool = False) -> None:
        super().__init__()
        self.inputs, self.outputs, self.hidden, self.zero = shapes_of(inputs), outputs, hidden, zero
        widths = [sum(math.prod(s) for s in flat(self.inputs)), *hidden.widths]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.skips = [hidden.residual and i > 0 and a == b for i, (a, b) in enumerate(pairwise(widths))]
        self.last = nn.Linear(widths[-1], outputs)
        if zero:
            nn.init.zeros_(self.last.weight)
            nn.init.zeros_(self.last.bias)
        self.activation, self.dropout = hidden.activation(), nn.Dropout(hidden.dropout)

    def forward(self, context: Context) -> Tensor:
        r"""Features (\*B, outputs) of the context's parts, joined."""
        h = join(context, self.inputs)
        for layer, skip in zip(self.layers, self.skips, strict=True):
            above = self.dropout(self.activation(layer(h)))
            h = h + above if skip else above
        return self.last(h)


class ResidualMLP(Module):
    r"""Context parts of shapes `inputs` -> features (\*B, outputs): `blocks` residual blocks of `width`.

    A block (pre-activation: He et al., 2016, arXiv:1603.05027) is :math:`h + W_2\, \phi(W_1\, \phi(h))`, W_2 zero at the start.
    zero: start at outputs of 0. activation: LeakyReLU for critics and generators, SiLU for energies (chains need a smooth
    gradient).
    """

    def __init__(
        self,
        inputs: Shapes,
        outputs: int = 1,
        width: int = 128,
        blocks: int = 2,
        activation: type[nn.Module] = nn.LeakyReLU,
        zero: bool = False,
    ) -> None:
        super().__init__()
        self.inputs, self.outputs, self.width, self.blocks = shapes_of(inputs), outputs, width, blocks
        self.activation, self.zero = activation, zero
        self.enter = nn.Linear(sum(math.prod(s) for s in flat(self.inputs)), width)
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
        r"""Features (\*B, outputs) of the context's parts, joined."""
        h = self.enter(join(context, self.inputs))
        for block in self.body:
            h = h + block(h)
        return self.leave(h)
