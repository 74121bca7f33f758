"""Arrays to PNG bytes: grids of small images, scatters of points, heat maps of densities.

Gaps and margins are transparent, so that one picture serves a light and a dark page. Values that are not
finite are painted in crimson rather than hidden.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genalloy.report.figures import blank, png

Floats = NDArray[np.float64]
CRIMSON = (220, 20, 60)
INK = "#3f78b5"
ECHO = "#c9772b"
EDGE = 440


def data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def size_of(png: bytes) -> tuple[int, int]:
    """(width, height) in pixels, from the PNG's header."""
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")


def channels_last(image: Floats) -> Floats:
    """(H, W), (C, H, W) or (H, W, C) -> (H, W, 1) or (H, W, 3); other channel counts keep their first
    channel.
    """
    if image.ndim == 2:
        return image[..., None]
    moved = np.moveaxis(image, 0, -1) if image.shape[0] in (1, 3, 4) else image
    return moved[..., :3] if moved.shape[-1] in (3, 4) else moved[..., :1]


def pixels(image: Floats, span: tuple[float, float]) -> NDArray[np.uint8]:
    """An image in data units -> (H, W, 3) bytes; `span` maps to black and white, what lies outside it is
    clipped.
    """
    values = channels_last(np.asarray(image, dtype=np.float64))
    bad = ~np.isfinite(values).all(axis=-1)
    low, high = span
    with np.errstate(invalid="ignore"):
        unit = np.clip((values - low) / ((high - low) or 1.0), 0.0, 1.0)
    tile = np.repeat(np.round(255 * np.nan_to_num(unit)), 3 // unit.shape[-1], axis=-1).astype(np.uint8)
    tile[bad] = CRIMSON
    return tile


def zoom_for(size: int, across: int) -> int:
    """Whole-number magnification that brings `across` tiles of `size` pixels to some 700 pixels."""
    return max(1, round(700 / (size * max(across, 1))))


def grid(images: Floats, span: tuple[float, float], lead: int = 0) -> bytes:
    """A (R, C, *shape) array as a contact sheet, magnified without smoothing; a wider gap follows the first
    `lead` rows.
    """
    from PIL import Image

    tiles = np.array([[pixels(image, span) for image in row] for row in images])
    across, _, width = tiles.shape[1:4]
    zoom = zoom_for(width, across)
    gap = max(2, width * zoom // 12)
    opaque = np.pad(tiles, [(0, 0)] * 4 + [(0, 1)], constant_values=255).repeat(zoom, 2).repeat(zoom, 3)
    rows = [np.hstack(list(row))[:, :-gap] for row in np.pad(opaque, [(0, 0)] * 2 + [(0, gap)] * 2 + [(0, 0)])]
    if lead:
        rows.insert(lead, np.zeros_like(rows[0])[: 2 * gap])
    file = io.BytesIO()
    Image.fromarray(np.vstack(rows)[:-gap]).save(file, format="PNG", optimize=True)
    return file.getvalue()


@dataclass(frozen=True)
class Window:
    """The rectangle of the plane that every picture of a page shows."""

    left: float
    right: float
    bottom: float
    top: float

    def holds(self, points: Floats) -> NDArray[np.bool_]:
        x, y = points[:, 0], points[:, 1]
        return (x >= self.left) & (x <= self.right) & (y >= self.bottom) & (y <= self.top)


def _plane(window: Window) -> Any:
    """Axes that show the window as a square."""
    _, [axes] = blank((EDGE / 100, EDGE / 100))
    axes.set(xlim=(window.left, window.right), ylim=(window.bottom, window.top))
    return axes


def scatter(points: Floats, window: Window, colour: str = INK) -> bytes:
    """(N, 2) points on a transparent square."""
    axes = _plane(window)
    size = float(np.clip(9000 / max(len(points), 1), 5, 45))
    axes.scatter(points[:, 0], points[:, 1], s=size, c=colour, alpha=0.55, linewidths=0)
    return png(axes.figure)


def arrows(start: Floats, end: Floats, window: Window) -> bytes:
    """(N, 2) starts as rings, (N, k, 2) ends as dots, a thin line between each pair."""
    axes = _plane(window)
    for many in np.moveaxis(end, 1, 0):
        both = np.stack([start, many])
        axes.plot(both[..., 0], both[..., 1], color="#8a8a8a", linewidth=0.8)
        axes.scatter(many[:, 0], many[:, 1], s=14, c=ECHO, alpha=0.9, linewidths=0)
    axes.scatter(start[:, 0], start[:, 1], s=30, facecolors="none", edgecolors=INK, linewidths=1.4)
    return png(axes.figure)


def paths(lines: Floats, window: Window) -> bytes:
    """(n, steps, 2) walks through the plane: a thin line each, its steps from light to dark."""
    from matplotlib.colors import to_rgb

    axes = _plane(window)
    colours = ("#3f78b5", "#c9772b", "#4d9a6a", "#a2507f", "#7d6bb0", "#8a8a3a")
    for line, colour in zip(lines, colours * (len(lines) // len(colours) + 1), strict=False):
        axes.plot(line[:, 0], line[:, 1], color=colour, linewidth=1.2, alpha=0.6)
        shades = [(*to_rgb(colour), strength) for strength in np.linspace(0.25, 1.0, len(line))]
        axes.scatter(line[:, 0], line[:, 1], s=26, c=shades, linewidths=0)
    return png(axes.figure)


def heat(log_density: Floats, extent: Window, window: Window, top: float) -> bytes:
    """exp(log density) on a (G, G) grid, rows along y from the bottom; `top` is the log density shown
    brightest.
    """
    from matplotlib import colormaps

    axes, shade = _plane(window), colormaps["magma"]
    with np.errstate(over="ignore", invalid="ignore"):
        density = np.nan_to_num(np.exp(np.minimum(log_density - top, 0.0)), nan=0.0)
    axes.axvspan(window.left, window.right, color=shade(0.0), zorder=-1)
    box = (extent.left, extent.right, extent.bottom, extent.top)
    axes.imshow(density, shade, vmin=0, vmax=1, extent=box, origin="lower", aspect="auto", interpolation="bilinear")
    return png(axes.figure)


def histogram(values: Floats, reference: Floats | None, window: Window) -> bytes:
    """Density of (N,) values as bars, that of a reference as an outline."""
    axes = _plane(window)
    bins = np.linspace(window.left, window.right, 41).tolist()
    inside = values[(values >= window.left) & (values <= window.right)]
    if len(inside):
        axes.hist(inside, bins=bins, density=True, color=INK, alpha=0.65)
    if reference is not None and len(reference):
        axes.hist(reference, bins=bins, density=True, histtype="step", color=ECHO, linewidth=1.6)
    axes.relim()
    axes.autoscale(axis="y")
    return png(axes.figure)


def sheet(images: Floats) -> Floats:
    """(N, *E) images -> (R, C, *E), at most 8 a row and 64 in all; a short last row is left out."""
    shown = images[:64]
    across = next((c for c in (8, 7, 6, 5, 4, 3, 2) if len(shown) >= c * c), len(shown)) or 1
    rows = max(len(shown) // across, 1)
    return shown[: rows * across].reshape(rows, across, *images.shape[1:])


def padded(values: Floats) -> tuple[float, float]:
    """The range of finite values, 8 % wider on each side."""
    low, high = span_of(values)
    pad = 0.08 * (high - low) or 1.0
    return low - pad, high + pad


def span_of(values: Floats) -> tuple[float, float]:
    """(lowest, highest) finite value; (0, 1) where there is none."""
    known = values[np.isfinite(values)]
    return (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)


def picture(kind: str, values: NDArray[np.generic]) -> bytes:
    """Samples (N, *E) of `kind` as one PNG: a contact sheet of images, otherwise the first two coordinates as
    points, or a histogram of scalars. Raises ValueError without rows.
    """
    x = np.asarray(values, dtype=np.float64)
    if not len(x):
        raise ValueError("no rows to draw; expected (N, *event) with N at least 1")
    if kind == "image" and x.ndim >= 3:
        return grid(sheet(x), span_of(x))
    flat = x.reshape(len(x), -1)
    if flat.shape[1] == 1:
        return histogram(flat[np.isfinite(flat)], None, Window(*padded(flat), 0.0, 1.0))
    points = flat[np.isfinite(flat[:, :2]).all(axis=-1), :2]
    return scatter(points, Window(*padded(flat[:, 0]), *padded(flat[:, 1])))
