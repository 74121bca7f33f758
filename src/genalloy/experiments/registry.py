"""All experiments by name: what `genalloy reproduce --list` shows."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module

from genalloy.experiments.declare import Experiment

MODULES = ("theis", "autoregressive", "latent", "flows", "energy", "diffusion", "adversarial", "combinations", "families")


def all_experiments() -> dict[str, Experiment]:
    """Every experiment, in the order of the families."""
    found = [e for module in MODULES for e in import_module(f"genalloy.experiments.{module}").EXPERIMENTS]
    return {experiment.name: experiment for experiment in found}


def find_experiment(name: str) -> Experiment:
    """The experiment of that name. Raises ValueError with the nearest name."""
    known = all_experiments()
    if name not in known:
        near = get_close_matches(name, list(known), 1, 0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"there is no experiment {name!r}; {hint}`genalloy reproduce --list` lists all {len(known)}")
    return known[name]
