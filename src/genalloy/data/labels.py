"""Labels as numbers 0..K-1 and as the words that people read: one word for each label, and no word for two."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from genalloy.data.errors import BadData, nearest

Indices = np.ndarray[Any, Any]


def label_codes(
    labels: dict[str, Any], sizes: dict[str, int], known: tuple[str, ...] = ()
) -> tuple[dict[str, Indices], tuple[str, ...]]:
    """Labels of each part (N,) as indices into the sorted distinct labels, and the labels' words. known: the words of a run.

    Raises BadData for labels that are missing, too many, or not known.
    """
    if not labels:
        return {}, ()
    for part, own in labels.items():
        if own.shape != (sizes[part],):
            raise BadData(f"labels have shape {own.shape} for {sizes[part]:,} rows; expected one label per row")
    if known:
        return {part: _places(words(own), known) for part, own in labels.items()}, known
    together = np.concatenate([_sortable(own) for own in labels.values()])
    if together.dtype.kind == "f" and not np.isfinite(together).all():
        raise BadData(f"labels hold {int((~np.isfinite(together)).sum())} missing values; expected one label per row")
    distinct, codes = np.unique(together, return_inverse=True)
    if len(distinct) > max(20, len(codes) // 4):
        raise BadData(
            f"labels take {len(distinct):,} distinct values in {len(codes):,} rows; expected classes;"
            " leave out the label to model that column too"
        )
    ends = np.cumsum([len(own) for own in labels.values()])[:-1]
    pieces = np.split(codes.astype(np.int64), ends)
    return dict(zip(labels, pieces, strict=True)), tuple(words(distinct))


def _places(own: list[str], known: tuple[str, ...]) -> Indices:
    unknown = sorted(set(own) - set(known))
    if unknown:
        raise BadData(f"there is the label {unknown[0]!r}; expected {', '.join(known[:12])}{nearest(unknown[0], known)}")
    return np.array([known.index(word) for word in own], np.int64)


def _sortable(labels: Any) -> Any:
    if labels.dtype.kind in "biufU":
        return labels
    absent = sum(1 for label in labels.tolist() if label is None or label != label)
    if absent:
        raise BadData(f"labels hold {absent} missing values; expected one label per row")
    return np.array(words(labels))


def words(labels: Any) -> list[str]:
    """Each label as a word, exact: 20240101.0 is "20240101" and 0.1 is "0.1", in float32 too."""
    return [_word(label) for label in labels]


def _word(label: Any) -> str:
    if getattr(getattr(label, "dtype", None), "kind", "") == "f" or type(label) is float:
        return str(int(label)) if float(label).is_integer() else str(label)
    text = str(label)
    # a date whose time is midnight is a day
    return text.partition("T")[0] if type(label) is np.datetime64 and not text.partition("T")[2].strip("0:.") else text


def log_shares(counts: Any) -> Tensor:
    """log p(y) (classes,) from how often each label was seen, each counted once more (Laplace): none is impossible."""
    smoothed = torch.as_tensor(counts).double() + 1.0
    return (smoothed / smoothed.sum()).log().float()
