"""Sequences as they are read: music as rolls, pen strokes as lines, sound as waveforms with players, other steps as bands.

A row is (T, *F) with NaN behind its own steps, which is how pictures.npz marks where it ends.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from genalloy.data.audio import wave_bytes
from genalloy.data.signals import PCM, SIGNALS
from genalloy.report import pictures
from genalloy.report.figures import blank, png
from genalloy.report.pictures import Floats
from genalloy.report.renderers import Drawn, Picture, Renderer, Sound

SHOWN_STEPS = 256
"""Steps of a roll that are drawn; longer ones are cut."""
END = 0.35
"""Grey behind the end of a roll."""
PLAYERS = 6


def lengths_of(x: Floats) -> list[int]:
    """Steps of each row (N, T, *F), those that are not all NaN."""
    known = (~np.isnan(x.reshape(*x.shape[:2], -1))).sum(axis=-1) > 0
    return [int(n) for n in known.sum(axis=1)]


def rows_of(x: Floats, count: int) -> list[Floats]:
    """The first `count` rows, each cut to its own steps."""
    return [row[:n] for row, n in zip(x[:count], lengths_of(x[:count]), strict=True)]


# -- pictures ------------------------------------------------------------------------------------------------------


def rolls(x: Floats, span: tuple[float, float]) -> bytes:
    """Up to six rows (T, F) in two columns: time to the right, the last feature (highest note) on top, grey behind the end."""
    steps = min(max(lengths_of(x[:6]) or [1]), SHOWN_STEPS)
    bands = np.flip(np.swapaxes(x[:6, :steps].reshape(len(x[:6]), steps, -1), 1, 2), 1)
    low, high = span
    bands = np.where(np.isnan(bands), low + END * (high - low), bands)
    across = 2 if len(bands) > 1 else 1
    kept = bands[: len(bands) // across * across]
    return pictures.grid(kept.reshape(-1, across, 1, *bands.shape[1:]), span)


def waves(rows: Sequence[Floats]) -> bytes:
    """Rows (n,) one below the other, on one scale of time and of height."""
    figure, axes = blank((7.0, 0.75 * len(rows)), len(rows), gap=0.01)
    longest = max(len(row) for row in rows)
    height = max(float(np.abs(row).max(initial=0.0)) for row in rows) or 1.0
    for place, row in zip(axes, rows, strict=True):
        place.plot(np.arange(len(row)), row, color=pictures.INK, linewidth=0.5)
        place.set_xlim(0, longest)
        place.set_ylim(-height, height)
    return png(figure)


def drawings(rows: Sequence[Floats]) -> bytes:
    """Strokes (n, 3) of dx, dy, lifted: each row drawn with y downwards, its pen lifted where it says so."""
    across = min(8, len(rows))
    down = -(-len(rows) // across)
    figure, axes = blank((0.9 * across, 0.9 * down), down, across, 0.01)
    for place, row in zip(axes, rows):
        for line in lines_of(row):
            place.plot(line[:, 0], -line[:, 1], color=pictures.INK, linewidth=1.4, solid_capstyle="round")
        place.set_aspect("equal", adjustable="datalim")
    return png(figure)


def lines_of(strokes: Floats) -> list[Floats]:
    """Lines (m, 2) of absolute positions; a lifted pen ends a line, and the next one starts where the next step ends."""
    places = np.cumsum(strokes[:, :2], 0)
    ends = np.flatnonzero(strokes[:, 2] > 0.5) + 1
    return [line for line in np.split(places, ends) if len(line)]


# -- kinds of sequences --------------------------------------------------------------------------------------------


def _bands(x: Floats) -> bytes:
    return rolls(x, pictures.span_of(x)) if x.ndim > 2 else waves(rows_of(x, 8))


STYLES: dict[str, Callable[[Floats], bytes]] = {
    "sequence": _bands,
    "roll": lambda x: rolls(x, (0.0, 1.0)),
    "audio": lambda x: waves([SIGNALS["audio"].leave(row, 1) / PCM for row in rows_of(x, 8)]),
    "strokes": lambda x: drawings([SIGNALS["strokes"].leave(row, 1).astype(np.float64) for row in rows_of(x, 32)]),
}
"""Levels (N, T, *F) with NaN behind each row -> PNG, by the style of the data."""

CAPTIONS = {
    "sequence": "Each block or line is one sequence, time to the right.",
    "roll": f"Time to the right, notes upwards, at most {SHOWN_STEPS} steps; grey: behind the end, whose place is given.",
    "audio": "Waveforms on one scale of time, undone from the levels.",
    "strokes": "Drawn with the pen's own moves; where a line ends the pen was lifted.",
}


def marked(x: Floats, lengths: Floats) -> Floats:
    """Rows (N, T, *F) with NaN behind their first lengths (N,) steps."""
    behind = np.arange(x.shape[1]) >= np.asarray(lengths)[:, None]
    return np.where(behind.reshape(*behind.shape, *(1,) * (x.ndim - 2)), np.nan, np.asarray(x, np.float64))


def drawing(style: str, values: Floats, lengths: Any) -> bytes:
    """Samples (N, T, *F) of a style as one PNG, each cut to its length where there are lengths."""
    x = np.asarray(values, np.float64)
    return STYLES[style](x if lengths is None else marked(x, np.asarray(lengths)))


@dataclass(frozen=True)
class SequenceRenderer(Renderer):
    """Sequences of one style; sound has players at `rate` samples a second."""

    style: str
    rate: int = 0

    def _picture(self, x: Floats, who: str) -> Picture:
        return Picture(STYLES[self.style](x), f"{who}: {len(x)} sequences", CAPTIONS[self.style])

    def samples(self, x: Floats, who: str) -> list[Drawn]:
        return [self._picture(x, who), *self._players(x)]

    def _players(self, x: Floats) -> list[Sound]:
        if not self.rate:
            return []
        waveforms = [SIGNALS["audio"].leave(row, 1) for row in rows_of(x, PLAYERS)]
        sources = tuple((str(i + 1), _address(wave_bytes(row, self.rate))) for i, row in enumerate(waveforms))
        return [Sound(sources, f"The first {len(sources)}, {self.rate:,} samples a second.")]

    def neighbours(self, sets: Floats, who: str) -> list[Picture]:
        sets = sets[:3, :2]
        picture = self._picture(sets.reshape(-1, *sets.shape[2:]), who)
        return [Picture(picture.png, picture.alt, "In turn: a sample, then its nearest training row, padding included.")]


def _address(wav: bytes) -> str:
    return "data:audio/wav;base64," + base64.b64encode(wav).decode("ascii")
