"""The user's own form of the data: how rows are written there, and how to come and go.

Inside, every observation is a float32 tensor in a `Space`. Outside it may be a uint8 image with its channels last, a
data frame with categories, or a string. A `Form` remembers which, so that samples are given back as the data came
(`restore`) and new rows are checked and encoded exactly as the training rows were (`admit`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genalloy.core.observations import Masked
from genalloy.data import bpe, precision, tables
from genalloy.data.errors import BadData
from genalloy.data.memory import finite, numeric
from genalloy.data.signals import SIGNALS
from genalloy.data.space import Space

Array = np.ndarray[Any, Any]


BETWEEN = "\n\f\n"
"""Between texts of one file that are windows of their own, as samples are: a page break, which few alphabets hold."""


@dataclass(frozen=True)
class Layout:
    """How one array axis order becomes (N, *E), and back."""

    enter: Callable[[Array], Array]
    leave: Callable[[Array], Array]


LAYOUTS = {
    "as is": Layout(lambda x: x, lambda x: x),
    "N": Layout(lambda x: x[:, None], lambda x: x[:, 0]),
    "HW": Layout(lambda x: x[:, None], lambda x: x[:, 0]),
    "HWC": Layout(lambda x: np.moveaxis(x, -1, 1), lambda x: np.moveaxis(x, 1, -1)),
}


@dataclass(frozen=True)
class Form:
    """style: "array", "frame", "text", "tokens" or a key of SIGNALS; dtype and layout (a key of LAYOUTS) of the user's array.

    rate: audio samples a second. step: user's units in one step of a stroke's grid. vocabulary: of byte-pair tokens, JSON.
    shift: what is taken off every entry, or the last axis' entries, in float64 before rows are float32, and put back; () nothing.
    header: of a frame, what its labels are, JSON of `dtypes.header`. A frame's shifts are its columns'.
    """

    style: str = "array"
    dtype: str = "float32"
    layout: str = "as is"
    rate: int = 0
    step: int = 1
    vocabulary: str = ""
    shift: tuple[float, ...] = ()
    header: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "shift", tuple(self.shift))  # JSON has lists alone

    def to_json(self) -> dict[str, Any]:
        """A dict of plain values; ``Form(**record)`` turns it back."""
        return asdict(self)

    def restore(self, space: Space, values: Tensor, lengths: Tensor | None = None) -> Any:
        """Samples (N, *E) as the user would have written them: an array, a data frame, a list of strings or of sequences.

        Grid entries are rounded and clipped to what the data held; reals are left alone. lengths (N,): sequences are cut to them.
        Raises ValueError for a shape that is not (N, *E).
        """
        if tuple(values.shape[1:]) != space.shape:
            raise ValueError(f"values have shape {tuple(values.shape)}; expected (N, {_dims(space.shape)})")
        array = values.detach().cpu().double().numpy()
        if space.levels is not None:
            array = np.clip(np.nan_to_num(array).round(), 0, space.levels - 1)
        if self.style in SIGNALS:
            return self._cut(array, [len(row) for row in array] if lengths is None else lengths.tolist())
        styles = {"array": self._leave, "frame": self._table, "text": _letters, "tokens": self._spoken}
        return styles[self.style](space, array)

    def _spoken(self, space: Space, array: Array) -> list[str]:
        return bpe.decode(self.vocabulary, array)

    def _table(self, space: Space, array: Array) -> Any:
        return tables.decode(space, array, self.header)

    def _cut(self, array: Array, lengths: list[int]) -> list[Array]:
        leave = SIGNALS[self.style].leave
        rows = [leave(row[:n], self.step) for row, n in zip(array, lengths, strict=True)]
        return [self._more(row) for row in rows]

    def _leave(self, space: Space, array: Array) -> Array:
        return LAYOUTS[self.layout].leave(self._more(array))

    def _more(self, array: Array) -> Array:
        return precision.more(array, shift_of(self.shift), self.dtype)

    def admit(self, space: Space, rows: Any) -> Any:
        """New rows in the user's form as a float32 tensor (N, *E); a tensor that already is (N, *E) passes too.

        Values are in the user's units: the shift is taken off here. What is finite and beyond float32 becomes infinite, so that
        its density is 0. Sequences, a list of arrays, become a Masked observation. Raises BadData for a wrong shape, a missing
        column, an unknown category, a value off the grid, NaN, a sequence that is longer than the longest of the training data.
        """
        if self.style in SIGNALS:
            return self._lined_up(space, rows)
        styles = {"array": self._entered, "frame": _frame, "text": _codes, "tokens": self._tokens}
        array = styles[self.style](space, rows)
        if array.shape[1:] != space.shape:
            raise BadData(f"rows have shape {np.shape(rows)}; expected (N, {_dims(space.shape)}) like the training data")
        _check(space, array)
        return torch.from_numpy(np.ascontiguousarray(precision.single(array)))

    def _entered(self, space: Space, rows: Any) -> Array:
        array = self.enter(space, rows)
        finite(array, "the new data")
        return less(array, self.shift)

    def _lined_up(self, space: Space, rows: Any) -> Masked:
        entered = [numeric(row) for row in rows]
        for i, row in enumerate(entered):
            finite(row, f"sequence {i}")
        on_grid = [SIGNALS[self.style].enter(less(row, self.shift), self.step) for row in entered]
        for i, row in enumerate(on_grid):
            if not 0 < len(row) <= space.shape[0] or row.shape[1:] != space.shape[1:]:
                raise BadData(
                    f"sequence {i} has shape {row.shape}; expected 1 to {space.shape[0]} steps of shape {space.shape[1:]};"
                    f" cut longer ones, as in DATA@window={space.shape[0]}"
                )
            _check(space, row[None])
        return Masked.of([torch.from_numpy(precision.single(row)) for row in on_grid], space.shape[0])

    def _tokens(self, space: Space, rows: Any) -> Array:
        if hasattr(rows, "shape"):
            return numeric(rows)
        codes = bpe.encode(self.vocabulary, "".join(rows))
        return codes[: len(codes) // space.shape[0] * space.shape[0]].reshape(-1, space.shape[0])

    def enter(self, space: Space, rows: Any) -> Array:
        """Rows in the user's layout as (N, *E);
        rows that already are stay as they are, and rows of a table are given their shape.
        """
        array = tables.numbers(rows) if hasattr(rows, "columns") else numeric(rows)
        if array.shape[1:] == space.shape:
            return array
        outside = LAYOUTS[self.layout].leave(np.empty((1, *space.shape))).shape[1:]
        if hasattr(rows, "columns") and array.shape[1:] == (space.dims,):
            array = array.reshape(len(array), *outside)
        return LAYOUTS[self.layout].enter(array) if array.shape[1:] == outside else array


def shift_of(shift: tuple[float, ...]) -> Any:
    """One number, or an array for the last axis."""
    return (shift[0] if len(shift) == 1 else np.array(shift)) if shift else 0


def less(array: Array, shift: tuple[float, ...]) -> Array:
    """The array less a form's shift, in float64; as it is where there is none."""
    return precision.less(array, shift_of(shift)) if shift else array


def _check(space: Space, array: Array) -> None:
    top = np.inf if space.levels is None else space.levels - 1
    grid = np.broadcast_to(space.discrete, array.shape[1:])
    off = grid & (array != array.round())
    if space.levels is not None:
        off |= (array < 0) | (array > top)
    if off.any():
        row = int(np.argwhere(off)[0][0])
        raise BadData(
            f"{int(off.sum()):,} entries are off the grid, the first ({array[off][0]:g}) in row {row};"
            f" expected integers{f' 0..{top}' if space.levels else ''}; encode the rows as the training data were"
        )


def _frame(space: Space, rows: Any) -> Array:
    if hasattr(rows, "columns"):
        return tables.encode(space, rows)
    array = numeric(rows)
    if array.shape[1:] != space.shape:
        return array
    finite(array, "the new data")
    return np.stack([precision.less(array[:, i], c.shift) / c.step for i, c in enumerate(space.columns)], 1)


def _letters(space: Space, array: Array) -> list[str]:
    alphabet = np.array(space.columns[0].categories)
    return ["".join(row) for row in alphabet[array.astype(int)]]


def _codes(space: Space, rows: Any) -> Array:
    if not hasattr(rows, "shape"):
        alphabet = space.columns[0].categories
        texts = rows.split(BETWEEN) if type(rows) is str and "\f" not in alphabet else rows
        return tokenise(texts if len(texts) > 1 else rows, alphabet, space.shape[0])
    return numeric(rows)


def tokenise(rows: str | list[str], alphabet: tuple[str, ...], length: int) -> Array:
    """Texts of `length` characters (or one long text, cut into windows) as indices into `alphabet`, (N, length)."""
    text = "".join(rows)
    if len(text) == 0 or ("".join(rows) != rows and {len(row) for row in rows} != {length}):
        raise BadData(f"texts of {sorted({len(row) for row in rows})[:3]} characters; expected {length}, or one long text")
    index = {letter: code for code, letter in enumerate(alphabet)}
    unknown = sorted(set(text) - set(index))
    if unknown:
        raise BadData(f"unknown characters {unknown[:5]}; expected the {len(alphabet)} of the training text; replace them")
    codes = np.fromiter((index[letter] for letter in text), np.int64, len(text))
    return codes[: len(codes) // length * length].reshape(-1, length)


def _dims(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))
