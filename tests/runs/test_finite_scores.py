"""A score is finite, -inf (the least likely), or an error: never NaN, never +inf."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.distributions import Beta, Independent

from genalloy.core.batch import Batch
from genalloy.core.evidence import Kind
from genalloy.core.observations import Masked
from genalloy.data.dataset import Dataset
from genalloy.data.space import Space
from genalloy.estimators.importance_weighted import ImportanceWeighted
from genalloy.evaluation.auroc import auroc
from genalloy.heads.gaussian import StandardNormal
from genalloy.models.fitted import FittedGaussian
from genalloy.models.flow import Flow
from genalloy.recipes.composition import Composition, Target
from genalloy.recipes.registry import all_recipes
from genalloy.runs.densities import density_number
from genalloy.runs.score import minus_energy, score
from genalloy.training.fit import fit
from genalloy.training.seeding import seed_all
from genalloy.transforms.observation import Standardise

X = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)) @ torch.tensor([[1.0, 0, 0], [0.5, 2, 0], [0, 1, 9.0]])
TRAINED = ("made", "maf", "nsf", "realnvp", "glow", "flow++", "residual-flow", "vae", "ardm", "ffjord", "ddpm", "wavenet",
           "planar", "latent-diffusion")  # fmt: skip
EXTREME = (1e3, 1e10, 1e18, 1e25, 1e30, -1e30, 3e38, math.inf, -math.inf)


def trained(name: str, x: torch.Tensor = X, steps: int = 4) -> Composition:
    seed_all(3)
    composition = all_recipes()[name](Target.of(Dataset("x", Space((3,), "table"), x, x, x)))
    phase = composition.each()[0]
    rows = [Batch(x[i * 40 : (i + 1) * 40]) for i in range(steps)]
    for _ in fit(phase.model or composition.model, phase.objective, rows, training=phase.planned(steps, 0)):
        pass
    return composition


@pytest.mark.parametrize("name", TRAINED)
def test_extreme_rows_are_the_least_likely(name: str) -> None:
    one = torch.stack([torch.tensor([value, 0.0, 1.0]) for value in EXTREME])
    rows = torch.cat([X[:5], one, torch.full((1, 3), 1e30), -one[:5].flip(1)])
    values = score(trained(name).model, rows).value
    assert not values.isnan().any() and not (values == math.inf).any()
    assert values[:5].min() > values[5:].max() and (values[5 + len(EXTREME) - 2 : 5 + len(EXTREME)] == -math.inf).all()
    order = values.argsort(stable=True)
    assert set(order[:3].tolist()).isdisjoint(range(5)), "rank 1 is an extreme row"


def test_estimators_and_masks_too() -> None:
    rows = X[:6].clone()
    rows[1], rows[2] = 1e30, math.inf
    values = score(trained("vae").model, rows, ImportanceWeighted(8)).value
    assert values[1:3].tolist() == [-math.inf] * 2 and values[[0, 3, 4, 5]].isfinite().all()
    mask = torch.ones(6, 3, dtype=torch.bool)
    mask[:, 2] = False
    hidden = Masked(rows.where(mask, math.nan), mask)
    made = all_recipes()["made"](Target.of(Dataset("x", Space((3,), "table"), X, X, X))).model
    assert score(made.base, hidden).value[2] == -math.inf


def test_double_precision_saves_what_it_can() -> None:
    """(1e22)^2 overflows in single precision, and -1e44 does not fit its result; 0 * inf on the way is not NaN."""
    outer, inner = (Standardise(torch.zeros(1), torch.tensor([scale])) for scale in (1e-20, 1e20))
    wide = Flow(StandardNormal((1,)), [outer, inner], (1,))
    far = score(wide, torch.tensor([[1e19], [1.0]])).value
    assert far[0] < far[1] and not far.isnan().any()


def test_a_nan_weight_or_row_is_named() -> None:
    model = trained("maf").model
    with pytest.raises(ValueError, match="row 1 holds NaN; expected numbers"):
        score(model, torch.tensor([[0.0, 0, 0], [math.nan, 0, 0]]))
    name, weight = next((n, p) for n, p in model.named_parameters() if p.dim() == 2)
    weight.data[0, 0] = math.nan
    with pytest.raises(ValueError, match=f"parameter {name} holds 1 NaN"):
        score(model, X[:3])


def test_a_collapsed_scale_is_no_number() -> None:
    class Thin(StandardNormal):
        def forward(self, context: object = None) -> Any:
            return Independent(Beta(torch.full((3,), 0.5), torch.ones(3), validate_args=False), 1)

    scores = score(Thin((3,)), torch.cat([torch.zeros(2, 3), torch.full((1, 3), 0.5)]))
    assert scores.kind is Kind.NONE and "infinite on 2 of 3 rows: a scale has collapsed" in scores.how
    assert "a scale has collapsed" in (density_number(scores, Space((3,), "table")).missing or "")


def test_infinitely_unlikely_rows_are_ranked_by_auroc() -> None:
    model = trained("made").model
    far = torch.cat([X[:20], torch.full((20, 3), 1e30)])
    found = auroc(-score(model, X[:100]).value, -score(model, far).value, "log p")
    assert not found.missing and found.value == pytest.approx(0.75, abs=0.1)


def test_the_ridge_of_a_fitted_gaussian_is_relative_to_each_entry() -> None:
    units = torch.tensor([1e-12, 1.0, 1e12])
    scaled, plain = FittedGaussian.of(X * units), FittedGaussian.of(X)
    expected = plain().density(X).value - units.log().sum()
    torch.testing.assert_close(scaled().density(X * units).value, expected, rtol=1e-3, atol=1e-3)


def test_energies_too() -> None:
    rows = torch.cat([X[:5], torch.full((2, 3), 1e30), torch.full((1, 3), math.inf)])
    values = minus_energy(trained("ebm-nce").model, rows)
    assert values[:5].isfinite().all() and not values.isnan().any() and values[5:].max() < values[:5].min()
