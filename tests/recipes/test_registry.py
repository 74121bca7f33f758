"""Every recipe on reals, integers and a mixed table: it trains, samples in range, and says the label that it lists."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from genalloy.core.evidence import Kind
from genalloy.data.dataset import Dataset
from genalloy.data.load import load_data
from genalloy.recipes.registry import Recipe, all_recipes
from genalloy.runs.create import create_run
from genalloy.runs.score import sample, score
from genalloy.runs.settings import RunSettings


def bits() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.random((200, 4, 4)) < np.linspace(0.1, 0.9, 16).reshape(4, 4)).astype(np.uint8)


def people() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    columns = {"height": rng.normal(170, 10, 200), "children": rng.integers(0, 5, 200), "colour": rng.choice(["r", "g"], 200)}
    return pd.DataFrame(columns)


DATA = {
    "reals": lambda: load_data("8gaussians", limit=200),
    "digits": lambda: load_data("digits", limit=100),
    "bits": lambda: load_data(bits()),
    "table": lambda: load_data(people()),
}


@pytest.fixture(scope="module", params=list(DATA))
def dataset(request) -> Dataset:
    torch.set_num_threads(1)
    return DATA[request.param]()


CHOOSY = (
    "gated-pixelcnn",
    "image-transformer",
    "pixelcnn",
    "pixelcnn++",
    "pixelsnail",
    "row-lstm",
    "diagonal-bilstm",
    "ebm-nce",
    "hybrid-flow",
    "linear-prediction",
)
"""Recipes that refuse some kinds of data."""


def expected(recipe: Recipe, dataset: Dataset) -> Kind:
    """The listed label; on a mixed table, the label of reals plus a dequantisation's LOWER."""
    if dataset.space.levels is not None:
        return recipe.grid_kind
    return recipe.kind + (Kind.LOWER if dataset.space.measure.counting else Kind.EXACT)


@pytest.mark.parametrize("name", list(all_recipes()))
def test_recipe_trains_and_keeps_its_label(name, dataset):
    recipe = all_recipes()[name]
    try:
        trainer = create_run(RunSettings(name, "given", steps=6), None, dataset)
    except ValueError as refusal:
        if name not in CHOOSY:
            raise
        pytest.skip(str(refusal))
    for _ in trainer.run():
        pass
    scores = score(trainer.model, dataset.test[:10])
    assert scores.kind is expected(recipe, dataset)
    drawn = sample(trainer.model, 5)
    assert drawn.shape == (5, *dataset.space.shape) and drawn.isfinite().all()
    if dataset.space.levels is not None:
        assert ((drawn == drawn.round()) & (drawn >= 0) & (drawn < dataset.space.levels)).all()
