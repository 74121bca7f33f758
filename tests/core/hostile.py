"""Every module and value of the library's lists of parts, with each of its numbers blown up, read under a watch."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from genalloy.core.spec import to_spec
from genalloy.laws.every import every_part
from genalloy.runs.memory import peak_megabytes, reset_peak
from genalloy.training.checkpoint import load

SIZES = (10**5, 16_000_000, 10**12)
MOST = 256.0


def numbers(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the numbers of a JSON value are; a module's index is none."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        if key != "$module":
            yield from numbers(inner, (*path, key))
    if type(value) in (int, float):
        yield path


def changed(spec: dict[str, Any], path: tuple[Any, ...], number: int) -> dict[str, Any]:
    twin = copy.deepcopy(spec)
    holder: Any = twin["nodes"][0]["arguments"]
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = number
    return twin


def subjects() -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """One stored instance of each class that the listed parts hold."""
    found: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    for listed in every_part():
        for module in listed.build().modules():
            try:
                spec, tensors = to_spec(module)
            except ValueError:  # made by a constructor, of a class that no argument may have
                continue
            found.setdefault(spec["nodes"][0]["class"], (spec, tensors))
    return found


def measure(folder: str, thin: bool) -> None:
    """Print how many files were read, and each that took too much memory or raised something else.

    thin: two numbers of each class and one size of each.
    """
    warnings.simplefilter("ignore")
    tried, findings, path = 0, [], Path(folder) / "hostile.safetensors"
    for name, (spec, tensors) in subjects().items():
        found = list(numbers(spec["nodes"][0]["arguments"]))
        for i, place in enumerate(found[:2] if thin else found):
            for number in (SIZES[i],) if thin else SIZES:
                facts = {"format": 3, "spec": changed(spec, place, number)}
                save_file(tensors, str(path), metadata={"genalloy": json.dumps(facts)})
                reset_peak()
                before, tried = peak_megabytes(), tried + 1
                try:
                    load(path)
                except ValueError:
                    pass
                except Exception as error:
                    findings.append(f"{name} {place} {number}: {type(error).__name__} {error}")
                if peak_megabytes() - before > MOST:
                    findings.append(f"{name} {place} {number}: {peak_megabytes() - before:.0f} MB")
    print(tried, *findings, sep="\n")
