r"""Sequences as integers: what one step of audio, of a pen or of music is on a grid, and back.

* Audio samples of 16 bits, divided by 2^15, are companded to the 256 codes of :func:`genalloy.heads.audio.mu_law_encode`. The
  mass that a model gives is of the codes; the rounding is not undone.
* Pen strokes (dx, dy, lifted) are positions on a grid: summed up, divided by `step` and rounded, then subtracted again, so that
  errors do not add up; each difference is clipped to -128..127 and moved to 0..255, the pen's bit stays 0 or 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from genalloy.heads.audio import mu_law_decode, mu_law_encode

Array = np.ndarray[Any, Any]
LEVELS = 256
PCM = 32768.0
CENTRE = 128


def compand(pcm: Array) -> Array:
    """int16 samples (n,) as mu-law codes 0..255."""
    return mu_law_encode(torch.from_numpy(np.asarray(pcm, np.float64) / PCM), LEVELS).numpy().astype(np.uint8)


def expand(codes: Array) -> Array:
    """mu-law codes 0..255 (n,) as int16 samples."""
    s = mu_law_decode(torch.from_numpy(np.asarray(codes, np.float64)), LEVELS).numpy()
    return np.clip(np.round(s * PCM), -PCM, PCM - 1).astype(np.int16)


def strokes_on_grid(strokes: Array, step: int) -> Array:
    """(n, 3) rows dx, dy, lifted -> levels 0..255, see the module's text."""
    places = np.round(np.cumsum(np.asarray(strokes, np.float64)[:, :2], 0) / step)
    moves = np.diff(places, axis=0, prepend=0.0)
    moved = np.clip(moves, -CENTRE, CENTRE - 1) + CENTRE
    return np.concatenate([moved, np.asarray(strokes)[:, 2:]], 1).astype(np.uint8)


def strokes_of(levels: Array, step: int) -> Array:
    """Levels (n, 3) -> dx, dy in the user's units (multiples of `step`) and lifted 0 or 1."""
    moves = (np.asarray(levels, np.int64)[:, :2] - CENTRE) * step
    return np.concatenate([moves, (np.asarray(levels)[:, 2:] > 0).astype(np.int64)], 1)


class Signal(NamedTuple):
    """One kind of sequence. enter, leave: (row, step) -> row on the grid, and back. levels: of the grid, None: as found."""

    enter: Callable[[Array, int], Array]
    leave: Callable[[Array, int], Array]
    levels: int | None = None


SIGNALS = {
    "sequence": Signal(lambda row, _: row, lambda row, _: row),
    "roll": Signal(lambda row, _: row, lambda row, _: row, 2),
    "audio": Signal(lambda row, _: compand(row), lambda row, _: expand(row), LEVELS),
    "strokes": Signal(strokes_on_grid, strokes_of, 2 * CENTRE),
}
"""By the style of the user's form; music ("roll") and plain sequences are their own grid."""
