"""What is asked of a folder against what it holds: an option that says otherwise is refused, never ignored."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from genalloy.recipes.registry import find
from genalloy.runs.settings import RunSettings

MACHINE = ("threads", "device", "processes")
"""How a run is computed: may change when it is continued, and then only if asked for."""
FREE = (*MACHINE, "data", "planned")
"""No question of words: the data's identity is compared, the plan is made."""


def contradictions(recorded: RunSettings, asked: RunSettings, given: Collection[str], exact: bool = False) -> list[str]:
    """In words, what was asked for among the names in `given` and is otherwise in the record.

    exact: a recipe's setting that is not named asks for its default.
    """
    names = [f.name for f in fields(RunSettings) if f.name in given and f.name not in (*FREE, "settings")]
    pairs = [(name, getattr(recorded, name), getattr(asked, name)) for name in names]
    different = [pair for pair in pairs if pair[1] != pair[2] and not _as_planned(recorded, pair)]
    if "settings" in given and recorded.recipe == asked.recipe:
        defaults = find(recorded.recipe).settings()
        keys = {**asked.settings, **(recorded.settings if exact else {})}
        before, now = ({k: s.settings.get(k, defaults.get(k)) for k in keys} for s in (recorded, asked))
        different += [(f"--set {k}", before[k], now[k]) for k in keys if before[k] != now[k]]
    return [f"{name} {_word(before)} there, {_word(now)} asked for" for name, before, now in different]


def _as_planned(recorded: RunSettings, pair: tuple[str, Any, Any]) -> bool:
    """The number of steps that a printed command names is the planned one."""
    return pair[0] == "steps" and pair[2] == sum(recorded.planned)


def _word(value: Any) -> str:
    return "its own" if value is None else str(value)


def changed(settings: RunSettings) -> set[str]:
    """Names of the settings that are no defaults: what a caller without a command line must have asked for."""
    plain = RunSettings(settings.recipe, settings.data)
    return {"recipe", "data"} | {f.name for f in fields(RunSettings) if getattr(settings, f.name) != getattr(plain, f.name)}


def agreed(recorded: RunSettings, asked: RunSettings, given: Collection[str], folder: Path, exact: bool = False) -> RunSettings:
    """The recorded settings, with the data's place and the machine's options as they are asked for now.

    Raises ValueError, naming every contradiction.
    """
    words = contradictions(recorded, asked, given, exact)
    if words:
        raise ValueError(f"{folder} holds another run: {'; '.join(words)}; ask for the same or choose another --out")
    now = {name: getattr(asked, name) for name in MACHINE if name in given}
    return replace(recorded, data=asked.data, **now)
