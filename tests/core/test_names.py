"""The closed list of names is complete, unique and of the right kind, and a name that was given up is still found."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import pytest
from torch import nn

import genalloy
from genalloy.core.spec import Module, Value, names
from genalloy.core.spec.base import frozen_value
from genalloy.core.spec.classes import Place, find
from genalloy.core.spec.names import MODULE_PLACES, MODULES, PUBLIC, VALUE_PLACES, VALUES


def derived(base: type) -> Iterator[type]:
    for cls in base.__subclasses__():
        yield cls
        yield from derived(cls)


def own(base: type) -> set[type]:
    """genalloy's classes that somebody may hold: abstract ones and private helpers aside."""
    for module in pkgutil.walk_packages(genalloy.__path__, "genalloy."):
        importlib.import_module(module.name)
    inside = {c for c in derived(base) if c.__module__.startswith("genalloy.")}
    return {c for c in inside if not inspect.isabstract(c) and not c.__name__.startswith("_")}


def places(classes: set[type]) -> set[str]:
    return {f"{c.__module__}:{c.__qualname__}" for c in classes}


def test_every_module_and_value_is_listed_and_nothing_else_is() -> None:
    values = {c for c in own(Value) if "__dataclass_params__" in vars(c)}
    assert places(own(Module)) == set(MODULE_PLACES.values())
    assert places(values) == set(VALUE_PLACES.values())


def test_a_public_name_stands_once() -> None:
    for table in (MODULES, VALUES):
        found = [f"{room}:{n}" for room, files in table.items() for text in files.values() for n in text.split()]
        assert len(found) == len(set(found))
    assert not set(MODULE_PLACES) & set(VALUE_PLACES)
    assert len(PUBLIC) == len(MODULE_PLACES) + len(VALUE_PLACES)


@pytest.mark.parametrize("name", sorted(MODULE_PLACES | VALUE_PLACES))
def test_a_name_leads_to_a_module_or_a_frozen_value(name: str) -> None:
    place = find(name, frozenset())
    cls = place.get()
    assert f"{cls.__module__}:{cls.__qualname__}" == place.target
    assert issubclass(cls, nn.Module) if place.module else frozen_value(cls) and issubclass(cls, Value)


def test_a_name_that_was_given_up_leads_to_todays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(names.FORMER, "models:NormalisingFlow", "models:Flow")
    assert find("models:NormalisingFlow", frozenset()) == Place("models:Flow", "genalloy.models.flow:Flow", True)


def test_former_names_lead_to_names_of_today() -> None:
    assert set(names.FORMER.values()) <= set(MODULE_PLACES) | set(VALUE_PLACES)
    assert not set(names.FORMER) & (set(MODULE_PLACES) | set(VALUE_PLACES))


@pytest.mark.parametrize(
    "name",
    ["genalloy.models.flow:Flow", "genalloy.models.vae:Flow",
     "genalloy.models.flow:FlowDistribution", "genalloy.cli:main", "genalloy.core.part:Part",
     "models:flow", "genalloy:Flow", "genalloy.models.flow:nn.Linear", "models:", ":Flow", "models.flow:Flow", "Flow"],
)  # fmt: skip
def test_other_names_of_genalloy_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"no class that a file may build|not imported|in place of a class's name"):
        find(name, frozenset())
