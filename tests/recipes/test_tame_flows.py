"""Default flows on little data: no worse than independent normals, tame far away, finite samples of many variables."""

from __future__ import annotations

import math

import pytest
import torch

from genalloy.data.dataset import Dataset
from genalloy.data.load import load_data
from genalloy.data.space import Space
from genalloy.evaluation.baselines import independent
from genalloy.laws.subject import perturb_parameters
from genalloy.recipes.composition import Target
from genalloy.recipes.flows import bounded
from genalloy.recipes.pieces import FEWEST, SCARCE, worth
from genalloy.recipes.registry import find
from genalloy.runs.create import create_run
from genalloy.runs.score import sample, score
from genalloy.runs.settings import RunSettings

COUPLINGS = ("realnvp", "glow", "nice", "maf", "iaf", "nsf", "flow-gan", "augmented-flow")


def table(rows: int = 120, dims: int = 6, seed: int = 3) -> Dataset:
    """A product of correlated heavy-tailed columns, a bent one and a skew one."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, dims, generator=g) / torch.rand(rows, 1, generator=g).clamp(min=0.05).sqrt()
    x[:, 1] = x[:, 0] * 0.95 + 0.1 * x[:, 1]
    x[:, 2] = x[:, 0].square() + 0.3 * x[:, 2]
    x[:, 3] = x[:, 3].exp().clamp(max=50)
    return load_data(x.numpy(), seed=0)


@pytest.mark.parametrize("name", ["realnvp", "glow", "nice", "maf"])
def test_few_rows_stay_near_independent_normals(name: str) -> None:
    dataset = table()
    trainer = create_run(RunSettings(name, "table", steps=60), None, dataset)
    for _ in trainer.run():
        pass
    floor = independent(dataset).nats
    assert not floor.missing
    assert score(trainer.model, dataset.test).mean() > floor.value - 3
    # the start is checked, so that what learns by heart at once is not kept
    assert trainer.memory.validation[0][0] == 1


def target(space: Space, rows: int = 120) -> tuple[Target, torch.Tensor]:
    torch.manual_seed(0)
    x = torch.randn(rows, *space.shape)
    return Target(space, torch.zeros(space.shape), torch.ones(space.shape), rows), x


@pytest.mark.parametrize("name", COUPLINGS)
def test_far_from_the_data_densities_are_no_worse_than_a_gaussian_by_a_factor(name: str) -> None:
    seen, x = target(Space((4,), "points"), 2 * SCARCE)
    torch.manual_seed(0)
    model = find(name)(seen).model
    model.initialise(x)
    model = perturb_parameters(model, 0.1)
    direction = torch.nn.functional.normalize(torch.randn(20, 4), dim=1)
    for distance in (5.0, 10.0, 100.0, 1e3):
        values = score(model, distance * direction).value
        gaussian = -0.5 * distance**2 - 2 * math.log(2 * math.pi)
        assert torch.isfinite(values).all(), f"at {distance}"
        assert float(values.min()) > 20 * gaussian - 200, f"at {distance}: {values.min()}"


def test_what_couplings_multiply_by_is_bounded_over_the_whole_flow() -> None:
    few, many = target(Space((4,), "points"), 120)[0], target(Space((4,), "points"), SCARCE)[0]
    assert bounded(few, 4).bound == 0.5 and bounded(many, 10).bound == 1.5
    assert bounded(many, 1).bound == 3.0


def test_few_rows_are_worth_fewer_steps_unless_a_number_is_given() -> None:
    few, many = target(Space((4,), "points"), 120)[0], target(Space((4,), "points"), 50_000)[0]
    assert worth(few, 6000) == FEWEST and worth(many, 6000) == 6000
    assert find("realnvp")(few, steps=4321).steps == 4321 and find("realnvp")(many).steps == 6000


@pytest.mark.parametrize("shape", [(784,), (1, 28, 28)])
def test_samples_of_hundreds_of_reals_are_finite(shape: tuple[int, ...]) -> None:
    seen, x = target(Space(shape, "points" if len(shape) == 1 else "image"), 64)
    torch.manual_seed(0)
    model = find("maf")(seen, width=32, layers=3).model
    model.initialise(x)
    for layer in (m for m in model.modules() if getattr(m, "direct", None) is not None):
        layer.direct.weight.data.add_(0.3 * layer.direct.mask)  # type: ignore[union-attr, operator]
    drawn = sample(model, 40)
    assert drawn.shape == (40, *shape) and torch.isfinite(drawn).all()
