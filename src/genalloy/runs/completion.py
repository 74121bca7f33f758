"""Samples that keep what is given, a text's beginning or any entries of an array; and samples under a changed law."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genalloy.core.evidence import Unavailable
from genalloy.data import bpe, limits
from genalloy.data.form import tokenise
from genalloy.heads.filtered import Filter, Filtered, Temperature, TopK, TopP
from genalloy.models.completion import Completed, Completion, Enumerated, ImportanceResampled
from genalloy.runs.create import RunData


def filters_of(temperature: float | None, top_k: int | None, top_p: float | None) -> tuple[Filter, ...]:
    """The filters that were asked for, in this order. Raises ValueError for values out of range."""
    chosen: list[Filter | None] = [
        None if temperature is None else Temperature(temperature),
        None if top_k is None else TopK(top_k),
        None if top_p is None else TopP(top_p),
    ]
    return tuple(one for one in chosen if one is not None)


def under(model: nn.Module, filters: tuple[Filter, ...]) -> nn.Module:
    """The model with its head under the filters: another law than the trained one. Raises Unavailable without a head."""
    if not filters:
        return model
    head: Any = getattr(model, "head", None)
    if head is None:
        raise Unavailable(
            f"{type(model).__name__} has no factors to filter; temperature, top-k and top-p are for autoregressive models"
        )
    changed: Any = copy.deepcopy(model)
    changed.head = Filtered(head, filters)
    return changed


def law(filters: tuple[Filter, ...]) -> str:
    """How samples under the filters are to be labelled; "" where there are none."""
    return f"under {', '.join(one.name for one in filters)}: not the trained law" if filters else ""


def beginning(facts: RunData, prompt: str) -> tuple[Tensor, Tensor]:
    """A prompt as a row (1, window) and what is known of it. Raises ValueError for data without text or a prompt too long."""
    if facts.space.kind != "text":
        raise ValueError(f"a prompt is for text, and {facts.name} holds {facts.space.kind}; use --complete FILE --known MASK")
    if not prompt:
        raise ValueError("the prompt is empty; expected at least one character, or leave it out")
    form, window = facts.form, facts.space.shape[0]
    alphabet = facts.space.columns[0].categories
    codes = bpe.encode(form.vocabulary, prompt) if form.vocabulary else tokenise(prompt, alphabet, len(prompt))
    symbols = torch.from_numpy(np.ravel(codes).astype(np.float32))
    if len(symbols) >= window:
        raise ValueError(f"the prompt has {len(symbols)} symbols; expected fewer than the window's {window}; shorten it")
    row = torch.zeros(1, window)
    row[0, : len(symbols)] = symbols
    return row, (torch.arange(window) < len(symbols))[None]


def given(facts: RunData, file: Path, known: Path | None) -> tuple[Tensor, Tensor]:
    """Rows (N, *E) of an .npy file in the user's form, and which entries are known: those of `known`, else all but NaN.

    Raises ValueError for data that are no arrays, or a mask of another shape.
    """
    if facts.form.style != "array":
        raise ValueError(f"--complete is for arrays, and {facts.name} is {facts.form.style}; for text use --prompt")
    x = limits.npy(file)
    mask = ~np.isnan(x) if known is None else limits.npy(known).astype(bool)
    if mask.shape not in (x.shape, x.shape[1:]):
        raise ValueError(f"{known} has shape {mask.shape}, the rows {x.shape}; expected one of them, or one row's {x.shape[1:]}")
    mask = np.broadcast_to(mask, x.shape)
    entered = facts.form.enter(facts.space, mask)
    return facts.form.admit(facts.space, np.where(mask, x, 0)), torch.from_numpy(np.array(entered))


def scheme_of(name: str, levels: int | None) -> Completion | None:
    """A way to draw the rest by name; None for the model's own. Raises ValueError for another, or to enumerate reals."""
    if name == "enumerate" and levels is None:
        raise Unavailable("enumeration needs data of integers 0..K-1; take --completion resample")
    schemes = {"direct": None, "enumerate": Enumerated(levels or 0), "resample": ImportanceResampled()}
    if name not in schemes:
        raise ValueError(f"there is no completion {name!r}; choose one of {', '.join(schemes)}")
    return schemes[name]


def told(found: Completed) -> str:
    """By what law rows were completed, with what the weights are worth."""
    if found.effective is None:
        return found.how
    known = found.effective[found.effective.isfinite()]
    mean, least = known.mean().item(), known.min().item()
    return f"{found.how}; effective sample size {mean:.3g} on average, {least:.3g} at least"
