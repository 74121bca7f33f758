"""All experiments by name: what `genalloy reproduce --list` shows."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module

from genalloy.experiments.declare import Experiment

MODULES = (
    "theis", "autoregressive", "latent", "flows", "dequantisation", "images", "energy", "diffusion", "adversarial",
    "combinations", "families", "hybrid", "uci", "audio", "text",
)  # fmt: skip


def all_experiments() -> dict[str, Experiment]:
    """Every experiment, in the order of the families."""
    declared = [e for module in MODULES for e in import_module(f"genalloy.experiments.{module}").EXPERIMENTS]
    return {experiment.name: experiment for experiment in declared}


def find_experiment(name: str) -> Experiment:
    """The experiment of that name. Raises ValueError with the nearest name."""
    known = all_experiments()
    if name not in known:
        near = get_close_matches(name, [*known, *groups()], 1, 0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"there is no experiment {name!r}; {hint}`genalloy reproduce --list` lists all {len(known)}")
    return known[name]


def groups() -> list[str]:
    """Names of the groups, in order."""
    return list(dict.fromkeys(e.group for e in all_experiments().values() if e.group))


def find_experiments(name: str) -> list[Experiment]:
    """The experiment of that name, or all of the group of that name. Raises ValueError with the nearest name."""
    return [e for e in all_experiments().values() if e.group == name] or [find_experiment(name)]
