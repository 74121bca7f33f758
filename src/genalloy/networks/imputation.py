"""Rows with missing entries as the input of a network that takes whole tensors."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from genalloy.core.contexts import Context, both, split
from genalloy.core.observations import Masked
from genalloy.core.spec import Module


class ZeroImputation(Module):
    r"""network of (x with zeros for what is missing, mask), where the first part of its context is a Masked x (\*B, \*E).

    The mask (1 where observed) is a part of its own behind x, so a network for it declares ``inputs = (E, E, ...)``; a tensor is
    taken as wholly observed. Zeros for missing entries are those of MIWAE (Mattei & Frellsen, 2019, arXiv:1812.02633).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, context: Context) -> Tensor:
        r"""The network's features of (x with zeros, mask, \*the context's other parts), x (\*B, \*E) a Masked or a tensor."""
        (x, *rest), named = split(context)
        whole, mask = _filled(x)
        given = (*rest, named) if named else tuple(rest)
        return self.network(both((whole, mask), given or None))


def _filled(x: Any) -> tuple[Tensor, Tensor]:
    if type(x) is not Masked:
        return x, x.new_ones(x.shape)
    whole = x.x.where(x.mask, x.x.new_zeros(()))
    return whole, x.mask.to(whole.dtype)
