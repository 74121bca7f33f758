"""Recipes over pixels: they learn, take labels where asked to, and refuse what is not an image."""

from __future__ import annotations

import pytest
import torch

from genalloy.core.distribution import density
from genalloy.data.load import load_data
from genalloy.recipes.composition import Labels, Target
from genalloy.recipes.registry import find
from genalloy.runs.create import create_run
from genalloy.runs.score import score
from genalloy.runs.settings import RunSettings

SMALL = {
    "pixelcnn": {"channels": 8, "layers": 2, "dropout": 0.0},
    "pixelsnail": {"width": 16, "blocks": 1, "repeats": 1, "dropout": 0.0},
    "row-lstm": {"hidden": 8, "layers": 1},
    "diagonal-bilstm": {"hidden": 8, "layers": 1},
}


@pytest.fixture(scope="module")
def digits():
    torch.set_num_threads(1)
    return load_data("digits", limit=200)


@pytest.mark.parametrize("name", SMALL)
def test_it_learns(name, digits):
    trainer = create_run(RunSettings(name, "given", steps=40, settings=SMALL[name]), None, digits)
    untrained = score(trainer.model, digits.test[:50]).mean()
    for _ in trainer.run():
        pass
    trained = score(trainer.model, digits.test[:50]).mean()
    # 64 pixels of 17 levels: -181 nats for uniform guesses
    assert untrained < -165 and trained > untrained + 15


@pytest.mark.parametrize("name", SMALL)
def test_labels_condition_every_pixel(name, digits):
    torch.manual_seed(0)
    composition = find(name)(Target.of(digits), conditional=True, **SMALL[name])
    assert composition.context == Labels(10)
    model, x = composition.model.eval(), digits.test[:3]
    zero, one = (model(torch.full((3,), label)) for label in (0.0, 1.0))
    assert (density(zero, x).value != density(one, x).value).all()
    differ = zero.network(x, zero.context) != one.network(x, one.context)
    assert differ.any(-1).all()
    assert model(torch.tensor([0.0, 3.0])).sample((2,)).shape == (2, 2, *digits.space.shape)


@pytest.mark.parametrize("name", SMALL)
def test_other_data_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} needs images"):
        find(name)(Target.of(load_data("8gaussians", limit=100)))


@pytest.mark.parametrize("name", ["row-lstm", "diagonal-bilstm"])
def test_depth_and_units_are_settings(name, digits):
    network = find(name)(Target.of(digits), hidden=4, layers=3).model.network
    assert len(network.layers) == 3 and all(layer.units == 4 and layer.width == 8 for layer in network.layers)
