"""Every recipe's density at fixed weights and fixed noise: what no refactoring may change.

Weights are drawn by place, so that neither names of modules nor what a constructor draws matters; permutations and power
iterations' vectors come of the seed. `python tests/recipes/test_reference.py` records anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from genalloy.core.distribution import density
from genalloy.core.isolation import Stream
from genalloy.data.dataset import Dataset
from genalloy.data.load import load_data as load_data
from genalloy.recipes.composition import Target
from genalloy.recipes.registry import all_recipes

FILE = Path(__file__).with_name("reference.json")
DATA = ("moons", "digits", "sprites", "waves", "steps")
ROWS = 4
LARGEST = 3_000_000
"""Parameters beyond which a case is left out: other data try the same code."""
TOLERANCE = 1e-6


def fixed(model: nn.Module) -> nn.Module:
    """The i-th tensor drawn by a generator of seed i, at a scale of 1 / sqrt(fan in); what starts constant stays near it."""
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            draw = 2 * torch.rand(p.shape, generator=torch.Generator().manual_seed(i), dtype=torch.float64) - 1
            constant = p.numel() > 1 and bool((p == p.flatten()[0]).all())
            fan = max(p.numel() // len(p), 1) if p.dim() > 1 else 16
            p.copy_(p + 0.05 * draw if constant else draw / fan**0.5)
    return model


def loaded(name: str) -> Dataset:
    """A built-in set, or "steps": rows of 24 integers 0..15, as sound has them."""
    if name != "steps":
        return load_data(name, limit=60)
    place = torch.arange(60)[:, None] * 7 + torch.arange(24)
    return load_data((7.5 + 7.5 * torch.sin(place * 0.9) * torch.cos(place * 0.13)).round().long().numpy())


def measured(name: str, dataset: Dataset) -> dict[str, Any] | None:
    """Label, measure, parameters and densities of the first rows; None where the recipe needs other data."""
    torch.manual_seed(0)
    try:
        composition = all_recipes()[name](Target.of(dataset))
    except ValueError:
        return None
    model, count = composition.model.eval().double(), sum(p.numel() for p in composition.model.parameters())
    if count > LARGEST:
        return None
    x = dataset.train[:ROWS]
    labels = composition.context if getattr(model, "context_shapes", ()) else None
    context = None if labels is None else labels.of(dataset, "train")[:ROWS].double()
    with Stream(torch.float64), torch.no_grad():
        fixed(model)
        torch.manual_seed(0)
        evidence = density(model(context), x.double() if x.is_floating_point() else x)
    values = [float(f"{v:.10g}") for v in evidence.value.tolist()]
    return {"kind": evidence.kind.value, "parameters": count, "nats": values}


def cases() -> Iterator[tuple[str, str]]:
    yield from ((name, data) for name in sorted(all_recipes()) for data in DATA)


@pytest.fixture(scope="module")
def datasets() -> dict[str, Dataset]:
    return {name: loaded(name) for name in DATA}


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    return json.loads(FILE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", sorted(all_recipes()))
def test_densities_are_what_they_were(name: str, datasets: dict[str, Dataset], recorded: dict[str, Any]) -> None:
    found = {data: row for data in DATA if (row := measured(name, datasets[data])) is not None}
    assert found.keys() == recorded[name].keys()
    for data, row in found.items():
        old = recorded[name][data]
        assert (row["kind"], row["parameters"]) == (old["kind"], old["parameters"]), data
        assert row["nats"] == pytest.approx(old["nats"], rel=TOLERANCE, abs=TOLERANCE, nan_ok=True), data


def test_a_weight_that_moved_would_be_seen(datasets: dict[str, Dataset]) -> None:
    model = fixed(all_recipes()["realnvp"](Target.of(datasets["moons"])).model.double())
    x = datasets["moons"].train[:ROWS].double()
    before = density(model(), x).value
    with torch.no_grad():
        next(model.parameters()).view(-1)[0].add_(1e-3)
    assert (density(model(), x).value - before).abs().max() > 10 * TOLERANCE


if __name__ == "__main__":
    torch.set_num_threads(1)
    sets = {name: loaded(name) for name in DATA}
    table: dict[str, dict[str, Any]] = {}
    for name, data in cases():
        row = measured(name, sets[data])
        if row is not None:
            table.setdefault(name, {})[data] = row
    lines = (f" {json.dumps(name)}: {{\n" + ",\n".join(f"  {json.dumps(d)}: {json.dumps(r)}" for d, r in rows.items()) + "}"
             for name, rows in table.items())  # fmt: skip
    FILE.write_text("{\n" + ",\n".join(lines) + "}\n", encoding="utf-8")
