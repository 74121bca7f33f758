"""A data set: three parts of one space, with everything needed to say where they came from and to give samples back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from genalloy.core.observations import Masked
from genalloy.data.form import Form
from genalloy.data.space import Space


@dataclass
class Dataset:
    """Observations `x` of one space, split for training, model selection and the final number.

    train, validation, test:  float32 (N, *space.shape), integers stored as floats.
    labels:           part name -> int64 (N,), empty where there are none; `label_names[i]` is the user's label i.
    notes:            how the source was read and what is odd about it, in sentences for people.
    source:           JSON record: path, sha256 of the content, split, seed, sizes, preprocessing steps, form.
    log_density:      exact log p of the data's own law where it is known (toys): (*B, *E) -> (*B,) nats.
    entropy_optimum:  the best possible E log p in nats where it is known; a note says how it was obtained.
    modes:            (K, *E) centres of separate modes where there are such (toys).
    factors:          part name -> int64 (N, F), the factors of variation where they are known; `factor_names` (F,).
    lengths:          part name -> int64 (N,), observed steps of rows that are padded with zeros; empty where all are whole.
    units:            part name -> int64 (N,), characters that a row of byte-pair tokens stands for; empty for other data.
    """

    name: str
    space: Space
    train: Tensor
    validation: Tensor
    test: Tensor
    labels: dict[str, Tensor] = field(default_factory=dict)
    label_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    source: dict[str, Any] = field(default_factory=dict)
    log_density: Callable[[Tensor], Tensor] | None = None
    entropy_optimum: float | None = None
    modes: Tensor | None = None
    factors: dict[str, Tensor] = field(default_factory=dict)
    factor_names: tuple[str, ...] = ()
    lengths: dict[str, Tensor] = field(default_factory=dict)
    units: dict[str, Tensor] = field(default_factory=dict)

    @property
    def form(self) -> Form:
        """How the user writes rows of this data set."""
        return Form(**self.source.get("form", {}))

    def part(self, name: str) -> Tensor:
        """The part called "train", "validation" or "test"."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]

    def observed(self, name: str) -> Tensor | Masked:
        """A part as it is to be scored and fitted: with a mask where its rows are of unequal lengths."""
        return Masked.first(self.part(name), self.lengths[name]) if self.lengths else self.part(name)

    def steps(self, name: str) -> tuple[str, Tensor] | None:
        """What densities are also printed by, and how many of them each row (N,) of a part has; None where rows have no steps."""
        if self.lengths:
            return "time step", self.lengths[name]
        if self.space.kind == "text":
            whole = torch.full((len(self.part(name)),), self.space.shape[0])
            return "character", self.units.get(name, whole)
        return None

    def drawn_lengths(self, count: int, seed: int = 0) -> Tensor | None:
        """Lengths (count,) for samples, drawn from the training rows' lengths; None where all rows are whole."""
        return drawn(self.lengths["train"], count, seed) if self.lengths else None

    def restore(self, values: Tensor, lengths: Tensor | None = None) -> Any:
        """Samples (N, *E) in the user's own form: array, data frame, list of strings or of sequences cut to `lengths` (N,)."""
        return self.form.restore(self.space, values, lengths)

    def admit(self, rows: Any) -> Any:
        """New rows in the user's form as (N, *E) float32, checked against the space; sequences as Masked. Raises BadData."""
        return self.form.admit(self.space, rows)

    def stored_as(self, space: Space, form: Form) -> Dataset:
        """The same rows stored as in another, comparable space and form: with its shifts and steps.

        Two files of one kind are centred each by its own values; a model knows one centring. Raises BadData.
        """
        if (self.form.shift, _stored(self.space)) == (form.shift, _stored(space)):
            return self
        names = ("train", "validation", "test")
        parts = {name: form.admit(space, self.restore(self.part(name), self.lengths.get(name))) for name in names}
        rows = {name: getattr(part, "x", part) for name, part in parts.items()}
        return replace(self, space=space, source={**self.source, "form": form.to_json()}, **rows)

    def __repr__(self) -> str:
        sizes = "/".join(f"{len(part):,}" for part in (self.train, self.validation, self.test))
        return f"Dataset({self.name!r}, {self.space.measure_text}, shape {self.space.shape}, {sizes} rows)"


def _stored(space: Space) -> list[tuple[float, int]]:
    return [(column.shift, column.step) for column in space.columns]


def drawn(lengths: Tensor, count: int, seed: int) -> Tensor:
    """`count` of the lengths (N,), with replacement, by the seed."""
    return lengths[torch.randint(len(lengths), (count,), generator=torch.Generator().manual_seed(seed))]


def padded_to(x: Tensor, lengths: Tensor | None) -> Tensor:
    r"""Rows x (N, T, \*F) with zeros behind their first lengths (N,) steps; as they are without lengths."""
    if lengths is None:
        return x
    return x * Masked.first(x, lengths).mask
