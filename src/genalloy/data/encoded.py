"""What an encoder made of a source: arrays on one space, with what goes beside them."""

from __future__ import annotations

from typing import Any, NamedTuple

from genalloy.data.form import Array, Form
from genalloy.data.space import Space


class Known(NamedTuple):
    """What a run has decided of its data: other rows are read as its own were, and nothing is guessed again."""

    space: Space
    form: Form
    label_names: tuple[str, ...] = ()


class Encoded(NamedTuple):
    """arrays: part -> (N, *E). labels: part -> (N,) as the user wrote them. split: how parts were cut, "" where they were not.

    lengths: part -> (N,) observed steps of padded rows. units: part -> (N,) characters that each row of tokens stands for.
    """

    arrays: dict[str, Array]
    space: Space
    form: Form
    notes: list[str]
    labels: dict[str, Any]
    split: str = ""
    lengths: dict[str, Array] = {}  # noqa: RUF012
    units: dict[str, Array] = {}  # noqa: RUF012
