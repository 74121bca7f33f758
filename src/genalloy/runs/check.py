"""`genalloy check`: the laws on a recipe's model, or on a model of the user's own run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from genalloy.data.load import load_data
from genalloy.laws.run import Finding, check_part
from genalloy.recipes.composition import Target
from genalloy.recipes.registry import find
from genalloy.runs.create import RunData, trained_model


def check_thing(thing: str, data: str) -> bool:
    """Print one line a law; whether all hold."""
    findings = findings_of(thing, data)
    for finding in findings:
        print(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.law}: {finding.words}")
    return all(f.ok for f in findings)


def findings_of(thing: str, data: str) -> list[Finding]:
    """The laws, and the analytic self-test where the model has one."""
    model, shape, discrete = _model(thing, data)
    findings = check_part(model, shape, (), discrete)
    tested: list[Any] = list(model.modules())
    for module in tested:
        if hasattr(module, "self_test"):
            findings += [
                Finding(f"self-test: {what}", ok, f"{value:.3g} against {target}")
                for what, value, target, ok in module.self_test()
            ]
    return findings


def _model(thing: str, data: str) -> tuple[Any, tuple[int, ...], bool]:
    if (Path(thing) / "run.json").exists():
        space = RunData.read(Path(thing)).space
        return trained_model(Path(thing)), space.shape, space.levels is not None
    dataset = load_data(data, limit=2000)
    model: Any = find(thing)(Target.of(dataset)).model
    if hasattr(model, "initialise"):
        model.initialise(dataset.train[:256])
    return model, dataset.space.shape, dataset.space.levels is not None
