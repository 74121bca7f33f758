"""Law: every parameter of a part gets a gradient from what the part offers, or is listed as frozen on purpose."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from genalloy.core.distribution import density
from genalloy.core.evidence import Kind
from genalloy.laws.subject import NotApplicable, Subject, check, perturb_parameters


def gradients(subject: Subject, listed: tuple[str, ...] = ()) -> None:
    """listed: names of parameters that are expected to get none.

    Asked of a copy moved off its initial weights: behind a layer that starts at zero, nothing learns at the first step.
    """
    part = perturb_parameters(subject.part, 0.1)
    part.zero_grad()
    context = subject.context((16,))
    distribution = part(context)
    x = distribution.sample(() if subject.context_shapes else (16,)).detach()
    reading = _reading(distribution, x)
    if not reading.requires_grad:
        raise NotApplicable(f"{subject.name} has nothing to train, or its estimator gives no gradients")
    reading.backward()
    for name, parameter in part.named_parameters():
        if not parameter.requires_grad:
            continue
        reached = parameter.grad is not None and bool((parameter.grad != 0).any())
        if name in listed:
            check(not reached, f"{subject.name}: {name} is listed as having no gradient, and has one")
            continue
        check(reached, f"{subject.name}: parameter {name} gets no gradient; use it, or list it")
        check(bool(torch.isfinite(parameter.grad).all()), f"{subject.name}: the gradient of {name} is not finite")
    part.zero_grad()


def _reading(distribution: Any, x: Tensor) -> Tensor:
    """Density, energy or samples, whichever there is, as a scalar."""
    evidence = density(distribution, x)
    if evidence.kind is not Kind.NONE:
        return evidence.value.sum()
    if hasattr(distribution, "energy"):
        return distribution.energy(x).sum()
    return distribution.rsample((16,)).square().sum()
