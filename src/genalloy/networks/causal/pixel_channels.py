r"""How the channels of a pixel depend on each other, from one set of parameters a pixel (Salimans et al., 2017).

A pixel network sees the pixels before and gives numbers for the whole pixel. The channels are then tied by a linear
adjustment, with coefficients from the network. For a mixture whose weights all channels share,

.. math:: p(x_1, \dots, x_C) = \sum_m \pi_m \prod_c p(x_c; \mu_{mc} + \sum_{c' < c} \tanh(k_{mcc'})\, e(x_{c'}), s_{mc}),

with e(x) the value scaled as means are. The same joint law, one channel after another, is a mixture in which the weights of
channel c are the posterior weights given the channels before,

.. math:: p(x_c | x_{<c}) = \sum_m w_m^c\, p_m(x_c | x_{<c}), \qquad
          w_m^c \propto \pi_m \prod_{c' < c} p_m(x_{c'} | x_{<c'}),

so that these parameters go to an elementwise mixture head and the product of elements is the joint. Bits have logits
:math:`l_c + \sum_{c' < c} k_{cc'} (2 x_{c'} - 1)`.

A pixel network offers ``network(x, context)`` -> (\*B, H, W, width), ``network.init_state(shape, context)`` and
``network.step(state, previous)`` -> (state, (\*shape, width)), given the pixel before (\*shape, C).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from genalloy.core.contexts import Context, Shapes
from genalloy.core.spec import Module
from genalloy.networks.causal.network import Pixels
from genalloy.networks.input_embedding import ScaledInput

Shape = tuple[int, ...]


def pairs(channels: int) -> int:
    """Number of pairs c' < c."""
    return channels * (channels - 1) // 2


def mixture_width(channels: int, components: int) -> int:
    """Parameters a pixel of :class:`SharedMixture`: weights, means and scales of each channel, a coefficient a pair."""
    return components * (1 + 2 * channels + pairs(channels))


def logits_width(channels: int) -> int:
    """Parameters a pixel of :class:`LinearLogits`: a logit a channel, a coefficient a pair."""
    return channels + pairs(channels)


class ChannelState(NamedTuple):
    """Cache of a pass: the element in turn, the pixel network's cache, the parameters of the pixel in turn, what its channels
    so far say of the components, and their values."""

    element: int
    pixels: Any
    parameters: Tensor
    belief: Tensor
    values: tuple[Tensor, ...]


class Channels(Module, ABC):
    r"""A pixel network as a network over elements: x (\*B, C, H, W), context -> (\*B, C, H, W, width).

    Elements are generated pixel by pixel, within a pixel channel by channel. Raises ValueError where the network gives
    another number of parameters a pixel than is needed.
    """

    differentiable_steps = False

    def __init__(self, network: Any, width: int, needed: int) -> None:
        super().__init__()
        self.network, self.width = network, width
        self.event_shape: Shape = tuple(network.event_shape)
        self.channels = self.event_shape[0]
        self.sequence = tuple(Pixels().cut(self.event_shape).order.flatten().tolist())
        if network.width != needed:
            raise ValueError(f"found a network of {network.width} parameters a pixel, expected {needed} for {self.event_shape}")

    @property
    def context_shapes(self) -> Shapes:
        return self.network.context_shapes

    @abstractmethod
    def start(self, parameters: Tensor) -> Tensor:
        """What is believed of the components before any channel is known."""

    @abstractmethod
    def element(self, parameters: Tensor, belief: Tensor, values: tuple[Tensor, ...]) -> Tensor:
        r"""Parameters (\*B, width) of the next channel, given the pixel's (\*B, needed) and the channels so far, each (\*B)."""

    @abstractmethod
    def after(self, element: Tensor, belief: Tensor, value: Tensor) -> Tensor:
        """The belief once a channel's value is known."""

    def forward(self, x: Tensor, context: Context = None) -> Tensor:
        r"""Parameters (\*B, C, H, W, width) of every element, each channel's given the ones before it in x."""
        parameters = self.network(x, context)
        belief, values, outputs = self.start(parameters), tuple(x.unbind(-3)), []
        for c in range(self.channels):
            outputs.append(self.element(parameters, belief, values[:c]))
            belief = self.after(outputs[-1], belief, values[c]) if c + 1 < self.channels else belief
        return torch.stack(outputs, -4)

    @torch.no_grad()
    def init_state(self, shape: Shape, context: Context = None) -> ChannelState:
        r"""Empty cache for images (\*shape, C, H, W); the context's batch broadcasts to `shape`."""
        empty = torch.empty(0)
        return ChannelState(0, self.network.init_state(shape, context), empty, empty, ())

    @torch.no_grad()
    def step(self, state: ChannelState, previous: Tensor | None) -> tuple[ChannelState, Tensor]:
        r"""Parameters (\*shape, width) of the next element in `sequence`, given the value (\*shape) of the one before.

        Uses its state up: buffers are written in place.
        """
        values = state.values if previous is None else (*state.values, previous)
        if state.element % self.channels == 0:
            pixel = torch.stack(values, -1) if values else None
            pixels, parameters = self.network.step(state.pixels, pixel)
            state, values = state._replace(pixels=pixels, parameters=parameters, belief=self.start(parameters)), ()
        else:
            element = self.element(state.parameters, state.belief, values[:-1])
            state = state._replace(belief=self.after(element, state.belief, values[-1]))
        element = self.element(state.parameters, state.belief, values)
        return state._replace(element=state.element + 1, values=values), element


class SharedMixture(Channels):
    r"""A mixture head's parameters, weights shared by a pixel's channels (PixelCNN++: Salimans et al., 2017, arXiv:1701.05517).

    .. math:: p(x_1, \dots, x_C) = \sum_m \pi_m \prod_c p(x_c; \mu_{mc} + \sum_{c' < c} \tanh(k_{mcc'})\, e(x_{c'}), s_{mc})

    network: pixel network of width `mixture_width(C, M)`. head: mixture head with `joint_log_prob`, the model's own; its width is
    3 x M, (weights, means, raw scales). entry: e, scales values as the head's means are.
    """

    def __init__(self, network: Any, head: Any, entry: ScaledInput = ScaledInput()) -> None:
        super().__init__(network, head.width, mixture_width(network.event_shape[0], head.components))
        self.head, self.entry = head, entry
        self.sizes = (1, self.channels, self.channels, pairs(self.channels))

    def _split(self, parameters: Tensor) -> tuple[Tensor, ...]:
        r"""Weights (\*B, 1, M), means and raw scales (\*B, C, M), coefficients (\*B, pairs, M)."""
        return parameters.unflatten(-1, (-1, self.head.components)).split(self.sizes, -2)

    def start(self, parameters: Tensor) -> Tensor:
        return self._split(parameters)[0].squeeze(-2)

    def element(self, parameters: Tensor, belief: Tensor, values: tuple[Tensor, ...]) -> Tensor:
        r"""(log-weights, moved means, raw scales) of channel c = len(values), (\*B, 3 M)."""
        _, means, raw, coefficients = self._split(parameters)
        c = len(values)
        mean = means[..., c, :]
        for k, value in enumerate(values):
            mean = mean + torch.tanh(coefficients[..., pairs(c) + k, :]) * self.entry(value)
        return torch.cat([belief, mean, raw[..., c, :]], -1)

    def after(self, element: Tensor, belief: Tensor, value: Tensor) -> Tensor:
        """Posterior weights, as logits."""
        return self.head(element, 0).joint_log_prob(value).log_softmax(-1)


class LinearLogits(Channels):
    r"""One logit an element for bits, :math:`l_c + \sum_{c' < c} k_{cc'} (2 x_{c'} - 1)`; network of width `logits_width(C)`."""

    def __init__(self, network: Any) -> None:
        super().__init__(network, 1, logits_width(network.event_shape[0]))

    def start(self, parameters: Tensor) -> Tensor:
        return parameters[..., :0]

    def element(self, parameters: Tensor, belief: Tensor, values: tuple[Tensor, ...]) -> Tensor:
        r"""The logit (\*B, 1) of channel c = len(values)."""
        c = len(values)
        logit = parameters[..., c : c + 1]
        for k, value in enumerate(values):
            index = self.channels + pairs(c) + k
            logit = logit + parameters[..., index : index + 1] * (2 * value.unsqueeze(-1) - 1)
        return logit

    def after(self, element: Tensor, belief: Tensor, value: Tensor) -> Tensor:
        return belief
