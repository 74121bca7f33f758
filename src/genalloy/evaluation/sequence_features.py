r"""Features of sequences that do not grow with their number of steps: random convolutions, pooled over time.

Kernels with normal weights and several dilations slide over the steps, centred and divided by one number; of each, the share of
positive responses and their mean are kept (Dempster, Petitjean & Webb, 2020, with 96 kernels). What lies behind a row is its
padding: it counts.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genalloy.core.moments import mean_and_scale
from genalloy.evaluation.features import Features

KERNELS = 32
WIDTH = 9
DILATIONS = (1, 4, 16)


class RandomConvolutions(Features):
    """Rows (N, T, \\*F) -> (N, 192). seed: of the kernels. shared: whether the entries of a step share a unit."""

    def __init__(self, seed: int = 0, shared: bool = True) -> None:
        self.seed, self.shared = seed, shared
        self.name = f"random convolutions, seed {seed}"

    def _learn(self, train: Tensor, labels: Tensor | None) -> None:
        steps = _steps(train).flatten(0, 1)
        mean, scale = mean_and_scale(steps)
        # one scale for all notes: one that hardly ever sounds would otherwise outweigh the rest
        self._mean, self._spread = mean.float(), (scale.square().mean().sqrt() if self.shared else scale).float()
        generator = torch.Generator().manual_seed(self.seed)
        shape = (KERNELS, steps.shape[-1], WIDTH)
        self._kernels = [torch.randn(shape, generator=generator) / (shape[1] * WIDTH) ** 0.5 for _ in DILATIONS]
        self._biases = [torch.rand(KERNELS, generator=generator) * 2 - 1 for _ in DILATIONS]

    def _raw(self, x: Tensor) -> Tensor:
        steps = ((_steps(x) - self._mean) / self._spread).transpose(1, 2)
        pooled = []
        for kernel, bias, dilation in zip(self._kernels, self._biases, DILATIONS, strict=True):
            response = torch.nn.functional.conv1d(steps, kernel, bias, padding=dilation * (WIDTH // 2), dilation=dilation)
            pooled += [(response > 0).float().mean(-1), response.mean(-1)]
        return torch.cat(pooled, 1)


def _steps(x: Tensor) -> Tensor:
    """(N, T, F) float32."""
    return x.float().reshape(*x.shape[:2], -1)
