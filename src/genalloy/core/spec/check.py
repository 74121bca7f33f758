"""The first pass of reading: the whole spec is checked before anything is imported, built or called.

Every class is looked up in the closed list, every index, key, tensor and number is compared with what the writer can have
written. What passes is a plan: which nodes to build in which order, and where their classes are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

import torch
from torch import Tensor

from genalloy.core.spec.classes import Place, find
from genalloy.core.spec.limits import CHAIN, INTEGERS, LEVELS, SIZES, VALUES

FOREIGN = "core:Foreign"
_PLAIN = ("$tuple", "$dict", "$float")
"""Forms that the options of a foreign module may have, besides JSON's own."""


@dataclass(frozen=True)
class BuildPlan:
    """A spec that may be built. order: nodes, each after all that it takes. places: of every class, by the spec's name.

    dtypes: of every floating tensor, where the file says it; the file says nothing in format 1.
    """

    spec: dict[str, Any]
    order: tuple[int, ...]
    places: dict[str, Place]
    dtypes: dict[str, torch.dtype]


def checked(spec: Any, tensors: Mapping[str, Tensor], trust: Iterable[str] = ()) -> BuildPlan:
    """The plan of a spec. tensors: of which shapes and types are looked at, so that they may be on the meta device.

    Raises ValueError saying what is wrong with it. Imports nothing.
    """
    if isinstance(trust, str):
        raise ValueError(f"found trust={trust!r}, expected a list of exact names: trust=[{trust!r}]")
    return _Checker(spec, tensors, frozenset(trust)).plan()


def _demand(condition: bool, words: str) -> None:
    if not condition:
        raise ValueError(f"{words}; the file is damaged or was not written by genalloy")


def _keys(value: Any, where: str, wanted: set[str], optional: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    _demand(type(value) is dict, f"{where} is {_brief(value)}, expected an object")
    found = set(value)
    _demand(wanted <= found <= wanted | optional, f"{where} has the keys {_brief(sorted(map(str, found)))}, not {sorted(wanted)}")


def _brief(value: Any) -> str:
    """A value in an error: one line, short, and never walked to its depth."""
    return f"a {type(value).__name__}" if isinstance(value, (dict, list)) and len(value) > 8 else repr(value)[:80]


class _Checker:
    def __init__(self, spec: Any, tensors: Mapping[str, Tensor], trust: frozenset[str]) -> None:
        self.spec, self.tensors, self.trust = spec, tensors, trust
        self.places: dict[str, Place] = {}
        self.used: set[str] = set()
        self.count, self.largest = 0, max(SIZES, *(t.numel() for t in tensors.values()), 0)
        self.forms: dict[str, Callable[[Any, str], list[tuple[Any, str]]]] = {
            "$tensor": self._tensor, "$tuple": self._items, "$dict": self._pairs, "$class": self._class, "$float": self._float,
        }  # fmt: skip

    def plan(self) -> BuildPlan:
        _keys(self.spec, "the spec", {"root", "nodes", "frozen"}, {"dtype", "other_dtypes"})
        self.nodes = self.spec["nodes"]
        _demand(type(self.nodes) is list, "the spec's nodes are no list")
        root = self._references(self.spec["root"], "root")
        _demand(set(self.spec["root"] if type(self.spec["root"]) is dict else ()) == {"$module"}, "the spec's root is no module")
        graph = {index: self._node(node, f"node {index}") for index, node in enumerate(self.nodes)}
        order = _ordered(graph, root)
        dtypes = self._precision()
        self._frozen()
        extra = sorted(set(self.tensors) - self.used)
        _demand(not extra, f"found {len(extra)} tensors that the spec does not name ({', '.join(extra)[:80]})")
        return BuildPlan(self.spec, order, self.places, dtypes)

    def _node(self, node: Any, where: str) -> set[int]:
        _keys(node, where, {"class", "arguments", "tensors", "children"})
        place = self._place(node["class"], where, module=True)
        _demand(type(node["arguments"]) is dict, f"the arguments of {where} are no object")
        self._state(node, where, dotted=place.name == FOREIGN)
        if place.name == FOREIGN:
            self._foreign(node["arguments"], where)
        edges: set[int] = set()
        largest = INTEGERS if place.callers or place.name == FOREIGN else self.largest
        for name, value in node["arguments"].items():
            _demand(name != "*" or type(value) is list, f"the positional arguments of {where} are no list")
            edges |= self._references(value, f"{where}.{name}", largest)
        return edges

    def _place(self, name: Any, where: str, module: bool | None) -> Place:
        """The closed list's entry of a class; refused where a module was expected and a value found, or the reverse."""
        if type(name) is not str or name not in self.places:
            place = find(name, self.trust)
            self.places[name] = place
        place = self.places[name]
        kinds = {True: "an nn.Module", False: "a frozen value"}
        if None not in (module, place.module) and place.module is not module:
            raise ValueError(f"{where} names {name}, which is {kinds[bool(place.module)]}, where {kinds[bool(module)]} belongs")
        return place

    def _foreign(self, values: dict[str, Any], where: str) -> None:
        _keys(values, f"{where}, a foreign module,", {"target", "options"})
        target = values["target"]
        _demand(type(target) is str, f"the target of {where} is no text")
        if target not in self.trust:
            raise ValueError(f"the file holds {target[:200]}; if you trust it: load(path, trust=[{target[:200]!r}])")
        waiting = [values["options"]]
        while waiting:
            value = waiting.pop()
            if type(value) is dict:
                _demand(set(value) <= set(_PLAIN), f"the options of {where} hold {_brief(sorted(value))}, not plain JSON")
                waiting += value.values()
            waiting += value if type(value) is list else ()

    def _state(self, state: dict[str, Any], where: str, dotted: bool = False) -> None:
        """Tensors and children of a node, and theirs."""
        waiting = [(state, where, 0)]
        while waiting:
            held, place, level = waiting.pop()
            self._held(held, place, dotted)
            _demand(level <= LEVELS, f"{where} has children deeper than {LEVELS} levels")
            for name, child in held["children"].items():
                _keys(child, f"{place}.{name}"[:120], {"tensors", "children"})
                waiting.append((child, f"{place}.{name}"[:200], level + 1))

    def _held(self, held: dict[str, Any], where: str, dotted: bool) -> None:
        for kind in ("tensors", "children"):
            _demand(type(held[kind]) is dict, f"the {kind} of {where[:120]} are no object")
            for name in held[kind]:
                _demand(bool(name) and (dotted or "." not in name), f"{where[:120]} has {kind} of the name {name[:40]!r}")
        for name, key in held["tensors"].items():
            self._tensor(key, f"{where}.{name}")

    def _references(self, value: Any, where: str, largest: int = INTEGERS) -> set[int]:
        """Walk one argument; the nodes that it refers to. Integers are bounded by `largest`, inside a value by 64 bits."""
        edges: set[int] = set()
        waiting = [(value, where, 0, largest)]
        while waiting:
            value, where, level, largest = waiting.pop()
            self.count += 1
            if type(value) is int:
                _demand(abs(value) <= largest, f"{where[:80]} is an integer beyond {largest:,}")
            _demand(self.count <= VALUES, f"the spec holds more than {VALUES:,} values")
            _demand(level <= LEVELS, f"{where[:80]} is nested deeper than {LEVELS} levels")
            if type(value) is dict and "$module" in value:
                edges.add(self._index(value, where))
                continue
            bound = INTEGERS if type(value) is dict and "$value" in value else largest
            waiting += [(inner, place[:200], level + 1, bound) for inner, place in self._inner(value, where)]
        return edges

    def _index(self, value: dict[str, Any], where: str) -> int:
        _keys(value, where, {"$module"})
        index = value["$module"]
        fit = type(index) is int and 0 <= index < len(self.nodes)
        _demand(fit, f"{where} refers to node {_brief(index)} of {len(self.nodes)}")
        return index

    def _inner(self, value: Any, where: str) -> list[tuple[Any, str]]:
        """What a value holds, after the value itself has been checked."""
        if type(value) is list:
            return [(v, where) for v in value]
        if type(value) is not dict:
            return self._scalar(value, where)
        if "$value" in value:
            return self._value(value, where)
        _demand(len(value) == 1 and next(iter(value)) in self.forms, f"{where} is {_brief(value)}, a form that no spec has")
        ((form, content),) = value.items()
        return self.forms[form](content, where)

    def _scalar(self, value: Any, where: str) -> list[tuple[Any, str]]:
        _demand(type(value) in (bool, int, float, str, type(None)), f"{where} is a {type(value).__name__}, not JSON")
        return []

    def _value(self, value: dict[str, Any], where: str) -> list[tuple[Any, str]]:
        _keys(value, where, {"$value", "fields"})
        self._place(value["$value"], where, module=False)
        _demand(type(value["fields"]) is dict, f"the fields of {where} are no object")
        return [(v, f"{where}.{n}") for n, v in value["fields"].items()]

    def _class(self, name: Any, where: str) -> list[tuple[Any, str]]:
        _demand(type(name) is str, f"{where} names no class")
        self._place(name if ":" in name else f"torch.nn:{name}", where, module=True)
        return []

    def _tensor(self, key: Any, where: str) -> list[tuple[Any, str]]:
        _demand(type(key) is str, f"{where[:120]} names no tensor")
        _demand(key in self.tensors, f"{where[:120]} needs the tensor {key[:80]!r}, which is missing")
        self.used.add(key)
        return []

    def _items(self, items: Any, where: str) -> list[tuple[Any, str]]:
        _demand(type(items) is list, f"{where} is a tuple of no list")
        return [(v, where) for v in items]

    def _pairs(self, pairs: Any, where: str) -> list[tuple[Any, str]]:
        fit = type(pairs) is list and all(type(p) is list and len(p) == 2 and type(p[0]) in (str, int, bool) for p in pairs)
        _demand(fit, f"{where} is a dict without pairs of a key and a value")
        _demand(len({p[0] for p in pairs}) == len(pairs), f"{where} is a dict with a key twice")
        return [(v, f"{where}.{k}") for k, v in pairs]

    def _float(self, text: Any, where: str) -> list[tuple[Any, str]]:
        _demand(text in ("inf", "-inf", "nan") if type(text) is str else False, f"{where} is no number: {_brief(text)}")
        return []

    def _frozen(self) -> None:
        names = self.spec["frozen"]
        _demand(type(names) is list and all(type(n) is str and n in self.tensors for n in names), "frozen tensors are missing")

    def _precision(self) -> dict[str, torch.dtype]:
        """The types that the file announces for its floating tensors, each compared with the tensor's own."""
        if "dtype" not in self.spec:
            return {}
        others = self.spec.get("other_dtypes", {})
        _demand(type(others) is dict and set(others) <= self.used, "other_dtypes names tensors that are missing")
        floating = {name: t.dtype for name, t in self.tensors.items() if t.is_floating_point()}
        for name, dtype in floating.items():
            expected = others.get(name, self.spec["dtype"])
            _demand(f"torch.{expected}" == str(dtype), f"found the tensor {name[:80]} in {dtype}, expected {_brief(expected)}")
        _demand(set(others) <= set(floating), "other_dtypes names tensors that hold no floating numbers")
        return floating


def _ordered(graph: dict[int, set[int]], root: set[int]) -> tuple[int, ...]:
    """Nodes, each after all that it takes. Raises ValueError on a circle, a chain that is too long and nodes of no use."""
    try:
        order = tuple(TopologicalSorter(graph).static_order())
    except CycleError:
        raise ValueError("the spec's modules hold each other in a circle; no constructor could make that") from None
    height: dict[int, int] = {}
    for index in order:
        height[index] = 1 + max((height[i] for i in graph[index]), default=0)
    _demand(max(height.values(), default=0) <= CHAIN, f"the spec's modules are nested deeper than {CHAIN} levels")
    reached, waiting = set(root), list(root)
    while waiting:
        fresh = graph[waiting.pop()] - reached
        reached |= fresh
        waiting += fresh
    _demand(len(reached) == len(graph), f"{len(graph) - len(reached)} of the spec's modules are part of no model")
    return order
