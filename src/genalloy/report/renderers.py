"""How data of one shape is looked at: images as contact sheets, vectors as points of a plane, scalars as
histograms, texts as they read.

Vectors with more than two coordinates are projected on the first two principal directions of the *real*
data, the same for every model, so that two models' pictures can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from genalloy.report import pictures
from genalloy.report.pictures import Floats, Window

Arrays = Mapping[str, Floats]


@dataclass(frozen=True)
class Picture:
    """A PNG with its words; `caption` is shown, `alt` is read aloud."""

    png: bytes
    alt: str
    caption: str
    shape: str = "sheet"

    @property
    def src(self) -> str:
        return pictures.data_uri(self.png)

    @property
    def size(self) -> tuple[int, int]:
        return pictures.size_of(self.png)


@dataclass(frozen=True)
class Passage:
    """Texts to read: (what it is, the text) a line, in groups."""

    groups: tuple[tuple[tuple[str, str], ...], ...]
    caption: str
    shape: str = "text"


@dataclass(frozen=True)
class Sound:
    """Players: (name, address of a .wav inside the page)."""

    sources: tuple[tuple[str, str], ...]
    caption: str
    shape: str = "sound"


Drawn = Picture | Passage | Sound


class Renderer(Protocol):
    """Draws samples (N, *E), reconstructions (2, N, *E), neighbours (N, 1 + k, *E) and walks through codes (N, steps, *E) of
    one kind of data.
    """

    def samples(self, x: Floats, who: str) -> Sequence[Drawn]: ...

    def reconstructions(self, pairs: Floats, who: str) -> Sequence[Drawn]:
        return []

    def neighbours(self, sets: Floats, who: str) -> Sequence[Drawn]:
        return []

    def walks(self, sets: Floats, who: str, caption: str) -> Sequence[Drawn]:
        return []

    def density(self, arrays: Arrays, who: str) -> Sequence[Drawn]:
        return []


@dataclass(frozen=True)
class ImageRenderer(Renderer):
    """Images; `span` is the value shown black and the one shown white."""

    span: tuple[float, float]
    shape: tuple[int, ...]

    def _shaped(self, x: Floats, lead: int) -> Floats:
        return x.reshape(*x.shape[:lead], *self.shape)

    def samples(self, x: Floats, who: str) -> list[Picture]:
        images = pictures.sheet(self._shaped(x, 1))
        rows, across = images.shape[:2]
        alt = f"{who}: {rows * across} images in {rows} rows of {across}"
        return [Picture(pictures.grid(images, self.span), alt, "")]

    def reconstructions(self, pairs: Floats, who: str) -> list[Picture]:
        pairs = self._shaped(pairs, 2)[:, :12]
        alt = f"{who}: {pairs.shape[1]} test images above, their reconstructions below"
        return [Picture(pictures.grid(pairs, self.span), alt, "Top: real. Bottom: encoded and decoded.")]

    def neighbours(self, sets: Floats, who: str) -> list[Picture]:
        sets = np.swapaxes(self._shaped(sets, 2)[:12, :6], 0, 1)
        k = len(sets) - 1
        alt = f"{who}: {sets.shape[1]} samples above, the {k} nearest training images of each below it"
        caption = "Top: sample. Below: its nearest training images, nearest first."
        return [Picture(pictures.grid(sets, self.span, lead=1), alt, caption)]

    def walks(self, sets: Floats, who: str, caption: str) -> list[Picture]:
        sets = self._shaped(sets, 2)
        alt = f"{who}: {sets.shape[0]} rows of {sets.shape[1]} decoded images"
        return [Picture(pictures.grid(sets, self.span), alt, caption)]


@dataclass(frozen=True)
class PlaneRenderer(Renderer):
    """Vectors: x -> (x - centre) @ directions, seen through one window; `names` says what the axes are."""

    centre: Floats
    directions: Floats
    window: Window
    names: str
    top: float | None = None

    def _flat(self, x: Floats) -> Floats:
        return (x.reshape(*x.shape[:-1], -1) - self.centre) @ self.directions

    def samples(self, x: Floats, who: str) -> list[Picture]:
        points = self._flat(x.reshape(len(x), -1))[:3000]
        points = points[np.isfinite(points).all(axis=-1)]
        outside = int((~self.window.holds(points)).sum()) + min(len(x), 3000) - len(points)
        note = f"{outside:,} of {min(len(x), 3000):,} lie outside the frame." if outside else ""
        alt, caption = f"{who}: {len(points)} points, {self.names}", f"{self.names[:1].upper()}{self.names[1:]}. {note}".strip()
        return [Picture(pictures.scatter(points, self.window), alt, caption, "square")]

    def reconstructions(self, pairs: Floats, who: str) -> list[Picture]:
        flat = self._flat(pairs.reshape(*pairs.shape[:2], -1))[:, :80]
        png = pictures.arrows(flat[0], flat[1][:, None], self.window)
        caption = "Ring: real. Dot: encoded and decoded."
        return [Picture(png, f"{who}: {flat.shape[1]} test points joined to their reconstructions", caption, "square")]

    def neighbours(self, sets: Floats, who: str) -> list[Picture]:
        flat = self._flat(sets.reshape(*sets.shape[:2], -1))[:80]
        png = pictures.arrows(flat[:, 0], flat[:, 1:], self.window)
        caption = "Ring: sample. Dots: its nearest training points."
        return [Picture(png, f"{who}: {len(flat)} samples joined to their nearest training points", caption, "square")]

    def walks(self, sets: Floats, who: str, caption: str) -> list[Picture]:
        flat = self._flat(sets.reshape(*sets.shape[:2], -1))
        alt = f"{who}: {flat.shape[0]} paths of {flat.shape[1]} decoded points"
        words = f"A line a row, light to dark. {caption.replace('left', 'light').replace('right', 'dark')}"
        return [Picture(pictures.paths(flat, self.window), alt, words, "square")]

    def density(self, arrays: Arrays, who: str) -> list[Picture]:
        values, extent = arrays.get("density_grid"), arrays.get("density_extent")
        if values is None or extent is None or not np.isfinite(values).any():
            return []
        top = float(values[np.isfinite(values)].max()) if self.top is None else self.top
        png = pictures.heat(values, Window(*(float(v) for v in extent)), self.window, top)
        shared = "on the brightness scale of the exact one" if self.top is not None else "brightest at its own maximum"
        return [Picture(png, f"{who}: density over the plane", f"Density p(x), {shared}.", "square")]


@dataclass(frozen=True)
class LineRenderer(Renderer):
    """Scalars, as histograms over the real data's range."""

    reference: Floats
    window: Window

    def samples(self, x: Floats, who: str) -> list[Picture]:
        values = x.reshape(-1)
        png = pictures.histogram(values[np.isfinite(values)], self.reference, self.window)
        return [Picture(png, f"{who}: histogram of {len(values)} values", "Bars: these values. Outline: real data.", "square")]


@dataclass(frozen=True)
class TextRenderer(Renderer):
    """Integers as the characters of `alphabet` that they stand for; what stands for none is a white square."""

    alphabet: tuple[str, ...]

    def read(self, row: Floats) -> str:
        """The text of one row (*E,), control characters made visible."""
        codes = np.nan_to_num(row.reshape(-1), nan=-1.0).round().astype(int)
        letters = [self.alphabet[code] if 0 <= code < len(self.alphabet) else "\u25a1" for code in codes]
        return "".join(VISIBLE.get(letter, letter) for letter in letters)

    def _groups(self, sets: Floats, names: Sequence[str]) -> tuple[tuple[tuple[str, str], ...], ...]:
        return tuple(tuple((name, self.read(row)) for name, row in zip(names, rows)) for rows in sets)

    def samples(self, x: Floats, who: str) -> list[Passage]:
        return [Passage((tuple(("", self.read(row)) for row in x[:12]),), "")]

    def reconstructions(self, pairs: Floats, who: str) -> list[Passage]:
        caption = "Each real text, then one draw from what its code decodes to."
        return [Passage(self._groups(np.swapaxes(pairs, 0, 1)[:6], ("real", "decoded")), caption)]

    def neighbours(self, sets: Floats, who: str) -> list[Passage]:
        caption = "Each sample, then the training text that agrees with it most closely as numbers."
        return [Passage(self._groups(sets[:5, :2], ("sample", "training")), caption)]

    def walks(self, sets: Floats, who: str, caption: str) -> list[Passage]:
        steps = [str(i + 1) for i in range(sets.shape[1])]
        words = caption.replace("Each row", "Each block").replace("(left)", "(top)").replace("(right)", "(bottom)")
        return [Passage(self._groups(sets[:2], steps), words)]


VISIBLE = {"\n": "\u21b5", "\t": "\u21e5", "\r": "\u240d"}


def renderer_for(
    shape: tuple[int, ...], reference: Arrays, fallback: Floats | None, alphabet: Sequence[str] = ()
) -> Renderer | None:
    """The lens for events of `shape`, set up on the real data, or on the first samples where there is none;
    None without either. `alphabet`: of texts.
    """
    data = reference.get("data", fallback)
    if data is None or len(data) == 0:
        return None
    if alphabet:
        return TextRenderer(tuple(alphabet))
    shape = shape if shape and int(np.prod(shape)) == int(np.prod(data.shape[1:])) else data.shape[1:]
    if len(shape) >= 2:
        return ImageRenderer(pictures.span_of(data), shape)
    flat = data.reshape(len(data), -1).astype(np.float64)
    flat = flat[np.isfinite(flat).all(axis=-1)]
    if not len(flat):
        return None
    if flat.shape[1] == 1:
        return LineRenderer(flat[:, 0], Window(*pictures.padded(flat[:, 0]), 0.0, 1.0))
    return _plane(flat, reference)


def _plane(flat: Floats, reference: Arrays) -> PlaneRenderer:
    centre, directions, names = np.zeros(flat.shape[1]), np.eye(flat.shape[1])[:, :2], "the two coordinates"
    if flat.shape[1] > 2:
        centre = flat.mean(axis=0)
        directions = np.linalg.svd(flat - centre, full_matrices=False)[2][:2].T
        names = f"the first two principal directions of the real data, of {flat.shape[1]}"
    if directions.shape[1] < 2:
        directions = np.pad(directions, ((0, 0), (0, 2 - directions.shape[1])))
    seen = (flat - centre) @ directions
    window = Window(*pictures.padded(seen[:, 0]), *pictures.padded(seen[:, 1]))
    extent, grid = reference.get("density_extent"), reference.get("density_grid")
    window = window if extent is None else Window(*(float(v) for v in extent))
    top = None if grid is None or not np.isfinite(grid).any() else float(grid[np.isfinite(grid)].max())
    return PlaneRenderer(centre, directions, window, names, top)


def read_arrays(path: Path) -> tuple[dict[str, Floats], str]:
    """The arrays of an .npz without pickles, and why there are none where it cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: np.asarray(archive[name], dtype=np.float64) for name in archive.files}, ""
    except FileNotFoundError:
        return {}, "no pictures were saved for this run"
    # numpy raises OSError, ValueError, BadZipFile, EOFError or KeyError on a damaged file
    except Exception as error:
        return {}, f"the saved pictures cannot be read ({type(error).__name__})"
