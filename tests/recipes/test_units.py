"""Units do not matter: rows multiplied by c train to the same model, its density shifted by D log c, its samples multiplied."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd
import pytest
import torch
from torch import Tensor

from genalloy.core.batch import Batch
from genalloy.core.evidence import Kind
from genalloy.core.moments import RESOLUTION, mean_and_scale
from genalloy.data.dataset import Dataset
from genalloy.data.load import load_data
from genalloy.data.space import Column, Space
from genalloy.recipes.composition import Target
from genalloy.recipes.registry import all_recipes
from genalloy.runs.score import minus_energy, sample, score
from genalloy.training.fit import fit
from genalloy.training.seeding import seed_all

DIMS = 3
REALS = ("made", "maf", "nsf", "realnvp", "nice", "glow", "naf", "flow++", "residual-flow", "augmented-flow", "planar", "vae",
         "iwae", "vae-flow-prior", "ardm", "tarflow", "flow-matching", "ddpm", "ebm-nce", "r3gan", "flow-gan", "aae")  # fmt: skip
POWERS = (-100, -27, 27, 100)
"""Of two, so that scaling rounds nothing: 8e-31, 7e-9, 1e8, 1e30."""


def rows_of(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.tensor([[1.0, 0.3, 0.0], [0.0, 50.0, 3.0], [0.0, 0.0, 0.01]])
    return torch.randn(count, DIMS, generator=generator) @ mixing + torch.tensor([2.0, 0.0, -5.0])


def table(x: Tensor) -> Dataset:
    return Dataset("rows", Space(tuple(x.shape[1:]), "table"), x[:200], x[200:250], x[250:])


def seen(name: str, factor: float) -> tuple[Tensor, Tensor]:
    """Numbers of test rows and samples of a recipe after three steps on rows multiplied by `factor`."""
    data = table(rows_of(300) * factor)
    seed_all(1)
    composition = all_recipes()[name](Target.of(data))
    phase = composition.each()[0]
    steps = [Batch(data.train[i * 64 : (i + 1) * 64]) for i in range(3)]
    for _ in fit(phase.model or composition.model, phase.objective, steps, training=phase.planned(3, 0)):
        pass
    scores = score(composition.model, data.test)
    values = scores.value if scores.kind is not Kind.NONE else None
    if name == "ebm-nce":
        values = minus_energy(composition.model, data.test)
    return torch.zeros(1) if values is None else values, sample(composition.model, 20)


@pytest.mark.parametrize("name", REALS)
def test_a_change_of_units_shifts_the_density_and_scales_the_samples(name: str) -> None:
    values, samples = seen(name, 1.0)
    moved = 0.0 if name == "r3gan" else DIMS * math.log(2.0)
    for power in POWERS:
        other, drawn = seen(name, 2.0**power)
        assert other.isfinite().all() and drawn.isfinite().all()
        torch.testing.assert_close(other + power * moved, values, rtol=1e-4, atol=2e-3)
        torch.testing.assert_close(drawn * 2.0**-power, samples, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("factor", [1e-30, 1e-8, 1e8, 1e30])
def test_decimal_units_too(factor: float) -> None:
    (values, samples), (other, drawn) = seen("maf", 1.0), seen("maf", factor)
    torch.testing.assert_close(other + DIMS * math.log(factor), values, rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(drawn.double() / factor, samples.double(), rtol=1e-3, atol=1e-2)


MIXED = ("made", "maf", "nsf", "realnvp", "nice", "glow", "naf", "flow++", "vae", "ardm", "ddpm", "vae-flow-prior")


def mixed(flags: int, rows: int = 300) -> Dataset:
    """A flag that `flags` training rows set, a constant integer and a real: k, c, b."""
    b = torch.randn(rows, generator=torch.Generator().manual_seed(0))
    k = (torch.arange(rows) < flags).float()
    columns = (Column("k", "integer", "int64", (), 0, 1), Column("c", "integer", "int64", (), 7, 7), Column("b"))
    x = torch.stack([k, torch.full((rows,), 7.0), b], 1)
    return Dataset("mixed", Space((3,), "table", None, columns), x, x, x)


@pytest.mark.parametrize("name", MIXED)
def test_constant_and_rare_integers_beside_reals_keep_the_scale_of_their_cell(name: str) -> None:
    """At the start a model is about a Gaussian of its scales: no row may be far out, and none of the mass thinner than a cell."""
    data = mixed(flags=2)
    torch.manual_seed(0)
    model = all_recipes()[name](Target.of(data)).model
    if hasattr(model, "initialise"):
        model.initialise(data.train)
    values = score(model, data.train).value
    assert values.min() > -40 and values.max() < 5


def test_a_constant_integer_column_is_no_outlier() -> None:
    frame = pd.DataFrame({"k": [7] * 300, "b": torch.randn(300, generator=torch.Generator().manual_seed(0)).numpy()})
    data = load_data(frame)
    target = Target.of(data)
    assert target.scale.min() > 0
    model = all_recipes()["made"](target).model
    assert score(model, data.test).value.min() > -20


def test_moments() -> None:
    x = rows_of(500)
    for factor in (2.0**-120, 1.0, 2.0**100):
        mean, scale = mean_and_scale(x * factor)
        torch.testing.assert_close(mean, x.double().mean(0) * factor)
        torch.testing.assert_close(scale, x.double().std(0) * factor)
    grid = torch.tensor([True, False, False])
    constant = torch.tensor([[7.0, -3.0, 0.0]]).expand(10, 3)
    mean, scale = mean_and_scale(constant, grid, constant=RESOLUTION)
    assert mean.tolist() == [7.5, -3.0, 0.0] and scale[0] == pytest.approx(12**-0.5) and scale[1] == 3 * RESOLUTION
    assert scale[2] == pytest.approx(RESOLUTION * 12**-0.5)
    assert mean_and_scale(torch.zeros(4, 2))[1].tolist() == [1.0, 1.0]
    assert mean_and_scale(torch.tensor([[2.0]]))[1].tolist() == [2.0]


def test_a_constant_real_column_has_a_relative_scale() -> None:
    data = table(torch.cat([rows_of(300)[:, :2], torch.full((300, 1), 0.1)], 1))
    one, other = (Target.of(replace(data, train=data.train * factor)).scale for factor in (1.0, 2.0**-90))
    assert (one > 0).all() and torch.equal(one, other * 2.0**90)
