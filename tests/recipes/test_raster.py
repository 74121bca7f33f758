"""Raster recipes: what their settings make of the data, conditional models, and that they learn a rule."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from genalloy.data.dataset import Dataset
from genalloy.data.load import load_data
from genalloy.data.space import Space
from genalloy.networks.causal.network import CausalNet, Frames, Pixels, Singles
from genalloy.networks.causal.recurrent import Recurrent
from genalloy.networks.causal.wavenet import CausalConvolution, WaveNet
from genalloy.recipes.composition import Composition, Target
from genalloy.recipes.registry import all_recipes
from genalloy.runs.create import create_run
from genalloy.runs.score import score
from genalloy.runs.settings import RunSettings

SMALL = {"raster-cnn": {"width": 16, "layers": 2}, "raster-rnn": {"width": 48, "dropout": 0.0}, "wavenet": {"width": 16}}
NAMES = tuple(SMALL)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)


def waves(rows: int = 300, length: int = 8) -> Dataset:
    """Each label walks 0..3 in steps of its own: 1 or 3; the first place is random."""
    rng = np.random.default_rng(0)
    label, first = rng.integers(0, 2, rows), rng.integers(0, 4, rows)
    x = (first[:, None] + np.outer(1 + 2 * label, np.arange(length))) % 4
    return load_data((x.astype(np.uint8), label))


def made(name: str, space: Space, classes: int = 0, **settings: object) -> Composition:
    target = Target(space, torch.zeros(space.shape), torch.ones(space.shape), 100, classes)
    return all_recipes()[name](target, **settings)


def network(composition: Composition) -> CausalNet:
    return next(m for m in composition.model.modules() if type(m) is CausalNet)


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_rule_is_learned(name: str, conditional: bool) -> None:
    """The first place is a nat and a half; the second tells the label, the others nothing new, or all is told by the label."""
    data = waves()
    settings = {"conditional": conditional, **SMALL[name]}
    trainer = create_run(RunSettings(name, "given", settings=settings, steps=80), None, data)
    for _ in trainer.run():
        pass
    context = data.labels["test"].float() if conditional else None
    found = score(trainer.model, data.test, context=context).mean()
    best = -np.log(4) - (0 if conditional else np.log(2))
    assert best - 0.4 < found < best + 0.1


@pytest.mark.parametrize(
    ("shape", "tokens"),
    [((40,), Singles()), ((1, 4, 5), Singles()), ((9, 3), Pixels()), ((9, 12), Frames())],
)
def test_wavenet_cuts_by_shape(shape: tuple[int, ...], tokens: object) -> None:
    assert network(made("wavenet", Space(shape, "sequence", 7), depth=3)).tokens == tokens


def test_wavenet_dilations_stop_at_the_length() -> None:
    layer = network(made("wavenet", Space((20,), "sequence", 256), depth=9, repeats=2)).layers[0]
    assert type(layer) is WaveNet and layer.dilations == (1, 2, 4, 8, 16) * 2


@pytest.mark.parametrize(("head", "width"), [("categorical", 256), ("logistics", 30)])
def test_wavenet_heads(head: str, width: int) -> None:
    assert network(made("wavenet", Space((20,), "sequence", 256), head=head)).width == width


def test_settings_reach_the_layers() -> None:
    space = Space((30,), "sequence", 5)
    cnn = network(made("raster-cnn", space, width=8, layers=3, kernel=4)).layers
    rnn = network(made("raster-rnn", space, width=8, layers=2, cell="gru")).layers
    assert [(type(m), m.kernel) for m in cnn] == [(CausalConvolution, 4)] * 3
    assert [(type(m), type(m.cell).__name__) for m in rnn] == [(Recurrent, "GRU")] * 2


def test_letters_enter_as_classes() -> None:
    assert network(made("raster-rnn", Space((30,), "text", 65))).entry.features == 66


@pytest.mark.parametrize("name", NAMES)
def test_labels_are_asked_for(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} needs labels"):
        made(name, Space((20,), "sequence", 5), conditional=True)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="found raster-rnn's cell='rnn', expected one of lstm, gru"):
        made("raster-rnn", Space((20,), "sequence", 5), cell="rnn")
    with pytest.raises(ValueError, match="found wavenet's head='normal', expected one of categorical, logistics"):
        made("wavenet", Space((20,), "sequence", 5), head="normal")


@pytest.mark.parametrize("name", NAMES)
def test_reals_given_their_label(name: str) -> None:
    """Standardised, and the context passes through."""
    made_ = made(name, Space((5,), "points"), 3, conditional=True)
    assert made_.model.context_shapes == ((),)
    distribution = made_.model(torch.tensor([0.0, 2.0]))
    assert distribution.sample().shape == (2, 5)
    assert distribution.density(torch.randn(2, 5)).value.shape == (2,)
