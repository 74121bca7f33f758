"""How a source is to be read, where there is a choice: a frozen value, or words behind the source's name.

load("shakespeare.txt", reading=Reading(window=256, bpe=1000))   load("shakespeare.txt@window=256,bpe=1000")
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields

from genalloy.data.errors import BadData, nearest

WORDS = re.compile(r"@([a-z]+=\d+(,[a-z]+=\d+)*)$")


@dataclass(frozen=True)
class Reading:
    """window: characters (or tokens) of one text, steps of the longest sequence; longer ones are cut. None: the source's own.

    bpe: size of a byte-pair vocabulary for text, learned from the training part; None: characters.
    vocabulary: a byte-pair vocabulary in JSON that is used as it is (a finished run's own).
    """

    window: int | None = None
    bpe: int | None = None
    vocabulary: str = ""

    def __post_init__(self) -> None:
        for name in ("window", "bpe"):
            value = getattr(self, name)
            if value is not None and value < 2:
                raise BadData(f"{name} is {value}; expected at least 2")


def parse(source: str) -> tuple[str, Reading]:
    """`NAME@window=256,bpe=1000` as the name and what is asked of it; a name without such an ending is all name.

    Raises BadData on a word that is no choice.
    """
    word = WORDS.search(source)
    if word is None:
        return source, Reading()
    pairs = dict(pair.split("=") for pair in word.group(1).split(","))
    known = [field.name for field in fields(Reading) if field.name != "vocabulary"]
    for name in pairs:
        if name not in known:
            raise BadData(f"{source} asks for {name!r}; expected some of {', '.join(known)}{nearest(name, known)}")
    numbers = {name: int(value) for name, value in pairs.items()}
    return source[: word.start()], Reading(numbers.get("window"), numbers.get("bpe"))
