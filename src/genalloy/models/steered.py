r"""Guidance, inpainting and conditioning: rules that steer a diffusion's reverse process.

A rule turns one denoiser into another. What comes out follows no law that anyone has normalised, so its density is NONE, and no
gradient reaches the model through it: sampling alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from genalloy.core.contexts import Context, parts, tree_map
from genalloy.core.distribution import Distribution, Shape, measure_of
from genalloy.core.evidence import Evidence
from genalloy.core.observations import leading
from genalloy.core.part import Part
from genalloy.core.spec import Module, Value
from genalloy.diffusion.paths import Denoiser, expand_time
from genalloy.diffusion.process import Process, process_of


class Rule(ABC):
    """(part, context, its process) -> the steered process."""

    @abstractmethod
    def __call__(self, part: Any, context: Context, process: Process) -> Process:
        """The process that samplers run, from that of part(context)."""


@dataclass(frozen=True)
class ClassifierFree(Value, Rule):
    r""":math:`D(c) + w\,(D(c) - D(\mathrm{null}))`: away from what the model says without context (Ho & Salimans, 2022,
    arXiv:2207.12598).

    scale: the paper's w, 0 for the model itself. null: the value that stands for no context, as the model was trained
    with.
    """

    scale: float = 2.0
    null: float = 0.0

    def __call__(self, part: Any, context: Context, process: Process) -> Process:
        free = process_of(part(tree_map(lambda c: torch.full_like(c, self.null), context)))

        def denoise(x: Tensor, t: Tensor) -> Tensor:
            own = process.denoise(x, t)
            return own + self.scale * (own - free.denoise(x, t))

        return process.steered(denoise)


class Classifier(Module, Rule):
    r""":math:`D + w\,\frac{\sigma^2}{\alpha} \nabla_{x_t} \log p(y \mid x_t)` (Dhariwal & Nichol, 2021, arXiv:2105.05233).

    network: (:math:`x_t / \sqrt{\alpha^2 + \sigma^2}`, lambda (\*B)) -> logits (\*B, classes), trained on noised data. label: y,
    0..classes-1. scale: w.
    """

    def __init__(self, network: nn.Module, label: int, scale: float = 1.0) -> None:
        super().__init__()
        self.network, self.label, self.scale = network, label, scale

    def __call__(self, part: Any, context: Context, process: Process) -> Process:
        def denoise(x: Tensor, t: Tensor) -> Tensor:
            times = expand_time(t, x, process.event_dims)
            alpha, sigma = process.path.alpha(times), process.path.sigma(times)
            with torch.enable_grad():
                leaf = x.detach().requires_grad_()
                lam = process.path.lam(times).reshape(x.shape[: x.dim() - process.event_dims])
                logits = self.network((leaf / process.path.scale(times), lam))
                (slope,) = torch.autograd.grad(logits.log_softmax(-1)[..., self.label].sum(), leaf)
            return process.denoise(x, t) + self.scale * sigma.square() / alpha * slope

        return process.steered(denoise)


class Inpainting(Module, Rule):
    """Known entries are replaced by what they are: D = known where `mask` is true (after Lugmayr et al., 2022, arXiv:2201.09865).

    known, mask: of the event shape, in the data's units. The known part of x_t is noised along with the rest.
    """

    known: Tensor
    mask: Tensor

    def __init__(self, known: Tensor, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("known", known)
        self.register_buffer("mask", mask)

    def __call__(self, part: Any, context: Context, process: Process) -> Process:
        y, _ = part(context).embed(self.known.expand(part.event_shape))

        def denoise(x: Tensor, t: Tensor) -> Tensor:
            times = expand_time(t, x, process.event_dims)
            noised = process.path.noised(y.to(x), torch.randn_like(x), times)
            return torch.where(self.mask, y.to(x), process.denoise(torch.where(self.mask, noised, x), t))

        return process.steered(denoise)


class Steered(Part):
    """A diffusion under a rule; samples only, with density NONE.

    part: a Diffusion. rule: ClassifierFree, Classifier or Inpainting.
    """

    def __init__(self, part: nn.Module, rule: Any) -> None:
        super().__init__()
        self.part: Any = part
        self.rule = rule
        self.context_shapes, self.event_shape = getattr(part, "context_shapes", ()), getattr(part, "event_shape", None)

    def forward(self, context: Context = None) -> SteeredDistribution:
        """The steered distribution given c. Raises ValueError where parts of the context are missing or left over."""
        if self.context_shapes:
            parts(context, self.context_shapes)
        return SteeredDistribution(self, context)


class SteeredDistribution(Distribution):
    """See :class:`Steered`."""

    has_rsample = False

    def __init__(self, part: Steered, context: Context) -> None:
        self.inner: Any = part.part(context)
        super().__init__(self.inner.batch_shape, self.inner.event_shape, measure_of(self.inner))
        self.part, self.process = part.part, part.rule(part.part, context, process_of(self.inner))
        self.rule: Any = part.rule

    @property
    def denoiser(self) -> Denoiser:
        """The steered E[y | x_t]."""
        return self.process.denoise

    @torch.no_grad()
    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        r"""Samples (\*S, \*B, \*E) of the diffusion's own sampler on the steered process, without gradients."""
        return self.inner.sampled(self.process, sample_shape)

    def density(self, x: Tensor) -> Evidence:
        r"""NONE, (\*S, \*B): a rule's law has no known normaliser."""
        return Evidence.none(f"{type(self.rule).__name__} changes the law", leading(x, tuple(self.event_shape)))

    def draw(self, sample_shape: Shape = ()) -> tuple[Tensor, Evidence]:
        r"""Samples (\*S, \*B, \*E), and NONE."""
        x = self.sample(sample_shape)
        return x, self.density(x)
