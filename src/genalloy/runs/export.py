"""Samples, scores and codes as files in the user's own form."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genalloy.core.evidence import Evidence, Kind, Unavailable
from genalloy.core.observations import Masked
from genalloy.data import bpe
from genalloy.data.audio import write_wave
from genalloy.data.form import BETWEEN
from genalloy.data.labels import words
from genalloy.data.load import rows
from genalloy.data.signals import SIGNALS
from genalloy.estimators.importance_weighted import ImportanceWeighted
from genalloy.models.completion import Completion, law_of
from genalloy.models.mixture import over_labels
from genalloy.report.table_cells import in_words
from genalloy.runs.completion import told
from genalloy.runs.create import RunData, trained_model
from genalloy.runs.labels import asked_labels, conditional, cycled
from genalloy.runs.score import complete, completions, encode, sample, score
from genalloy.runs.sequences import TOKENS, per_step
from genalloy.training.devices import CPU

Given = tuple[Tensor, Tensor] | None
ENDINGS = {
    "array": (".png", ".npz", ".npy", ".csv", ".parquet"),
    "frame": (".png", ".csv", ".parquet", ".npz", ".npy"),
    "text": (".txt", ".png"),
    "tokens": (".txt", ".png"),
    "audio": (".npz", ".wav", ".png"),
}
"""What samples of each form can be written to, and what `score` reads again (but for pictures)."""
SEQUENCES = (".npz", ".png")
CODES = (".npz", ".npy", ".csv", ".parquet")
SCORES = (".csv", ".parquet")


def check_ending(out: Path, endings: tuple[str, ...], what: str) -> None:
    """Raise ValueError, before any work, for a file that cannot be written."""
    if out.suffix.lower() not in endings:
        raise ValueError(f"--out {out} ends in {out.suffix!r}; expected for {what} one of {', '.join(endings)}")
    if out.is_dir():
        raise ValueError(f"--out {out} is a folder; expected a file's name; add one")


def check_samples(out: Path, facts: RunData) -> None:
    """Raise ValueError, before sampling, for a file that samples of this run could not be read from again."""
    check_ending(out, ENDINGS.get(facts.form.style, SEQUENCES), f"samples of {facts.name}")
    if facts.form.style != "frame":
        return
    suffix, columns = out.suffix.lower(), facts.space.columns
    mixed = [c.name for c in columns if len(set(c.categories)) < len(c.categories)]
    if suffix in (".csv", ".parquet") and mixed:
        raise ValueError(f"column {mixed[0]!r} has categories spelt alike; expected others for {suffix}; give --out x.png")
    if suffix in (".npz", ".npy") and not all(_plain(c.dtype) for c in columns):
        raise ValueError(f"{facts.name} has columns that are no plain numbers; expected .csv or .parquet; change --out {out}")
    if suffix == ".parquet" and len({c.name for c in columns}) < len(columns):
        raise ValueError(f"{facts.name} has two columns of one name; expected .csv, not .parquet; change --out {out}")


def _plain(dtype: str) -> bool:
    """Whether a column is one of NumPy's numbers."""
    try:
        return np.dtype(dtype).kind in "iufb"
    except TypeError:
        return False


def write_samples(values: Tensor, facts: RunData, out: Path, lengths: Tensor | None = None, labels: Tensor | None = None) -> Path:
    """Samples (N, *E) to a picture, an array, a table, text or sound by the file's ending. Raises ValueError on another.

    lengths (N,): of sequences, which are cut to them; an .npz then holds all steps in one array, and `samples_len`. labels (N,):
    what the samples were given, a column of a table and an array beside those of an .npz; other files have no place for them.
    """
    check_samples(out, facts)
    out.parent.mkdir(parents=True, exist_ok=True)
    suffix = out.suffix.lower()
    if suffix == ".png":
        out.write_bytes(_picture(values, facts, lengths))
        return out
    restored = facts.form.restore(facts.space, values, lengths)
    if facts.form.style in SIGNALS:
        return _write_sequences(restored, facts, out)
    if suffix == ".txt":
        alphabet = facts.space.columns[0].categories
        out.write_text(("" if "\f" in alphabet else BETWEEN).join(restored), encoding="utf-8", newline="")
        return out
    return _write_rows(restored, out, "samples", facts, labels)


def spelt_labels(labels: Tensor, facts: RunData) -> Any:
    """Labels as they were spelt, whole numbers as such."""
    names = np.array(facts.classes)[labels.long().numpy()]
    return names.astype(np.int64) if all(re.fullmatch(r"-?\d{1,15}", name) for name in facts.classes) else names


def _write_rows(rows: Any, out: Path, key: str, facts: RunData | None = None, labels: Tensor | None = None) -> Path:
    """Rows, an array or a frame, to .npz, .npy, .csv or .parquet; labels beside them where there is a place."""
    suffix = out.suffix.lower()
    named = {} if labels is None or facts is None else {facts.label or "label": spelt_labels(labels, facts)}
    if suffix == ".npz":
        np.savez(out, **{key: np.asarray(rows)}, **named)  # type: ignore[arg-type]
    elif suffix == ".npy":
        with out.open("wb") as file:
            np.save(file, np.asarray(rows))
    elif suffix == ".csv":
        _spelt(rows, facts).assign(**named).to_csv(out, index=False)
    else:
        _spelt(rows, facts).assign(**named).to_parquet(out, index=False)
    return out


def _spelt(rows: Any, facts: RunData | None) -> Any:
    """Rows as a frame that a file can hold: labels as texts, categories as they are spelt, nothing sparse; arrays by number."""
    import pandas as pd

    if not hasattr(rows, "columns"):
        flat = np.asarray(rows).reshape(len(rows), -1)
        flat = flat.astype(np.uint8) if flat.dtype.kind == "b" else flat
        return pd.DataFrame(flat, columns=[f"x{i}" for i in range(flat.shape[1])])
    columns = () if facts is None else facts.space.columns
    cells = {i: rows.iloc[:, i].astype(str) if c.kind == "category" else _dense(rows.iloc[:, i]) for i, c in enumerate(columns)}
    return pd.DataFrame(cells).set_axis([c.name for c in columns], axis=1)


def _dense(series: Any) -> Any:
    return series.sparse.to_dense() if hasattr(series, "sparse") and type(series.dtype).__name__ == "SparseDtype" else series


def write_drawn(
    model: Any, facts: RunData, given: Given, n: int, out: Path | None, seed: int, scheme: Completion | None = None,
    labels: Sequence[str] = (),
) -> str:  # fmt: skip
    """`n` samples (of each given row, where there are some) to a file, and what was done in words; text goes to the words too.

    given: rows (N, *E) and which of their entries (N, *E) are known. scheme: how the others are drawn, None: by `complete`.
    labels: "label=3", what a conditional model is given; every class in turn where there are none. Raises ValueError where a
    model that takes no label is given one.
    """
    if labels and not conditional(model):
        raise ValueError(f"found --given {labels[0]!r} for a model that takes no label; train a conditional recipe with --label")
    text = facts.space.kind == "text"
    out = out or (None if text and given else Path("samples.txt" if text else "samples.png"))
    if out is not None:
        check_samples(out, facts)
    lengths, how = facts.drawn_lengths(n, seed), ""
    if given is None:
        context = _context(model, facts, labels, n)
        values = sample(model, n, seed=seed, context=context, lengths=lengths)
        how = "" if lengths is None else ", lengths drawn from the training rows'"
    else:
        x, mask = (part.repeat_interleave(n, 0) for part in given)
        context = _context(model, facts, labels, len(x))
        if scheme is None:
            values, how = complete(model, x, mask, seed=seed, context=context), f"; {law_of(model.cpu()(context), mask)}"
        else:
            completed = completions(model, x, mask, scheme, seed, context)
            values, how = completed.values, f"; {told(completed)}"
    spoken = "\n----\n".join(facts.form.restore(facts.space, values)) + "\n----\n" if text and given else ""
    return f"{spoken}wrote {write_samples(values, facts, out, lengths, context)}{how}" if out else f"{spoken}{n} texts{how}"


def _context(model: Any, facts: RunData, labels: Sequence[str], count: int) -> Tensor | None:
    """The labels that were asked for, otherwise every class in turn; None for a model that takes none."""
    return asked_labels(labels, facts.classes, facts.label, count) if labels else cycled(model, len(facts.classes), count)


def _picture(values: Tensor, facts: RunData, lengths: Tensor | None) -> bytes:
    from genalloy.report.pictures import picture
    from genalloy.report.sequences import STYLES, drawing

    style = facts.form.style
    return drawing(style, values.numpy(), lengths) if style in STYLES else picture(facts.space.kind, values.numpy())


def _write_sequences(rows: list[Any], facts: RunData, out: Path) -> Path:
    """Sequences of unequal lengths: one .npz, or a .wav for each of a sound."""
    if out.suffix.lower() == ".wav":
        places = [out] if len(rows) == 1 else [out.with_stem(f"{out.stem}-{i:02d}") for i in range(len(rows))]
        for place, row in zip(places, rows, strict=True):
            write_wave(place, row, facts.form.rate)
        return places[0]
    np.savez(out, samples=np.concatenate(rows), samples_len=np.array([len(row) for row in rows]))
    return out


def rows_of(facts: RunData, data: str, label: str | None) -> Tensor | Masked:
    """Rows of new data, checked against the run's space; sequences with a mask."""
    parts: list[Any] = [facts.form.admit(facts.space, values) for _, values, _ in rows(data, label)]
    if facts.form.style not in SIGNALS:
        return torch.cat(parts)
    return Masked(torch.cat([part.x for part in parts]), torch.cat([part.mask for part in parts]))


def write_scores(run: Path, data: str, label: str | None, out: Path, samples: int, device: torch.device = CPU) -> str:
    """One line a row: log p(x) with its kind, the estimator, and the outlier rank.

    A model that takes the label has log p(x) = log sum_y p(y) p(x | y), p(y) the training rows' shares, and beside it, where the
    rows have labels, each row's label and log p(x | label).
    """
    import pandas as pd

    check_ending(out, SCORES, "scores")
    facts, model = RunData.read_existing(run), trained_model(run).to(device)
    x = rows_of(facts, data, label)
    takes = conditional(model)
    scores = best_scores(over_labels(model, facts.label_law), x, samples) if takes else best_scores(model, x, samples)
    if takes:
        scores = replace(scores, how=f"sum over {len(facts.classes)} labels; {scores.how}")
    if scores.kind is Kind.NONE:
        raise Unavailable(f"{run} has no density: {scores.how}")
    values = scores.value.double().numpy()
    rank = np.empty(len(values), dtype=int)
    rank[np.argsort(values, kind="stable")] = np.arange(1, len(values) + 1)
    frame = pd.DataFrame({"log_density": values, "kind": scores.kind.value, "how": scores.how, "outlier_rank": rank})
    if takes and (label is not None or has_labels(data)):
        labels = labels_of(facts, model, data, label)
        given = best_scores(model, x, samples, labels)
        frame[label or facts.label or "label"] = spelt_labels(labels, facts)  # type: ignore[arg-type]
        frame["log_density_given_label"], frame["kind_given_label"] = given.value.double().numpy(), given.kind.value
    if scores.stderr is not None:
        frame["stderr"] = scores.stderr.numpy()
    out.parent.mkdir(parents=True, exist_ok=True)
    frame = frame.rename_axis("row").reset_index()
    frame.to_csv(out, index=False) if out.suffix.lower() == ".csv" else frame.to_parquet(out)
    mean = f"mean {values.mean():.5g} nats ({scores.kind.value}; {scores.how})"
    return f"wrote {out}: {len(values)} rows, {mean}{_each_step(scores, facts, x)}"


def _each_step(scores: Evidence, facts: RunData, x: Any) -> str:
    """The same per time step or per character, where rows have them."""
    if facts.form.style in SIGNALS:
        counts, unit = x.lengths, "time step"
    elif facts.space.kind == "text":
        counts, unit = _characters(facts, x), "character"
    else:
        return ""
    kind = TOKENS.get(scores.kind, scores.kind) if facts.form.vocabulary else scores.kind
    number = per_step(scores.value, counts, unit, kind, scores.how)
    return f"; {in_words(number)} {'bits' if unit == 'character' else 'nats'} a {unit} ({kind.value})"


def has_labels(data: str) -> bool:
    """Whether the rows bring labels of their own."""
    return all(labels is not None for _, _, labels in rows(data, None))


def labels_of(facts: RunData, model: Any, data: str, label: str | None) -> Tensor | None:
    """The rows' labels as the model's context; None for a model that takes none. Raises ValueError on unknown or no labels."""
    if not conditional(model):
        return None
    codes = {name: float(i) for i, name in enumerate(facts.classes)}
    parts = [labels for _, _, labels in rows(data, label)]
    if any(labels is None for labels in parts):
        raise ValueError(f"the model takes a label for every row, and {data} has none; give --label COLUMN")
    spelt = [word for labels in parts for word in words(np.asarray(labels))]
    unknown = sorted(set(spelt) - set(codes))
    if unknown:
        raise ValueError(f"{data} has the label {unknown[0]!r}; the model was trained on {', '.join(codes)}")
    return torch.tensor([codes[word] for word in spelt])


def _characters(facts: RunData, x: Tensor) -> Tensor:
    """Characters (N,) of windows (N, T) of characters or of tokens."""
    if not facts.form.vocabulary:
        return torch.full((len(x),), x.shape[1])
    return torch.from_numpy(bpe.begun(facts.form.vocabulary))[x.long()].sum(1)


def best_scores(model: Any, x: Tensor | Masked, samples: int, context: Tensor | None = None) -> Evidence:
    """Importance-weighted where the density is a proper bound, otherwise as it is."""
    try:
        return score(model, x, ImportanceWeighted(samples), context=context)
    except Unavailable:
        return score(model, x, context=context)


def write_codes(run: Path, data: str, label: str | None, out: Path, device: torch.device = CPU) -> Path:
    """Codes of the rows to .npz, .npy, .csv or .parquet."""
    check_ending(out, CODES, "codes")
    facts, model = RunData.read_existing(run), trained_model(run).to(device)
    with torch.no_grad():
        codes = encode(model, rows_of(facts, data, label), labels_of(facts, model, data, label)).numpy()
    out.parent.mkdir(parents=True, exist_ok=True)
    return _write_rows(codes, out, "codes")
