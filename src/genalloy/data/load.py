"""One door for data: a name, a file, a folder, an array or a data frame becomes a `Dataset`.

    load("8gaussians")   load("digits")   load("table.csv", label="species")   load(array)   load((x, y))

Every refusal is a `BadData`: one line with what was found, what was expected, and the next move. Nothing global is
seeded; the same source, seed and limit give the same parts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genalloy.data import tables
from genalloy.data.arrays import read_arrays
from genalloy.data.dataset import Dataset
from genalloy.data.encoded import Encoded
from genalloy.data.errors import BadData, nearest
from genalloy.data.files import read_array, read_file, read_frame
from genalloy.data.form import Array, Form
from genalloy.data.procedural import PROCEDURAL
from genalloy.data.published import PUBLISHED, read_published
from genalloy.data.raw import PARTS, WHOLE, Raw, digest, digest_array
from genalloy.data.reading import Reading, parse
from genalloy.data.sequences import cut, read_sequences
from genalloy.data.signals import SIGNALS
from genalloy.data.space import Space
from genalloy.data.split import Indices, split_rows, thin
from genalloy.data.text import read_text
from genalloy.data.toy import TOYS, toy

BUILT_IN = (*TOYS, "digits", *PROCEDURAL)
TOY_SIZES = {"test": 10_000, "validation": 5_000, "train": 50_000}


def load(
    source: Any, *, label: str | None = None, seed: int = 0, limit: int | None = None, reading: Reading | None = None
) -> Dataset:
    """Read, check, encode and split a data set.

    source:  a toy's name, "digits", "sprites", "waves", a published set's name (see `genalloy.data.published`), a path
             (.npy, .npz, .csv, .parquet, .txt, .wav, idx .gz, folder of pictures or of .wav, "archive.npz:key"), an array, a
             list of sequences (arrays of unequal lengths), a data frame, or a tuple (rows, labels).
    label:   column of a table or key of an archive that holds labels; it is taken out of the observations.
    seed:    of the split (80/10/10 unless the source has its own parts) and of a toy's draws.
    limit:   at most so many rows in each part, chosen by the seed.
    reading: windows and tokens of text, the longest sequence; a name may say it too, "speech.txt@window=256,bpe=1000".
    Raises BadData for anything that cannot be modelled as it is.
    """
    if limit is not None and limit < 1:
        raise BadData(f"limit is {limit}; expected at least 1 row in each part, or None")
    source, reading = _asked(source, reading)
    built_in = isinstance(source, str) and source in BUILT_IN
    if built_in and reading != Reading():
        raise BadData(f"{source!r} has rows of one shape; a window or bpe is for text and sequences: leave it out")
    if built_in and label is not None:
        raise BadData(f"{source!r} has no label column {label!r}; leave the label out (all but toys bring their own)")
    if built_in and source in TOYS:
        return _toy(source, seed, limit)
    if built_in and source in PROCEDURAL:
        return PROCEDURAL[source](seed, limit)
    if built_in:
        return _digits(seed, limit)
    return finish(read(source, label), seed, limit, reading)


def _asked(source: Any, reading: Reading | None) -> tuple[Any, Reading]:
    """The source's name alone, and what its name or the caller asks of it."""
    named = parse(source) if isinstance(source, str) else (source, Reading())
    return named[0], reading or named[1]


def read(source: Any, label: str | None = None) -> Raw:
    """A source's rows as they are, neither encoded nor split: what `Dataset.admit` takes, with their labels."""
    if isinstance(source, str) and source in PUBLISHED and not Path(source).exists():
        return read_published(source)
    if isinstance(source, str | Path):
        known = nearest(str(source), BUILT_IN)
        if known and not Path(source).suffix and not Path(source).exists():
            raise BadData(f"there is no file and no toy {str(source)!r}; expected a path or one of {', '.join(BUILT_IN)}{known}")
        return read_file(Path(source), label)
    if hasattr(source, "columns"):
        return read_frame(source, label)
    if label is not None:
        raise BadData(f"an array has no label column {label!r}; expected (rows, labels) as a tuple")
    if isinstance(source, tuple) and len(source) == 2:
        return _pair(*source)
    return _sequences(source) if unequal(source) else read_array(_array(source))


def rows(source: Any, label: str | None = None) -> list[tuple[str, Any, Any]]:
    """(part, rows, labels or None) of a source, in the user's form: what to score with an existing model."""
    source, reading = _asked(source, None)
    if isinstance(source, str) and source in BUILT_IN:
        made = load(source)
        return [(part, made.part(part), made.labels.get(part)) for part in PARTS]
    raw = read(source, label)
    window = reading.window or raw.window
    if raw.form.style not in SIGNALS or window is None:
        return [(part, values, raw.labels.get(part)) for part, values in raw.parts.items()]
    pieces = {part: cut(values, window) for part, values in raw.parts.items()}
    return [(part, values, raw.labels[part][owner] if raw.labels else None) for part, (values, owner) in pieces.items()]


def unequal(source: Any) -> bool:
    """Whether a list holds arrays of one or more axes and of different lengths."""
    if not isinstance(source, list) or not all(hasattr(row, "ndim") and row.ndim for row in source):
        return False
    return len({len(row) for row in source}) > 1


def _sequences(rows: list[Any], labels: Any = None) -> Raw:
    arrays = [np.asarray(row) for row in rows]
    sha256 = digest([digest_array(row).encode() for row in arrays])
    return Raw(
        "sequences", {WHOLE: arrays}, {} if labels is None else {WHOLE: np.asarray(labels)},
        Form("sequence", str(arrays[0].dtype)), sha256=sha256,
    )  # fmt: skip


def _array(source: Any) -> Array:
    try:
        return np.asarray(source)
    except ValueError:
        raise BadData("rows have unequal lengths; expected one rectangular array; pad or cut them") from None


def _pair(rows: Any, labels: Any) -> Raw:
    if unequal(rows):
        return _sequences(rows, labels)
    if not hasattr(rows, "columns"):
        return read_array(_array(rows), labels)
    return replace(read_frame(rows, None), labels={WHOLE: np.asarray(labels)})


# -- from raw to data set ------------------------------------------------------------------------------------------


def finish(raw: Raw, seed: int = 0, limit: int | None = None, reading: Reading = Reading()) -> Dataset:  # noqa: B008
    """Encode, split, check and describe. Raises BadData."""
    made = _ENCODERS[raw.form.style](raw, reading, seed)
    sizes = {name: len(part) for name, part in made.arrays.items()}
    labels, label_names = _labels(made.labels, sizes)
    chosen, how = split_rows(sizes, seed)
    kept = {part: (origin, thin(index, limit, seed)) for part, (origin, index) in chosen.items()}
    x = {part: _tensor(made.arrays[origin][index]) for part, (origin, index) in kept.items()}
    notes = [*raw.notes, *made.notes, *_constants(made.space, x["train"]), *_repeats(made.space, x)]
    if limit is not None:
        notes.append(f"at most {limit:,} rows in each part")
    source = {
        "path": raw.path,
        "sha256": raw.sha256,
        "split": made.split or raw.split or how,
        "seed": seed,
        "limit": limit,
        "steps": notes,
        "sizes": {part: len(x[part]) for part in PARTS},
        "form": made.form.to_json(),
    }
    y, lengths, units = (_rows(found, kept) for found in (labels, made.lengths, made.units))
    return Dataset(
        raw.name, made.space, x["train"], x["validation"], x["test"], y, label_names, tuple(notes), source,
        lengths=lengths, units=units,
    )  # fmt: skip


def _rows(found: dict[str, Indices], kept: dict[str, tuple[str, Indices]]) -> dict[str, Tensor]:
    """What stands beside the rows that were kept, part by part; nothing where there is nothing."""
    return {part: torch.from_numpy(found[origin][index]) for part, (origin, index) in kept.items()} if found else {}


def _read_frames(raw: Raw, reading: Reading, seed: int) -> Encoded:
    frame = raw.parts[WHOLE]
    columns, notes = tables.describe(frame)
    space = Space((len(columns),), "table", None, columns)
    return Encoded({WHOLE: tables.encode(space, frame)}, space, Form("frame"), notes, raw.labels)


def _read_arrays(raw: Raw, reading: Reading, seed: int) -> Encoded:
    if reading != Reading():
        raise BadData(f"{raw.name} has rows of one shape; a window or bpe is for text and sequences: leave it out")
    return Encoded(*read_arrays(raw.parts), raw.labels)


_ENCODERS: dict[str, Callable[[Raw, Reading, int], Encoded]] = {
    "array": _read_arrays,
    "frame": _read_frames,
    "text": read_text,
    **dict.fromkeys(SIGNALS, read_sequences),
}


def _tensor(array: Array) -> Tensor:
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(array).astype(np.float32)
    if not np.isfinite(values).all():
        raise BadData(f"values up to {np.abs(array).max():.3g} were found; expected at most 3e38 (float32); rescale them")
    return torch.from_numpy(values)


def _labels(found: dict[str, Any], sizes: dict[str, int]) -> tuple[dict[str, Indices], tuple[str, ...]]:
    """Labels as indices into the sorted distinct labels."""
    if not found:
        return {}, ()
    for part, labels in found.items():
        if labels.shape != (sizes[part],):
            raise BadData(f"labels have shape {labels.shape} for {sizes[part]:,} rows; expected one label per row")
    together = np.concatenate(list(found.values()))
    together = together if together.dtype.kind in "biufU" else together.astype(str)
    if together.dtype.kind == "f" and not np.isfinite(together).all():
        raise BadData(f"labels hold {int((~np.isfinite(together)).sum())} missing values; expected one label per row")
    names, codes = np.unique(together, return_inverse=True)
    if len(names) > max(20, len(codes) // 4):
        raise BadData(
            f"labels take {len(names):,} distinct values in {len(codes):,} rows; expected classes;"
            " leave out the label to model that column too"
        )
    ends = np.cumsum([len(labels) for labels in found.values()])[:-1]
    pieces = np.split(codes.astype(np.int64), ends)
    return dict(zip(found, pieces, strict=True)), tuple(_word(name) for name in names.tolist())


def _word(label: object) -> str:
    return f"{label:g}" if isinstance(label, float) else str(label)


def _constants(space: Space, train: Tensor) -> list[str]:
    """Constant entries: an unbounded density for reals in tables (refused), a remark elsewhere."""
    if space.unequal:
        return []
    flat = train.flatten(1)
    constant = (flat.amin(0) == flat.amax(0)).nonzero().flatten().tolist()
    if not constant:
        return []
    grid = np.broadcast_to(np.asarray(space.discrete), (space.dims,))
    bad = [i for i in constant if not grid[i]]
    if bad and len(space.shape) == 1:
        names = [repr(space.columns[i].name) if space.columns else str(i) for i in bad[:5]]
        raise BadData(
            f"{len(bad)} columns never change in the training rows: {', '.join(names)}; expected columns that vary"
            " (a density would be infinite); drop them"
        )
    return [f"{len(constant)} of {space.dims} entries never change in the training rows"]


def _repeats(space: Space, x: dict[str, Tensor]) -> list[str]:
    """Test rows that also occur in training flatter every number; discrete tables repeat by nature."""
    if space.discrete is not False and space.kind != "image":
        return []
    seen = {row.tobytes() for row in x["train"].numpy()}
    repeated = sum(row.tobytes() in seen for row in x["test"].numpy())
    return [f"{repeated:,} of {len(x['test']):,} test rows also occur in the training rows"] if repeated else []


# -- built-in data -------------------------------------------------------------------------------------------------


def _toy(name: str, seed: int, limit: int | None) -> Dataset:
    made = toy(name)
    generator = torch.Generator().manual_seed(seed)
    sizes = {part: min(n, limit or n) for part, n in TOY_SIZES.items()}
    x = {part: made.sample(n, generator) for part, n in sizes.items()}
    notes = (f"the best possible E log p is {made.optimum:.4f} nats ({made.how})",)
    source = {
        "path": "",
        "sha256": digest_array(x["train"].numpy()),
        "split": f"fresh draws, seed {seed}",
        "seed": seed,
        "limit": limit,
        "steps": [],
        "sizes": sizes,
        "form": Form().to_json(),
    }
    return Dataset(
        name,
        Space((2,), "points"),
        x["train"],
        x["validation"],
        x["test"],
        {},
        (),
        notes,
        source,
        made.log_density,
        made.optimum,
        made.modes,
    )


def _digits(seed: int, limit: int | None) -> Dataset:
    """scikit-learn's 8x8 digits, 0..16: 360 test rows as `train_test_split` draws them, 144 validation rows of the rest."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    rest, test = train_test_split(np.arange(len(digits.target)), test_size=360, random_state=seed)
    cut = {"train": rest[144:], "validation": rest[:144], "test": test}
    images = digits.images.astype(np.uint8)
    raw = Raw(
        "digits",
        {part: images[i] for part, i in cut.items()},
        {part: digits.target[i] for part, i in cut.items()},
        sha256=digest_array(images),
    )
    made = finish(raw, seed, limit)
    made.source["split"] = f"1293/144/360, seed {seed}"
    return made
