"""Byte-pair tokens of text (Gage, 1994; Sennrich, Haddow & Birch, 2016), by the library `tokenizers`, imported when needed.

The vocabulary starts from all 256 bytes, so every text can be written in it, and `decode(encode(text)) == text`. A text has
many spellings in tokens; the library's own is one of them, so the mass of its tokens is a LOWER bound of the text's mass.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from genalloy.data.errors import BadData

Array = np.ndarray[Any, Any]
BYTES = 256


def library() -> Any:
    """The package `tokenizers`. Raises BadData, naming the extra, where it is not installed."""
    try:
        import tokenizers
    except ImportError:
        raise BadData("byte-pair tokens need the package tokenizers; pip install 'genalloy[text]', or leave bpe out") from None
    return tokenizers


def learn(text: str, size: int) -> str:
    """A vocabulary of at most `size` tokens learned from the text, as JSON. Raises BadData where size is not above 256."""
    if size <= BYTES:
        raise BadData(f"bpe is {size}; expected more than {BYTES}, since every byte is a token; for characters leave bpe out")
    lib = library()
    tokenizer = lib.Tokenizer(lib.models.BPE())
    tokenizer.pre_tokenizer = lib.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = lib.decoders.ByteLevel()
    trainer = lib.trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=lib.pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([text], trainer)
    return str(tokenizer.to_str())


def encode(vocabulary: str, text: str) -> Array:
    """Tokens (n,) of a text."""
    return np.array(library().Tokenizer.from_str(vocabulary).encode(text).ids, np.int64)


def decode(vocabulary: str, rows: Array) -> list[str]:
    """Texts of token rows (N, T); bytes that form no character become a replacement sign."""
    return [str(text) for text in library().Tokenizer.from_str(vocabulary).decode_batch(rows.astype(int).tolist())]


def begun(vocabulary: str) -> Array:
    """How many characters begin in each token: its bytes but for UTF-8's continuations, so that every character counts once."""
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    # the library writes a byte as the character of that number where it can be seen, and as 256, 257, ... in turn elsewhere
    letters = {chr(b): b for b in own} | {chr(BYTES + i): b for i, b in enumerate(sorted(set(range(BYTES)) - set(own)))}
    tokenizer = library().Tokenizer.from_str(vocabulary)
    tokens = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
    return np.array([sum(letters[letter] & 0xC0 != 0x80 for letter in token) for token in tokens], np.int64)


def pieces(vocabulary: str) -> tuple[str, ...]:
    """What each token stands for, in order."""
    tokenizer = library().Tokenizer.from_str(vocabulary)
    return tuple(tokenizer.decode([token]) for token in range(tokenizer.get_vocab_size()))
