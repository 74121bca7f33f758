"""Picture files as arrays: what is in them is read as it is, and what cannot be is said in a note.

Grey of 1, 8 and 16 bits stays on its own levels (0..1, 0..255, 0..65,535), 32-bit integers and floats keep their values,
colour has 8 bits a channel. Pictures of unlike depths are brought to the deepest one's range, so that white is white everywhere.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from genalloy.data import limits
from genalloy.data.errors import BadData

Array = np.ndarray[Any, Any]
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
WHITE = {"bit": 1, "byte": 255, "word": 65535}
"""Depth -> the level of white. Depths "integer" and "float" have no white: such pictures are not mixed with others."""
DEPTHS = {"1": "bit", "I": "integer", "F": "float"}
TURNED = "turned upright, as their EXIF orientation says"
FRAMES = "animated or of several pages: only the first picture of each was read"
BLENDED = "with transparent pixels: blended over white"
OPAQUE = "with an alpha channel that is opaque everywhere: it was left out"
NARROWED = "of 16 bits a channel in colour: read with 8"


class Picture(NamedTuple):
    """One picture: array (H, W) or (H, W, 3), its depth, and what was done that is not obvious."""

    array: Array
    depth: str
    done: tuple[str, ...] = ()


def read_pictures(files: list[Path]) -> tuple[Array, list[str]]:
    """Equally sized pictures as (N, H, W) or (N, H, W, 3), and notes. Raises BadData for broken, huge or unequal ones."""
    sizes = [_size(file) for file in files]
    limits.entries(files[0].parent, len(files), 3 * sizes[0][0] * sizes[0][1])
    read = [_open(file) for file in files]
    _one_size(files, read)
    counts = Counter(words for picture in read for words in picture.done)
    notes = [f"{count:,} of {len(files):,} pictures {words}" for words, count in counts.items()]
    arrays, depth_notes = _one_depth(files, read)
    colour, colour_notes = _one_mode(arrays)
    return colour, notes + depth_notes + colour_notes


def _size(file: Path) -> tuple[int, int]:
    """(width, height) from the header alone, refused where it is beyond every reason."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            size = image.size
    except Image.DecompressionBombError as error:
        raise BadData(f"{file} is too large: {error}; expected at most {limits.MOST_PIXELS:,} pixels; cut or resize it") from None
    except (OSError, SyntaxError, ValueError):
        raise _broken(file) from None
    limits.pixels(file, size)
    return size


def _broken(file: Path) -> BadData:
    return BadData(f"cannot read the picture {file}; expected a whole image file; delete it or write it again")


def _open(file: Path) -> Picture:
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as image:
            frames, wide = getattr(image, "n_frames", 1), ";16" in str(image.tile) and image.mode[0] != "I"
            image.load()
            upright = ImageOps.exif_transpose(image)
    except (OSError, SyntaxError, ValueError, EOFError):
        raise _broken(file) from None
    turned = image.getexif().get(ORIENTATION, 1) != 1
    done = [words for words, is_so in ((FRAMES, frames > 1), (TURNED, turned), (NARROWED, wide)) if is_so]
    return _plain(upright, tuple(done))


ORIENTATION = 0x0112


def _plain(image: Any, done: tuple[str, ...]) -> Picture:
    """Any mode of Pillow's as grey or as three channels."""
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
        image = _grey_if_equal(image)
    if image.mode.startswith("I;16"):
        return Picture(np.asarray(image).astype(np.uint16), "word", done)
    if image.mode in DEPTHS:
        return Picture(np.asarray(image), DEPTHS[image.mode], done)
    if image.has_transparency_data:
        image, words = _blended(image)
        done = (*done, words)
    if image.mode in ("L", "RGB"):
        return Picture(np.asarray(image), "byte", done)
    return Picture(np.asarray(image.convert("RGB")), "byte", (*done, f"of mode {image.mode}: converted to red, green and blue"))


def _grey_if_equal(image: Any) -> Any:
    """A palette of greys (every GIF of a grey picture has one) as grey."""
    red, green, blue, *_ = np.moveaxis(np.asarray(image), -1, 0)
    grey = bool((red == green).all() and (green == blue).all())
    return image.convert("LA" if image.mode == "RGBA" else "L") if grey else image


def _blended(image: Any) -> tuple[Any, str]:
    """Without transparency: left out where nothing is transparent, over white as a page would show it otherwise."""
    from PIL import Image

    mode = "L" if image.mode in ("L", "LA", "La") else "RGB"
    layered = image.convert("RGBA")
    if layered.getextrema()[3][0] == 255:
        return image.convert(mode), OPAQUE
    white = Image.new("RGBA", layered.size, "white")
    return Image.alpha_composite(white, layered).convert(mode), BLENDED


def _one_size(files: list[Path], pictures: list[Picture]) -> None:
    size = pictures[0].array.shape[:2]
    for file, (picture, *_) in zip(files, pictures, strict=True):
        if picture.shape[:2] != size:
            raise BadData(
                f"pictures of {size[1]}x{size[0]} and of {picture.shape[1]}x{picture.shape[0]} ({file.name}) were found;"
                " expected one size; resize or crop them to one"
            )


def _one_depth(files: list[Path], pictures: list[Picture]) -> tuple[list[Array], list[str]]:
    """Unlike depths on the deepest one's range; integers and floats without a white are refused beside others."""
    depths = {picture.depth: file for file, picture in zip(files, pictures, strict=True)}
    arrays = [picture.array for picture in pictures]
    if len(depths) == 1:
        return arrays, _depth_notes(next(iter(depths)))
    if not set(depths) <= set(WHITE):
        named = ", ".join(f"{depth} ({file.name})" for depth, file in depths.items())
        raise BadData(f"pictures of unlike depths were found: {named}; expected one; convert them to one")
    deepest = max(depths, key=lambda depth: WHITE[depth])
    dtype = np.uint16 if deepest == "word" else np.uint8
    times = [WHITE[deepest] // WHITE[picture.depth] for picture in pictures]
    scaled = [(array.astype(np.int32) * factor).astype(dtype) for array, factor in zip(arrays, times, strict=True)]
    return scaled, [f"pictures of unlike depths are mixed: all were brought to 0..{WHITE[deepest]:,}"]


def _depth_notes(depth: str) -> list[str]:
    words = {
        "bit": ["pictures of 1 bit: levels 0 and 1"],
        "word": ["grey pictures of 16 bits: levels up to 65,535, as they are in the files"],
        "integer": ["pictures of 32-bit integers: values as they are in the files"],
        "float": ["pictures of floats: values as they are in the files, a density"],
    }
    return words.get(depth, [])


def _one_mode(pictures: list[Array]) -> tuple[Array, list[str]]:
    """One array: a grey picture among coloured ones gets three channels."""
    if len({picture.ndim for picture in pictures}) == 1:
        return np.stack(pictures), []
    colour = [p if p.ndim == 3 else np.repeat(p[..., None], 3, -1) for p in pictures]
    return np.stack(colour), ["grey and coloured pictures are mixed: grey ones were given three equal channels"]
