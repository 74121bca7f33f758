"""Pictures of every depth and mode: what is in the files is read, or a note says what was done;
what is too large is refused first.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from genalloy.data.errors import BadData
from genalloy.data.load import load_data
from genalloy.data.pictures import read_pictures

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (6, 5), dtype=np.uint8)
WORDS = RNG.integers(0, 65536, (6, 5)).astype(np.uint16)
BITS = BYTES > 100
COLOUR = RNG.integers(0, 256, (6, 5, 3), dtype=np.uint8)


def saved(folder: Path, *pictures: tuple[Any, str], **options: Any) -> list[Path]:
    """Arrays or pictures as 0.png, 1.tif, ..."""
    files = []
    for i, (picture, suffix) in enumerate(pictures):
        files.append(folder / f"{i}.{suffix}")
        (picture if hasattr(picture, "save") else Image.fromarray(picture)).save(files[-1], **options)
    return files


@pytest.mark.parametrize(
    ("picture", "suffix"),
    [
        (BYTES, "png"),
        (WORDS, "png"),
        (WORDS, "tif"),
        (WORDS // 16, "png"),
        (BITS, "png"),
        (BITS, "tif"),
        (BYTES.astype(np.int32) * 70_000 - 9, "tif"),
        (BYTES.astype(np.float32) / 7 - 3, "tif"),
        (COLOUR, "png"),
    ],
)
def test_values_are_those_of_the_file(tmp_path: Path, picture: np.ndarray, suffix: str) -> None:
    array, _ = read_pictures(saved(tmp_path, (picture, suffix)))
    np.testing.assert_array_equal(array[0], picture)


def test_a_folder_of_16_bits(tmp_path: Path) -> None:
    folder = tmp_path / "deep"
    folder.mkdir()
    own = RNG.integers(0, 65536, (12, 6, 5)).astype(np.uint16)
    saved(folder, *((one, "png") for one in own))
    data = load_data(folder)
    assert data.space.levels == 65536 and any("16 bits" in note for note in data.notes)
    back = data.restore(data.train)
    assert back.dtype == np.uint16 and {row.tobytes() for row in back} <= {row.tobytes() for row in own}


def test_unlike_depths_share_their_white(tmp_path: Path) -> None:
    array, notes = read_pictures(saved(tmp_path, (BITS, "png"), (BYTES, "png")))
    np.testing.assert_array_equal(array, [BITS * 255, BYTES])
    assert any("unlike depths" in note and "0..255" in note for note in notes)
    array, _ = read_pictures(saved(tmp_path, (BITS, "png"), (BYTES, "png"), (WORDS, "png"), (COLOUR, "png")))
    np.testing.assert_array_equal(array[..., 0], [BITS * 65535, BYTES.astype(int) * 257, WORDS, COLOUR[..., 0].astype(int) * 257])
    with pytest.raises(BadData, match="unlike depths were found"):
        read_pictures(saved(tmp_path, (BYTES.astype(np.float32), "tif"), (BYTES, "png")))


TURNS = [(1, lambda x: x), (3, lambda x: x[::-1, ::-1]), (6, lambda x: np.rot90(x, -1))]


@pytest.mark.parametrize(("orientation", "turned"), TURNS)
def test_exif_orientation(tmp_path: Path, orientation: int, turned: Any) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    array, notes = read_pictures(saved(tmp_path, (BYTES, "png"), exif=exif))
    np.testing.assert_array_equal(array[0], turned(BYTES))
    assert any("upright" in note for note in notes) == (orientation != 1)


@pytest.mark.parametrize("suffix", ["gif", "tif", "webp", "png"])
def test_more_than_one_frame_is_noted(tmp_path: Path, suffix: str) -> None:
    more = [Image.fromarray(RNG.integers(0, 256, (6, 5), dtype=np.uint8)) for _ in range(2)]
    _, notes = read_pictures(saved(tmp_path, (BYTES, suffix), save_all=True, append_images=more))
    assert any("only the first" in note for note in notes)


def test_transparency(tmp_path: Path) -> None:
    alpha = np.dstack([COLOUR, BYTES])
    array, notes = read_pictures(saved(tmp_path, (alpha, "png")))
    share = BYTES[..., None] / 255
    np.testing.assert_allclose(array[0], COLOUR * share + 255 * (1 - share), atol=1.01)
    assert any("blended over white" in note for note in notes)
    opaque = np.dstack([COLOUR, np.full((6, 5), 255, np.uint8)])
    array, notes = read_pictures(saved(tmp_path, (opaque, "png")))
    np.testing.assert_array_equal(array[0], COLOUR)
    assert any("opaque" in note for note in notes)
    grey = Image.merge("LA", [Image.fromarray(BYTES), Image.fromarray(np.zeros_like(BYTES))])
    assert (read_pictures(saved(tmp_path, (grey, "png")))[0] == 255).all()
    hollow = Image.fromarray(COLOUR).quantize(8)
    assert any("transparent" in note for note in read_pictures(saved(tmp_path, (hollow, "png"), transparency=0))[1])


def test_other_modes(tmp_path: Path) -> None:
    grey_gif = Image.fromarray(BYTES).convert("P")
    array, _ = read_pictures(saved(tmp_path, (grey_gif, "gif")))
    assert array.shape == (1, 6, 5)
    np.testing.assert_array_equal(array[0], BYTES)
    _, notes = read_pictures(saved(tmp_path, (Image.fromarray(COLOUR).convert("CMYK"), "tif")))
    assert any("CMYK" in note for note in notes)
    (tmp_path / "w.png").write_bytes(png(4, 4, 16, 2, bytes((4 * 6 + 1) * 4)))
    assert any("read with 8" in note for note in read_pictures([tmp_path / "w.png"])[1])


def png(width: int, height: int, depth: int, colour: int, data: bytes) -> bytes:
    """A PNG file with any header."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore:Image size")
@pytest.mark.parametrize(("width", "height"), [(30_000, 30_000), (10_000, 10_000), (2**17, 2**10)])
def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path: Path, width: int, height: int) -> None:
    (tmp_path / "big.png").write_bytes(png(width, height, 8, 0, bytes(100)))
    with pytest.raises(BadData, match=r"big\.png.*pixels") as error:
        load_data(tmp_path)
    assert "\n" not in str(error.value)


def test_too_many_pictures_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(png(8000, 8000, 8, 0, bytes(100)))
    for i in range(1, 20):
        (tmp_path / f"{i}.png").hardlink_to(tmp_path / "0.png")
    with pytest.raises(BadData, match="GiB as float32"):
        load_data(tmp_path)


def test_other_files_are_noted(tmp_path: Path) -> None:
    saved(tmp_path, *((RNG.integers(0, 256, (6, 5), dtype=np.uint8), "png") for _ in range(12)))
    (tmp_path / "notes.doc").write_text("no picture")
    assert any("1 files that are no pictures" in note for note in load_data(tmp_path).notes)
