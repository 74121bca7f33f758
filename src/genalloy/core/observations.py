r"""Observations: a tensor (\*B, \*E), or rows with missing or padded entries. Only this file touches their axes.

:func:`leading` says what stands before an event, :func:`repeat` puts k copies in a new first axis, :func:`rows` picks rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genalloy.core.evidence import Measure, Ragged, Rows, Unavailable

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Masked:
    r"""Observations with missing or padded entries: x (\*B, \*E), mask (\*B, \*E) True where observed.

    One mechanism for missing values and for the padding of sequences of unequal length. Factorised heads sum over
    the observed entries, autoregressive models have the exact density of a beginning of their order; all others see whole
    observations only: what they ask of a tensor raises Unavailable here, in one sentence, instead of scoring the padding.
    """

    x: Tensor
    mask: Tensor

    @staticmethod
    def of(rows: Sequence[Tensor], steps: int | None = None) -> Masked:
        r"""Rows (n_i, \*F) of unequal lengths as one batch (B, T, \*F), zeros behind each; T: `steps`, or the longest length.

        Raises ValueError without rows, or where one is longer than `steps`.
        """
        lengths = torch.tensor([len(row) for row in rows])
        if not len(lengths) or (steps is not None and int(lengths.max()) > steps):
            raise ValueError(f"found rows of {sorted(set(lengths.tolist()))[-3:]} steps, expected one or more of at most {steps}")
        x = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
        missing = x.new_zeros(len(x), (steps or x.shape[1]) - x.shape[1], *x.shape[2:])
        return Masked.first(torch.cat([x, missing], 1), lengths)

    @staticmethod
    def first(x: Tensor, lengths: Tensor) -> Masked:
        r"""The first lengths (B,) steps of rows x (B, T, \*F); the mask costs no memory along F."""
        mask = torch.arange(x.shape[1], device=x.device) < lengths.to(x.device)[:, None]
        return Masked(x, mask.reshape(*mask.shape, *(1,) * (x.dim() - 2)).expand(x.shape))

    @property
    def shape(self) -> torch.Size:
        return self.x.shape

    @property
    def device(self) -> torch.device:
        return self.x.device

    @property
    def dtype(self) -> torch.dtype:
        return self.x.dtype

    @property
    def steps(self) -> int:
        r"""T of a batch (B, T, \*F), padding included."""
        return int(self.x.shape[1])

    @property
    def lengths(self) -> Tensor:
        r"""Observed steps (B,) of a batch (B, T, \*F)."""
        return self.mask.flatten(2).any(-1).sum(1) if self.mask.dim() > 2 else self.mask.sum(1)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: Any) -> Masked:
        """Rows by a slice, an index tensor or a number."""
        return Masked(self.x[index], self.mask[index])

    def to(self, *to: Any) -> Masked:
        """Another device or dtype; the mask stays a mask."""
        x = self.x.to(*to)
        return Masked(x, self.mask.to(x.device))

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and hasattr(Tensor, name):
            raise Unavailable(WHOLE_ONLY)
        raise AttributeError(f"Masked has no attribute {name!r}")

    @classmethod
    def __torch_function__(cls, *call: Any) -> Any:
        raise Unavailable(WHOLE_ONLY)


WHOLE_ONLY = (
    "found rows with missing or padded entries, which this model cannot take; autoregressive models and factorised heads can: "
    "choose such a recipe (made, a transformer), or cut all rows to one length"
)


def leading(x: Any, event_shape: Shape) -> Shape:
    r"""The (\*S, \*B) part of x. Raises ValueError where x does not end in `event_shape`."""
    cut = len(x.shape) - len(event_shape)
    if cut < 0 or tuple(x.shape[cut:]) != tuple(event_shape):
        raise ValueError(f"found an observation of shape {tuple(x.shape)}, expected one that ends in {tuple(event_shape)}")
    return tuple(x.shape[:cut])


def repeat(x: Any, k: int) -> Any:
    r"""k copies of observations (\*B, \*E) in a new first axis, (k, \*B, \*E), without copying memory."""
    if isinstance(x, Masked):
        return Masked(repeat(x.x, k), repeat(x.mask, k))
    return x.expand(k, *x.shape)


def rows(x: Any, index: Any) -> Any:
    """The rows that a slice, an index tensor or a mask picks from the first axis."""
    return x[index]


def in_blocks(x: Any, size: int) -> list[Any]:
    """The rows in blocks of at most `size`, in order; no rows are one empty block."""
    return [rows(x, slice(start, start + size)) for start in range(0, max(len(x), 1), size)]


def observed_measure(mask: Tensor, event_dims: int, discrete: bool) -> Measure:
    r"""Measure of the entries where a mask (\*B, \*E) is true: a number where all rows have as many, else a unit of their own."""
    while mask.dim() > event_dims and mask.stride(0) == 0:
        mask = mask[0]  # copies along a new axis (:func:`repeat`) are the same rows
    counts = mask.flatten(-event_dims).sum(-1).flatten().tolist() if event_dims else mask.flatten().long().tolist()
    fewest, most = min(counts, default=0), max(counts, default=0)
    number = most if fewest == most else Ragged(0, ((Rows(fewest, most, hash(tuple(counts))), 1),))
    return Measure(0, number) if discrete else Measure(number, 0)
