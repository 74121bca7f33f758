"""The public interface: `dir` lists it, every name is there, is documented, and stands for one thing."""

from __future__ import annotations

import types
from collections import defaultdict
from typing import Any

import pytest

import genalloy as ga
from genalloy.core.spec.names import MODULE_PLACES, VALUE_PLACES

ROOMS = (
    "data", "diffusion", "estimators", "evaluation", "heads", "laws", "mcmc", "models", "networks", "objectives", "recipes",
    "samplers", "solvers", "training", "transforms",
)  # fmt: skip
OFTEN = (
    "Alloy", "Batch", "Conditional", "Distribution", "Evidence", "Kind", "Masked", "Objective", "Part", "Play", "Player",
    "Training", "Turn", "Unavailable", "density", "draw", "fit", "load", "load_data", "save",
)  # fmt: skip


def public() -> list[tuple[str, Any]]:
    """Every public name with what it stands for, the package's own first."""
    own = [(name, getattr(ga, name)) for name in dir(ga)]
    rooms = [(room, module) for room, module in own if isinstance(module, types.ModuleType)]
    inside = [(f"{room}.{name}", getattr(module, name)) for room, module in rooms for name in module.__all__]
    return [*(pair for pair in own if pair not in rooms), *inside]


def test_dir_lists_the_rooms_and_what_is_used_often() -> None:
    assert dir(ga) == sorted(ga.__all__)
    assert {*ROOMS, *OFTEN, "schedules"} <= set(dir(ga))
    modules = {name for name in dir(ga) if isinstance(getattr(ga, name), types.ModuleType)}
    assert modules == {*ROOMS, "schedules"}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_lists_its_names(room: str) -> None:
    module = getattr(ga, room)
    assert dir(module) == sorted(module.__all__) and (module.__doc__ or "").strip()
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = module.no_such_name


def test_public_names_are_documented() -> None:
    bare = [name for name, thing in public() if not (thing.__doc__ or "").strip()]
    assert bare == []


def test_no_public_name_stands_for_two_things() -> None:
    things = defaultdict(set)
    for name, thing in public():
        things[name.rpartition(".")[2]].add(id(thing))
    assert [name for name, ids in things.items() if len(ids) > 1] == []


def test_what_a_file_may_name_is_public() -> None:
    names = [name.split(":") for name in MODULE_PLACES | VALUE_PLACES]
    rooms = {room: getattr(ga, room) for room in ROOMS}
    assert [f"{room}:{name}" for room, name in names if room in rooms and not hasattr(rooms[room], name)] == []


def test_the_package_names_its_version() -> None:
    assert ga.__version__.count(".") == 2
