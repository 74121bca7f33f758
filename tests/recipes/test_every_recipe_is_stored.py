"""What every recipe trains can be read again: composition, text and tensors."""

from __future__ import annotations

import pytest
import torch

from genalloy.data.load import load_data as load_data
from genalloy.recipes.composition import Composition, Target
from genalloy.recipes.registry import all_recipes, find
from genalloy.training.checkpoint import load, save

DATA = ("moons", "digits", "sprites", "waves")


@pytest.fixture(scope="module")
def targets() -> list[Target]:
    return [Target.of(load_data(name, limit=60)) for name in DATA]


def built(name: str, targets: list[Target]) -> Composition:
    """The recipe on the first data that it takes."""
    for target in targets:
        try:
            return find(name)(target)
        except ValueError:
            continue
    pytest.skip("needs another kind of data")


@pytest.mark.parametrize("name", sorted(all_recipes()))
def test_a_composition_comes_back(name: str, targets: list[Target], tmp_path) -> None:
    torch.manual_seed(0)
    composition = built(name, targets)
    loaded = load(save(composition, tmp_path / "composition.safetensors"))
    assert repr(loaded) == repr(composition)
    for key, value in composition.state_dict().items():
        assert torch.equal(loaded.state_dict()[key].nan_to_num(), value.nan_to_num()), key
