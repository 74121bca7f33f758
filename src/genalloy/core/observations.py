r"""Observations: a tensor (\*B, \*E), rows with missing or padded entries, or a record of several such under names.

Only this file touches their axes: :func:`leading` says what stands before an event, :func:`repeat` puts k copies in a new first
axis, :func:`rows` picks rows.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genalloy.core.evidence import Measure, Ragged, Rows, Unavailable, measure_over
from genalloy.core.spec import Value

Shape = tuple[int, ...]


class _NoTensor(ABC):
    """What is no tensor and is told so in one sentence, `refusal`, whatever a model asks of it."""

    refusal: str

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and hasattr(Tensor, name):
            self._refuse()
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    @classmethod
    def __torch_function__(cls, *call: Any) -> Any:
        raise Unavailable(cls.refusal)

    def _refuse(self, *operands: Any) -> Any:
        raise Unavailable(self.refusal)

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __neg__ = __pow__ = _refuse
    __matmul__ = __rmatmul__ = __lt__ = __le__ = __gt__ = __ge__ = __invert__ = __and__ = __or__ = _refuse


@dataclass(frozen=True, eq=False)
class Masked(_NoTensor):
    r"""Observations with missing or padded entries: x (\*B, \*E), mask (\*B, \*E) True where observed.

    One mechanism for missing values and for the padding of sequences of unequal length. Factorised heads sum over
    the observed entries, autoregressive models have the exact density of a beginning of their order; all others see whole
    observations only: what they ask of a tensor raises Unavailable here, in one sentence, instead of scoring the padding.
    """

    x: Tensor
    mask: Tensor

    refusal = (
        "found rows with missing or padded entries, which this model cannot take; autoregressive models and factorised heads "
        "can: choose such a recipe (made, a transformer), or cut all rows to one length"
    )

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
        """The shape of x."""
        return self.x.shape

    @property
    def device(self) -> torch.device:
        """Where x is."""
        return self.x.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of x."""
        return self.x.dtype

    @property
    def steps(self) -> int:
        r"""T of a batch (B, T, \*F), padding included; 1 of single numbers (B,)."""
        return int(self.x.shape[1]) if self.x.dim() > 1 else 1

    @property
    def lengths(self) -> Tensor:
        r"""Observed steps (B,) of a batch (B, T, \*F)."""
        return self.mask.flatten(2).any(-1).sum(1) if self.mask.dim() > 2 else self.mask.sum(1)

    @staticmethod
    def present(x: Tensor, there: Tensor) -> Masked:
        r"""Events x (\*B, \*E) that only the rows where `there` (\*B) is true have; the mask costs no memory along E."""
        mask = there.bool().reshape(*there.shape, *(1,) * (x.dim() - there.dim()))
        return Masked(x, mask.expand(x.shape))

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: Any) -> Masked:
        """Rows by a slice, an index tensor or a number."""
        return Masked(self.x[index], self.mask[index])

    def to(self, *to: Any) -> Masked:
        """Another device or dtype; the mask stays a mask."""
        x = self.x.to(*to)
        return Masked(x, self.mask.to(x.device))


@dataclass(frozen=True)
class RecordShape(Value, Mapping[str, Any]):
    """Event shapes of a record's parts by name, a mapping; a part that is a record has a RecordShape itself."""

    shapes: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.shapes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def numel(self) -> int:
        """Entries of a whole event, all parts together."""
        return sum(torch.Size(part).numel() if isinstance(part, tuple) else part.numel() for part in self.shapes.values())


def event(shape: Any) -> Any:
    """An event shape as a tuple, or a dict of them by name as a :class:`RecordShape`."""
    if isinstance(shape, Mapping):
        return RecordShape({name: event(part) for name, part in shape.items()})
    return tuple(shape)


@dataclass(frozen=True, eq=False)
class Record(_NoTensor):
    r"""Observations by name, each (\*B, \*E) with an event shape of its own: several modalities, or columns of several kinds.

    parts: tensors, Masked or records. A part that no row has is left out; one that some rows lack is Masked in these rows (see
    :meth:`Masked.present`). A model of records gives the density of the parts that are there. At the borders of the library (a
    batch, `ga.density`) a dict is taken for a record.

    Raises ValueError without parts.
    """

    parts: Mapping[str, Any]

    refusal = (
        "found a record of named parts where one tensor is expected; rows with a context are Batch(x, context). A likelihood of "
        "records is a Product, a posterior of them a ProductOfExperts or a network that declares a RecordShape among its inputs"
    )

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("found a record without parts, expected at least one; a part that some rows lack is Masked")
        object.__setattr__(self, "parts", {name: observation(part) for name, part in self.parts.items()})

    def __getitem__(self, key: Any) -> Any:
        """The part of a name, or the record of the rows that a slice or an index tensor picks.

        Raises KeyError where there is no such part.
        """
        if not isinstance(key, str):
            return rows(self, key)
        if key not in self.parts:
            raise KeyError(f"found {key!r}, expected one of the parts {list(self.parts)}")
        return self.parts[key]

    def __contains__(self, name: str) -> bool:
        return name in self.parts

    def __len__(self) -> int:
        return len(next(iter(self.parts.values())))

    def only(self, *names: str) -> Record:
        """The record of those parts alone. Raises KeyError where one is missing."""
        return Record({name: self[name] for name in names})

    @property
    def device(self) -> torch.device:
        """The first part's."""
        return next(iter(self.parts.values())).device

    def to(self, *to: Any) -> Record:
        """Another device or dtype; masks stay masks."""
        return Record({name: part.to(*to) for name, part in self.parts.items()})


def observation(x: Any) -> Any:
    """A dict as a :class:`Record`; anything else as it is."""
    return Record(x) if isinstance(x, Mapping) else x


def each(function: Callable[[Tensor], Tensor], x: Any) -> Any:
    """A function of the axes before an event, applied to every tensor of an observation, masks included."""
    if isinstance(x, Record):
        return Record({name: each(function, part) for name, part in x.parts.items()})
    return Masked(function(x.x), function(x.mask)) if isinstance(x, Masked) else function(x)


def leading(x: Any, event_shape: Any) -> Shape:
    r"""The (\*S, \*B) part of x, common to all parts of a record.

    Raises ValueError where x does not end in `event_shape`, a record has a part of another name or parts of other batches, or
    only one of the two is a record.
    """
    if isinstance(x, Record) or isinstance(event_shape, Mapping):
        return _record_leading(x, event_shape)
    cut = len(x.shape) - len(event_shape)
    if cut < 0 or tuple(x.shape[cut:]) != tuple(event_shape):
        raise ValueError(f"found an observation of shape {tuple(x.shape)}, expected one that ends in {tuple(event_shape)}")
    return tuple(x.shape[:cut])


def _record_leading(x: Any, event_shape: Any) -> Shape:
    if not (isinstance(x, Record) and isinstance(event_shape, Mapping)):
        given = f"a record of {list(x.parts)}" if isinstance(x, Record) else f"a {type(x).__name__}"
        wanted = f"a record of {list(event_shape)}" if isinstance(event_shape, Mapping) else f"shape {tuple(event_shape)}"
        raise ValueError(f"found {given} as an observation, expected {wanted}")
    strange = sorted(x.parts.keys() - event_shape.keys())
    if strange:
        raise ValueError(f"found a part named {strange[0]!r}, expected some of {list(event_shape)}")
    leads = {name: leading(part, event_shape[name]) for name, part in x.parts.items()}
    if len(set(leads.values())) > 1:
        raise ValueError(
            f"found parts of batches {leads}, expected one batch of rows: every part has all rows, Masked where absent"
        )
    return next(iter(leads.values()))


def repeat(x: Any, k: int) -> Any:
    r"""k copies of observations (\*B, \*E) in a new first axis, (k, \*B, \*E), without copying memory."""
    return each(lambda part: part.expand(k, *part.shape), x)


def rows(x: Any, index: Any) -> Any:
    """The rows that a slice, an index tensor or a mask picks from the first axis."""
    return each(lambda part: part[index], x)


def in_blocks(x: Any, size: int) -> list[Any]:
    """The rows in blocks of at most `size`, in order; no rows are one empty block."""
    return [rows(x, slice(start, start + size)) for start in range(0, max(len(x), 1), size)]


def finite(x: Any) -> Tensor:
    """Which rows of N observations have finite numbers only, (N,); what is not observed is not asked."""
    if isinstance(x, Record):
        return torch.stack([finite(part) for part in x.parts.values()]).all(0)
    known = x.x.masked_fill(~x.mask, 0.0) if isinstance(x, Masked) else x
    return known.reshape(len(known), -1).isfinite().all(1)


def presence(x: Any, event_shape: Shape) -> tuple[Any, Tensor | None]:
    r"""An observation where rows without any of it hold another row's in its place, and which rows have some, (\*B).

    (x, None) where all rows are whole. Rows that have all or nothing come back as a plain tensor, which any model takes; where a
    row has holes, they stay Masked.
    """
    if not isinstance(x, Masked):
        return x, None
    dims = len(event_shape)
    flat = x.mask.flatten(-dims) if dims else x.mask.unsqueeze(-1)
    some, every = flat.any(-1), flat.all(-1)
    if bool((some & ~every).any()) or not bool(some.any()):
        return x, some
    first = x.x[torch.unravel_index(some.flatten().int().argmax(), some.shape)]
    return x.x.where(x.mask, first), some


def observed_measure(mask: Tensor, event_dims: int, discrete: bool) -> Measure:
    r"""Measure of the entries where a mask (\*B, \*E) is true: a number where all rows have as many, else a unit of their own."""
    mask = _without_copies(mask, event_dims)
    number = _number(mask.flatten(-event_dims).sum(-1) if event_dims else mask.long())
    return measure_over(number, discrete)


def present_measure(measure: Measure, there: Tensor) -> Measure:
    r"""Measure of events of a measure that only the rows where `there` (\*B) is true have."""
    there = _without_copies(there, 0).long()
    return Measure(*(_number(there * number) if isinstance(number, int) else number for number in measure))


def _without_copies(x: Tensor, dims: int) -> Tensor:
    """Copies along new axes (:func:`repeat`) are the same rows."""
    while x.dim() > dims and x.stride(0) == 0:
        x = x[0]
    return x


def _number(counts: Tensor) -> int | Ragged:
    numbers = counts.flatten().tolist()
    fewest, most = min(numbers, default=0), max(numbers, default=0)
    return most if fewest == most else Ragged(0, ((Rows(fewest, most, hash(tuple(numbers))), 1),))
