"""Labels as features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genalloy.core.contexts import Context, parts
from genalloy.core.spec import Module


class LabelEmbedding(Module):
    r"""A learned vector for each label 0..classes-1: (\*B) floats or integers -> (\*B, width).

    Vectors start as draws of N(0, I). Raises ValueError where a label lies outside the range.
    """

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.classes, self.width = classes, width
        self.weight = nn.Parameter(torch.randn(classes, width))

    def forward(self, label: Context) -> Tensor:
        r"""Vectors (\*B, width) of labels (\*B). Raises ValueError where one lies outside 0..classes-1."""
        index = parts(label, ((),))[0].long()
        if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < self.classes:
            raise ValueError(f"found labels from {int(index.min())} to {int(index.max())}, expected 0..{self.classes - 1}")
        return self.weight[index]
