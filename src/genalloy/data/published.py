"""Published data sets by name, read from a folder of the user's own; nothing is downloaded, nothing is part of this package.

`load("fashion-mnist")` looks in the folder that the environment variable GENALLOY_DATA names, by default `./data`. The
layout is that of the original files: `mnist/train-images-idx3-ubyte.gz` and its siblings; bits packed along each row.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from genalloy.data.errors import BadData
from genalloy.data.files import read_file
from genalloy.data.images import read_folder
from genalloy.data.raw import PARTS, Raw, digest

FOLDER = "GENALLOY_DATA"
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Published:
    """path: below the folder. read: what turns it into rows. about: one line with the source."""

    path: str
    read: Callable[[Path], Raw]
    about: str


def _bits(path: Path) -> Raw:
    """Arrays x_train, x_valid, x_test of bits packed along the row, squares of pixels."""
    with np.load(path, allow_pickle=False) as archive:
        packed = [archive[f"x_{part}"] for part in ("train", "valid", "test")]
    parts = {part: _square(np.unpackbits(rows, axis=1)) for part, rows in zip(PARTS, packed, strict=True)}
    return Raw(path.stem, parts, path=str(path), sha256=digest([path.read_bytes()]))


def _square(rows: Array) -> Array:
    side = round(rows.shape[1] ** 0.5)
    return rows.reshape(-1, side, side)


PUBLISHED = {
    "mnist": Published("mnist", read_folder, "60,000 and 10,000 grey digits, 28x28; LeCun et al., 1998"),
    "fashion-mnist": Published("fashion-mnist", read_folder, "60,000 and 10,000 grey garments, 28x28; Xiao et al., 2017"),
    "static-mnist": Published(
        "binary-mnist/static_binary_mnist.npz", _bits, "50,000/10,000/10,000 fixed binarised digits; Larochelle & Murray, 2011"
    ),
    "cifar10-10k": Published("cifar10/cifar10_10k.npz", read_file, "10,000/1,000/1,000 colour images, 32x32; Krizhevsky, 2009"),
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
