"""A column's unit decides nothing: floors, distances, baselines and probes of x and of x times a unit for each column."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from genalloy.data.dataset import Dataset
from genalloy.data.space import Column, Space
from genalloy.evaluation.baselines import baselines
from genalloy.evaluation.features import ColumnFeatures, default_features
from genalloy.evaluation.frechet import frechet
from genalloy.evaluation.independent_marginals import independent_entries
from genalloy.evaluation.kernel import kernel_distance
from genalloy.evaluation.neighbours import prdc
from genalloy.evaluation.noise import noise_panel
from genalloy.evaluation.references import gaussian_samples, mixture_samples
from genalloy.evaluation.representation import probe_references

POWERS = torch.tensor([-60.0, 0.0, 7.0, 40.0])
"""Of two, so that nothing is rounded."""


def rows(count: int, dims: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(count, dims, generator=generator)
    return torch.cat([z[:, :1], z[:, 1:] + z[:, :1].square()], 1)


def data(units: Tensor, kind: str = "table") -> Dataset:
    x = rows(900, len(units))
    y = {"train": (x[:500, 1] > 1).long(), "validation": (x[500:600, 1] > 1).long(), "test": (x[600:, 1] > 1).long()}
    x = x * units
    return Dataset("rows", Space((len(units),), kind), x[:500], x[500:600], x[600:], y, ("low", "high"))


def values(found: dict) -> dict[str, float]:
    return {name: result.value for name, result in found.items() if not result.missing}


@pytest.mark.parametrize(("kind", "dims"), [("table", 4), ("points", 3), ("table", 70)])
def test_floors_and_distances(kind: str, dims: int) -> None:
    found = []
    for units in (torch.ones(dims), 2.0 ** POWERS.repeat(dims)[:dims]):
        dataset = data(units, kind)
        features = default_features(dataset)
        for make in (gaussian_samples, mixture_samples):
            samples, real = features(make(dataset, 300, torch.Generator().manual_seed(1))), features(dataset.test)
            distances = {"mmd": kernel_distance(samples, real), "frechet": frechet(samples, real)}
            found.append(values({**prdc(real, samples), **distances}))
    assert found[2] == pytest.approx(found[0], abs=2e-2) and found[3] == pytest.approx(found[1], abs=2e-2)
    assert found[1]["precision"] > 0.5 and (dims > 4 or found[1]["mmd"] < found[0]["mmd"]), "the rows are no Gaussian"


def test_densities_shift_by_the_log_of_the_units() -> None:
    units = 2.0**POWERS
    moved = POWERS.double().sum().item() * math.log(2.0)
    for plain, scaled in zip(baselines(data(torch.ones(4))), baselines(data(units)), strict=True):
        assert scaled.nats.value + moved == pytest.approx(plain.nats.value, abs=1e-4), plain.name
    one, other = data(torch.ones(4)), data(units)
    a, b = (independent_entries(d.space, d.train)(d.test) for d in (one, other))
    torch.testing.assert_close(b + moved, a)


def test_a_constant_real_column_costs_no_baseline() -> None:
    """A scale of what numbers tell apart, and the same in every baseline: it cancels between them."""
    x = torch.cat([rows(900)[:, :2], torch.full((900, 1), 0.3)], 1)
    flat = Dataset("rows", Space((3,), "table"), x[:500], x[500:600], x[600:])
    two = Dataset("rows", Space((2,), "table"), x[:500, :2], x[500:600, :2], x[600:, :2])
    gaps = [a.nats.value - b.nats.value for a, b in zip(baselines(flat), baselines(two), strict=True)]
    # N or N - 1 rows divide the variance; the mixture's constant direction has the width of its ridge
    assert gaps[0] == pytest.approx(gaps[2], abs=2e-3) and gaps[1] == pytest.approx(gaps[0] - math.log(1e-5) / 2, abs=0.1)


def test_probes_and_noise() -> None:
    one, other = (data(units) for units in (torch.ones(4), 2.0**POWERS))
    assert values(probe_references(one)) == pytest.approx(values(probe_references(other)), abs=0.02)
    panels = [noise_panel(d, independent_entries(d.space, d.train)) for d in (one, other)]
    assert panels[1]["test"]["growth"].value == pytest.approx(panels[0]["test"]["growth"].value, abs=1e-4)


def test_a_rare_flag_does_not_outweigh_the_rest() -> None:
    flag = (torch.arange(20_000) < 4).float()
    x = torch.stack([flag, torch.full((20_000,), 7.0), torch.randn(20_000, generator=torch.Generator().manual_seed(0))], 1)
    columns = (Column("k", "integer", "int64", (), 0, 1), Column("c", "integer", "int64", (), 7, 7), Column("b"))
    features = ColumnFeatures(Space((3,), "table", None, columns)).fit(x)
    pair = features(torch.tensor([[0.0, 7, 0], [1.0, 7, 0], [0.0, 8, 0]]))
    assert 1 < (pair[1] - pair[0]).norm() < 8 and 1 < (pair[2] - pair[0]).norm() < 8
