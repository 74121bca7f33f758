"""Small JSON files of a run or a table, read back: what cannot be read is one line that names the file and the next move."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_object(path: Path, remedy: str) -> dict[str, Any]:
    """The JSON object in a file. Raises ValueError, with the remedy, where it holds anything else."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read ({_first(error)}); it may have been cut short: {remedy}") from None
    if type(record) is not dict:
        raise ValueError(f"{path} holds a {type(record).__name__}; expected an object: {remedy}")
    return record


def _first(error: Exception) -> str:
    return str(error).splitlines()[0]
