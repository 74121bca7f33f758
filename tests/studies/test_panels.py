"""Panels of trained and untrained models: numbers where there are some, reasons where there are none, never an exception."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from genalloy.core.evidence import Kind
from genalloy.data.load import load_data
from genalloy.evaluation.features import PCA
from genalloy.evaluation.metric import Panel
from genalloy.models.fitted import KernelSmoothed, UniformLevels
from genalloy.recipes.composition import Target
from genalloy.recipes.registry import find
from genalloy.studies.panels import DEFAULT, PANELS, Evaluation, EvaluationSettings, panels_of, run_panels

DIGITS = load_data("digits", limit=120)
MOONS = load_data("moons", limit=300)
FEATURES = {id(data): PCA(8).fit(data.train) for data in (DIGITS, MOONS)}


def examined(model: torch.nn.Module, data=DIGITS, panels=DEFAULT, **asked) -> dict[str, Panel]:
    it = Evaluation(
        model.eval(), data, FEATURES[id(data)], 0, EvaluationSettings(panels, **{"samples": 60, "importance": 10, **asked})
    )
    return run_panels(it)


def build(recipe: str, data=DIGITS, **settings) -> torch.nn.Module:
    torch.manual_seed(0)
    model = find(recipe)(Target.of(data), **settings).model
    if hasattr(model, "initialise"):
        model.initialise(data.train[:64])
    return model


def test_every_panel_of_a_latent_model_has_numbers():
    found = examined(build("vae", hidden=16), panels=tuple(n for n in PANELS if n != "noise"))
    assert set(found) == set(PANELS) - {"noise"}
    for panel, name in (("density", "k = 10"), ("memorisation", "authenticity"), ("latent", "kl"), ("codes", "random encoder")):
        assert math.isfinite(found[panel][name].value), (panel, name)
    assert found["annealing"]["annealed"].kind is Kind.LOWER and found["annealing"]["simulated, above"].kind is Kind.UPPER
    assert found["density"]["density"].kind is Kind.LOWER and "effective samples" in found["density"]["density"].how
    # the same draws: the bound does not fall as k rises, here in bits per dimension
    assert found["density"]["k = 10"].value <= found["density"]["k = 1"].value


def test_a_model_without_density_or_codes_gives_reasons():
    found = examined(build("r3gan"), panels=tuple(PANELS))
    assert found["density"]["density"].missing and found["outliers"]["outliers"].missing
    assert found["representation"]["probe"].missing == "the model has no codes"
    assert len(found["latent"]) == 1 and "not a latent-variable model" in next(iter(found["latent"].values())).missing
    assert math.isfinite(found["generation"]["kernel_distance"].value)


def test_an_energy_without_density_still_scores_outliers():
    found = examined(build("ebm"), panels=("outliers", "density"), samples=4)
    assert found["density"]["density"].missing
    assert 0 <= found["outliers"]["outliers"].value <= 1 and "minus the energy" in found["outliers"]["outliers"].how


def test_copies_are_caught_and_noise_is_not_mistaken_for_one():
    copy = examined(KernelSmoothed(DIGITS.train, 17, 1e-6), panels=("memorisation",), samples=120)["memorisation"]
    noise = examined(UniformLevels(17, (1, 8, 8)), panels=("memorisation",), samples=120)["memorisation"]
    assert copy["authenticity"].value < 0.05 < noise["authenticity"].value
    assert copy["copying"].value > 0.9 > noise["copying"].value


class Broken(UniformLevels):
    """Every third sample is not finite."""

    def forward(self, context=None):
        inner = super().forward(context)
        draw = inner.rsample
        inner.rsample = lambda shape=(): draw(shape).index_fill(0, torch.arange(0, shape[0], 3), math.nan)
        return inner


def test_samples_that_are_not_finite_are_counted_and_shown():
    found = examined(Broken(17, (1, 8, 8)), panels=("generation", "memorisation"), samples=60)
    for panel in found.values():
        for name, cell in panel.items():
            assert not cell.known and "20 of 60 samples are not finite" in cell.missing, name


def test_too_few_samples_are_refused_with_the_number_needed():
    found = examined(UniformLevels(17, (1, 8, 8)), panels=("generation",), samples=10)["generation"]
    assert all("needs at least" in cell.missing and "found 10" in cell.missing for cell in found.values())


def test_real_data_have_noise_scales():
    found = examined(build("realnvp", MOONS, layers=2), MOONS, ("noise",))["noise"]
    assert found["test: alarm"].value == 0.0 and math.isfinite(found["train: s=0.1"].value)


def test_an_unknown_panel_is_refused():
    with pytest.raises(ValueError, match="there is no panel 'beauty'"):
        panels_of(("beauty",))


def test_every_evaluation_has_a_memorisation_reference_of_its_own() -> None:
    """The same features and test rows beside other training rows are another reference."""
    features, model = PCA(4).fit(DIGITS.train), UniformLevels(17, (1, 8, 8))
    datasets = DIGITS, replace(DIGITS, train=DIGITS.train[:100])
    first, second = (Evaluation(model, data, features, 0, EvaluationSettings()).reference for data in datasets)
    assert len(first.train) == len(DIGITS.train) and len(second.train) == 100
