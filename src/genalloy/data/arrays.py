r"""Arrays: which space their rows live in.

The question that decides everything is the base measure: integers 0..K-1 carry a probability mass, floats a density.
It is answered from the dtype and the values, and every answer that was not obvious leaves a note.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from genalloy.data import precision
from genalloy.data.columns import FEW_VALUES, centred, clumped
from genalloy.data.errors import BadData
from genalloy.data.form import LAYOUTS, Array, Form, less
from genalloy.data.memory import finite, numeric
from genalloy.data.space import Space

FEW_LEVELS = 32
BYTE = 256
MOST_LEVELS = 2**16
WORD = 2**12
"""Pictures with more levels than this have all of 16 bits."""


def read_arrays(parts: dict[str, Any]) -> tuple[dict[str, Array], Space, Form, list[str]]:
    """Parts of (N, ...) arrays as (N, *E) arrays, with their common space, the user's form and notes.

    Raises BadData for: no entries, 0-d, more than 4 axes, unequal shapes, NaN, integers that are no grid 0..K-1.
    """
    arrays = {name: numeric(part) for name, part in parts.items()}
    shape, dtype = _common_shape(arrays), str(next(iter(arrays.values())).dtype)
    for name, array in arrays.items():
        finite(array, "the data" if len(arrays) == 1 else f"the {name} part")
    layout = _layout(shape)
    arrays = {name: LAYOUTS[layout].enter(array) for name, array in arrays.items()}
    shift, shift_notes = shift_for(arrays, len(shape) < 2)
    arrays = {name: shifted(array, shift) for name, array in arrays.items()}
    levels, notes = levels_of(arrays, image=len(shape) >= 2 and not shift)
    first = next(iter(arrays.values()))
    kind = "image" if len(shape) >= 2 else "points" if levels is None and first[0].size <= 3 else "table"
    space = Space(first.shape[1:], kind, levels)
    return arrays, space, Form("array", dtype, layout, shift=shift), shift_notes + notes + _hints(space)


def shift_for(arrays: dict[str, Array], by_column: bool) -> tuple[tuple[float, ...], list[str]]:
    """What to take off before rows are float32, and notes: the smallest of integers that are no grid 0..K-1 but would be one
    without it; of reals, by column or one number for all, a round number where float32 is coarse. () for nothing.

    Raises BadData where float32 cannot hold the values apart.
    """
    if all(array.dtype.kind in "biu" for array in arrays.values()):
        return _integer_shift(arrays)
    if any(array.size == 0 for array in arrays.values()):
        return (), []
    flat = [array.reshape(-1, array.shape[-1] if by_column else 1) for array in arrays.values()]
    joined = np.concatenate([part[:: max(1, len(part) // precision.SEEN)] for part in flat])
    largest = [max(float(np.abs(part[:, i]).max()) for part in flat) for i in range(joined.shape[1])]
    shifts, notes = list[float](), list[str]()
    for i, most in enumerate(largest):
        name = f"column {i}" if by_column and joined.shape[1] > 1 else "the data"
        try:
            shift, words = centred(joined[:, i], most)
        except BadData as error:
            raise BadData(f"{name} {error}") from None
        shifts.append(shift)
        notes += [f"{name}: {word}" for word in words]
    return (tuple(shifts) if any(shifts) else ()), notes


def shifted(array: Array, shift: tuple[float, ...]) -> Array:
    """The array less its shift; integers stay integers."""
    return less(array, shift).astype(np.int64) if shift and array.dtype.kind in "iu" else less(array, shift)


def _integer_shift(arrays: dict[str, Array]) -> tuple[tuple[float, ...], list[str]]:
    low, high = min(int(array.min()) for array in arrays.values()), max(int(array.max()) for array in arrays.values())
    if (low >= 0 and high < MOST_LEVELS) or not low < high < low + MOST_LEVELS:
        return (), []
    return (low,), [f"integers from {low:,} to {high:,}: {low:,} is taken off, and put back"]


def _common_shape(arrays: dict[str, Array]) -> tuple[int, ...]:
    first = next(iter(arrays.values()))
    for name, array in arrays.items():
        if array.ndim == 0:
            raise BadData(f"a single number ({array!s}) was found; expected rows: (N,), (N, D), (N, H, W) or (N, H, W, C)")
        if array.size == 0:
            raise BadData(f"the {name} part is empty, shape {array.shape}; expected at least ten rows; check the file")
        if array.shape[1:] != first.shape[1:]:
            raise BadData(
                f"the {name} part has rows of shape {array.shape[1:]}, others {first.shape[1:]}; expected one shape;"
                " crop or resize them"
            )
    return tuple(first.shape[1:])


def _layout(shape: tuple[int, ...]) -> str:
    """(H, W) and (H, W, C) images get their channels in front; a bare (N,) array gets one column."""
    if len(shape) < 2:
        return "as is" if shape else "N"
    if len(shape) == 2:
        return "HW"
    channels = [n in (1, 3, 4) for n in shape]
    if len(shape) == 3 and (channels[0] or channels[2]):
        return "as is" if channels[0] else "HWC"
    raise BadData(
        f"rows of shape {shape} were found; expected (D,), (H, W), (H, W, C) or (C, H, W) with 1, 3 or 4 channels;"
        " reshape them, for instance to one axis"
    )


def levels_of(arrays: dict[str, Array], image: bool) -> tuple[int | None, list[str]]:
    """Number of levels K if every entry is an integer 0..K-1, with notes."""
    low = min(float(array.min()) for array in arrays.values())
    high = max(float(array.max()) for array in arrays.values())
    if low == high:
        raise BadData(f"every entry is {low:g}; expected data that vary; check how the file was written")
    floats = any(array.dtype.kind == "f" for array in arrays.values())
    integral = not floats or all(bool((array == np.round(array)).all()) for array in arrays.values())
    if floats and not (integral and low >= 0 and high < BYTE):
        return None, _grid_suspicion(arrays) + (["all values are whole numbers: read as reals"] if integral else [])
    if low < 0 or high >= MOST_LEVELS:
        raise BadData(
            f"integers from {low:g} to {high:g} were found; expected a grid of at most {MOST_LEVELS:,} values;"
            " give a data frame, where"
            " each column has its own range, or convert to float64 to model a density"
        )
    byte = FEW_LEVELS <= high < BYTE and (image or any(array.dtype == np.uint8 for array in arrays.values()))
    word = image and high >= WORD
    levels = BYTE if byte else MOST_LEVELS if word else int(high) + 1
    notes = [f"floats that are all integers were read as {levels} levels, a probability mass"] if floats else []
    if levels != BYTE:
        notes.append(f"{levels} levels: the largest entry is {high:g}")
    return levels, notes


def _grid_suspicion(arrays: dict[str, Array]) -> list[str]:
    """Reals with few distinct values sit on a grid, where a density is unbounded."""
    array = next(iter(arrays.values()))
    if array.ndim == 2:
        counts = [clumped(array[:, i]) for i in range(array.shape[1])]
        columns = [i for i, count in enumerate(counts) if count]
        what = f"columns {', '.join(map(str, columns[:8]))} have at most {FEW_VALUES} distinct values"
    else:
        sample = array.reshape(-1)[:100_000]
        distinct = len(np.unique(sample))
        columns = [0] if distinct * 20 <= len(sample) else []
        what = f"only {distinct:,} distinct values in {len(sample):,} entries"
    advice = "a density can grow without bound on such a grid; give integers 0..K-1 to get a probability mass"
    return [f"{what}: {advice}"] if columns else []


def _hints(space: Space) -> list[str]:
    side = round(space.dims**0.5)
    if len(space.shape) == 1 and side >= 8 and side * side == space.dims and space.discrete is True:
        return [f"{space.dims} = {side} x {side}: if these are images, reshape them to (N, {side}, {side})"]
    return []
