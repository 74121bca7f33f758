"""Samples, scores and codes as files in the user's own form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genalloy.data.load import rows
from genalloy.estimators.importance_weighted import ImportanceWeighted
from genalloy.evidence import Kind, Unavailable
from genalloy.runs.labels import conditional
from genalloy.runs.score import Scores, encode, score
from genalloy.runs.start import RunData, trained_model

WRITERS = (".png", ".npz", ".npy", ".csv", ".parquet", ".txt")


def write_samples(values: Tensor, facts: RunData, out: Path) -> Path:
    """Samples (N, *E) to a picture, an array, a table or text by the file's ending. Raises ValueError on another."""
    if out.suffix not in WRITERS:
        raise ValueError(f"--out {out} ends in {out.suffix!r}; expected one of {', '.join(WRITERS)}")
    out.parent.mkdir(parents=True, exist_ok=True)
    restored = facts.form.restore(facts.space, values)
    if out.suffix == ".png":
        from genalloy.report.pictures import picture

        out.write_bytes(picture(facts.space.kind, values.numpy()))
    elif out.suffix == ".npz":
        np.savez(out, samples=_array(restored))
    elif out.suffix == ".npy":
        np.save(out, _array(restored))
    elif out.suffix == ".txt":
        out.write_text("\n".join(map(str, restored)), encoding="utf-8")
    else:
        frame = _frame(restored)
        frame.to_csv(out, index=False) if out.suffix == ".csv" else frame.to_parquet(out)
    return out


def _array(rows: Any) -> Any:
    return rows.to_numpy() if hasattr(rows, "to_numpy") else np.asarray(rows)


def _frame(rows: Any) -> Any:
    import pandas as pd

    if hasattr(rows, "to_csv"):
        return rows
    flat = np.asarray(rows)
    return pd.DataFrame(flat.reshape(len(flat), -1))


def rows_of(facts: RunData, data: str, label: str | None) -> Tensor:
    """Rows of new data, checked against the run's space."""
    return torch.cat([facts.form.admit(facts.space, values) for _, values, _ in rows(data, label)])


def write_scores(run: Path, data: str, label: str | None, out: Path, samples: int) -> str:
    """One line a row: log-density, its label, the estimator, and the outlier rank."""
    import pandas as pd

    facts, model = RunData.read_existing(run), trained_model(run)
    scores = best_scores(model, rows_of(facts, data, label), samples, labels_of(facts, model, data, label))
    if scores.kind is Kind.NONE:
        raise Unavailable(f"{run} has no density: {scores.how}")
    values = scores.values.double().numpy()
    rank = np.empty(len(values), dtype=int)
    rank[np.argsort(values, kind="stable")] = np.arange(1, len(values) + 1)
    frame = pd.DataFrame({"log_density": values, "label": scores.kind.value, "how": scores.how, "outlier_rank": rank})
    if scores.stderr is not None:
        frame["stderr"] = scores.stderr.numpy()
    out.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(out, index_label="row")
    return f"wrote {out}: {len(values)} rows, mean {values.mean():.5g} nats ({scores.kind.value}; {scores.how})"


def labels_of(facts: RunData, model: Any, data: str, label: str | None) -> Tensor | None:
    """The rows' labels as the model's context; None for a model that takes none. Raises ValueError on unknown or no labels."""
    if not conditional(model):
        return None
    codes = {name: float(i) for i, name in enumerate(facts.classes)}
    parts = [labels for _, _, labels in rows(data, label)]
    if any(labels is None for labels in parts):
        raise ValueError(f"the model takes a label for every row, and {data} has none; give --label COLUMN")
    words = [f"{value:g}" if isinstance(value, float) else str(value) for labels in parts for value in labels.tolist()]
    unknown = sorted(set(words) - set(codes))
    if unknown:
        raise ValueError(f"{data} has the label {unknown[0]!r}; the model was trained on {', '.join(codes)}")
    return torch.tensor([codes[word] for word in words])


def best_scores(model: Any, x: Tensor, samples: int, context: Tensor | None = None) -> Scores:
    """Importance-weighted where the density is a proper bound, otherwise as it is."""
    try:
        return score(model, x, ImportanceWeighted(samples), context=context)
    except Unavailable:
        return score(model, x, context=context)


def write_codes(run: Path, data: str, label: str | None, out: Path) -> Path:
    """Codes of the rows to .npz, .npy, .csv or .parquet."""
    facts, model = RunData.read_existing(run), trained_model(run)
    with torch.no_grad():
        codes = encode(model, rows_of(facts, data, label), labels_of(facts, model, data, label)).numpy()
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".npz":
        np.savez(out, codes=codes)
    elif out.suffix == ".npy":
        np.save(out, codes)
    else:
        frame = _frame(codes)
        frame.to_csv(out, index=False) if out.suffix == ".csv" else frame.to_parquet(out)
    return out
