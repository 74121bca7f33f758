"""Published sequences of unequal lengths: music as piano rolls, pen strokes, speech. See `genalloy.data.published`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from genalloy.data.form import Form
from genalloy.data.raw import PARTS, Raw, digest

Array = np.ndarray[Any, Any]
KEYS = dict(zip(PARTS, ("train", "valid", "test"), strict=True))
NOTES = 88
HELD_OUT = 5
"""Recordings 0..4 of every speaker and digit are the speech set's own test part."""


def split_at(joined: Array, lengths: Array) -> list[Array]:
    """Sequences that stand one after the other, (total, \\*F), as a list of (n_i, \\*F)."""
    return np.split(joined, np.cumsum(lengths)[:-1])


def music(window: int | None, path: Path) -> Raw:
    """Rolls of 88 notes a step, bits packed along the notes: {train,valid,test} (total, 11), their lengths beside them."""
    with np.load(path, allow_pickle=False) as archive:
        rolls = {part: np.unpackbits(archive[key], axis=1)[:, :NOTES] for part, key in KEYS.items()}
        parts = {part: split_at(rolls[part], archive[f"{key}_len"]) for part, key in KEYS.items()}
    return Raw(path.stem, parts, {}, Form("roll", "uint8"), str(path), digest([path.read_bytes()]), window=window)


def strokes(step: int, path: Path) -> Raw:
    """Rows dx, dy, pen lifted; on a grid of `step` units."""
    with np.load(path, allow_pickle=False) as archive:
        parts = {part: split_at(archive[key], archive[f"{key}_len"]) for part, key in KEYS.items()}
    clipped = sum(int((np.abs(row[:, :2]) > 127 * step).sum()) for rows in parts.values() for row in rows)
    notes = (
        f"dx and dy are differences of positions rounded to multiples of {step}, as levels 0..255 with 128 for no move;"
        f" {clipped:,} entries lie at the range's ends or beyond; the third entry is 0 or 1, pen lifted",
    )
    return Raw(path.stem, parts, {}, Form("strokes", "int16", step=step), str(path), digest([path.read_bytes()]), notes)


def speech(path: Path) -> Raw:
    """Spoken digits at 8 kHz: the set's own test part, labels are digits."""
    with np.load(path, allow_pickle=False) as archive:
        rows, digits, index = split_at(archive["audio"], archive["length"]), archive["digit"], archive["index"]
    chosen = {"train": np.flatnonzero(index >= HELD_OUT), "test": np.flatnonzero(index < HELD_OUT)}
    parts = {part: [rows[i] for i in places] for part, places in chosen.items()}
    labels = {part: digits[places].astype(np.int64) for part, places in chosen.items()}
    notes = ("8,000 Hz, mu-law companded to 256 levels: the mass is of the levels",)
    return Raw(
        path.stem, parts, labels, Form("audio", "int16", rate=8000), str(path), digest([path.read_bytes()]), notes
    )  # fmt: skip


def vowels(path: Path) -> Raw:
    """Japanese vowels: 7 to 29 frames of 12 real cepstrum coefficients, labels are nine speakers."""
    with np.load(path, allow_pickle=False) as archive:
        arrays = {part: [archive[f"JapaneseVowels_{part}{end}"] for end in ("", "_len", "_label")] for part in ("train", "test")}
    parts = {part: split_at(joined, lengths) for part, (joined, lengths, _) in arrays.items()}
    labels = {part: label.astype(np.int64) for part, (_, _, label) in arrays.items()}
    return Raw(path.stem, parts, labels, Form("sequence", "float32"), str(path), digest([path.read_bytes()]))


def treebank(path: Path) -> Raw:
    """The Penn Treebank's three files as characters, words 10,000 types (Mikolov's preprocessing)."""
    import gzip

    files = {part: path.with_name(f"ptb.{key}.txt.gz") for part, key in KEYS.items()}
    data = {part: file.read_bytes() for part, file in files.items()}
    parts = {part: gzip.decompress(packed).decode("utf-8") for part, packed in data.items()}
    notes = ("characters of the file as it is: lower case, <unk>, N, one sentence a line with a blank on both sides",)
    return Raw("ptb", parts, {}, Form("text", "str"), str(path), digest(data.values()), notes, split="the source's own")


CUT = 512
"""Steps of the pieces that long pieces of music are cut into by default; the longest has 4,273."""

SEQUENCES: dict[str, tuple[str, Callable[[Path], Raw], str]] = {
    "jsb-chorales": ("music/JSB_Chorales.npz", partial(music, None), "229/76/77 chorales"),
    "nottingham": ("music/Nottingham.npz", partial(music, CUT), "694/173/170 folk tunes"),
    "piano-midi": ("music/Piano_midi.npz", partial(music, CUT), "87/12/25 piano pieces"),
    "muse-data": ("music/MuseData.npz", partial(music, CUT), "524/135/124 orchestral and piano pieces"),
    "omniglot-strokes": ("sketch/omniglot_strokes.npz", partial(strokes, 6), "30,000/1,000/1,000 drawn characters; Lake, 2015"),
    "kanji-strokes": ("sketch/short_kanji.npz", partial(strokes, 4), "10,000/600/500 drawn kanji; KanjiVG"),
    "spoken-digits": ("speech/fsdd_900.npz", speech, "600 and 300 recordings of spoken digits; Jackson et al., 2018"),
    "japanese-vowels": ("timeseries/ucr_small.npz", vowels, "270 and 370 utterances of 12 reals a frame; Kudo et al., 1999"),
    "penn-treebank": ("text/ptb.train.txt.gz", treebank, "newspaper text as characters; Marcus et al., 1993; Mikolov, 2010"),
}
"""Name -> (path below the folder, reader, what it is). Music: Boulanger-Lewandowski et al., 2012, 88 notes a step."""
