"""Objectives on some parts of a record: what a multimodal bound adds up."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from genalloy.core.evidence import Unavailable
from genalloy.core.observations import Record
from genalloy.objectives.objective import Objective, Play


class OnParts(Objective):
    r"""Another objective on the record's parts of some names alone, the others unseen.

    A bound of the whole record trains the product of all experts but no expert alone; ``ELBO() + OnParts(ELBO(), ("image",)) +
    OnParts(ELBO(), ("label",))`` trains all of them (Wu & Goodman, 2018, arXiv:1802.05335, whose bounds of subsets this adds).

    Raises KeyError where a part is missing.
    """

    def __init__(self, objective: Objective, names: tuple[str, ...]) -> None:
        super().__init__()
        self.objective, self.names, self.needs = objective, tuple(names), objective.needs
        self.couples, self.local = objective.couples, objective.local

    def forward(self, play: Play) -> Tensor:
        seen = self._seen(play)
        value = self.objective(seen)
        for name, term in seen.terms.items():
            play.note(f"{'+'.join(self.names)}/{name}", term)
        return value

    def check(self, play: Play) -> None:
        self.objective.check(self._seen(play))

    def _seen(self, play: Play) -> Play:
        """A play of its own, whose encodings and traces are those of the parts; the distribution is shared."""
        if not isinstance(play.batch.x, Record):
            raise Unavailable(f"{self!r} needs records of named parts; found a {type(play.batch.x).__name__}")
        batch = replace(play.batch, x=play.batch.x.only(*self.names))
        return replace(play, batch=batch, terms={}, store={"distribution": play.distribution})

    def __repr__(self) -> str:
        return f"OnParts({self.objective!r}, {self.names})"
