"""One door for data: a name, a file, a folder, an array or a data frame becomes a `Dataset`.

    load("8gaussians")   load("digits")   load("table.csv", label="species")   load(array)   load((x, y))

The road has three parts, each in its own module: a source becomes raw rows with names and a hash (`sources`), what its rows
are is decided by their style (`columns` for tables, `arrays`, `sequences`, `text`), and the decided rows are split and
described here. Every refusal is a `BadData`: what was found, what was expected, and the next move, in one line. Nothing global
is seeded; the same source, seed and limit give the same parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genalloy.data import columns as deciding
from genalloy.data import dtypes, precision, tables
from genalloy.data.arrays import read_arrays
from genalloy.data.builtin import digits, load_toy
from genalloy.data.dataset import Dataset
from genalloy.data.delimited import typed_frame
from genalloy.data.encoded import Encoded, Known
from genalloy.data.errors import BadData
from genalloy.data.form import Array, Form
from genalloy.data.labels import label_codes
from genalloy.data.procedural import PROCEDURAL
from genalloy.data.raw import PARTS, WHOLE, Raw
from genalloy.data.reading import Reading, parse
from genalloy.data.sequences import cut, read_sequences
from genalloy.data.signals import SIGNALS
from genalloy.data.sources import BUILT_IN, read
from genalloy.data.space import Space
from genalloy.data.split import Indices, split_rows, thin
from genalloy.data.text import read_text
from genalloy.data.toy import TOYS


def load_data(
    source: Any,
    *,
    label: str | None = None,
    seed: int = 0,
    limit: int | None = None,
    reading: Reading | None = None,
    columns: Mapping[str, str] | None = None,
    like: Known | None = None,
) -> Dataset:
    """Read, check, encode and split a data set.

    source: a toy's name, "digits", "sprites", "waves", a published set's name (see `genalloy.data.published`), a path
    (.npy, .npz, .csv, .tsv, .parquet, .txt, .wav, idx .gz, folder of pictures or of .wav, "archive.npz:key"), an array
    or a tensor, a list of sequences (arrays of unequal lengths), a data frame (pandas, polars, Arrow), a torch data
    set, or a tuple (rows, labels).

    label: column of a table or key of an archive that holds labels; it is taken out of the observations. seed: of the split
    (80/10/10 unless the source has its own parts) and of a toy's draws. limit: at most so many rows in each part, chosen by the
    seed. reading: windows and tokens of text, the longest sequence; a name may say it too, "speech.txt@window=256,bpe=1000".
    columns: of a table, column -> "real", "integer", "category", "date" or "drop", where a guess is to be overridden. like: read
    tables and arrays as another data set was, by its columns, categories, levels, shifts and labels.

    Raises BadData for anything that cannot be modelled as it is.
    """
    if limit is not None and limit < 1:
        raise BadData(f"limit is {limit}; expected at least 1 row in each part, or None")
    source, reading = _asked(source, reading)
    if isinstance(source, str) and source in BUILT_IN:
        return _built_in(source, label, seed, limit, reading, columns)
    return finish(read(source, label), seed, limit, reading, columns, like)


def _asked(source: Any, reading: Reading | None) -> tuple[Any, Reading]:
    """The source's name alone, and what its name or the caller asks of it."""
    named = parse(source) if isinstance(source, str) else (source, Reading())
    return named[0], reading or named[1]


def _built_in(
    name: str, label: str | None, seed: int, limit: int | None, reading: Reading, columns: Mapping[str, str] | None
) -> Dataset:
    if reading != Reading():
        raise BadData(f"{name!r} has rows of one shape; a window or bpe is for text and sequences: leave it out")
    if label is not None:
        raise BadData(f"{name!r} has no label column {label!r}; leave the label out (all but toys bring their own)")
    if columns:
        raise BadData(f"{name!r} is no table; expected no columns for it; leave them out")
    if name in TOYS:
        return load_toy(name, seed, limit)
    return finish(digits(seed), seed, limit) if name == "digits" else PROCEDURAL[name](seed, limit)


def rows(source: Any, label: str | None = None) -> list[tuple[str, Any, Any]]:
    """(part, rows, labels or None) of a source, in the user's form: what to score with an existing model.

    Parts of built-in data are train, validation and test; sequences are cut where a window is asked for. Raises BadData.
    """
    source, reading = _asked(source, None)
    if isinstance(source, str) and source in BUILT_IN:
        data = load_data(source)
        return [(part, data.part(part), data.labels.get(part)) for part in PARTS]
    raw = read(source, label)
    window = reading.window or raw.window
    if raw.form.style not in SIGNALS or window is None:
        return [(part, values, raw.labels.get(part)) for part, values in raw.parts.items()]
    pieces = {part: cut(values, window) for part, values in raw.parts.items()}
    return [(part, values, raw.labels[part][owner] if raw.labels else None) for part, (values, owner) in pieces.items()]


# -- from raw to data set ------------------------------------------------------------------------------------------


def finish(
    raw: Raw,
    seed: int = 0,
    limit: int | None = None,
    reading: Reading = Reading(),  # noqa: B008
    columns: Mapping[str, str] | None = None,
    like: Known | None = None,
) -> Dataset:
    """A data set from raw rows: decided, encoded, split, thinned to `limit`, checked and described.

    reading, columns, like: as for :func:`load_data`. Raises BadData for what cannot be modelled as it is.
    """
    raw = replace(raw, asked={**raw.asked, **(columns or {})})
    if raw.asked and raw.form.style != "frame":
        raise BadData(f"{raw.name} is no table; expected no columns for it; leave out {', '.join(raw.asked)}")
    same = like is not None and like.form.style in ("array", "frame") and raw.form.style in ("array", "frame")
    encoded = _admitted(raw, like) if same and like else _ENCODERS[raw.form.style](raw, reading, seed)
    sizes = {name: len(part) for name, part in encoded.arrays.items()}
    labels, label_names = label_codes(encoded.labels, sizes, like.label_names if same and like else ())
    chosen, how = split_rows(sizes, seed)
    kept = {part: (origin, thin(index, limit, seed)) for part, (origin, index) in chosen.items()}
    x = {part: _tensor(encoded.arrays[origin][index]) for part, (origin, index) in kept.items()}
    notes = [*raw.notes, *encoded.notes, *_constants(encoded.space, x["train"]), *_repeats(encoded.space, x)]
    if limit is not None:
        notes.append(f"at most {limit:,} rows in each part")
    source = {
        "path": raw.path,
        "sha256": raw.sha256,
        "split": encoded.split or raw.split or how,
        "seed": seed,
        "limit": limit,
        "steps": notes,
        "sizes": {part: len(x[part]) for part in PARTS},
        "form": encoded.form.to_json(),
    }
    y, lengths, units = (_rows(beside, kept) for beside in (labels, encoded.lengths, encoded.units))
    return Dataset(
        raw.name, encoded.space, x["train"], x["validation"], x["test"], y, label_names, tuple(notes), source,
        lengths=lengths, units=units,
    )  # fmt: skip


def _rows(beside: dict[str, Indices], kept: dict[str, tuple[str, Indices]]) -> dict[str, Tensor]:
    """What stands beside the rows that were kept, part by part; nothing where there is nothing."""
    return {part: torch.from_numpy(beside[origin][index]) for part, (origin, index) in kept.items()} if beside else {}


def _read_frames(raw: Raw, reading: Reading, seed: int) -> Encoded:
    frame, said = typed_frame(raw.parts[WHOLE], raw.asked) if raw.texts else (raw.parts[WHOLE], [])
    columns, notes = deciding.decide(frame, raw.asked)
    space = Space((len(columns),), "table", None, columns)
    form = Form("frame", header=dtypes.header(frame.columns))
    return Encoded({WHOLE: tables.encode(space, frame)}, space, form, said + notes, raw.labels)


def _admitted(raw: Raw, like: Known) -> Encoded:
    """Rows as a run takes new ones."""
    arrays = {part: like.form.admit(like.space, rows).numpy() for part, rows in raw.parts.items()}
    return Encoded(arrays, like.space, like.form, [], raw.labels)


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
    values = precision.single(np.ascontiguousarray(array))
    if not np.isfinite(values).all():
        raise BadData(f"values up to {np.abs(array).max():.3g} were found; expected at most 3e38 (float32); rescale them")
    return torch.from_numpy(values)


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
