"""Settings of every recipe: a hostile value builds, or is refused in one line that names recipe and setting."""

from __future__ import annotations

import inspect
import math
import time

import pytest

from genalloy.core.bounds import Bounds, Choice, Maybe, Switch, Whole
from genalloy.core.evidence import Kind
from genalloy.data.load import load_data
from genalloy.experiments.registry import all_experiments
from genalloy.objectives.adversarial import R1
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.recipes.composition import Composition, Phase, Target
from genalloy.recipes.limits import LIMITS
from genalloy.recipes.registry import Recipe, all_recipes, find

HOSTILE = (-5, 0, 1e9, 10**9, math.nan, math.inf, "zap", "3", "", True, None, [], {}, 2.5, b"3")


@pytest.fixture(scope="module", params=["8gaussians", "digits"])
def target(request) -> Target:
    return Target.of(load_data(request.param, limit=60))


@pytest.mark.parametrize("name", list(all_recipes()))
def test_hostile_values_build_or_are_refused_by_name(name, target):
    recipe = all_recipes()[name]
    try:
        recipe(target)
    except ValueError as refusal:
        pytest.skip(str(refusal))
    for setting in recipe.settings():
        limits = recipe.limits(setting)
        for value in HOSTILE:
            began = time.monotonic()
            try:
                recipe(target, **{setting: value})
            except ValueError as refusal:
                words = str(refusal)
                assert name in words and (setting in words or "needs labels" in words) and "\n" not in words and len(words) < 400
            else:
                assert limits.holds(value) or value == recipe.settings()[setting]
            # generous: the machine may be busy
            assert time.monotonic() - began < 20


def test_every_setting_of_every_recipe_has_limits():
    used = set()
    for name, recipe in all_recipes().items():
        for setting, default in recipe.settings().items():
            key = f"{name}.{setting}" if f"{name}.{setting}" in LIMITS else setting
            used.add(key)
            assert key in LIMITS or type(default) is bool, f"{name}'s {setting} has no limits"
            assert recipe.limits(setting).holds(default), f"{name}'s {setting} is {default!r} by default"
    assert used >= set(LIMITS), "limits that no recipe uses"


def test_no_recipe_takes_zero_for_choose_for_me():
    signatures = {name: inspect.signature(recipe.build).parameters for name, recipe in all_recipes().items()}
    for parameters in signatures.values():
        for parameter in parameters.values():
            if "None" in str(parameter.annotation):
                assert parameter.default is None
    # where 0 is a default it is a value: no dropout, no decay, no scales, no squares
    numbers = [p for parameters in signatures.values() for p in parameters.values() if type(p.default) in (int, float)]
    zeros = {p.name for p in numbers if p.default == 0}
    assert zeros == {"dropout", "decay", "scales", "block"}


def test_words_that_limits_list_build_and_others_do_not(target):
    for name, recipe in all_recipes().items():
        for setting in recipe.settings():
            limits: Bounds = recipe.limits(setting)
            inner = limits.inner if isinstance(limits, Maybe) else limits
            if isinstance(inner, Choice):
                for word in inner.words:
                    assert recipe.read(setting, word) == word and recipe.checked({setting: word}) == {setting: word}
                with pytest.raises(ValueError, match=f"found {name}'s {setting}='zap', expected one of"):
                    recipe.checked({setting: "zap"})


def test_experiments_settings_are_within_limits():
    for experiment in all_experiments().values():
        for contender in experiment.contenders:
            find(contender.recipe).checked(contender.settings)


def test_none_leaves_a_setting_to_the_recipe(target):
    for name, setting in (("maf", "layers"), ("vae", "hidden"), ("realnvp", "width"), ("vae-sylvester", "kind")):
        assert repr(find(name)(target, **{setting: None}).model) == repr(find(name)(target).model)


def test_zero_is_zero_for_weights():
    target = Target.of(load_data("8gaussians", limit=60))
    assert repr(find("flow-gan")(target, weight=0).phases[0].objective) == "MaximumLikelihood()"
    penalties = [m for m in find("r3gan")(target, gamma=0.0).modules() if isinstance(m, R1)]
    assert all(penalty.gamma == 0 for penalty in penalties)


@pytest.mark.parametrize(
    ("name", "setting", "text", "value"),
    [
        ("nsf", "coupled", "true", True),
        ("nsf", "coupled", "False", False),
        ("nsf", "coupled", "YES", True),
        ("nsf", "coupled", "no", False),
        ("maf", "layers", "3", 3),
        ("maf", "dropout", "1e-3", 1e-3),
        ("maf", "dropout", "0", 0.0),
        ("maf", "layers", "null", None),
        ("vae-sylvester", "kind", "none", "none"),
        ("planar", "energy", "u2", "u2"),
    ],
)
def test_texts_are_read_as_the_settings_kind(name, setting, text, value):
    recipe = find(name)
    assert recipe.checked({setting: recipe.read(setting, text)}) == {setting: value}


@pytest.mark.parametrize("text", ["", "1", "2.5", "maybe", "nan", "{}"])
def test_texts_of_another_kind_are_refused(text):
    with pytest.raises(ValueError, match="nsf's coupled"):
        find("nsf").checked({"coupled": find("nsf").read("coupled", text)})


def outsider(target: Target, tails: int = 3, smooth: bool = True, odd: object = ()) -> Composition:
    return Composition(find("vae")(target).model, [Phase(MaximumLikelihood())], tails)


def test_a_recipe_from_elsewhere_is_checked_by_its_defaults_types(target):
    recipe = Recipe("outsider", "flow", outsider, Kind.EXACT, Kind.EXACT, ("sample",), "", "")
    assert isinstance(recipe.limits("tails").inner, Whole) and isinstance(recipe.limits("smooth").inner, Switch)
    assert recipe(target, tails=2, odd=[1, 2]).steps == 2 and recipe.limits("odd") is None
    with pytest.raises(ValueError, match=r"outsider's tails=2\.5, expected a whole number"):
        recipe(target, tails=2.5)
