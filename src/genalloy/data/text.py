"""Text: windows of a fixed number of symbols; a symbol is a character of the file's alphabet, or a byte-pair token.

One text is cut 90/5/5 in order before anything is learned from it. Every part is covered from its first character on;
what is left over at its end, shorter than a window, is left out, and a note says how much. A window is modelled from its own
start: nothing is carried over from the one before, so its first symbols cost more than the rest.

Byte pairs (Sennrich et al., 2016, arXiv:1508.07909) are learned from the training part alone.
"""

from __future__ import annotations

from genalloy.data import bpe
from genalloy.data.encoded import Encoded
from genalloy.data.errors import BadData
from genalloy.data.form import Array, Form, tokenise
from genalloy.data.raw import PARTS, WHOLE, Raw
from genalloy.data.reading import Reading
from genalloy.data.space import Column, Space

WINDOW = 64


def read_text(raw: Raw, reading: Reading, seed: int) -> Encoded:
    """Strings as (N, window) integers. Raises BadData for fewer than two characters or a part shorter than a window."""
    window = reading.window or raw.window or WINDOW
    parts, split = (_in_order(raw.parts[WHOLE], window), "90/5/5 in order") if WHOLE in raw.parts else (raw.parts, raw.split)
    if reading.bpe or reading.vocabulary:
        return _tokens(raw, parts, split, window, reading)
    alphabet = tuple(sorted(set("".join(parts.values()))))
    if len(alphabet) < 2:
        raise BadData(f"the text has {len(alphabet)} distinct characters; expected a text to model; check the file")
    column = Column("character", "category", "str", alphabet, 0.0, len(alphabet) - 1.0)
    space = Space((window,), "text", len(alphabet), (column,))
    codes = {name: tokenise(_enough(name, text, window), alphabet, window) for name, text in parts.items()}
    notes = [*_window_notes(window, "characters", codes, parts), f"{len(alphabet)} characters in the alphabet"]
    return Encoded(codes, space, Form("text", "str"), notes, raw.labels, split)


def _in_order(text: str, window: int) -> dict[str, str]:
    """The text cut 90/5/5; the last two parts have room for a window at least."""
    tail = min(max(window, round(0.05 * len(text))), len(text) // 3)
    cuts = (0, len(text) - 2 * tail, len(text) - tail, len(text))
    return {part: text[a:b] for part, a, b in zip(PARTS, cuts, cuts[1:])}


def _enough(part: str, symbols: str | Array, window: int) -> str:
    if len(symbols) < window:
        raise BadData(
            f"the {part} part holds {len(symbols)} symbols, less than a window of {window}; give more text or @window=N"
        )
    return symbols  # type: ignore[return-value]


def _window_notes(window: int, what: str, codes: dict[str, Array], parts: dict[str, str]) -> list[str]:
    left = {name: f"{len(text) - window * len(codes[name]):,}" for name, text in parts.items()}
    return [
        f"windows of {window} {what}, each modelled from its own start: nothing is carried over from the window before",
        f"left over at the ends: {', '.join(f'{n} {what} of {name}' for name, n in left.items())}",
    ]


# -- byte pairs ----------------------------------------------------------------------------------------------------


def _tokens(raw: Raw, parts: dict[str, str], split: str, window: int, reading: Reading) -> Encoded:
    vocabulary = reading.vocabulary or bpe.learn(parts["train"], reading.bpe or 0)
    pieces, begun = bpe.pieces(vocabulary), bpe.begun(vocabulary)
    column = Column("token", "category", "str", pieces, 0.0, len(pieces) - 1.0)
    space = Space((window,), "text", len(pieces), (column,))
    codes, counts, found = dict[str, Array](), dict[str, Array](), dict[str, Array]()
    for name, text in parts.items():
        found[name] = bpe.encode(vocabulary, text)
        _enough(name, found[name], window)
        rows = len(found[name]) // window
        codes[name] = found[name][: rows * window].reshape(rows, window)
        counts[name] = begun[codes[name]].sum(1)
    notes = [
        *_window_notes(window, "tokens", codes, {name: "." * len(ids) for name, ids in found.items()}),
        f"{len(pieces):,} byte-pair tokens, learned from the training part alone;"
        f" {sum(map(len, parts.values())) / sum(map(len, found.values())):.2f} characters a token",
        "a text's mass is at least that of its tokens: densities per character are LOWER",
    ]
    return Encoded(codes, space, Form("tokens", "str", vocabulary=vocabulary), notes, raw.labels, split, units=counts)
