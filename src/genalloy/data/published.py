"""Published data sets by name, read from a folder of the user's own; nothing is downloaded, nothing is part of this package.

`load("fashion-mnist")` looks in the folder that the environment variable GENALLOY_DATA names, by default `./data`. The
layout is that of the original files: `mnist/train-images-idx3-ubyte.gz` and its siblings; bits packed along each row.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from genalloy.data.columns import FEW_VALUES
from genalloy.data.errors import BadData
from genalloy.data.files import read_file
from genalloy.data.form import Form
from genalloy.data.images import read_folder
from genalloy.data.published_sequences import SEQUENCES
from genalloy.data.raw import PARTS, WHOLE, Raw, digest, digest_array

FOLDER = "GENALLOY_DATA"
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class PublishedSet:
    """path: below the folder. read: what turns it into rows. about: one line with the source."""

    path: str
    read: Callable[[Path], Raw]
    about: str


def _bits(path: Path) -> Raw:
    """Arrays x_train, x_valid, x_test of bits packed along the row, squares of pixels."""
    with np.load(path, allow_pickle=False) as archive:
        packed = [archive[f"x_{part}"] for part in ("train", "valid", "test")]
    parts = {part: _square(np.unpackbits(rows, axis=1)) for part, rows in zip(PARTS, packed, strict=True)}
    return Raw(path.stem, parts, path=str(path), sha256=_sha(path))


def _square(rows: Array) -> Array:
    side = round(rows.shape[1] ** 0.5)
    return rows.reshape(-1, side, side)


def _pooled(path: Path) -> Raw:
    """The bits of `_bits`, each square of 2 x 2 pixels replaced by its largest."""
    raw = _bits(path)
    notes = (*raw.notes, "28x28 max-pooled to 14x14: not comparable with numbers at 28x28")
    return replace(raw, parts={part: _largest(rows) for part, rows in raw.parts.items()}, notes=notes)


def _largest(rows: Array) -> Array:
    return np.maximum.reduce([rows[:, i::2, j::2] for i in (0, 1) for j in (0, 1)])


def _splits(path: Path) -> Raw:
    """Arrays train, valid, test of rows of bits."""
    with np.load(path, allow_pickle=False) as archive:
        parts = {part: archive[key] for part, key in zip(PARTS, ("train", "valid", "test"), strict=True)}
    return Raw(path.stem, parts, path=str(path), sha256=_sha(path))


# -- tables --------------------------------------------------------------------------------------------------------


def _uci(key: str, path: Path) -> Raw:
    """One table of the archive: integers as integers, reals of few values as categories, constant columns left out.

    A density is unbounded on a column that repeats a few values; a mass on it is not. The rows are cut 80/10/10 by the seed.
    """
    import pandas

    with np.load(path, allow_pickle=False) as archive:
        table = archive[key]
    constant = [i for i in range(table.shape[1]) if (table[:, i] == table[0, i]).all()]
    columns = {f"x{i}": _column(table[:, i]) for i in range(table.shape[1]) if i not in constant}
    notes = (f"columns {', '.join(map(str, constant))} never change and were left out",) if constant else ()
    return Raw(path.stem, {WHOLE: pandas.DataFrame(columns)}, {}, Form("frame"), str(path), digest_array(table), notes)


def _column(values: Array) -> Any:
    if (values == values.round()).all():
        return values.astype(np.int64)
    return values.astype(str) if len(np.unique(values)) <= FEW_VALUES else values


def _miniboone(path: Path) -> Raw:
    """The published validation part cut into 2,956 rows to train on and 328 to stop by; the published test part."""
    with np.load(path, allow_pickle=False) as archive:
        held, test = archive["valid"], archive["test"]
    parts = {"train": held[:2956], "validation": held[2956:], "test": test}
    return Raw(path.stem, parts, path=str(path), sha256=_sha(path), notes=("a tenth of the published training rows",))


def _bsds(path: Path) -> Raw:
    """Patches of 64 bytes as 63 reals: noise of one level, divided by 256, mean taken off, last pixel dropped."""
    noise = np.random.default_rng(0)
    with np.load(path, allow_pickle=False) as archive:
        raw = [archive[part].reshape(-1, 64) for part in ("train", "valid", "test")]
    parts = {part: _centred((rows + noise.random(rows.shape)) / 256) for part, rows in zip(PARTS, raw, strict=True)}
    notes = ("other random patches than the published ones, by the same protocol", "dequantised once: the density is of reals")
    return Raw(path.stem, parts, path=str(path), sha256=_sha(path), notes=notes)


def _centred(x: Array) -> Array:
    return (x - x.mean(1, keepdims=True))[:, :63].astype(np.float32)


def _sha(path: Path) -> str:
    return digest([path.read_bytes()])


UCI = {
    "concrete": "concrete",
    "energy": "energy",
    "kin8nm": "kin8nm",
    "naval": "naval_propulsion_plant",
    "power-plant": "power_plant",
    "protein": "protein_tertiary_structure",
    "wine": "wine_quality_red",
    "yacht": "yacht",
}

BINARY = {
    "nltcs": 16,
    "plants": 69,
    "baudio": 100,
    "jester": 100,
    "bnetflix": 100,
    "accidents": 111,
    "mushrooms": 112,
    "pumsb_star": 163,
    "dna": 180,
    "nips": 500,
    "moviereview": 1001,
    "bbc": 1058,
    "voting": 1359,
}
"""Name and number of variables of the binary density benchmarks (Lowd & Davis, 2010; Larochelle & Murray, 2011; and others)."""

PUBLISHED = {
    "mnist": PublishedSet("mnist", read_folder, "60,000 and 10,000 grey digits, 28x28; LeCun et al., 1998"),
    "fashion-mnist": PublishedSet("fashion-mnist", read_folder, "60,000 and 10,000 grey garments, 28x28; Xiao et al., 2017"),
    "static-mnist": PublishedSet(
        "binary-mnist/static_binary_mnist.npz", _bits, "50,000/10,000/10,000 fixed binarised digits; Larochelle & Murray, 2011"
    ),
    "static-mnist-14": PublishedSet(
        "binary-mnist/static_binary_mnist.npz", _pooled, "static-mnist with 2x2 pixels max-pooled to one"
    ),
    "tiny-shakespeare": PublishedSet(
        "text/tinyshakespeare.txt", read_file, "1,115,394 characters of plays, 65 distinct; Karpathy, 2015"
    ),
    **{
        name: PublishedSet(f"binary-density/{name}.npz", _splits, f"rows of {bits} bits; Lowd & Davis, 2010, and others")
        for name, bits in BINARY.items()
    },
    **{name: PublishedSet(path, read, about) for name, (path, read, about) in SEQUENCES.items()},
    "cifar10-10k": PublishedSet(
        "cifar10/cifar10_10k.npz", read_file, "10,000/1,000/1,000 colour images, 32x32; Krizhevsky, 2009"
    ),
    **{
        f"uci-{name}": PublishedSet("uci-small/uci_small.npz", partial(_uci, key), f"UCI table {key}; Dua & Graff, 2019")
        for name, key in UCI.items()
    },
    "miniboone-10": PublishedSet(
        "uci-maf/miniboone_heldout.npz", _miniboone, "2,956/328/3,648 rows of 43 reals; Papamakarios et al., 2017, preprocessing"
    ),
    "bsds300": PublishedSet(
        "bsds300/bsds300_patches8.npz", _bsds, "200,000/10,000/50,000 grey patches, 63 reals; Martin et al., 2001"
    ),
}


def folder() -> Path:
    """Where published data sets are looked for."""
    return Path(os.environ.get(FOLDER, "data"))


def read_published(name: str) -> Raw:
    """The rows of a published data set. Raises BadData with the path that was expected where it is not at hand."""
    wanted = PUBLISHED[name]
    path = folder() / wanted.path
    if not path.exists():
        raise BadData(
            f"{name} ({wanted.about}) was not found at {path}; put it there,"
            f" or set the environment variable {FOLDER} to the folder that holds {wanted.path}"
        )
    return replace(wanted.read(path), name=name)
