r"""Sequences of unequal lengths: lists of arrays (n_i, \*F), padded with zeros to the longest, lengths kept beside them.

Whole sequences are split first and cut into pieces of at most `window` steps afterwards, so that no recording lies on both
sides. The length of a row is given, never modelled: a density is of its steps given how many there are.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from genalloy.data.arrays import levels_of, shift_for, shifted
from genalloy.data.encoded import Encoded
from genalloy.data.errors import BadData
from genalloy.data.form import Array
from genalloy.data.memory import finite, numeric
from genalloy.data.precision import single
from genalloy.data.raw import PARTS, WHOLE, Raw
from genalloy.data.reading import Reading
from genalloy.data.signals import SIGNALS
from genalloy.data.space import Space
from genalloy.data.split import split_rows

Rows = list[Array]


def read_sequences(raw: Raw, reading: Reading, seed: int) -> Encoded:
    r"""Lists of sequences as (N, T, \*F) with lengths.

    Raises BadData for empty ones, unequal step shapes, values off a grid, or a single sequence that is too short to be split.
    """
    signal, window = SIGNALS[raw.form.style], reading.window or raw.window
    on_grid = {name: [signal.enter(_checked(row), raw.form.step) for row in rows] for name, rows in raw.parts.items()}
    on_grid, split = _in_order(on_grid, window)
    chosen, seeded = split_rows({name: len(rows) for name, rows in on_grid.items()}, seed)
    parts, labels = dict[str, Rows](), dict[str, Any]()
    for part, (origin, index) in chosen.items():
        parts[part], owner = cut([on_grid[origin][i] for i in index], window)
        labels |= {part: raw.labels[origin][index][owner]} if raw.labels else {}
    together = {name: _joined(rows) for name, rows in parts.items()}
    shift, shift_notes = ((), list[str]()) if signal.levels else shift_for(together, next(iter(together.values())).ndim == 2)
    together = {name: shifted(rows, shift) for name, rows in together.items()}
    parts = {name: [shifted(row, shift) for row in rows] for name, rows in parts.items()}
    levels, notes = (signal.levels, list[str]()) if signal.levels else levels_of(together, image=False)
    longest = max(len(row) for rows in parts.values() for row in rows)
    space = Space((longest, *next(iter(parts.values()))[0].shape[1:]), "sequence", levels, (), True)
    lengths = {name: np.array([len(row) for row in rows]) for name, rows in parts.items()}
    arrays = {name: padded(rows, longest) for name, rows in parts.items()}
    notes = [*shift_notes, *notes, *_notes(lengths, window, sum(len(index) for _, index in chosen.values()))]
    return Encoded(arrays, space, replace(raw.form, shift=shift), notes, labels, raw.split or split or seeded, lengths)


def _in_order(parts: dict[str, Rows], window: int | None) -> tuple[dict[str, Rows], str]:
    """A single recording is cut 90/5/5 in order before it is cut into pieces; many are left to the seed."""
    whole = parts.get(WHOLE, [])
    if len(whole) != 1:
        return parts, ""
    row, tail = whole[0], max(1, round(0.05 * len(whole[0])))
    if len(row) < FEWEST_STEPS * (window or 1):
        raise BadData(f"one sequence of {len(row):,} steps was found; expected several sequences, or a longer one and @window=N")
    cuts = np.split(row, [len(row) - 2 * tail, len(row) - tail])
    return {part: cut([piece], window)[0] for part, piece in zip(PARTS, cuts, strict=True)}, "90/5/5 in order"


FEWEST_STEPS = 12
"""Windows that a single sequence must hold to be split."""


def cut(rows: Rows, window: int | None) -> tuple[Rows, Array]:
    """Pieces of at most `window` steps in order, and the row (int64) that each came from; whole rows where it is None."""
    if window is None:
        return rows, np.arange(len(rows))
    windows = [(i, row[at : at + window]) for i, row in enumerate(rows) for at in range(0, len(row), window)]
    return [piece for _, piece in windows], np.array([i for i, _ in windows], dtype=np.int64)


def padded(rows: Rows, steps: int) -> Array:
    r"""Rows (n_i, \*F) as (N, steps, \*F) float32, zeros behind each row."""
    block = np.zeros((len(rows), steps, *rows[0].shape[1:]), np.float32)
    for place, row in zip(block, rows, strict=True):
        place[: len(row)] = single(row)
    return block


def _checked(row: Any) -> Array:
    array = numeric(row)
    if array.ndim == 0 or len(array) == 0:
        raise BadData("an empty sequence was found; expected at least one step in each; drop it")
    finite(array, "a sequence")
    return array


def _joined(rows: Rows) -> Array:
    shapes = {row.shape[1:] for row in rows}
    if len(shapes) > 1:
        raise BadData(f"steps of shapes {sorted(shapes)[:3]} were found; expected one shape in all sequences")
    return np.concatenate(rows)


def _notes(lengths: dict[str, Array], window: int | None, whole: int) -> list[str]:
    together = np.concatenate(list(lengths.values()))
    notes = [
        f"sequences of {together.min():,} to {together.max():,} steps, {together.sum():,} in all;"
        " a row's length is given, not modelled"
    ]
    if window is not None and len(together) > whole:
        notes.append(f"{whole:,} sequences were cut into {len(together):,} pieces of at most {window:,} steps, modelled apart")
    return notes
