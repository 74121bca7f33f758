"""Sound: .wav files of 8 or 16 bit PCM, mixed down to one channel, read and written by the standard library."""

from __future__ import annotations

import io
import wave
from pathlib import Path
from typing import Any

import numpy as np

from genalloy.data.errors import BadData
from genalloy.data.form import Form
from genalloy.data.raw import WHOLE, Raw, digest

Array = np.ndarray[Any, Any]


def read_wave(path: Path) -> tuple[Array, int]:
    """int16 samples (n,) of a .wav file, channels averaged, and the rate in Hz. Raises BadData for other sample sizes."""
    try:
        with wave.open(str(path), "rb") as file:
            width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            data = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise BadData(f"cannot read {path}: {error or 'it ends early'}; expected PCM .wav; convert it") from None
    if width not in (1, 2):
        raise BadData(f"{path} has {8 * width} bits a sample; expected 8 or 16; convert it")
    # 8 bit PCM is unsigned and centred at 128, 16 bit is signed
    frames = (np.frombuffer(data, np.uint8).astype(np.int32) - 128) * 256 if width == 1 else np.frombuffer(data, "<i2")
    mono = frames.reshape(-1, channels).astype(np.float64).mean(1)
    return np.round(mono).astype(np.int16), rate


def read_audio(path: Path) -> Raw:
    """One .wav file, or a folder of them (subfolders are labels). Raises BadData without sound or with several rates."""
    files = [path] if path.is_file() else sorted(path.rglob("*.wav"))
    waves = [read_wave(file) for file in files]
    rates = {rate for _, rate in waves}
    if len(rates) > 1:
        raise BadData(f"{path} holds sample rates {sorted(rates)}; expected one; resample the files")
    rows = [row for row, _ in waves]
    rate = rates.pop()
    notes = (f"audio at {rate:,} Hz, mixed down to one channel, mu-law companded to 256 levels: the mass is of the levels",)
    sha256 = digest(file.read_bytes() for file in files)
    return Raw(path.stem, {WHOLE: rows}, _labels(path, files), Form("audio", "int16", rate=rate), str(path), sha256, notes,
               window=None if len(rows) > 1 else ONE_FILE)  # fmt: skip


ONE_FILE = 1024
"""Steps of the pieces that a single recording is cut into."""


def _labels(path: Path, files: list[Path]) -> dict[str, Any]:
    folders = [file.relative_to(path).parts[0] if len(file.relative_to(path).parts) > 1 else "" for file in files]
    return {WHOLE: np.array(folders)} if path.is_dir() and all(folders) and len(set(folders)) > 1 else {}


def write_wave(path: Path, samples: Array, rate: int) -> None:
    """int16 samples (n,) as a 16 bit PCM .wav file of one channel."""
    path.write_bytes(wave_bytes(samples, rate))


def wave_bytes(samples: Array, rate: int) -> bytes:
    """What `write_wave` writes."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.asarray(samples, "<i2").tobytes())
    return buffer.getvalue()
