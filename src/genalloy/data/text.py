"""Text: windows of a fixed number of characters, each an index into the alphabet that the file uses."""

from __future__ import annotations

from genalloy.data.errors import BadData
from genalloy.data.form import Array, Form, spell
from genalloy.data.space import Column, Space

WINDOW = 64


def read_text(parts: dict[str, str]) -> tuple[dict[str, Array], Space, Form, list[str]]:
    """Strings as (N, WINDOW) integers; the alphabet is every character of every part, sorted."""
    alphabet = tuple(sorted(set("".join(parts.values()))))
    if len(alphabet) < 2:
        raise BadData(f"the text has {len(alphabet)} distinct characters; expected a text to model; check the file")
    column = Column("character", "category", "str", alphabet, 0.0, len(alphabet) - 1.0)
    space = Space((WINDOW,), "text", len(alphabet), (column,))
    notes = [f"text was cut into windows of {WINDOW} characters; {len(alphabet)} characters in the alphabet"]
    codes = {name: spell(text, alphabet, WINDOW) for name, text in parts.items()}
    return codes, space, Form("text", "str"), notes
