"""A data set: three parts of one space, with everything needed to say where they came from and to give samples back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

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

    @property
    def form(self) -> Form:
        """How the user writes rows of this data set."""
        return Form(**self.source.get("form", {}))

    def part(self, name: str) -> Tensor:
        """The part called "train", "validation" or "test"."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]

    def restore(self, values: Tensor) -> Any:
        """Samples (N, *E) in the user's own form: array with its dtype and axes, data frame, or list of strings."""
        return self.form.restore(self.space, values)

    def admit(self, rows: Any) -> Tensor:
        """New rows in the user's form as (N, *E) float32, checked against the space. Raises BadData."""
        return self.form.admit(self.space, rows)

    def __repr__(self) -> str:
        sizes = "/".join(f"{len(part):,}" for part in (self.train, self.validation, self.test))
        return f"Dataset({self.name!r}, {self.space.measure_text}, shape {self.space.shape}, {sizes} rows)"
