"""What a step sees: observations, their context, and where they stand in the data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from genalloy.core.contexts import Context, tensors, tree_map
from genalloy.core.observations import Record, observation, rows


@dataclass(frozen=True)
class Batch:
    r"""What a step sees: x (B, \*E), optional context (B, ...), rows' indices in the data set (B,).

    x: a tensor, a Masked or a record; a dict is taken for a record.
    """

    x: Any
    context: Context = None
    index: Tensor | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "x", observation(self.x))

    @staticmethod
    def of(item: Any) -> Batch:
        """A batch as data loaders give it: a Batch, rows alone, or a list or tuple of rows and their context, in floats.

        Rows are a tensor, a Masked, a record or a dict of such; the context is a tensor, or a tuple or dict of them. Raises
        ValueError for anything else.
        """
        if isinstance(item, Batch):
            return item
        parts = tuple(item) if type(item) in (list, tuple) else (item,)
        context = parts[1] if len(parts) == 2 else None
        context = tuple(context) if type(context) is list else context  # a loader's collate makes lists of tuples
        if not 1 <= len(parts) <= 2 or not _observed(parts[0]) or not all(hasattr(c, "shape") for c in tensors(context)):
            what = f"a batch is a {type(item).__name__} of {len(parts)}"
            raise ValueError(f"{what}; expected Batch(x, context), a tensor, a record, or (x, context); wrap it")
        return Batch(parts[0], tree_map(lambda part: part.float(), context))

    @property
    def steps(self) -> int:
        """What losses in nats are divided by: the padded length of rows of unequal lengths, 1 for a tensor."""
        return getattr(self.x, "steps", 1)

    def __len__(self) -> int:
        return len(self.x)

    def rows(self, select: slice | Tensor) -> Batch:
        """A subset of the rows."""
        index = None if self.index is None else self.index[select]
        return Batch(rows(self.x, select), tree_map(lambda part: part[select], self.context), index)


def _observed(x: Any) -> bool:
    x = observation(x)
    return all(map(_observed, x.parts.values())) if isinstance(x, Record) else hasattr(x, "shape")
