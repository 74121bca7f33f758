"""Law: a transform's two directions undo each other, and its log-determinants are those of autograd's Jacobian."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from genalloy.core.contexts import Context, tree_map
from genalloy.laws.subject import NotApplicable, Subject, check
from genalloy.transforms.layer import Layer, Transform

SCALES = (1.0, 5.0, 20.0)
MOST = 128
"""Coordinates up to which a Jacobian is formed."""


class LayerTransform(Transform):
    """A layer as a transform: log-determinants of both directions instead of contributions to log p(x)."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer

    def encode(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        z, evidence = self.layer.encode(x, context)
        return z, evidence.value

    def decode(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        x, evidence = self.layer.decode(z, context)
        return x, -evidence.value


def invertible(transform: Any, x: Tensor, context: Context = None, tolerance: float = 1e-3) -> None:
    r"""Round trips both ways and both log-determinants at inputs x (N, \*E), context with batch (N,).

    Round trips run in the transform's own precision, relative to the size of x; Jacobians in float64.
    """
    name = type(transform).__name__
    with torch.no_grad():
        z, ladj = transform.encode(x, context)
        back, inverse_ladj = transform.decode(z, context)
    scale = float(x.abs().max())
    check(torch.isfinite(z).all() and torch.isfinite(back).all(), f"{name} is not finite at scale {scale:.3g}")
    gap = float((back - x).abs().max()) / max(scale, 1.0)
    check(gap < tolerance, f"{name}: decode(encode(x)) is off by {gap:.2g} of x at scale {scale:.3g}")
    gap = float((ladj + inverse_ladj).abs().max())
    check(gap < max(tolerance, 1e-3 * float(ladj.abs().max())), f"{name}: the two log-determinants differ by {gap:.2g}")
    check(ladj.shape == x.shape[:1], f"{name}: log-determinant of shape {tuple(ladj.shape)} for {len(x)} rows")
    if x[0].numel() <= MOST:
        wide = copy.deepcopy(transform).double()
        _jacobian(wide.encode, x.double(), _wide(context), name)
        _jacobian(wide.decode, z.double(), _wide(context), name)


def _row(context: Context, index: int) -> Context:
    return tree_map(lambda c: c[index : index + 1], context)


def _wide(context: Context) -> Context:
    return tree_map(lambda c: c.double(), context)


def _jacobian(function: Callable[..., Any], x: Tensor, context: Context, name: str) -> None:
    for i in range(min(len(x), 4)):
        row = _row(context, i)
        size = x[i].numel()
        jacobian = torch.autograd.functional.jacobian(lambda y, row=row: function(y, row)[0], x[i : i + 1])
        truth = torch.linalg.slogdet(jacobian.reshape(size, size))[1]
        gap = float((truth - function(x[i : i + 1], row)[1].detach().squeeze(0)).abs())
        check(gap < 1e-5 * (1 + abs(float(truth))), f"{name}: log-determinant off by {gap:.2g} from autograd's Jacobian")


def layers_invert(subject: Subject) -> None:
    """Every exact layer of a flow, at the inputs that it meets. Raises NotApplicable where the part has none."""
    layers = list(getattr(subject.part, "layers", ()))
    if not any(hasattr(layer, "transform") for layer in layers):
        raise NotApplicable(f"{subject.name} has no exact layers")
    context = subject.context((8,))
    x = subject.part(context).sample(() if subject.context_shapes else (8,))
    for layer in layers:
        if hasattr(layer, "transform"):
            invertible(layer.transform, x, context if subject.part.context_shapes else None)
        with torch.no_grad():
            x, _ = layer.encode(x, context if subject.part.context_shapes else None)
