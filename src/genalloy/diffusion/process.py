r"""What a sampler is given: a denoiser on a path, the window it was trained in, and the shape of its events.

From the denoiser D follow :math:`\hat\epsilon = (x_t - \alpha D)/\sigma` and :math:`\nabla \log p_t = (\alpha D - x_t)/\sigma^2`.
Guidance, inpainting and conditioning are functions from process to process (:mod:`genalloy.models.steered`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from genalloy.diffusion.paths import Denoiser, Path, Window, expand_time


@dataclass(frozen=True)
class Process:
    r"""A reverse process: x_t (\*B, \*E), t broadcastable to (\*B).

    denoise: E[y | x_t]. path: alpha and sigma. window: lambda at the noisy and at the clean end. event_dims: axes of an event.
    transition: (x_t, t, s) -> x_s of a model that learned its own steps (a variance, a generator), None where steps follow from
    the denoiser alone.
    """

    denoise: Denoiser
    path: Path
    window: Window
    event_dims: int = 1
    transition: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None

    @property
    def span(self) -> tuple[float, float]:
        """Times (float) at which sampling starts and ends, noisy end first."""
        first, last = self.path.time(torch.tensor(self.window, dtype=torch.float64)).tolist()
        return first, last

    def start(self, noise: Tensor) -> Tensor:
        r"""x (\*B, \*E) at the first time from unit noise: :math:`N(0, \alpha^2 + \sigma^2)`, as for data of unit variance."""
        return noise * self.path.scale(torch.tensor(self.span[0], dtype=torch.float64)).to(noise)

    def clean(self, x: Tensor, t: Tensor) -> Tensor:
        r""":math:`D(x_t, t)`, (\*B, \*E)."""
        return self.denoise(x, t.to(x.dtype))

    def eps(self, x: Tensor, t: Tensor) -> Tensor:
        r""":math:`\hat\epsilon = (x_t - \alpha D) / \sigma`, the noise that the denoiser sees in x_t, (\*B, \*E)."""
        times = expand_time(t, x, self.event_dims)
        return (x - self.path.alpha(times) * self.clean(x, t)) / self.path.sigma(times)

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        r""":math:`\nabla \log p_t(x_t) = -\hat\epsilon / \sigma`, (\*B, \*E)."""
        return -self.eps(x, t) / self.path.sigma(expand_time(t, x, self.event_dims))

    def steered(self, denoise: Denoiser) -> Process:
        """The same process under another denoiser; a learned transition no longer applies."""
        return replace(self, denoise=denoise, transition=None)

    def on(self, path: Path) -> Process:
        r"""The same denoiser on another path: x_t of equal lambda differ by a factor, so nothing is trained anew.

        With :math:`\lambda(t) = \tilde\lambda(s)` and :math:`v = \sqrt{\alpha^2 + \sigma^2}` the denoiser is :math:`D(x\,v(t) /
        \tilde v(s), t)`; a learned transition is left behind.
        """

        def moved(x: Tensor, s: Tensor) -> Tensor:
            times = expand_time(s, x, self.event_dims)
            t = self.path.time(path.lam(times))
            flat = t.reshape(x.shape[: x.dim() - self.event_dims])
            return self.denoise(x * (self.path.scale(t) / path.scale(times)), flat)

        return Process(moved, path, path.clip(self.window), self.event_dims)


def process_of(distribution: Any) -> Process:
    """The process of a diffusion's distribution: its own `process` where it has one."""
    own = getattr(distribution, "process", None)
    if own is not None:
        return own
    return Process(distribution.denoise, distribution.path, distribution.window, len(distribution.event_shape))
